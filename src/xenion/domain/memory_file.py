"""A domain's memory as the host keeps it: which parts of it there are."""

import errno
import os
from collections.abc import Iterator


def touched(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts that the host has memory for. Reading the others would make it find some. OSError."""
    while start < stop:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing from here to the end
                return
            raise
        if start < stop:
            end = min(os.lseek(fd, start, os.SEEK_HOLE), stop)
            yield start, end
            start = end
