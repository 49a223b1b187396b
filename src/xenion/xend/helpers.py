"""Programs that work for a domain or a network beside it: passt, a storage daemon, a switch, dnsmasq.

A helper is in a session of its own and goes on when xend ends. What is known of it stands in a record, so that a later
xend can end it; one that was started just before xend was killed is found by the mark in its environment.
"""

import asyncio
import os
import re
import shutil
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.xend.process import Process

_PASSED_ON = re.compile(
    "PATH|HOME|LANG|LANGUAGE|LC_[A-Z]+|TZ|TMPDIR|XDG_[A-Z]+_(HOME|DIR)|PYTHON[A-Z0-9]+|LD_LIBRARY_PATH|LD_PRELOAD"
    "|XENION_WRITE_WATCH"
).fullmatch
MARK = "XENION_HELPER_OF"
"""In a helper's environment: the run folder of what it works for."""
GRACE_S = 3.0
LONG_S = 3600.0
READY_S = 10.0
SAID_BYTES = 1 << 14
PACKAGES = {
    "qemu-storage-daemon": "qemu-system-common",
    "qemu-img": "qemu-utils",
    "passt": "passt",
    "dnsmasq": "dnsmasq-base",
}
_FOLDERS = "/usr/local/sbin:/usr/sbin:/sbin"
_children: set[int] = set()
"""Those of this xend that nobody has waited for yet."""


@dataclass(frozen=True, slots=True)
class Helper:
    """`pid` and `began` are its identity, as in xenion.xend.process; `what` is for people."""

    what: str
    pid: int
    began: int

    @property
    def process(self) -> Process:
        return Process(self.pid, self.began)

    @property
    def alive(self) -> bool:
        _reap()
        return self.process.alive

    async def ended(self) -> None:
        """Returns when it has ended."""
        while self.alive:
            await self.process.wait(LONG_S)

    async def end(self) -> None:
        """Asks it to end, and kills it when it does not; one that has gone is fine. ApiError (failed)."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                if not self.process.send(number):
                    break
            except PermissionError:
                raise ApiError("failed", f"{self.what}, process {self.pid}, is another user's") from None
            await self.process.wait(GRACE_S)
        if self.alive:
            raise ApiError("failed", f"{self.what}, process {self.pid}, cannot be ended")

    def to_mapping(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "Helper":
        """ValueError."""
        try:
            helper = cls(**values)
        except TypeError as error:
            raise ValueError("a helper in a record is of another version of Xenion") from error
        if not isinstance(helper.pid, int) or not isinstance(helper.began, int) or helper.pid <= 1:
            raise ValueError("a helper in a record has no process")
        return helper


def find(program: str) -> str:
    """The program's path. ApiError (failed): its package is not installed."""
    found = shutil.which(program) or shutil.which(program, path=_FOLDERS)
    if found is None:
        raise ApiError("failed", f"{program} is not installed: apt-get install {PACKAGES[program]}")
    return found


def installed(program: str) -> bool:
    return bool(shutil.which(program) or shutil.which(program, path=_FOLDERS))


def environment(mark: Path | None = None) -> dict[str, str]:
    """What programs need of ours to start: no token or other secret of the user's."""
    kept = {name: value for name, value in os.environ.items() if _PASSED_ON(name)}
    return kept if mark is None else {**kept, MARK: str(mark)}


def start(
    what: str, words: list[str], *, works_for: Path, said: int, pass_fds: Collection[int] = ()
) -> Helper:
    """`words[0]` is a path. `works_for`: a run folder; `said`: its standard error. ApiError (failed)."""
    child = _spawn(what, words, works_for, said, pass_fds)
    _children.add(child)
    known = Process.of(child)  # there, be it as a zombie: nobody else waits for it
    if known is None:
        raise ApiError("failed", f"{what} cannot be started: /proc tells nothing of it")
    return Helper(what, known.pid, known.began)


def _spawn(what: str, words: list[str], works_for: Path, said: int, pass_fds: Collection[int]) -> int:
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    copies = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, said, 2)]
    actions: list[tuple[int, ...]] = [*copies]
    actions += [(os.POSIX_SPAWN_CLOSE, fd) for fd in _inheritable() if fd not in pass_fds]
    # dup2 onto itself takes the close-on-exec flag away, in the child only
    actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in pass_fds]
    try:
        return os.posix_spawn(
            words[0],
            words,
            environment(works_for),
            file_actions=actions,
            setsid=True,
            setsigmask=(),
            setsigdef=(signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT),
        )
    except OSError as error:
        raise ApiError("failed", f"{what} cannot be started: {words[0]}: {error.strerror}") from error
    finally:
        os.close(null)


def _inheritable() -> list[int]:
    """What whoever has started us left open, not for the likes of a helper; ours close by themselves."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  a hundred times faster
        with suppress(OSError):  # the listing's own
            if int(name) > 2 and os.get_inheritable(int(name)):
                found.append(int(name))
    return found


async def start_daemon(
    what: str, words: list[str], *, pid_file: Path, works_for: Path, pass_fds: Collection[int] = ()
) -> Helper | str:
    """A program that goes into the background by itself once it is ready and leaves its process id in `pid_file`;
    if it refuses, what it says. ApiError (failed)."""
    pid_file.unlink(missing_ok=True)
    with os.fdopen(os.memfd_create("said"), "rb") as said:
        parent = start(what, words, works_for=works_for, said=said.fileno(), pass_fds=pass_fds)
        try:
            status = await asyncio.wait_for(_status(parent), READY_S)
        except BaseException as error:
            await parent.end()
            if isinstance(error, TimeoutError):
                return "it does not get ready"
            raise
        said.seek(0)
        text = said.read(SAID_BYTES).decode(errors="replace").strip()
    try:
        known = None if status else Process.of(int(pid_file.read_text()))
    except (OSError, ValueError):
        known = None
    return text or "it ended without a word" if known is None else Helper(what, known.pid, known.began)


async def _status(child: Helper) -> int:
    """The exit status of a child of ours that nobody has waited for, when it has ended."""
    _children.discard(child.pid)
    try:
        while child.process.alive:
            await child.process.wait(LONG_S)
    except BaseException:
        _children.add(child.pid)
        raise
    return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])


async def told(ready: int) -> bool:
    """Whether the other end of the pipe says that it is ready, before it is closed or much time has gone."""
    loop, said = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(ready, said.set)
    try:
        await asyncio.wait_for(said.wait(), READY_S)
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(ready)
    return bool(os.read(ready, 1))


def _reap() -> None:
    for pid in tuple(_children):
        try:
            gone, _ = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            gone = pid
        if gone:
            _children.discard(pid)


def strays(run: Path, known: Collection[Helper]) -> list[Helper]:
    """Those that work for something in the folder `run` and are in no record: xend was killed before it wrote one."""
    pids = {helper.pid for helper in known}
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) in pids or (folder := _mark(entry)) is None:
            continue
        process = Process.of(int(entry.name))
        if folder.is_relative_to(run) and process is not None and process.alive:
            found.append(Helper(f"a helper of {folder.name}", process.pid, process.began))
    return found


def _mark(process: Path) -> Path | None:
    try:
        variables = (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start_of = f"{MARK}=".encode()
    return next(
        (Path(os.fsdecode(word[len(start_of) :])) for word in variables if word.startswith(start_of)), None
    )
