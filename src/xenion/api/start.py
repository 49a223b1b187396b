"""Starts a xend that is wanted and does not run."""

import os
import subprocess
import sys
from pathlib import Path

from xenion.api.errors import UnreachableError
from xenion.api.folders import Folders

LOG = "xend.log"
LOG_BYTES = 4 << 20
READY = b"ready\n"


def start_xend(where: Folders, *, stays: bool = False) -> None:
    """Returns when xend listens, this one or one that somebody else started at the same time. UnreachableError.

    It goes on by itself, and ends when it has had nothing to do for a while, unless it `stays`.
    """
    try:
        where.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = _open_log(where.state / LOG)
    except OSError as error:
        raise UnreachableError(f"{error.filename}: {error.strerror}") from error
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        _spawn(log, theirs, () if stays else ("--on-demand",))
    except OSError as error:
        os.close(ours)
        raise UnreachableError(f"xend cannot be started: {error.strerror}") from error
    finally:
        os.close(log)
        os.close(theirs)
    with os.fdopen(ours, "rb") as pipe:
        answer = pipe.read()
    if answer != READY:
        said = answer.decode(errors="replace").strip()
        raise UnreachableError(said or f"xend ended while it was starting; see {where.state / LOG}")


def _open_log(path: Path) -> int:
    """For what xend says; an old one is set aside when it is large. OSError."""
    if path.exists() and path.stat().st_size > LOG_BYTES:
        path.replace(path.with_name(f"{path.name}.1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _spawn(log: int, ready: int, arguments: tuple[str, ...]) -> None:
    """Through a process that ends at once, so that xend is nobody's child here. OSError."""
    program = [sys.executable, "-m", "xenion.xend", "run", "--ready-fd", str(ready), *arguments]
    first = subprocess.Popen(
        [sys.executable, "-S", "-c", _DETACH, *program],
        pass_fds=(ready,),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
        cwd="/",
        env={name: value for name, value in os.environ.items() if not name.startswith("XEND_")},
    )
    first.wait()


_DETACH = "import os, sys\nif os.fork() == 0: os.execv(sys.argv[1], sys.argv[1:])"
