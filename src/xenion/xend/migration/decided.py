"""Where a domain is, once its source has released it: there if the target has written down its arrival, else here.

As long as that is not known it is held here and its disks are left alone, over restarts of xend too: its record says
where it may be (`leaving`), and the target is asked again and again.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from xenion.api.errors import ApiError
from xenion.xend.chronicle import LEAVE, Chronicle
from xenion.xend.live import Live
from xenion.xend.migration import disks
from xenion.xend.migration.connecting import Connector, Target
from xenion.xend.migration.talk import Arrived, DiskMark, Query, RefusalError, Unknown, hear, say
from xenion.xend.migration.wire import WireError
from xenion.xend.registry import Registry


class Decided:
    """`look_after` begins what is wanted for a domain."""

    def __init__(self, connector: Connector, registry: Registry, chronicle: Chronicle) -> None:
        self._connector = connector
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
            has_it = await self._has_it(target, leaving["id"])
        except (WireError, RefusalError) as error:
            raise ApiError("failed", f"whether {live.name} runs on {target} is not known: {error}") from error
        if not live.record.leaving:
            return  # somebody has decided meanwhile
        if has_it:
            await self.left(live)
        else:
            await self.stays(live)

    async def _has_it(self, target: Target, word: str) -> bool:
        """WireError, RefusalError."""
        wire = await self._connector.connect(target)
        try:
            await say(wire, Query(word))
            return isinstance(await hear(wire, (Arrived, Unknown)), Arrived)
        finally:
            await wire.close()

    async def resolve(self, live: Live, *, here: bool) -> None:
        """Somebody knows better. ApiError."""
        if not live.record.leaving:
            raise ApiError("wrong-state", f"where {live.name} is is known: there is nothing to decide")
        if live.uuid in self._deciding:
            raise ApiError("wrong-state", f"{live.name} is just being handed over: wait for its end")
        if here:
            await self.stays(live)
        else:
            await self.left(live)

    async def left(self, live: Live) -> None:
        """It runs there: here it ends. ApiError."""
        managed = self._registry.managed.get(live.uuid) if live.record.managed else None
        if managed is not None:
            self._registry.managed.forget(managed)
        await live.ask("finish-save", keep=False, reason="migrated")
        self._chronicle.told(live, "migrated", "done", f"to {Target.of(live.record.leaving)}")
        _forget(live)

    async def stays(self, live: Live) -> None:
        """It never runs there: it goes on here. ApiError."""
        marks = live.record.leaving.get("disks")
        if marks is not None:
            theirs = msgspec.convert(marks, list[DiskMark])
            await asyncio.to_thread(disks.check_same, theirs, live.record.config, still_written=False)
        await live.ask("finish-save", keep=True)
        live.record.leaving = {}
        _forget(live)
        live.save()

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
