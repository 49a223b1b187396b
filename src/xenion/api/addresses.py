"""Unix socket addresses: a path of any length can be bound and connected to, though an address has 107 bytes only."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def address_of(path: Path) -> Iterator[str]:
    """An address that is good within the block. OSError when the path's folder cannot be opened."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def connect(path: Path, kind: int = socket.SOCK_STREAM, timeout: float | None = None) -> socket.socket:
    """A connected socket; OSError."""
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        made.settimeout(timeout)
        with address_of(path) as address:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def bind(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A socket bound at `path`, mode 0600, that does not listen yet; OSError."""
    made = socket.socket(socket.AF_UNIX, kind)
    try:
        os.fchmod(made.fileno(), 0o600)  # the mode of the file that bind makes, less the umask
        with address_of(path) as address:
            made.bind(address)
        path.chmod(0o600)
    except BaseException:
        made.close()
        raise
    return made
