"""The daemon's folder: what is in it, its lock, and sockets whose paths may be longer than an address."""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOCKET = "xenstored.sock"
"""Stock clients: XENSTORED_PATH."""
CONTROL = "xenstored.ctl"
"""xend only."""
STATE = "xenstored.state"
LOCK = "xenstored.lock"
"""Held by the daemon; its process id is in it."""


class FolderError(Exception):
    """The folder cannot be used."""


def lock(folder: Path) -> int:
    """The lock's descriptor, with our process id in the file. FolderError when another daemon has it."""
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)
        fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(f"{folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise FolderError(
            f"{folder} is used by another xenstored, process {holder}: stop it first"
        ) from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def bind(path: Path, kind: int) -> socket.socket:
    """A socket bound at a path, in the place of one that a former daemon has left; FolderError."""
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        path.unlink(missing_ok=True)
        os.fchmod(made.fileno(), 0o600)
        with _address(path) as address:
            made.bind(address)
    except OSError as error:
        made.close()
        raise FolderError(f"{path} cannot be bound: {error.strerror}") from error
    return made


def connect(path: Path, kind: int, timeout: float) -> socket.socket:
    """A connected socket; OSError."""
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        made.settimeout(timeout)
        with _address(path) as address:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


@contextmanager
def _address(path: Path) -> Iterator[str]:
    """A short one, good within the block."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
