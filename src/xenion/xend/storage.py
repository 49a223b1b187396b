"""Small JSON files that are there whole or not at all."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError

_FRESH = ".new"


def write_json(path: Path, value: Any, *, durable: bool = False) -> None:
    """Replaces the file in one step. `durable`: it is on the disk when this returns. OSError."""
    fresh = path.with_name(f".{path.name}{_FRESH}")
    try:
        _write(fresh, json.dumps(value).encode(), durable=durable)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def _write(path: Path, data: bytes, *, durable: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def read_json(path: Path) -> Any:
    """OSError, ValueError."""
    return json.loads(path.read_bytes())


@contextmanager
def failing(where: Path) -> Iterator[None]:
    """What goes wrong with files of ours, in `where` unless it says where, becomes an ApiError (failed)."""
    try:
        yield
    except OSError as error:
        raise ApiError("failed", f"{error.filename or where}: {error.strerror}") from error


@contextmanager
def sound(path: Path) -> Iterator[None]:
    """Whatever in the file does not make sense to the block is an OSError, EUCLEAN."""
    try:
        yield
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise OSError(errno.EUCLEAN, "it is damaged: move it away", str(path)) from error


def remove(path: Path) -> None:
    """A file that may be gone already; it is gone from the disk when this returns. OSError."""
    path.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes created and renamed names last; some file systems cannot do this, and say so with EINVAL. OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(fd)


def private_folder(path: Path) -> Path:
    """The folder, made with mode 0700 if it is missing. OSError."""
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path


def folder_of_files(path: Path) -> Path:
    """A private folder for what `write_json` writes; what a kill kept from becoming whole is gone. OSError."""
    for fresh in private_folder(path).glob(f".*{_FRESH}"):
        fresh.unlink(missing_ok=True)
    return path
