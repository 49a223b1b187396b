"""Files of saved domains that xend cannot open by the name given: standard input and output, and pipes.

xend opens what we have open, as /proc/PID/fd/N. What comes through a pipe is taken in whole first, so that nothing is
begun that cannot end; whoever sent it may have no other copy, so it is kept if the domain cannot go on.
"""

import errno
import os
import select
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, NamedTuple

from xenion.api.errors import ApiError
from xenion.xm.errors import UsageError, XmError
from xenion.xm.output import complain

STANDARD = "-"
STDIN, STDOUT = 0, 1
PIECE_BYTES = 1 << 20
MAGIC = b"XENIONSV"
"""With what a saved domain begins: domain/saved/format.py, which is none of xm's."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Place(NamedTuple):
    """The path for xend, what the user knows it by, and whether that is `-`."""

    path: str
    name: str
    standard: bool = False


@contextmanager
def to_write(given: str) -> Iterator[Place]:
    """UsageError, XmError."""
    path = _absolute(given)
    if _is_standard(given, STDOUT):
        _check_near("standard output")
        _check_output()
        with _ours(Place(_path_of(STDOUT), "standard output", standard=True)) as place:
            yield place
    elif _is_pipe(path):
        _check_near(path)
        with _opened(path, "wb") as file, _ours(Place(_path_of(file.fileno()), path)) as place:
            yield place
    else:
        yield Place(path, path)


@contextmanager
def to_read(given: str) -> Iterator[Place]:
    """UsageError, XmError."""
    path, standard = _absolute(given), _is_standard(given, STDIN)
    if not standard and not _is_pipe(path):
        yield Place(path, path)
        return
    name = "standard input" if standard else path
    _check_near(name)
    if standard and os.isatty(STDIN):
        raise UsageError("standard input is a terminal: give the file a name, or a pipe to read")
    if standard and _is_whole_file(STDIN):
        with _ours(Place(_path_of(STDIN), name, standard)) as place:
            yield place
        return
    with _opened(STDIN if standard else path, "rb") as file:
        whole = _taken_in(file, name)
    with _kept_unless_it_goes_on(whole), _ours(Place(whole, name, standard)) as place:
        yield place


def _absolute(given: str) -> str:
    """Links are xend's business, but for those that lead elsewhere there."""
    path = os.path.abspath(given)  # noqa: PTH100
    ours = path.startswith(("/dev/", "/proc/")) and not _is_pipe(path)
    return os.path.realpath(path) if ours else path


def _is_standard(given: str, fd: int) -> bool:
    """By that name, or another one of the same."""
    try:
        return given == STANDARD or os.path.samestat(os.stat(given), os.fstat(fd))  # noqa: PTH116
    except OSError:
        return False


def _is_pipe(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116
    except OSError:
        return False


def _is_whole_file(fd: int) -> bool:
    """Of which nothing has been read."""
    return stat.S_ISREG(os.fstat(fd).st_mode) and os.lseek(fd, 0, os.SEEK_CUR) == 0


def _path_of(fd: int) -> str:
    return f"/proc/{os.getpid()}/fd/{fd}"


def _check_output() -> None:
    """UsageError."""
    if os.isatty(STDOUT):
        raise UsageError("standard output is a terminal: give the file a name, or a pipe to write to")
    found = os.fstat(STDOUT)
    if not (stat.S_ISFIFO(found.st_mode) or stat.S_ISREG(found.st_mode)):
        raise UsageError("standard output is no pipe and no file: name one, or put `| cat` behind it")
    if stat.S_ISREG(found.st_mode) and (found.st_size or not found.st_nlink):
        raise UsageError("standard output is a file that has something in it, or no name: name another one")


def _check_near(name: str) -> None:
    """UsageError."""
    if os.environ.get("XEND_URL"):
        raise UsageError(f"{name}: the xend of XEND_URL has files of its own host only: name one of those")


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
def _ours(place: Place) -> Iterator[Place]:
    """What xend says of the path, it says of the name."""
    try:
        yield place
    except ApiError as error:
        raise ApiError(error.code, error.message.replace(place.path, place.name)) from error


def _taken_in(file: IO[bytes], name: str) -> str:
    """The path of all that comes. XmError."""
    folder = os.environ.get("TMPDIR") or "/var/tmp"  # noqa: S108 (/tmp may be memory)
    path = ""
    try:
        fd, path = tempfile.mkstemp(prefix="xenion-", suffix=".saved", dir=folder)
        try:
            while data := _read(file, name):
                _write(fd, data)
        finally:
            os.close(fd)
    except BaseException as error:
        if path:
            Path(path).unlink()
        if isinstance(error, OSError) and error.errno in FULL:
            raise XmError(
                f"{folder}: {error.strerror}: TMPDIR says where there is room for what comes from {name}"
            ) from error
        if isinstance(error, OSError):
            raise XmError(f"{folder}: {error.strerror}") from error
        raise
    return path


def _read(file: IO[bytes], name: str) -> bytes:
    """XmError."""
    try:
        while (data := file.read(PIECE_BYTES)) is None:  # somebody has made it non-blocking
            select.select([file], [], [])
    except OSError as error:
        raise XmError(f"{name}: {error.strerror}") from error
    return data


def _write(fd: int, data: bytes) -> None:
    """OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


@contextmanager
def _kept_unless_it_goes_on(whole: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if _is_saved(whole):
            complain(f"what came is kept: it is in {whole}")
        else:
            _remove(whole)
        raise
    _remove(whole)


def _is_saved(path: str) -> bool:
    with Path(path).open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def _remove(path: str) -> None:
    with suppress(OSError):
        Path(path).unlink()
