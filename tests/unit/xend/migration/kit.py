"""Hosts that domains come to and leave, with stand-ins for domains, and what stands for the other end."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from tests.unit.xend.kit import World, asked, config, within
from xenion.config.domain import DomainConfig
from xenion.xend import process
from xenion.xend.live import Live
from xenion.xend.migration import disks
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.talk import (
    Accepted,
    Commit,
    DiskMark,
    Loaded,
    Message,
    Offer,
    Sent,
    Shown,
    hear,
    say,
)
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import DATA, Wire, WireError
from xenion.xend.settings import Migration, Settings
from xenion.xend.storage import read_json

UUID = "00000000-0000-4000-8000-00000000000a"
WORD = "0123456789abcdef"
SHOWN = Shown("software", [])
TOLD = ("devices", "store", "name", "processor")
LOCAL = (ip_network("127.0.0.0/8"), ip_network("::1"))
M = TypeVar("M", bound=msgspec.Struct)
Script = Callable[["Far"], Awaitable[None]]


def free_port(family: int = socket.AF_INET) -> int:
    with socket.socket(family) as found:
        found.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        return int(found.getsockname()[1])


def install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins can move from now on."""
    program = Path(__file__).with_name("moving.py")
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-IS", str(program)))


class Host(World):
    """One that takes domains."""

    def __init__(self, at: Path, shared: Path) -> None:
        at.mkdir()
        super().__init__(at)
        self.shared = shared
        """A folder of all hosts."""
        self.chosen = Settings(
            user_network=self.chosen.user_network, migration=Migration("127.0.0.1", free_port(), LOCAL)
        )

    async def __aenter__(self) -> "Host":
        await super().__aenter__()
        await self.services.listening.start()
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.services.listening.close()
        await super().__aexit__(*why)

    @property
    def target(self) -> Target:
        return Target(self.chosen.migration.host, self.chosen.migration.port)

    def to(self, word: str, *, stop: bool = False) -> None:
        """How its stand-ins behave from now on, see moving.py; `stop`: or not any more."""
        (self.at / word).unlink() if stop else (self.at / word).touch()

    def config(self, name: str = "web", **more: Any) -> DomainConfig:
        return config(self.shared, name, **more)

    async def has(self, **more: Any) -> Live:
        """A domain that could leave."""
        made = self.config(**more)
        return await self.create(DomainConfig.from_mapping({**made.to_mapping(), "uuid": UUID}))

    @property
    def arrivals(self) -> dict[str, str]:
        path = self.where.state / "arrivals.json"
        return dict(read_json(path)["known"]) if path.exists() else {}

    @property
    def ledger(self) -> str:
        return str(read_json(self.where.state / "arrivals.json")["ledger"])

    @property
    def sessions(self) -> dict[str, Any]:
        return dict(self.services.listening._incoming._sessions)

    async def idle(self) -> None:
        """Until no other host is served."""
        await self.until(lambda: not self.services.listening._serving)


def words(live: Live) -> list[str]:
    """What a stand-in was asked, all but what any is asked."""
    return [request["do"] for request in asked(live) if request["do"] not in TOLD]


class Far:
    """A test at the other end of a connection."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    async def say(self, *messages: Message) -> None:
        for message in messages:
            await say(self.wire, message)

    async def hear(self, kind: type[M]) -> M:
        heard: M = await within(hear(self.wire, kind))
        return heard

    async def data(self, *parts: bytes) -> None:
        for part in parts:
            await self.wire.send(DATA, part)

    async def stream(self) -> bytes:
        """All of it."""
        whole = b""
        while (frame := await within(self.wire.receive())).kind == DATA:
            whole += frame.data
        assert msgspec.json.decode(frame.data) == {"type": "sent"}
        return whole

    async def over(self) -> bool:
        """Returns when the other end has closed it."""
        try:
            await within(self.wire.receive())
        except WireError as error:
            return "clos" in str(error) or "broken" in str(error)
        return False

    # --- as a source

    def offer(self, host: Host, **more: Any) -> Offer:
        """Of a domain that has run on another host."""
        made = host.config(**more.pop("having", {}))
        mapping = {**made.to_mapping(), "uuid": UUID, **more.pop("config", {})}
        fields = dict.fromkeys(("managed", "lasting", "paused", "check", "same_disks"), False)
        marks = disks.marks_of(made)
        known = {"id": WORD, "config": mapping, "domid": 9, **fields, "disks": marks, "shown": SHOWN}
        return Offer(**{**known, **more})

    async def brings(self, host: Host, **more: Any) -> list[DiskMark]:
        """All until it is loaded there; what to commit."""
        offer = self.offer(host, **more)
        await self.say(offer)
        await self.hear(Accepted)
        await self.data(b"x" * 1000, b"y")
        await self.say(Sent())
        await self.hear(Loaded)
        return offer.disks

    async def commits(self, host: Host, **more: Any) -> None:
        """The answer is to come."""
        await self.say(Commit(await self.brings(host, **more)))

    # --- as a target

    async def takes(self) -> Offer:
        """All until it is loaded here."""
        offer = await self.hear(Offer)
        await self.say(Accepted())
        await self.stream()
        await self.say(Loaded())
        return offer


@asynccontextmanager
async def source(host: Host) -> AsyncIterator[Far]:
    """Connected to a host."""
    wire = await within(Connector(Migration()).connect(host.target))
    try:
        yield Far(wire)
    finally:
        await wire.close()


class Targets:
    """What stands for other hosts: a script for each connection, one after the other; none, and nobody is there."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.failures: list[BaseException] = []
        self.connections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Targets":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        assert not self.failures

    @property
    def port(self) -> int:
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def where(self) -> dict[str, Any]:
        """For the action `migrate`."""
        return {"host": "127.0.0.1", "port": self.port}

    @property
    def done(self) -> bool:
        return not self.scripts and not self._tasks

    def then(self, *scripts: Script) -> None:
        self.scripts.extend(scripts)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        wire = Wire(reader, writer)
        task = asyncio.ensure_future(self._play(wire))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _play(self, wire: Wire) -> None:
        try:
            if self.scripts:
                script = self.scripts.pop(0)
                await wire.greet()
                await script(Far(wire))
        except Exception as error:  # noqa: BLE001  the test fails at its end
            self.failures.append(error)
        finally:
            with suppress(Exception):
                await wire.close()
