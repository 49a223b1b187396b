"""A domain on its way to another host, from here. Whatever goes wrong until it is released leaves it running here."""

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from xenion.api.errors import ApiError
from xenion.api.installed import version_of
from xenion.xend.chronicle import LEAVE
from xenion.xend.live import Live
from xenion.xend.migration import disks
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.decided import Decided
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    Offer,
    RefusalError,
    Sent,
    Shown,
    hear,
    say,
)
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import CHUNK_BYTES, DATA, Wire, WireError
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import give_up, remarks_of, written

LOADED_S, DECISION_S, ENDING_S = 150.0, 30.0, 30.0
BURST_S = 0.05
MOST_ROUNDS = 1000
STEP = "copying its memory"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class How:
    """`live`: most of the memory is copied while the guest runs. `ask`: it is to suspend itself. `check`: only whether
    it could. `most_bytes_per_s`: 0: no limit. `worst_ms`: it is not to stand still for longer, if that can be told."""

    live: bool = True
    ask: bool = False
    check: bool = False
    same_disks: bool = False
    most_bytes_per_s: int = 0
    worst_ms: float | None = None


@dataclass(slots=True)
class _Passage:
    live: Live
    target: Target
    how: How
    task: RunningTask
    wire: Wire
    id: str
    rounds: list[dict[str, float]] = field(default_factory=list)
    sent_bytes: int = 0
    whole: bool = False
    """Its process has written all of it, and holds the guest."""
    offer: Offer | None = None
    ledger: str = ""
    held_at: float = 0.0
    """When the guest was about to be held."""
    held_s: float = 0.0
    """So long it stood still, but for the time that Commit was on its way."""

    @property
    def leaving(self) -> dict[str, Any]:
        """For the record."""
        return {"id": self.id, "ledger": self.ledger, **self.target.to_mapping()}

    def note(self, figures: dict[str, float]) -> None:
        """What its process tells: the figures of a round, or that the guest is held now."""
        if "held" in figures:
            self.held_at = time.monotonic()
        elif len(self.rounds) < MOST_ROUNDS:
            self.rounds.append(figures)
            self.task.tell(figures)


async def _shown(live: Live) -> Shown:
    """ApiError."""
    try:
        return msgspec.convert(await live.ask("processor"), Shown)
    except msgspec.ValidationError as error:
        raise ApiError("failed", f"the process of {live.name} does not tell its processor") from error


def _offer_of(passage: _Passage, marks: list[DiskMark], shown: Shown) -> Offer:
    """As it is now."""
    live, made = passage.live, passage.live.record
    return Offer(
        id=passage.id,
        config={**made.config.to_mapping(), "uuid": made.uuid, "name": made.name},
        domid=made.domid,
        managed=made.managed,
        lasting=made.lasting,
        paused=live.condition.state == "paused",
        check=passage.how.check,
        same_disks=passage.how.same_disks,
        disks=marks,
        shown=shown,
    )


async def _unless(work: Awaitable[T], *others: "asyncio.Future[Any]") -> T:
    """What `work` returns, unless one of the others fails before: then it is cancelled, and that is raised."""
    task = asyncio.ensure_future(work)
    try:
        left = {task, *others}
        while not task.done():
            done, left = await asyncio.wait(left, return_when=asyncio.FIRST_COMPLETED)
            for other in done - {task}:
                other.result()
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


