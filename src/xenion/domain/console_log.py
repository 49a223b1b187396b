"""The log of a domain's console: a file that its process was given, and another one when it is full."""

import os
from collections.abc import Callable

LIMIT = 16 << 20
PATIENCE = 2
"""The log goes on to so many times its limit while nobody comes with a new file."""
FULL = b"\n[xenion: this log is full; what follows is not kept]\n"


class ConsoleLog:
    """Told once, `full` asks for a new file; `failed(why)` tells once that something is missing in this one.

    A disk that is full is no reason to end the guest.
    """

    def __init__(self, fd: int, full: Callable[[], None], failed: Callable[[str], None]) -> None:
        self._fd = fd
        self._full = full
        self._failed = failed
        self._size = os.fstat(fd).st_size  # of a domain that goes on
        self._whole = True

    def write(self, data: bytes) -> None:
        before = self._size
        if before > PATIENCE * LIMIT:
            return
        self._size += len(data)
        if self._size > PATIENCE * LIMIT:
            data += FULL
        self._append(data)
        if before <= LIMIT < self._size:
            self._full()

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            if self._whole:
                self._whole = False
                self._failed(f"the console's log misses some of the output: {error.strerror}")

    def replace(self, fd: int) -> None:
        """What comes from now on goes to `fd`, which is empty."""
        os.close(self._fd)
        self._fd, self._size, self._whole = fd, 0, True
