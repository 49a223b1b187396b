"""The hypervisor's message ring, which `xm dmesg` shows: Xen's console ring, kept in a file over restarts."""

import logging
import os
import time
from collections import deque
from pathlib import Path

SIZE = 64 * 1024
PREFIX = "(XEN) "
MESSAGE_LIMIT = 1000

_logger = logging.getLogger(__name__)


class MessageRing:
    """The newest messages, at most `size` bytes; never raises, messages stay in memory when the disk fails.

    The file is not synced: after a power failure it may lack the newest messages, or end within one.
    """

    def __init__(self, path: Path, size: int = SIZE) -> None:
        self._path = path
        self._size = size
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._failed = False
        # The file does not say what memory does, and must be written anew.
        self._stale = False
        self._load()

    def add(self, text: str) -> None:
        """One message, one line, stamped as Xen does with the seconds since the machine started."""
        seconds, micro = divmod(time.monotonic_ns() // 1000, 1_000_000)
        text = _printable(text.rstrip("\r\n")[:MESSAGE_LIMIT])
        line = f"{PREFIX}[{seconds:5d}.{micro:06d}] {text}\n".encode()
        self._keep(line)
        try:
            if self._stale or self._append(line) > 2 * self._size:
                self._rewrite()
            self._failed = False
        except OSError as error:
            self._tell(error)

    def read(self) -> str:
        return b"".join(self._lines).decode()

    def clear(self) -> None:
        self._lines.clear()
        self._bytes = 0
        try:
            self._rewrite()
        except OSError as error:
            self._tell(error)

    def _keep(self, line: bytes) -> None:
        self._lines.append(line)
        self._bytes += len(line)
        while self._bytes > self._size and len(self._lines) > 1:
            self._bytes -= len(self._lines.popleft())

    def _load(self) -> None:
        try:
            fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
            with os.fdopen(fd, "rb") as file:
                length = file.seek(0, os.SEEK_END)
                file.seek(max(length - 2 * self._size - 1, 0))
                data = file.read(2 * self._size + 1)
        except FileNotFoundError:
            return
        except OSError as error:
            self._tell(error)
            return
        *lines, rest = data.split(b"\n")
        self._stale = bool(rest) or length > 2 * self._size
        for line in lines:
            text = _printable(line.decode(errors="replace"))
            if text.startswith(PREFIX):
                self._keep(text.encode() + b"\n")

    def _append(self, line: bytes) -> int:
        """Returns the file's new length."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(self._path, flags, 0o600)
        try:
            if os.write(fd, line) < len(line):
                self._stale = True
            return os.fstat(fd).st_size
        finally:
            os.close(fd)

    def _rewrite(self) -> None:
        """In one step: who reads the file sees the old content or the new."""
        self._stale = True
        new = self._path.with_name(self._path.name + ".new")
        new.unlink(missing_ok=True)
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(b"".join(self._lines))
        new.replace(self._path)
        self._stale = False

    def _tell(self, error: OSError) -> None:
        """Said once, until the disk is back."""
        if not self._failed:
            _logger.error(
                "The message ring %s cannot be kept on disk (%s): its messages are in memory only.",
                self._path,
                error.strerror or error,
            )
        self._failed = self._stale = True


def _printable(text: str) -> str:
    """A guest's or a client's words must not speak to the reader's terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
