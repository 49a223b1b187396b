"""A user at a terminal: runs a program on a pseudo-terminal, types, waits for what it shows."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROWS, COLUMNS = 37, 113


class Terminal:
    """A pseudo-terminal with a program whose controlling terminal it is."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> None:
        self.master, self._slave = pty.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("4H", ROWS, COLUMNS, 0, 0))
        self.before = self.modes()
        self.seen = b""
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )

    def modes(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def is_raw(self) -> bool:
        """Neither lines nor signals nor echo are the terminal's business."""
        flags = termios.tcgetattr(self._slave)[3]
        return not flags & (termios.ICANON | termios.ISIG | termios.ECHO)

    def size(self) -> tuple[int, int]:
        rows, columns, _, _ = struct.unpack("4H", fcntl.ioctl(self._slave, termios.TIOCGWINSZ, bytes(8)))
        return rows, columns

    def resize(self, rows: int, columns: int) -> None:
        """The user drags the window's corner: the foreground program gets SIGWINCH."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def expect(self, pattern: bytes, timeout_s: float = 40) -> re.Match[bytes]:
        """Waits until what has been shown since the last match fits; forgets it up to the match's end."""
        deadline = time.monotonic() + timeout_s
        while not (found := re.search(pattern, self.seen)):
            left = deadline - time.monotonic()
            assert left > 0, f"{pattern!r} was not shown; the end is {self.seen[-800:]!r}"
            self._read(left)
        self.seen = self.seen[found.end() :]
        return found

    def _read(self, timeout_s: float) -> None:
        if select.select([self.master], [], [], timeout_s)[0]:
            self.seen += os.read(self.master, 65536)

    def wait(self, timeout_s: float = 40) -> int:
        """The program's exit status; what it shows meanwhile is read."""
        pidfd = os.pidfd_open(self.process.pid)
        try:
            deadline = time.monotonic() + timeout_s
            while pidfd not in (ready := select.select([self.master, pidfd], [], [], timeout_s)[0]):
                assert ready, f"the program goes on; the end is {self.seen[-300:]!r}"
                assert time.monotonic() < deadline, "the program goes on"
                self.seen += os.read(self.master, 65536)
            while select.select([self.master], [], [], 0)[0]:
                self.seen += os.read(self.master, 65536)
        finally:
            os.close(pidfd)
        return self.process.wait()

    def hang_up(self) -> None:
        """The window is closed."""
        os.close(self.master)
        self.master = -1

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        if self.master >= 0:
            os.close(self.master)
