"""Domains that come from other hosts. Until the source's Commit one can be given up at any moment, and is whenever
something goes wrong; from the entry into the arrivals on it runs here."""

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from xenion.api.errors import ApiError
from xenion.config.domain import ConfigError, DomainConfig
from xenion.processor import ProcessorError, choose
from xenion.vmm.saved import SavedStateError, check_processor
from xenion.xend.chronicle import ARRIVE
from xenion.xend.devices import Devices, OpenDevices
from xenion.xend.errands import Errands
from xenion.xend.eventlog import EventLog
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.migration import disks
from xenion.xend.migration.arrivals import Arrivals
from xenion.xend.migration.decided import Decided
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    Got,
    Loaded,
    Offer,
    Query,
    RefusalError,
    Refused,
    Sent,
    Shown,
    Undecided,
    Unknown,
    hear,
    message_of,
    say,
)
from xenion.xend.migration.wire import DATA, Wire, WireError
from xenion.xend.registry import Registry
from xenion.xend.starter import Saved, Starter

FIRST_WORD_S, SILENCE_S, LOADING_S, DECISION_S = 10.0, 180.0, 120.0, 120.0
ENDING_S = 15.0
MOST_SESSIONS = 16
T = TypeVar("T")
_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Session:
    """A domain that is coming. `given_up`: it never arrives."""

    offer: Offer
    wire: Wire
    live: Live | None = None
    opened: OpenDevices = field(default_factory=OpenDevices)
    given_up: bool = False
    arrived: bool = False


def _check_processor(name: str, shown: Shown) -> None:
    """Has a domain here what its guest was told of? ApiError."""
    try:
        check_processor(choose.features_of(name), shown.processor, shown.cpuid)
    except ProcessorError as error:
        raise ApiError("refused", f"{error} there") from error
    except SavedStateError as error:
        raise ApiError("refused", str(error)) from error


