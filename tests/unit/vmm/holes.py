"""The parts of a file that there are, as lseek tells: what the quick way is measured against."""

import errno
import os
from collections.abc import Iterator


def touched(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    while start < stop:
        try:
            start = os.lseek(fd, start, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        if start < stop:
            end = min(os.lseek(fd, start, os.SEEK_HOLE), stop)
            yield start, end
            start = end
