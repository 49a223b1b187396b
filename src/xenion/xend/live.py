"""A domain that has a process: what its journal tells, and the link to it."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.domain import Action
from xenion.xend import host, record
from xenion.xend.allowance import Allowance
from xenion.xend.journal_reader import Journal
from xenion.xend.link import Link, LinkLostError
from xenion.xend.migration.target import Target
from xenion.xend.process import Process, find, moment, status_text
from xenion.xend.record import Condition, Record

SOON_S, PAUSE_S, LONG_PAUSE_S = 10.0, 0.01, 0.5
"""A process that does not listen after so long is tried less often."""
STOP_S = 2.0
"""A process that does not end itself in this time is killed."""
GONE_S = 10.0


class Live:
    """`gone` is set when the process has gone and everything about it is settled."""

    def __init__(
        self, where: Folders, made: Record, folder: Path, child: "subprocess.Popen[bytes] | None" = None
    ) -> None:
        self.where = where
        self.record = made
        self.folder = folder
        self.journal = Journal(folder / record.JOURNAL)
        self._child = child
        """None for one that an earlier xend had started."""
        if child is not None and (started := Process.of(child.pid)) is not None:
            made.pid, made.began = started.pid, started.began
        self._link: Link | None = None
        self.allowance = Allowance()
        self.busy: set[str] = set()
        """What is being done for it, words as in the record's `wants`."""
        self.gone = asyncio.Event()
        self._lost = asyncio.Event()
        self._changed = asyncio.Event()

    # --- what it is

    @property
    def condition(self) -> Condition:
        return self.record.condition

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def uuid(self) -> str:
        return self.record.uuid

    @property
    def domid(self) -> int:
        return self.record.domid

    @property
    def logs(self) -> Path:
        return self.where.logs(self.record.logs)

    @property
    def process(self) -> Process | None:
        """None: it never came, or it was never written down and has gone."""
        made = self.record
        if not made.pid and (found := find(self.uuid)) is not None:
            made.pid, made.began = found.pid, found.began
        return Process(made.pid, made.began) if made.pid else None

    @property
    def pid(self) -> int | None:
        """Of a process that is there."""
        return self.record.pid if self.process is not None and not self.is_gone() else None

    @property
    def memory_mib(self) -> int:
        """What its guest has, or will have when it is built."""
        return self.condition.memory_mib or self.record.config.memory_mib

    @property
    def maxmem_mib(self) -> int:
        """What its guest may come to have."""
        return self.condition.maxmem_mib or self.record.config.most_memory_mib

    @property
    def built_mib(self) -> int:
        """What its guest was built for, or will be."""
        return self.condition.built_mib or self.record.config.most_memory_mib

    @property
    def alive(self) -> bool:
        """Its guest may run, now or after a boot that is under way."""
        return self.condition.state in ("building", "running", "paused")

    def save(self) -> None:
        """Writes the record. ApiError (failed)."""
        try:
            self.record.write(self.folder)
        except OSError as error:
            raise ApiError("failed", f"{self.folder}: {error.strerror}") from error

    def shown(self) -> t.Domain:
        """As the API tells it."""
        condition, config, pid = self.condition, self.record.config, self.pid
        times = host.main_thread(pid)
        runs = condition.state in ("running", "paused")
        state = condition.state
        if state == "running" and not times.running:
            state = "blocked"
        started = condition.started_at if runs else None
        shown: t.Domain = {
            "name": self.name,
            "domid": self.domid,
            "uuid": self.uuid,
            "state": state,  # type: ignore[typeddict-item]
            "reason": condition.reason,
            "memory_mib": self.memory_mib,
            "maxmem_mib": self.maxmem_mib,
            "vcpus": condition.vcpus or config.vcpus,
            "cpu_seconds": max(times.cpu_seconds - condition.cpu_base, 0) if runs else condition.cpu_seconds,
            "started_at": started,
            "uptime_seconds": None if started is None else max(host.now() - started, 0),
            "boots": condition.boot,
            "managed": self.record.managed,
            "autostart": config.on_xend_start == "start",
            "processor": config.processor,
            "pid": pid,
            "folder": str(self.logs),
            "console": str(self.folder / record.CONSOLE),
            "config": config.to_mapping(),
        }
        if self.record.leaving:
            shown["leaving"] = str(Target.of(self.record.leaving))
        return shown

    @property
    def over(self) -> bool:
        """Its guest will not run again, and why not is known."""
        state, reason = self.condition.state, self.condition.reason
        stopped = state in ("shutdown", "crashed") or (state == "dying" and reason not in ("", "died"))
        return stopped or self.gone.is_set()

    def outcome(self) -> dict[str, Any]:
        """What became of it, as far as it is known."""
        condition = self.condition
        return {
            "uuid": self.uuid,
            "over": self.over,
            "reason": condition.reason,
            "action": condition.action,
            "report": str(self.logs / condition.report) if condition.report else "",
            "core": str(self.logs / condition.core) if condition.core else "",
            "status": "",
            "notes": list(condition.notes),
        }

    # --- waiting

    def change(self) -> None:
        """Wakes everybody who waits for something to change."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Until it holds, or the domain is gone."""
        while not condition() and not self.gone.is_set():
            await self._changed.wait()

    # --- the link

    @property
    def linked(self) -> bool:
        return self._link is not None and self._link.open

    async def connect(self, told: Callable[[], None]) -> bool:
        """`told` is called when the journal has grown. False when the process has gone and nobody listens."""
        loop = asyncio.get_running_loop()
        soon = loop.time() + SOON_S
        while True:
            try:
                self._lost.clear()
                self._link = Link.connect(self.folder / record.CONTROL, told, self._lost.set)
                return True
            except OSError:
                if self.is_gone():
                    return False
            await self._process_wait(PAUSE_S if loop.time() < soon else LONG_PAUSE_S)

    async def lost(self) -> None:
        """Until the link is gone, with the process as a rule; one that only drops its links keeps nobody busy."""
        await self._lost.wait()
        await self._process_wait(PAUSE_S)

    def disconnect(self) -> None:
        if self._link is not None:
            self._link.close()

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        """ApiError."""
        if self._link is None:
            raise ApiError("wrong-state", f"{self.name} is being built: try again in a moment")
        try:
            return await self._link.ask(what, **fields)
        except LinkLostError:
            if not self.linked:
                raise ApiError("wrong-state", f"{self.name} has just ended") from None
            raise ApiError(
                "failed", f"the process of {self.name} does not answer: `xm destroy` ends it"
            ) from None

    # --- the process

    def is_gone(self) -> bool:
        """Its process has ended; one that was never written down has if nobody holds the lock."""
        if self._child is not None:
            return self._child.poll() is not None
        if (known := self.process) is not None:
            return not known.alive
        try:
            fd = record.lock(self.folder)
        except OSError:
            return True
        if fd is None:
            return False
        os.close(fd)
        return True

    async def stop(self) -> None:
        """Ends the process, in good order if it listens. ApiError (failed) when it cannot be ended."""
        if not await self._ends_itself():
            self.kill()
        try:
            await asyncio.wait_for(self.gone.wait(), GONE_S)
        except TimeoutError:
            raise ApiError("failed", f"process {self.pid} of {self.name} cannot be ended") from None

    def kill(self) -> None:
        """Ends the process; `gone` is set in a moment."""
        if (known := self.process) is not None and known.kill():
            self.condition.reason, self.condition.action = "destroyed", Action.DESTROY.value

    async def _ends_itself(self) -> bool:
        if self._link is None:
            return False
        try:
            await self._link.ask("destroy", timeout=STOP_S)
            await asyncio.wait_for(self.gone.wait(), STOP_S)
        except (LinkLostError, ApiError, TimeoutError):
            return False
        return True

    async def process_end(self) -> str:
        """Waits for the process's end and tells how it was, where that is known and not the usual way."""
        while not self.is_gone():
            await self._process_wait(LONG_PAUSE_S)
        return "" if self._child is None else status_text(self._child.wait())

    async def _process_wait(self, seconds: float) -> None:
        known = self.process
        await (moment(seconds) if known is None else known.wait(seconds))
