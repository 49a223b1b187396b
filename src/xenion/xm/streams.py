"""Files of saved domains that xend cannot open by the name given: standard input and output, and pipes. It opens what
we have open, as /proc/PID/fd/N; what is to be restored is taken in whole first, so that nothing is begun that cannot
end."""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

from xenion.api.errors import ApiError
from xenion.xm.errors import UsageError, XmError

STANDARD = "-"
STDIN, STDOUT = 0, 1
PIECE_BYTES = 1 << 20


class Place(NamedTuple):
    """The path for xend, and what the user knows it by."""

    path: str
    name: str


@contextmanager
def to_write(given: str) -> Iterator[Place]:
    """UsageError, XmError."""
    if given == STANDARD:
        _check_output()
        with _ours("standard output", STDOUT) as place:
            yield place
        return
    path = os.path.abspath(given)  # noqa: PTH100 (links are xend's business)
    if not _is_pipe(path):
        yield Place(path, path)
        return
    with _opened(path, "wb") as file, _ours(path, file.fileno()) as place:
        yield place


@contextmanager
def to_read(given: str) -> Iterator[Place]:
    """UsageError, XmError."""
    path = os.path.abspath(given)  # noqa: PTH100 (links are xend's business)
    if given != STANDARD and not _is_pipe(path):
        yield Place(path, path)
        return
    name = "standard input" if given == STANDARD else path
    if given == STANDARD and os.isatty(STDIN):
        raise UsageError("standard input is a terminal: give the file a name, or a pipe to read")
    with (
        _opened(STDIN if given == STANDARD else path, "rb") as file,
        _taken_in(file, name) as whole,
        _ours(name, whole.fileno()) as place,
    ):
        yield place


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _check_output() -> None:
    """UsageError."""
    if os.isatty(STDOUT):
        raise UsageError("standard output is a terminal: give the file a name, or a pipe to write to")
    found = os.fstat(STDOUT)
    if stat.S_ISREG(found.st_mode) and (found.st_size or not found.st_nlink):
        raise UsageError("standard output is a file that has something in it, or no name: name another one")


@contextmanager
def _opened(what: str | int, mode: str) -> Iterator[IO[bytes]]:
    """A pipe: as soon as somebody has the other end. XmError."""
    try:
        file = open(what, mode, buffering=0, closefd=isinstance(what, str))  # noqa: SIM115
    except OSError as error:
        raise XmError(f"{what}: {error.strerror}") from error
    with file:
        yield file


@contextmanager
def _ours(name: str, fd: int) -> Iterator[Place]:
    """What xend says of the path, it says of `name`. UsageError."""
    if os.environ.get("XEND_URL"):
        raise UsageError(f"{name}: the xend of XEND_URL has files of its own host only: name one of those")
    path = f"/proc/{os.getpid()}/fd/{fd}"
    try:
        yield Place(path, name)
    except ApiError as error:
        raise ApiError(error.code, error.message.replace(path, name)) from error


@contextmanager
def _taken_in(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """All that comes, in a file that has no name. XmError."""
    folder = os.environ.get("TMPDIR", "/var/tmp")  # noqa: S108 (/tmp may be memory)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as whole:
            while data := _read(file, name):
                _write(whole.fileno(), data)
            yield whole
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise XmError(
                f"{folder}: {error.strerror}: TMPDIR says where there is room for what comes from {name}"
            ) from error
        raise XmError(f"{folder}: {error.strerror}") from error


def _read(file: IO[bytes], name: str) -> bytes:
    try:
        return file.read(PIECE_BYTES)
    except OSError as error:
        raise XmError(f"{name}: {error.strerror}") from error


def _write(fd: int, data: bytes) -> None:
    """OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
