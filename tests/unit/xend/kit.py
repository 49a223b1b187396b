"""A xend without its web server: all of its services and handlers, over folders of a test's own."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from xenion.api.addresses import connect
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.xend import helpers, process, record
from xenion.xend.call import Call, Peer
from xenion.xend.dispatch import logged
from xenion.xend.handlers import all_handlers
from xenion.xend.link import Link
from xenion.xend.live import Live
from xenion.xend.networks.defined import UserNetwork
from xenion.xend.services import make_services
from xenion.xend.settings import Settings
from xenion.xend.storage import private_folder, read_json, write_json
from xenion.xend.xenstored import Connections, Xenstored

STANDIN = Path(__file__).with_name("standin.py")
MARK = "XDG_RUNTIME_DIR"
"""In a stand-in's environment, where it is passed on: the test's folder."""
PATIENCE_S = 20.0
KERNEL = "kernel"


def folders(at: Path) -> Folders:
    return Folders(at / "run", at / "state")


def config(at: Path, name: str = "web", behaviour: str = "", **more: Any) -> DomainConfig:
    """Of a stand-in's domain."""
    kernel = at / KERNEL
    kernel.touch()
    return DomainConfig(**{"name": name, "kernel": kernel, "cmdline": behaviour, "memory_mib": 16, **more})


children: list["subprocess.Popen[bytes]"] = []
"""Stand-ins, and real stores, whose xend has ended; they are this process's to wait for."""