class Outgoing:
    def __init__(self, connector: Connector, decided: Decided) -> None:
        self._connector = connector
        self._decided = decided

    async def migrate(self, live: Live, target: Target, how: How, task: RunningTask) -> dict[str, Any]:
        """What there is to tell. ApiError: it goes on here, unless the message says otherwise."""
        began = time.monotonic()
        task.step(f"asking {target}")
        await asyncio.to_thread(disks.check_movable, live.record.config, same_disks=how.same_disks)
        await asyncio.to_thread(disks.check_whole, live.record.config, live.logs)
        word = secrets.token_hex(16)
        try:
            wire = await self._connector.connect(target)
            try:
                passage = _Passage(live, target, how, task, wire, word)
                await self._offer(passage)
                if how.check:
                    return {"host": str(target), "checked": True}
                told = await self._pass(passage)
            finally:
                await wire.close()
        except RefusalError as error:
            raise ApiError("refused", f"{target} does not take {live.name}: {error}") from error
        except WireError as error:
            raise ApiError(
                "failed", f"{live.name} is not moved, {target}: {error}; it goes on here"
            ) from error
        return {**told, "seconds": round(time.monotonic() - began, 3)}

    async def _offer(self, passage: _Passage) -> None:
        marks = await asyncio.to_thread(disks.marks_of, passage.live.record.config)
        passage.offer = _offer_of(passage, marks, await _shown(passage.live))
        await say(passage.wire, passage.offer)
        passage.ledger = (await hear(passage.wire, Accepted)).ledger

    async def _pass(self, passage: _Passage) -> dict[str, Any]:
        """RefusalError, WireError, ApiError: it goes on here."""
        live, wire = passage.live, passage.wire
        self._decided.begins(live, passage.leaving)
        try:
            answer = await self._send(passage)
            await say(wire, Sent())
            passage.task.step("waiting until it is loaded there")
            await hear(wire, Loaded, LOADED_S)
        except BaseException:
            if passage.whole:
                await asyncio.shield(give_up(live, "migrate"))
            self._decided.is_here(live)
            raise
        passage.task.committed = True
        passage.task.step("handing it over")
        with self._decided.here(live):
            arrived = await self._commit(passage, await self._release(passage))
        try:
            await asyncio.wait_for(live.gone.wait(), ENDING_S)
        except TimeoutError:
            live.kill()  # it runs there
            await live.gone.wait()
        return self._told(passage, arrived.domid, remarks_of(answer))

    # --- its stream

    async def _send(self, passage: _Passage) -> dict[str, Any]:
        """The answer of its process, when all has been sent. RefusalError, WireError, ApiError."""
        live, how = passage.live, passage.how
        has = live.record.config.to_mapping()
        fields = {
            "by": version_of("xenion"),
            "ask": how.ask,
            "live": how.live,
            "worst_ms": how.worst_ms,
            **{kind: has.get(kind, []) for kind in ("disks", "vifs")},
        }
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            pump = asyncio.ensure_future(self._pump(passage, ours))
            refusal = asyncio.ensure_future(self._hear(passage))
            try:
                answer = await _unless(self._written(passage, theirs.fileno(), fields), pump, refusal)
                theirs.close()  # the process has closed its own
                await _unless(pump, refusal)
            finally:
                for one in (pump, refusal):
                    one.cancel()
                await asyncio.gather(pump, refusal, return_exceptions=True)
        return answer

    async def _hear(self, passage: _Passage) -> None:
        """What the target says meanwhile: which rounds it has got. RefusalError, WireError, ApiError."""
        while True:
            got = await hear(passage.wire, Got, None)
            await passage.live.ask("echo", number=got.round)

    async def _written(self, passage: _Passage, fd: int, fields: dict[str, Any]) -> dict[str, Any]:
        """ApiError."""
        answer = await written(
            passage.live, passage.task, STEP, "migrate", fd, fields, passage.note, lambda: passage.sent_bytes
        )
        passage.whole = True
        return answer

    async def _pump(self, passage: _Passage, ours: socket.socket) -> None:
        """What the process writes, on its way. WireError."""
        loop, most = asyncio.get_running_loop(), passage.how.most_bytes_per_s
        began = loop.time()
        while data := await loop.sock_recv(ours, CHUNK_BYTES):
            await passage.wire.send(DATA, data)
            passage.sent_bytes += len(data)
            early = began + passage.sent_bytes / most - loop.time() if most else 0.0
            if early > BURST_S:
                await asyncio.sleep(early)
            elif early < -BURST_S:
                began -= early + BURST_S  # what was not used then is not caught up with

    # --- the decision

    async def _release(self, passage: _Passage) -> list[DiskMark]:
        """From here on it is not decided by this host alone. ApiError: it goes on here."""
        live = passage.live
        try:
            offered = passage.offer
            if offered is None or offered != _offer_of(passage, offered.disks, offered.shown):
                raise ApiError("wrong-state", f"{live.name} was changed while it was moved: try again")
            live.record.leaving = passage.leaving
            live.record.want(LEAVE)
            live.save()
            await live.ask("release")
            marks = await asyncio.to_thread(disks.marks_of, live.record.config)
            if marks:
                live.record.leaving["disks"] = msgspec.to_builtins(marks)
                live.save()
        except ApiError:
            await self._decided.stays(live)
            raise
        return marks

    async def _commit(self, passage: _Passage, marks: list[DiskMark]) -> Arrived:
        """RefusalError: it goes on here. ApiError: where it is is not known."""
        live, target = passage.live, passage.target
        try:
            passage.held_s = time.monotonic() - passage.held_at
            await say(passage.wire, Commit(marks))
            arrived = await hear(passage.wire, Arrived, DECISION_S)
        except RefusalError:
            await self._decided.stays(live)
            raise
        except WireError as error:
            raise ApiError(
                "failed",
                f"whether {live.name} runs on {target} is not known: {error}; it is held here until {target} can be "
                f"asked, or `xm migrate --resolve` decides",
            ) from error
        passage.held_s += arrived.seconds
        await self._decided.left(live)
        return arrived

    def _told(self, passage: _Passage, domid: int, remarks: list[str]) -> dict[str, Any]:
        return {
            "host": str(passage.target),
            "domid": domid,
            "rounds": passage.rounds,
            "sent_bytes": passage.sent_bytes,
            "downtime_s": round(passage.held_s, 4),
            "remarks": remarks,
        }
