"""Where a domain is, once its source has released it: there if the target has written down its arrival, else here.

As long as that is not known it is held here and its disks are left alone, over restarts of xend too: its record says
where it may be (`leaving`), and the target is asked again and again.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from xenion.api.errors import ApiError
from xenion.config.domain import DomainConfig
from xenion.xend.chronicle import LEAVE, Chronicle
from xenion.xend.live import Live
from xenion.xend.migration import disks
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.departures import Departures
from xenion.xend.migration.talk import Arrived, DiskMark, Query, RefusalError, Undecided, Unknown, hear, say
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import WireError
from xenion.xend.registry import Registry

_logger = logging.getLogger(__name__)


class Decided:
    """`look_after` begins what is wanted for a domain."""

    def __init__(
        self, connector: Connector, registry: Registry, chronicle: Chronicle, departures: Departures
    ) -> None:
        self._connector = connector
        self._departures = departures
        self._registry = registry
        self._chronicle = chronicle
        self._deciding: set[str] = set()
        self.look_after: Callable[[Live], None] = lambda live: None

    async def ask(self, live: Live) -> None:
        """The errand LEAVE: asks the target, and does what follows. ApiError: it is not known yet."""
        leaving = live.record.leaving
        if not leaving:
            return
        target = Target.of(leaving)
        try:
            has_it = await self._has_it(target, leaving)
        except (WireError, RefusalError) as error:
            raise ApiError("failed", f"whether {live.name} runs on {target} is not known: {error}") from error
        if not live.record.leaving or live.uuid in self._deciding:
            return  # somebody has decided meanwhile, or is about to
        if has_it:
            await self.left(live)
        else:
            await self.stays(live)

    async def _has_it(self, target: Target, leaving: Mapping[str, Any]) -> bool:
        """WireError, RefusalError."""
        wire = await self._connector.connect(target)
        try:
            await say(wire, Query(leaving["id"]))
            answer = await hear(wire, (Arrived, Undecided, Unknown))
            if isinstance(answer, Undecided):
                raise WireError("it is about to run there")
            if isinstance(answer, Unknown) and answer.ledger != leaving.get("ledger", ""):
                raise WireError("another xend answers there, or one that has lost its arrivals.json")
            return isinstance(answer, Arrived)
        finally:
            await wire.close()

    async def resolve(self, live: Live, *, here: bool) -> None:
        """Somebody knows better. ApiError."""
        if not live.record.leaving:
            raise ApiError("wrong-state", f"where {live.name} is is known: there is nothing to decide")
        if live.uuid in self._deciding:
            raise ApiError("wrong-state", f"{live.name} is just being handed over: wait for its end")
        with self.here(live):
            await (self.stays(live) if here else self.left(live))

    async def left(self, live: Live) -> None:
        """It runs there: here it ends. ApiError."""
        target = Target.of(live.record.leaving)
        finished = await live.ask("finish-save", keep=False, reason="migrated")
        if finished.get("saved") is not True:
            self._settle(live)
            raise ApiError(
                "failed", f"{target} says that it runs {live.name}, which it was not given: it goes on here"
            )
        self._chronicle.told(live, "migrated", "done", f"to {target}")
        _forget(live)

    def gone(self, live: Live) -> None:
        """Its process has ended because it runs elsewhere. ApiError."""
        managed = self._registry.managed.get(live.uuid)
        if managed is not None and live.record.managed:
            self._registry.managed.forget(managed)
        self._remove(live.uuid)

    async def stays(self, live: Live) -> None:
        """It never runs there: it goes on here. ApiError."""
        marks = live.record.leaving.get("disks")
        if marks is not None:
            theirs = msgspec.convert(marks, list[DiskMark])
            await asyncio.to_thread(disks.check_same, theirs, live.record.config, still_written=False)
        await live.ask("finish-save", keep=True)
        self._settle(live)

    def _settle(self, live: Live) -> None:
        """It goes on here, and that is known. ApiError."""
        live.record.leaving = {}
        _forget(live)
        live.save()
        self._remove(live.uuid)

    # --- what a host knows after it has been started anew

    def begins(self, live: Live, leaving: Mapping[str, Any]) -> None:
        """It may leave from now on. ApiError."""
        try:
            self._departures.add(live.uuid, leaving)
        except OSError as error:
            raise ApiError(
                "failed", f"that {live.name} leaves cannot be written down: {error.strerror}"
            ) from error

    def is_here(self, live: Live) -> None:
        """It has not been released, or has come back."""
        self._remove(live.uuid)

    def _remove(self, uuid: str) -> None:
        try:
            self._departures.remove(uuid)
        except OSError as error:
            _logger.error("what is known of departures cannot be written down: %s", error)

    def sweep(self) -> None:
        """At the start: what an earlier xend had not released goes on here."""
        for uuid in self._departures.uuids():
            live = self._registry.live.get(uuid)
            if live is not None and not live.record.leaving:
                self._remove(uuid)

    async def check_start(self, config: DomainConfig) -> None:
        """That it does not run elsewhere, having been on its way there when this host ended. ApiError."""
        leaving = self._departures.get(config.uuid)
        if leaving is None:
            return
        target = Target.of(leaving)
        try:
            has_it = await self._has_it(target, leaving)
        except (WireError, RefusalError) as error:
            raise ApiError(
                "failed",
                f"{config.name} was on its way to {target} when this host ended, and whether it runs there is not "
                f"known: {error}; if it does not, `xm migrate --resolve source {config.name}` says so",
            ) from error
        self.resolve_absent(config.uuid, here=not has_it)
        if has_it:
            raise ApiError("wrong-state", f"{config.name} runs on {target} now")

    def resolve_absent(self, uuid: str, *, here: bool) -> None:
        """Of one that has no process. ApiError."""
        if self._departures.get(uuid) is None:
            raise ApiError("wrong-state", "where that domain is is known: there is nothing to decide")
        managed = self._registry.managed.get(uuid)
        if not here and managed is not None:
            self._registry.managed.forget(managed)
        self._remove(uuid)

    @contextmanager
    def here(self, live: Live) -> Iterator[None]:
        """Within the block nobody else decides; what is not known at its end is asked for from then on."""
        live.busy.add(LEAVE)
        self._deciding.add(live.uuid)
        try:
            yield
        finally:
            live.busy.discard(LEAVE)
            self._deciding.discard(live.uuid)
            live.change()
            self.look_after(live)


def _forget(live: Live) -> None:
    """Nobody is to be asked any more."""
    with suppress(ValueError):
        live.record.wants.remove(LEAVE)
