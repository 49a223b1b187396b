"""The file that a dump is written to, and how writing it can fail."""

import os

MIB = 1 << 20


class DumpError(Exception):
    """There is no whole core file; one sentence says why. Whoever made the file names it, and removes it."""


class DumpCancelled(DumpError):
    """`progress` asked to stop."""

    def __init__(self) -> None:
        super().__init__("the core dump was cancelled")


class NotEmptyError(DumpError):
    """Where nothing is written a core reads as zeroes, so there must be nothing there before."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the file for the core dump holds {size} bytes already: name a new file, or empty it"
        )


class WriteError(DumpError):
    """The host refuses to take the core."""

    def __init__(self, error: OSError, offset: int) -> None:
        super().__init__(
            f"the core dump cannot be written ({error.strerror}, {offset // MIB} MiB into the file): "
            "make room there or name a file elsewhere"
        )


class Output:
    """`fd` is an empty regular file, open for writing. All methods: DumpError."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        try:
            size = os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise WriteError(error, 0) from error
        if size:
            raise NotEmptyError(size)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of it; the host may take it in pieces."""
        rest = memoryview(data)
        try:
            while rest:
                written = os.pwrite(self._fd, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            raise WriteError(error, offset) from error

    def finish(self) -> None:
        """Some hosts say only now that there was no room."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise WriteError(error, 0) from error
