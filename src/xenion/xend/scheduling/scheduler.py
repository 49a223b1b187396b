"""Weights, caps and CPUs of domains, by what this host lets xend use: chosen by what is writable, not by who asks."""

import asyncio
import logging
import os
from contextlib import suppress
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.scheduling import affinity, cgroups, niceness

WITHOUT = "nice values and pauses"
_logger = logging.getLogger(__name__)


class Scheduler:
    """`proc`: /proc/self, where xend's own groups are told."""

    def __init__(self, run_folder: Path, proc: Path = Path("/proc/self")) -> None:
        self._groups = self._made = cgroups.find(run_folder, proc)
        """`_made`: where groups may be, though they are not used any more."""

    @property
    def mechanism(self) -> str:
        """In words, for people."""
        return WITHOUT if self._groups is None else self._groups.name

    async def apply(self, live: Live) -> None:
        """What the domain's record says. ApiError: not all of it holds."""
        share, pid = live.record.share, live.pid
        if pid is None:
            return
        try:
            cpus = affinity.parse(share.cpus)
            await self._set(live, pid, share.weight, share.cap)
            if cpus != os.sched_getaffinity(pid):
                affinity.pin(pid, cpus)
        except (ProcessLookupError, FileNotFoundError):
            return  # it has gone
        except OSError as error:
            raise ApiError("failed", f"{live.name} keeps its share of the CPUs: {error.strerror}") from error

    async def _set(self, live: Live, pid: int, weight: int, cap: int) -> None:
        if self._groups is not None:
            try:
                self._groups.set(live.uuid, pid, weight, cap)
            except ProcessLookupError:
                raise
            except OSError as error:
                _logger.warning("%s cannot be used: %s", self._groups.name, error)
                self._groups = None
        if self._groups is None:
            with suppress(PermissionError):  # one that cannot rise stays
                await asyncio.to_thread(niceness.set_share, pid, weight)
            await live.ask("cap", percent=cap)

    def forget(self, live: Live) -> None:
        """It has gone."""
        if self._made is not None:
            self._made.remove(live.uuid)

    def sweep(self) -> None:
        """What domains of an earlier xend have left."""
        if self._made is not None:
            self._made.sweep()