async def within(work: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(work, PATIENCE_S)


def run(work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(work())


class StoreStandin(Xenstored):
    """A store that only knows who was introduced, in a file, so that it outlives xend: stand-ins ask it nothing."""

    def __init__(self, where: Folders) -> None:
        super().__init__(where)
        self._file = where.run / "store.json"

    @property
    def runs(self) -> bool:
        return self._file.exists()

    @property
    def known(self) -> dict[int, str]:
        return {int(domid): uuid for domid, uuid in read_json(self._file).items()} if self.runs else {}

    async def introduce(self, domid: int, uuid: str) -> Connections:
        write_json(self._file, {**self.known, domid: uuid})
        (guest, one), (back_ends, other) = socket.socketpair(), socket.socketpair()
        one.close()
        other.close()
        return guest, back_ends

    async def release(self, domid: int) -> None:
        write_json(self._file, {known: uuid for known, uuid in self.known.items() if known != domid})

    async def introduced(self) -> dict[int, str]:
        return self.known

    async def connected(self) -> set[int]:
        return set(self.known)

    async def stop(self) -> None:
        self._file.unlink(missing_ok=True)


class World:
    """Use it with `async with`: entering adopts what is there, leaving is a xend's orderly end: domains go on."""

    def __init__(self, at: Path) -> None:
        self.at = at
        self.chosen = Settings(user_network=UserNetwork("slirp"))
        self.make_store: Callable[[Folders], Xenstored] = StoreStandin
        self.where = folders(at)
        for folder in (self.where.run, self.where.domains, self.where.state):
            private_folder(folder)

    async def __aenter__(self) -> "World":
        self.store = self.make_store(self.where)
        self.services = make_services(self.where, self.chosen, self.store)
        self.handlers = logged(all_handlers(self.services), self.services.registry, self.services.log)
        self.services.supervisor.adopt_all()
        await asyncio.sleep(0)  # their journals are read before a client is heard
        return self

    async def __aexit__(self, *_: object) -> None:
        self.services.supervisor.close()
        self.store.close()
        self.services.log.close()
        made = [self.store._child, *(live._child for live in self.services.registry.live.values())]
        children.extend(child for child in made if child is not None)

    # --- acting

    async def call(
        self,
        name: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
        **at: str,
    ) -> Any:
        return await within(self.handlers[name](Call(Peer("test"), at, body or {}, query or {})))

    async def task(self, name: str, body: Mapping[str, Any] | None = None, **at: str) -> Any:
        """The result of a task; ApiError."""
        begun = await self.call(name, body, None, **at)
        task = self.services.tasks.get(begun["id"])
        await within(task.over())
        if task.failure is not None:
            raise task.failure
        return task.result

    async def create(self, made: DomainConfig, **more: Any) -> Live:
        found = await self.task("create", {"config": made.to_mapping(), **more})
        return self.live(found["domain"]["uuid"])

    async def refusal(self, work: Awaitable[Any]) -> ApiError:
        """What `work` is refused with."""
        try:
            await within(work)
        except ApiError as error:
            return error
        raise AssertionError("it was not refused")

    async def until(self, condition: Callable[[], bool]) -> None:
        """Polls, for what tells nobody when it changes."""

        async def look() -> None:
            while not condition():
                await asyncio.sleep(0.005)

        await within(look())

    async def settled(self) -> None:
        """Until everything that was wanted is done, for all domains."""
        await self.until(lambda: all(_is_settled(live) for live in self.services.registry.live.values()))

    def disk(self, vdev: str, target: str = "", **more: Any) -> Disk:
        """On a raw image of its own, or `target` here."""
        path = self.at / (target or f"{vdev}.img")
        if not path.exists() or not path.stat().st_size:  # a test may be killed in between
            path.touch()
            os.truncate(path, 1 << 20)
        return Disk(target=str(path), vdev=vdev, **more)

    # --- looking

    def live(self, word: str = "web") -> Live:
        return self.services.registry.need_live(word)

    @property
    def names(self) -> list[str]:
        return sorted(live.name for live in self.services.registry.live.values())

    def told(self, uuid: str = "", who: str = "domain") -> list[str]:
        """The actions in the event log."""
        entries = self.services.log.entries(uuid=uuid)
        return [entry["action"] for entry in entries if who in ("", entry["who"])]

    def files(self, folder: Path) -> list[str]:
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def _is_settled(live: Live) -> bool:
    return live.gone.is_set() or (live.linked and not live.busy and not live.record.wants)


class Direct:
    """A test's own connection to a stand-in."""

    def __init__(self, live: Live) -> None:
        self._stream = connect(live.folder / record.CONTROL, socket.SOCK_SEQPACKET, timeout=PATIENCE_S)

    def __enter__(self) -> "Direct":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def ask(self, what: str, **fields: Any) -> Any:
        self._stream.send(json.dumps({"id": 1, "do": what, **fields}).encode())
        while True:
            packet = self._stream.recv(1 << 16)
            if not packet:
                return None
            message = json.loads(packet)
            if message.get("id") == 1:
                return message["done"]


def add(live: Live, *entries: dict[str, Any]) -> None:
    """Into the stand-in's journal."""
    with Direct(live) as direct:
        direct.ask("add", entries=list(entries))


def end(live: Live, **how: Any) -> None:
    """The stand-in without last words: `status`, or `signal`."""
    with Direct(live) as direct:
        direct.ask("exit", **how)


def asked(live: Live) -> list[dict[str, Any]]:
    with Direct(live) as direct:
        return list(direct.ask("asked")["asked"])


def ended(reason: str = "poweroff", action: str = "destroy", **more: Any) -> dict[str, Any]:
    return {"kind": "ended", "reason": reason, "action": action, "report": False, "core": False, **more}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def open_files(pid: int) -> list[str]:
    """What a process has open, by name; it may close some meanwhile."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(path.readlink()))
    return found


def standins(at: Path) -> list[int]:
    """The stand-ins that a test in this folder has started and that still run."""
    mark = f"{MARK}={at}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                marked = mark in (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if marked and process.PROGRAM[-1].encode() in words:
                found.append(int(entry.name))
    return found


def kill_standins(at: Path) -> list[int]:
    left = standins(at)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    while children:
        children.pop().wait(PATIENCE_S)
    return left


def helpers_of(at: Path) -> list[str]:
    """What helpers of domains run for a test in this folder, switches not among them: those go when they are idle."""
    return sorted(helper.what for helper in helpers.strays(at / "run" / "helpers", ()))


def kill_helpers(at: Path) -> None:
    for helper in helpers.strays(at, ()):
        helper.process.kill()
        while helper.alive:
            time.sleep(0.001)


def impatient(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Answers of processes that do not come are not waited for long."""
    defaults = Link.ask.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "timeout", seconds)