class Incoming:
    """`look_after` begins what is wanted for a domain."""

    def __init__(
        self,
        registry: Registry,
        starter: Starter,
        devices: Devices,
        errands: Errands,
        arrivals: Arrivals,
        decided: Decided,
        log: EventLog,
    ) -> None:
        self._registry = registry
        self._starter = starter
        self._devices = devices
        self._errands = errands
        self._arrivals = arrivals
        self._decided = decided
        self._log = log
        self._sessions: dict[str, _Session] = {}
        self.look_after: Callable[[Live], None] = lambda live: None

    async def serve(self, wire: Wire, who: str) -> None:
        """A connection of another xend, to its end."""
        try:
            await wire.greet()
            first = message_of(await wire.receive(FIRST_WORD_S))
            if isinstance(first, Query):
                await self._tell_of(wire, first.id)
            elif isinstance(first, Offer):
                await self._consider(wire, first, who)
        except WireError as error:
            _logger.info("migration, %s: %s", who, error)
        except Exception:
            _logger.exception("migration, %s", who)
        finally:
            await wire.close()

    async def _tell_of(self, wire: Wire, word: str) -> None:
        session = self._sessions.get(word)
        if session is not None and not session.arrived:
            session.given_up = True
        if word not in self._arrivals:
            try:
                await say(wire, Unknown(self._ledger()))
            except ApiError:
                await say(wire, Undecided())
            return
        live = self._registry.live.get(self._arrivals.uuid(word))
        if live is not None and live.record.arriving == word:
            await say(wire, Undecided())
        else:
            await say(wire, Arrived(live.domid if live else 0))

    async def _consider(self, wire: Wire, offer: Offer, who: str) -> None:
        session = _Session(offer, wire)
        try:
            config = await self._look_at(offer)
        except ApiError as error:
            await say(wire, Refused(error.message))
            return
        if offer.check:
            await say(wire, Accepted(self._ledger()))
            return
        number = self._log.begin(who, "receive", domain=config.name, uuid=config.uuid)
        self._sessions[offer.id] = session
        why = "it was broken off"
        try:
            await self._receive(session, config)
            why = ""
        except (ApiError, RefusalError) as error:
            why = str(error) or why
            await self._give_up(session)  # its disks are free when the source hears of it
            with suppress(WireError):
                await say(wire, Refused(why))
        except WireError as error:
            why = str(error)
        finally:
            if session.arrived:  # only the answer was lost
                why = ""
            if why:
                await self._give_up(session)
            session.opened.close()
            self._sessions.pop(offer.id, None)
            domid = session.live.domid if session.live else None
            self._log.end(number, "failed" if why else "done", detail=why, domid=domid)

    def _ledger(self) -> str:
        """ApiError."""
        try:
            return self._arrivals.ledger
        except OSError as error:
            raise ApiError("failed", f"its arrival cannot be written down there: {error.strerror}") from error

    async def _look_at(self, offer: Offer) -> DomainConfig:
        """What can be told at once is refused at once. ApiError."""
        self._check_new(offer)
        self._ledger()
        try:
            config = DomainConfig.from_mapping(offer.config)
        except ConfigError as error:
            raise ApiError("refused", f"its configuration cannot be used there: {error}") from error
        if not config.uuid:
            raise ApiError("refused", "its configuration has no UUID")
        await self._starter.check(config, managed=offer.managed)
        await asyncio.to_thread(_check_processor, config.processor, offer.shown)
        await asyncio.to_thread(disks.check_movable, config, same_disks=offer.same_disks)
        await asyncio.to_thread(disks.check_same, offer.disks, config, still_written=True)
        self._check_new(offer)  # others may have come meanwhile
        return config

    def _check_new(self, offer: Offer) -> None:
        """ApiError."""
        if offer.id in self._sessions or offer.id in self._arrivals:
            raise ApiError("refused", "this migration has been here before")
        if len(self._sessions) >= MOST_SESSIONS:
            raise ApiError(
                "too-many", f"{MOST_SESSIONS} domains are coming to that host already: wait for one of them"
            )

    # --- its stream

    async def _receive(self, session: _Session, config: DomainConfig) -> None:
        """ApiError, RefusalError, WireError."""
        offer, wire = session.offer, session.wire
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                saved = Saved(theirs.fileno(), offer.domid, offer.id)
                session.live, session.opened = await self._starter.receive(
                    config, saved, managed=offer.managed, paused=offer.paused, lasting=offer.lasting
                )
            await say(wire, Accepted(self._ledger()))
            ours.setblocking(False)
            await self._while_it_lives(session.live, self._pass_on(session.live, wire, ours))
        loaded = asyncio.wait_for(self._loaded(session.live), LOADING_S)
        try:
            await self._while_it_lives(session.live, loaded)
        except TimeoutError:
            raise ApiError(
                "failed", f"{config.name} cannot be loaded there in {LOADING_S:g} seconds"
            ) from None
        await say(wire, Loaded())
        commit = await self._while_it_lives(session.live, hear(wire, Commit, DECISION_S))
        await self._commit(session, session.live, config, commit)

    async def _pass_on(self, live: Live, wire: Wire, ours: socket.socket) -> None:
        """All of the stream, and what has been read of it back."""
        echo = asyncio.ensure_future(self._echo(live, wire))
        try:
            await self._pump(wire, ours)
        finally:
            echo.cancel()
            await asyncio.gather(echo, return_exceptions=True)

    async def _echo(self, live: Live, wire: Wire) -> None:
        told = 0
        while True:
            await live.until(lambda: live.condition.echo > told)  # noqa: B023
            if live.gone.is_set():
                return
            told = live.condition.echo
            await say(wire, Got(told))

    async def _pump(self, wire: Wire, ours: socket.socket) -> None:
        """ApiError, WireError."""
        loop = asyncio.get_running_loop()
        while (frame := await wire.receive(SILENCE_S)).kind == DATA:
            try:
                async with asyncio.timeout(SILENCE_S):
                    await loop.sock_sendall(ours, frame.data)
            except TimeoutError:
                raise ApiError("failed", "its process there does not read what comes") from None
            except OSError:
                await asyncio.sleep(
                    SILENCE_S
                )  # its process has ended or is about to, and that is heard first
        if not isinstance(message_of(frame), Sent):
            raise WireError("what it says makes no sense")

    async def _loaded(self, live: Live) -> None:
        await live.until(lambda: live.condition.loaded)

    async def _while_it_lives(self, live: Live, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns, unless the domain ends before. ApiError, and the errors of `work`."""
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(live.gone.wait())
        try:
            await asyncio.wait([task, gone], return_when=asyncio.FIRST_COMPLETED)
            if not live.gone.is_set():
                return task.result()
            raise ApiError("refused", live.condition.refusal or f"the process of {live.name} has ended there")
        finally:
            task.cancel()
            gone.cancel()
            await asyncio.gather(task, gone, return_exceptions=True)

    # --- the decision

    async def _commit(self, session: _Session, live: Live, config: DomainConfig, commit: Commit) -> None:
        """ApiError: it never runs here. WireError: it does."""
        began = time.monotonic()
        await asyncio.to_thread(self._devices.lock, session.opened)
        await asyncio.to_thread(disks.check_same, commit.disks, config, still_written=False)
        if [mark.size for mark in commit.disks] != [mark.size for mark in session.offer.disks]:
            raise ApiError(
                "refused", f"a disk of {config.name} was made larger while it was moved: try again"
            )
        if session.given_up:
            raise ApiError(
                "refused", "the source has asked what became of it, and was told that it does not come"
            )
        live.record.want(ARRIVE)
        live.save()
        try:
            self._arrivals.add(session.offer.id, live.uuid)
        except OSError as error:
            raise ApiError("failed", f"its arrival cannot be written down there: {error.strerror}") from error
        session.arrived = True
        try:
            await self._let_run(live)
        except ApiError as error:
            with suppress(TimeoutError):
                await asyncio.wait_for(live.until(lambda: not live.record.arriving), ENDING_S)
            if live.gone.is_set():
                self.forget(live)  # it may have been buried before it was entered
            session.arrived = session.offer.id in self._arrivals
            if not session.arrived:
                raise
            if live.record.arriving:  # it is wanted still, and the source asks again
                raise WireError(str(error)) from error
        await say(session.wire, Arrived(live.domid, round(time.monotonic() - began, 6)))

    async def _let_run(self, live: Live) -> None:
        """ApiError: it is tried again."""
        live.busy.add(ARRIVE)
        try:
            await self._errands.do(live, ARRIVE)
        finally:
            live.busy.discard(ARRIVE)
            live.change()
            self.look_after(live)

    def forget(self, live: Live) -> None:
        """Its process has gone: if it has never run here it has not arrived, and is not defined here."""
        made = live.record
        if made.arriving not in self._arrivals or live.condition.boot:
            return
        managed = self._registry.managed.get(made.uuid) if made.managed else None
        try:
            self._arrivals.remove(made.arriving)
            if managed is not None and managed.config == made.config:
                self._registry.managed.forget(managed)
        except (OSError, ApiError) as error:
            _logger.error("%s never ran here, which is not written down: %s", live.name, error)

    async def _give_up(self, session: _Session) -> None:
        """Again is fine."""
        session.given_up = True
        session.opened.close()
        if session.live is not None:
            try:
                await session.live.stop()
            except ApiError as error:
                _logger.error("%s", error.message)

    async def arrive(self, live: Live) -> None:
        """What has come goes on, by this xend or the next one; what was still coming when an earlier one ended never
        does. ApiError."""
        made = live.record
        if made.arriving in self._arrivals:
            if made.managed and self._registry.managed.get(made.uuid) is None:
                self._registry.managed.put(Managed(made.config, made.logs))
            self._decided.is_here(live)
            await live.ask("arrive", timeout=DECISION_S)
            made.arriving = ""
        elif made.arriving and made.arriving not in self._sessions and not live.condition.boot:
            live.kill()
