"""A log of lines in several files: NAME, NAME.1, NAME.2 and so on, the oldest with the highest number.

One process writes; anybody may read meanwhile, because a line is written whole or not at all. Nothing here
knows what a line says, and no method but `rotate` waits for the disk.
"""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from xenion.xend.storage import sync_folder

BLOCK = 64 * 1024


class Mark(NamedTuple):
    """How much of the newest file a sync that begins now will have brought to the disk."""

    lines: int
    size: int


class LogFiles:
    """`limit` is the size in bytes that makes a file full, `count` how many files there may be, at least two.

    Opening creates the newest file if it is missing and cuts off a last line without an end, as a kill or a
    power failure leaves it; `cut` is how many bytes that were. Whatever the disk refuses raises OSError.
    """

    def __init__(self, path: Path, limit: int, count: int) -> None:
        self._path = path
        self._limit = self._full_at = limit
        self._count = max(count, 2)
        self._fd = _open(path)
        try:
            found = os.fstat(self._fd).st_size
            self.size = self._synced = _whole(self._fd, found)
            self.cut = found - self.size
            if self.cut:
                os.ftruncate(self._fd, self.size)
            sync_folder(path.parent)
        except OSError:
            os.close(self._fd)
            raise
        self._head = 0
        self._mend = b""
        self._unsynced: list[bytes] = []
        # A writer that was killed may have left lines that are in the file and not yet on the disk.
        self.dirty = True

    def paths(self) -> list[Path]:
        """Where the files are or would be, newest first."""
        return [self._path, *(self._path.with_name(f"{self._path.name}.{i}") for i in range(1, self._count))]

    def newest_first(self) -> Iterator[bytes]:
        """All whole lines without their ends; another thread may call this while lines are written.

        A rotation meanwhile moves files from where they were read to where they are read next: lines may
        come twice, but none is left out.
        """
        for path in self.paths():
            yield from newest_first(path)

    def append(self, line: bytes) -> None:
        """Writes a line, which ends with its newline, in one call."""
        data = self._mend + line
        written = os.write(self._fd, data)
        self.size += written
        if written < len(data):
            self._truncate(self.size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._mend = b""
        self._unsynced.append(line)
        self.dirty = True

    def full(self, more: int) -> bool:
        """`more` bytes belong in a new file. A file holds one line besides its head, however long that is."""
        return self.size > self._head and self.size + more > self._full_at

    def rotate(self, head: bytes) -> None:
        """Begins a new file with the line `head`; the oldest file goes if there are too many.

        The full file is on disk before the new one exists, so `head` may speak of what is in it. When this
        fails the full file is written on, and is full again after another `limit` bytes.
        """
        self._full_at = self.size + self._limit
        os.fdatasync(self._fd)
        self.synced(self.mark())
        self._make_room()
        full, self._fd = self._fd, _open(self._path)
        os.close(full)
        self.size = self._synced = self._head = 0
        self._full_at = self._limit
        self._mend = b""
        sync_folder(self._path.parent)
        self.append(head)
        self._head = self.size

    def _make_room(self) -> None:
        """Every crash between two renames leaves one number free and nothing lost; it is filled first."""
        paths = self.paths()
        free = next((i for i, path in enumerate(paths) if not path.exists()), len(paths) - 1)
        for i in range(free, 0, -1):
            paths[i - 1].replace(paths[i])

    def mark(self) -> Mark:
        return Mark(len(self._unsynced), self.size)

    def duplicate(self) -> int:
        """A descriptor of the newest file, for whoever syncs it in another thread; theirs to close."""
        return os.dup(self._fd)

    def synced(self, mark: Mark) -> None:
        """All that was written before `mark` is on disk."""
        del self._unsynced[: mark.lines]
        self._synced = mark.size
        self.dirty = bool(self._unsynced)

    def take_back(self) -> list[bytes]:
        """After a failed sync: removes the lines that may not be on disk, for the caller to write again.

        The kernel forgets the data of a failed sync; another one would succeed and mean nothing. Should the
        disk refuse to remove them, they will be in the file twice.
        """
        lines, self._unsynced = self._unsynced, []
        if lines:
            self._truncate(self._synced)
        return lines

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
            self.size = size
        except OSError:
            self._mend = b"\n"

    def close(self) -> None:
        """Brings all to the disk and closes. Closing twice is harmless."""
        if self._fd < 0:
            return
        fd, self._fd = self._fd, -1
        sync_and_close(fd)


def sync_and_close(fd: int) -> None:
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def newest_first(path: Path) -> Iterator[bytes]:
    """The whole lines of one file, last one first; nothing if it is missing."""
    try:
        file = path.open("rb", buffering=0)
    except FileNotFoundError:
        return
    with file:
        start, rest, ended = file.seek(0, os.SEEK_END), b"", False
        while start:
            step = min(BLOCK, start)
            start -= step
            rest, *lines = (os.pread(file.fileno(), step, start) + rest).split(b"\n")
            if lines and not ended:
                lines.pop()
                ended = True
            yield from reversed(lines)
        if ended:
            yield rest


def _open(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        os.fchmod(fd, 0o600)
    except OSError:
        os.close(fd)
        raise
    return fd


def _whole(fd: int, size: int) -> int:
    """The length of the file's lines that have an end."""
    while size:
        step = min(BLOCK, size)
        newline = os.pread(fd, step, size - step).rfind(b"\n")
        if newline >= 0:
            return size - step + newline + 1
        size -= step
    return 0
