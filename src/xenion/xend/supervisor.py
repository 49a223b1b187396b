"""Follows every domain that has a process: reads its journal, has done what is wanted, buries it when it has gone.

Each step may be the last one before a kill -9 of xend: what is done twice does no harm, and nothing is left out.
What takes more than one step is written down first, in the record's `wants`, and stays there until it is done.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.xend import logs, record
from xenion.xend.chronicle import ARRIVE, LEAVE, RECONCILE, SHARE, STORE, SUCCESSOR, Chronicle
from xenion.xend.errands import Errands
from xenion.xend.eventlog import EventLogError
from xenion.xend.live import Live
from xenion.xend.outcomes import Outcomes
from xenion.xend.record import Record
from xenion.xend.registry import Registry
from xenion.xend.renaming import Renaming

JOURNAL_BYTES = 1 << 18
"""A longer journal is emptied once all of it is in the event log."""
TRIM = "trim"
AGAIN_S = 5.0
"""After a failure, such as a disk that is full for a while."""
_logger = logging.getLogger(__name__)

Work = Callable[[], Awaitable[None]]


class Supervisor:
    def __init__(
        self,
        registry: Registry,
        chronicle: Chronicle,
        outcomes: Outcomes,
        renaming: Renaming,
        errands: Errands,
    ) -> None:
        self._registry = registry
        self._chronicle = chronicle
        self._outcomes = outcomes
        self._renaming = renaming
        self._errands = errands
        self._jobs: set[asyncio.Task[None]] = set()

    # --- coming and going

    def adopt_all(self) -> None:
        """At the start: what an earlier xend has left. OSError."""
        domains, never_came = self._registry.where.domains, []
        for folder in record.folders(domains):
            try:
                live = Live(self._registry.where, Record.read(folder), folder)
            except (OSError, ValueError) as error:
                _logger.error("%s is left alone: %s", folder, error)
                continue
            if not live.is_gone() or self._is_to_be_buried(live):
                live.record.want(RECONCILE)
                live.record.want(SHARE)
                if live.record.arriving:
                    live.record.want(ARRIVE)
                if live.record.leaving:
                    live.record.want(LEAVE)
                self.follow(live)
            else:
                never_came.append(folder)
        cleared = [self._clear(folder) for folder in (*record.remnants(domains), *never_came)]
        for managed in self._registry.managed:
            if managed.uuid not in self._registry.live:
                self._renaming.finish_managed(managed)
        self._job(lambda: self._sweep([made for made in cleared if made is not None]))

    def _is_to_be_buried(self, live: Live) -> bool:
        """Not if it was already, or if xend was killed before it had a process."""
        if self._outcomes.get(live.uuid) is not None and self._chronicle.has_told_of_end(live.record):
            return False
        return live.process is not None or live.journal.size > 0

    def _clear(self, folder: Path) -> Record | None:
        """The folder, and the files that were ready for its process; its record, if it has a whole one."""
        made = None
        with suppress(OSError, ValueError):
            made = Record.read(folder)
            if all(live.record.logs != made.logs for live in self._registry.live.values()):
                logs.tidy(self._registry.where.logs(made.logs))
        with suppress(OSError):
            record.discard(folder)
        return made

    async def _sweep(self, never_came: list[Record]) -> None:
        try:
            await self._errands.sweep(never_came)
        except ApiError as error:
            _logger.error("something of a domain that is gone is left: %s", error.message)

    def follow(self, live: Live) -> None:
        """From now on, until it is gone."""
        self._registry.live[live.uuid] = live
        self._job(lambda: self._follow(live))

    def close(self) -> None:
        """Domains go on; the next xend finds them."""
        for job in self._jobs:
            job.cancel()
        for live in self._registry.live.values():
            live.disconnect()

    def _job(self, work: Work) -> None:
        async def guarded() -> None:
            try:
                await work()
            except Exception:
                _logger.exception("a bug in the supervision of domains")

        job = asyncio.get_running_loop().create_task(guarded())
        self._jobs.add(job)
        job.add_done_callback(self._jobs.discard)

    async def _follow(self, live: Live) -> None:
        self._renaming.finish(live)
        while live.record.parts:
            with suppress(OSError):
                Path(live.record.parts.pop()).unlink()
        self.read_journal(live)
        while await live.connect(lambda: self.read_journal(live)):
            self.read_journal(live)
            await live.lost()
        status = await live.process_end()
        while self._chronicle.read(live):
            await asyncio.sleep(0)
        live.change()
        await live.until(lambda: not live.busy)
        await self._bury(live, status)

    async def _bury(self, live: Live, status: str) -> None:
        condition = live.condition
        condition.reason = condition.reason or "died"
        condition.state = "dying"
        failure = (
            f"its process ended unexpectedly ({status or 'unknown why'})"
            if condition.reason == "died"
            else ""
        )
        await self._clean_up(live)
        await asyncio.to_thread(logs.tidy, live.logs)
        ended = {**live.outcome(), "over": True, "status": status if failure else ""}
        more = {"request": live.record.request, "refusal": condition.refusal, "domain": live.shown()}
        try:
            self._outcomes.put(live.uuid, {**ended, **more})
            self._chronicle.gone(live, failure)
            record.discard(live.folder)
        except OSError as error:
            _logger.error("%s is gone, and this cannot be written down: %s", live.name, error)
        self._registry.live.pop(live.uuid, None)
        live.gone.set()
        live.change()

    async def _clean_up(self, live: Live) -> None:
        """What worked for it, and its place in the store."""
        try:
            await self._errands.bury(live)
        except ApiError as error:
            _logger.error("something of %s, which is gone, is left: %s", live.name, error.message)

    def connect_to_store(self) -> None:
        """The store has come back: every domain needs new connections."""
        for live in self._registry.live.values():
            live.record.want(STORE)
            self.look_after(live)

    # --- what goes on

    def read_journal(self, live: Live) -> None:
        """What has come, a part of it at a time: the rest has its turn after everybody else. EventLogError."""
        moved = self._chronicle.read(live)
        live.change()
        self.look_after(live)
        if moved and live.journal.more and not live.gone.is_set():
            asyncio.get_running_loop().call_soon(self.read_journal, live)

    def look_after(self, live: Live) -> None:
        """Begins what is wanted for it."""
        if live.gone.is_set():
            return
        for what in set(live.record.wants) - live.busy:
            if live.linked or what == SUCCESSOR:
                self._begin(live, what, partial(self._errands.do, live, what))
        if live.linked and TRIM not in live.busy and live.journal.size > JOURNAL_BYTES:
            self._begin(live, TRIM, partial(self._trim, live))

    def _begin(self, live: Live, what: str, work: Work) -> None:
        async def errand() -> None:
            try:
                await work()
            except (ApiError, OSError, EventLogError) as error:
                _logger.warning("%s: %s is to be done still: %s", live.name, what, error)
                asyncio.get_running_loop().call_later(AGAIN_S, self.look_after, live)
                return
            finally:
                live.busy.discard(what)
                live.change()
            if what != TRIM:
                self.look_after(live)

        live.busy.add(what)
        self._job(errand)

    async def _trim(self, live: Live) -> None:
        await self._chronicle.settle()
        live.save()
        if (await live.ask("trim", through=live.condition.n)).get("trimmed"):
            live.journal.emptied()
