"""Locks on images, the ones that QEMU takes (block/file-posix.c), so that it and we keep out of each other's way.

Every user holds shared locks on single bytes: at 100 + P for each permission P that it uses, at 200 + P for each that
it does not let others use. Who then finds a byte held that contradicts its own gives up. The locks belong to the open
file description: they last as long as any process holds the descriptor.
"""

import errno
import fcntl
import os
import struct
from contextlib import suppress

USED_BASE, DENIED_BASE = 100, 200
CONSISTENT_READ, WRITE, RESIZE = 0, 1, 3
_DENIED = (WRITE, RESIZE)
_FLOCK = "hhqqi4x"
"""struct flock (fcntl.h): type, whence, start, length, process."""
_UNSUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class InUseError(Exception):
    """Somebody uses the file in a way that does not go with this one."""


class NoLocksError(Exception):
    """The file system has no such locks."""


def take(fd: int, *, writable: bool) -> None:
    """For as long as the open file description lasts. InUseError and NoLocksError: nothing is locked; OSError."""
    used = (CONSISTENT_READ, WRITE) if writable else (CONSISTENT_READ,)
    mine = [*(USED_BASE + bit for bit in used), *(DENIED_BASE + bit for bit in _DENIED)]
    try:
        for at in mine:
            _set(fd, fcntl.F_RDLCK, at)
        # Taken first and looked at then: of two that come at once, one at least sees the other.
        theirs = [*(DENIED_BASE + bit for bit in used), *(USED_BASE + bit for bit in _DENIED)]
        held = any(is_held(fd, at) for at in theirs)
    except OSError as error:
        _release(fd, mine)
        if error.errno in _UNSUPPORTED:
            raise NoLocksError from error
        raise
    if held:
        _release(fd, mine)
        raise InUseError


def take_over(fd: int, *, writable: bool) -> None:
    """As `take`, of a file that another host has had: what this one has of it in its cache may be older."""
    try:
        take(fd, writable=writable)
    finally:
        with suppress(OSError):
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)


def give_back(fd: int) -> None:
    """What `take` has taken; none is fine."""
    _release(
        fd, [base + bit for base in (USED_BASE, DENIED_BASE) for bit in (CONSISTENT_READ, WRITE, RESIZE)]
    )


def is_written(fd: int) -> bool:
    """Whether somebody else has the file open for writing and has locked it. OSError."""
    return is_held(fd, USED_BASE + WRITE)


def is_held(fd: int, at: int) -> bool:
    """Whether another open file description has a lock on the byte. OSError."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, 0, at, 1, 0))
    return bool(struct.unpack(_FLOCK, answer)[0] != fcntl.F_UNLCK)


def _set(fd: int, kind: int, at: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, kind, 0, at, 1, 0))


def _release(fd: int, places: list[int]) -> None:
    for at in places:
        try:
            _set(fd, fcntl.F_UNLCK, at)
        except OSError:
            return  # there are no locks at all
