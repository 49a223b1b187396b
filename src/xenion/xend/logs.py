"""A domain's own files in STATE/domains/NAME: what its console said, why it crashed, what it was then.

console.log    since it was started; console.log.1 is of the time before
process.log    what its process says beside its journal, if ever
crash-TIME.txt a report; core-TIME an ELF core. Both are made from spare files, which a process gets while it may
               still open files: `.report` and `.core`.
"""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.xend.storage import private_folder

CONSOLE, PROCESS = "console.log", "process.log"
_NEXT_CONSOLE = f".{CONSOLE}.next"
SPARES = {"report": ".report", "core": ".core"}
CORES_KEPT = 4
"""Of one domain, made by its on_crash; the oldest go."""
REPORTS_KEPT = 50


@dataclass(frozen=True, slots=True)
class DomainLogs:
    """Descriptors, each the caller's."""

    console: int
    process: int
    report: int
    core: int

    def descriptors(self) -> tuple[int, ...]:
        return self.console, self.process, self.report, self.core


def open_all(folder: Path, *, goes_on: bool = False) -> DomainLogs:
    """Of a domain that is about to start, or to go on where it was saved: then its console's log does, too.
    ApiError (failed)."""
    opened: list[int] = []
    try:
        private_folder(folder)
        if not goes_on:
            set_aside(folder)
        opened.append((_longer if goes_on else _fresh)(folder / CONSOLE))
        for name in (PROCESS, *SPARES.values()):
            opened.append(_fresh(folder / name))
    except OSError as error:
        for fd in opened:
            os.close(fd)
        raise ApiError("failed", f"{error.filename}: {error.strerror}") from error
    return DomainLogs(*opened)


def _longer(path: Path) -> int:
    """With what is there. OSError."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _fresh(path: Path) -> int:
    """Empty, for writing: another process that still has the file that was there keeps that one. OSError."""
    path.unlink(missing_ok=True)
    append = 0 if path.name == SPARES["core"] else os.O_APPEND  # which would win over pwrite's offset
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | append, 0o600)


def set_aside(folder: Path) -> None:
    """The console's log becomes the one of the time before; an empty one takes no other's place."""
    with suppress(FileNotFoundError):
        if (folder / CONSOLE).stat().st_size:
            (folder / CONSOLE).replace(folder / f"{CONSOLE}.1")


def next_console(folder: Path) -> int:
    """Another log, which takes the full one's place by `change_console`; the caller's descriptor. OSError.

    A killed xend may have sent the same file: nothing that is in it goes.
    """
    return os.open(folder / _NEXT_CONSOLE, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def change_console(folder: Path) -> None:
    """Once the process writes to the next one. OSError."""
    set_aside(folder)
    (folder / _NEXT_CONSOLE).replace(folder / CONSOLE)


def new_spare(folder: Path, kind: str) -> int:
    """OSError."""
    return _fresh(folder / SPARES[kind])


def keep(folder: Path, kind: str, when: float) -> Path:
    """Gives a spare file that is in use its name for good; done before, it is found again."""
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(when)) + f".{int(when % 1 * 1000):03}"
    path = folder / (f"crash-{stamp}.txt" if kind == "report" else f"core-{stamp}")
    if not path.exists():
        with suppress(FileNotFoundError):
            (folder / SPARES[kind]).rename(path)
    _drop_oldest(
        folder,
        "crash-*.txt" if kind == "report" else "core-*",
        REPORTS_KEPT if kind == "report" else CORES_KEPT,
    )
    return path


def _drop_oldest(folder: Path, pattern: str, kept: int) -> None:
    for path in sorted(folder.glob(pattern))[:-kept]:
        with suppress(OSError):
            path.unlink()


def tidy(folder: Path) -> None:
    """After the process has gone: what it did not need."""
    with suppress(OSError):
        if (folder / _NEXT_CONSOLE).stat().st_size:
            change_console(folder)
    for name in (*SPARES.values(), _NEXT_CONSOLE, PROCESS):
        path = folder / name
        with suppress(OSError):
            if name != PROCESS or not path.stat().st_size:
                path.unlink()


def move(old: Path, new: Path) -> None:
    """Follows a rename, or has done so; what another domain of the new name has left is kept beside it. OSError."""
    if not old.exists() or old == new:
        return
    if new.exists():
        new.rename(new.with_name(f"{new.name}~{time.time_ns()}"))  # as no domain can be called
    old.rename(new)
