"""A file that was opened for what may have to be written: a process that is armed cannot open one itself."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class SpareInUseError(Exception):
    """Nothing has come instead of the file that is in use."""

    def __init__(self) -> None:
        super().__init__("the file that was ready is in use already")


class Spare:
    """`fd` is empty and open for writing. It is used once; xend, which the journal tells, sends another. Any thread."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = threading.Lock()

    def replace(self, fd: int) -> None:
        """`fd` takes the place of what is there."""
        with self._lock:
            old, self._fd = self._fd, fd
        if old >= 0:
            os.close(old)

    @contextmanager
    def use(self) -> Iterator[int]:
        """The descriptor, for the block; used up behind it, unless it raised. SpareInUseError."""
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd < 0:
            raise SpareInUseError
        try:
            yield fd
        except BaseException:
            self._give_back(fd)
            raise
        os.close(fd)

    def _give_back(self, fd: int) -> None:
        """Empty again, unless another one has come meanwhile, which is the one that xend knows."""
        with suppress(OSError), self._lock:
            os.ftruncate(fd, 0)
            if self._fd < 0:
                self._fd = fd
                return
        os.close(fd)
