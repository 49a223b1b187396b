"""The folder where fetched images are kept: one writer at a time, and nothing half-made is ever visible."""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Say = Callable[[str], None]
"""Takes one line of progress, without its newline."""

_UNFINISHED = ".unfinished-"


class CacheError(Exception):
    """The cache folder cannot be used."""


def folder() -> Path:
    """Where images are kept: `$XDG_CACHE_HOME/xenion`, or `~/.cache/xenion`; it need not exist yet."""
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if base.is_absolute():
        return base / "xenion"
    try:
        return Path.home() / ".cache" / "xenion"
    except RuntimeError as error:
        raise CacheError("There is no home folder to keep images in: set XDG_CACHE_HOME.") from error


@contextmanager
def locked(root: Path, say: Say) -> Iterator[None]:
    """Holds the cache at `root` (made if missing) for one writer; waits for another one to finish.

    What a killed writer left unfinished is removed.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / "lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another fetch to finish ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for leftover in root.glob(_UNFINISHED + "*"):
            shutil.rmtree(leftover)
        yield


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A new folder on the cache's file system, removed afterwards; only for the holder of the lock."""
    path = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replaces the file at `path` in one step: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
