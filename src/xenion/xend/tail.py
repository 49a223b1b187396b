"""What is written to a log from some moment on."""

import os

MOST_BYTES = 1 << 14


class Tail:
    """`fd`: of a file that is open for appending; what it has already is not read."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._since = os.fstat(fd).st_size

    def read(self) -> str:
        """The first of it; "" for what is not a file or cannot be read."""
        try:
            again = os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return ""
        try:
            return os.pread(again, MOST_BYTES, self._since).decode(errors="replace")
        except OSError:
            return ""
        finally:
            os.close(again)
