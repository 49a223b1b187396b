"""Starts domains: everything is checked and reserved first, then a process builds the domain."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.domain import DomainConfig
from xenion.config.vif import with_macs
from xenion.xend import host, launch
from xenion.xend.boot_files import BootFiles, boot_files
from xenion.xend.chronicle import SHARE
from xenion.xend.devices import Devices, OpenDevices
from xenion.xend.going_back import GoingBack
from xenion.xend.live import Live
from xenion.xend.outcomes import Outcomes
from xenion.xend.record import Record, share_of
from xenion.xend.registry import Registry
from xenion.xend.supervisor import Supervisor
from xenion.xend.tasks import RunningTask
from xenion.xend.xenstored import Connections, Xenstored

BUILDING = max(os.cpu_count() or 1, 2)
"""So many domains are built at a time; the others wait."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What goes on instead of a boot: `fd` reads as its file, and is the caller's to close; `domid` is the id that it
    had; `arriving`: the migration that brings it; `back`: its disks go back first."""

    fd: int
    domid: int
    arriving: str = ""
    back: GoingBack | None = None


class Starter:
    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        outcomes: Outcomes,
        devices: Devices,
        xenstored: Xenstored,
    ) -> None:
        self._registry = registry
        self._devices = devices
        self._xenstored = xenstored
        self._supervisor = supervisor
        self._outcomes = outcomes
        self._turns = asyncio.Semaphore(BUILDING)
        self.check_start: Callable[[DomainConfig], Awaitable[None]]
        """That it does not run on another host. ApiError."""

    async def start(
        self,
        config: DomainConfig,
        *,
        managed: bool = False,
        paused: bool = False,
        lasting: bool | None = None,
        request: str = "",
        task: RunningTask | None = None,
        saved: Saved | None = None,
    ) -> t.Domain:
        """The domain, when its guest runs (or is paused before its first instruction). ApiError.

        A task that is cancelled leaves nothing. What a request with the same word has made before is the answer to
        this one, too. `managed`: its definition as it is at that time is what counts. `lasting`, see Record: as the
        configuration says if left out.
        """
        earlier = self.earlier(request)
        if earlier is not None:
            return await self._answer(earlier, task)
        _step(task, "waiting for its turn")
        async with self._turns:
            live = self.earlier(request)
            if live is None:
                live, opened = await self._launch(config, managed, paused, lasting, request, task, saved)
                opened.close()
            _step(task, "loading its memory" if saved else "building the domain")
            return await self._answer(live, task)

    async def receive(
        self, config: DomainConfig, saved: Saved, *, managed: bool, paused: bool, lasting: bool
    ) -> tuple[Live, OpenDevices]:
        """A domain of another host's, whose process has begun to read it. The disks that it writes are locked when it
        is decided that it goes on here: until then they stay open. ApiError."""
        async with self._turns:
            return await self._launch(config, managed, paused, lasting, "", None, saved)

    def earlier(self, request: str) -> Live | dict[str, Any] | None:
        """What a request with this word has made: a domain, or what became of it."""
        if not request:
            return None
        found = (live for live in self._registry.live.values() if live.record.request == request)
        return next(found, None) or self._outcomes.of_request(request)

    async def check(self, config: DomainConfig, *, managed: bool = False) -> None:
        """Whether such a domain may start now. ApiError."""
        self._check_room(config, managed)
        async with boot_files(config):
            pass

    def _check_room(self, config: DomainConfig, managed: bool) -> None:
        """For its name, its UUID if it has one, its memory, on CPUs that there are. ApiError."""
        registry, uuid = self._registry, config.uuid
        registry.check_name_is_free(config.name, uuid)
        if registry.is_running(uuid):
            raise ApiError("already-exists", f"a domain of the UUID {uuid} is running already")
        if not managed and registry.managed.get(uuid) is not None:
            raise ApiError(
                "already-exists", f"the UUID {uuid} is that of a managed domain: `xm start` starts it"
            )
        host.admit(config, registry.promised())

    async def _launch(
        self,
        config: DomainConfig,
        managed: bool,
        paused: bool,
        lasting: bool | None,
        request: str,
        task: RunningTask | None,
        saved: Saved | None,
    ) -> tuple[Live, OpenDevices]:
        """Opens kernel and ramdisk, takes the name, opens what takes time, then starts the process in one step."""
        registry = self._registry
        if not (saved and saved.arriving):
            await self.check_start(config)
        if managed and saved is None:
            config = self._definition(config)
        if lasting is None:
            lasting = managed or bool(config.uuid)
        config = self._filled(replace(config, uuid=config.uuid or str(uuid4())))
        async with boot_files(config) as boot:
            self._check_room(config, managed)
            made = Record(
                config.uuid, self._domid_for(saved), config.name, config.name, config, managed, lasting, request,
                share=share_of(config), wants=[SHARE], arriving=saved.arriving if saved else "",
            )  # fmt: skip
            with registry.coming(made):
                if saved and saved.back:
                    _step(task, "taking its disks back")
                    await saved.back.go(made)
                _step(task, "opening its disks and interfaces")
                opened = await self._devices.open_all(made)
                try:
                    live = await self._spawn(made, boot, opened, paused, saved)
                except BaseException:
                    await self._devices.abandon(made, opened)
                    raise
        with suppress(ApiError):  # it is found by its command line then
            live.save()
        self._supervisor.follow(live)
        return live, opened

    async def _spawn(
        self, made: Record, boot: BootFiles, opened: OpenDevices, paused: bool, saved: Saved | None
    ) -> Live:
        """ApiError: the store knows nothing of it then."""
        where, store = self._registry.where, await self._introduced(made)
        try:
            if saved is None:
                self._check_definition(made)
            fd = saved.fd if saved else -1
            folder, child = launch.spawn(where, made, boot, opened.orders, store, paused=paused, saved=fd)
        except BaseException:
            await self._released(made)
            raise
        finally:
            for connection in store:
                connection.close()
        made.condition.notes.extend(opened.notes)
        return Live(where, made, folder, child)

    async def _introduced(self, made: Record) -> Connections:
        try:
            return await self._xenstored.introduce(made.domid, made.uuid)
        except asyncio.CancelledError:
            await self._released(made)
            raise

    async def _released(self, made: Record) -> None:
        """A store that cannot be told is told by the next xend."""
        with suppress(ApiError):
            await self._xenstored.release(made.domid)

    def _check_definition(self, made: Record) -> None:
        """It may have been changed while its disks were opened. ApiError."""
        if made.managed and self._filled(self._definition(made.config)) != made.config:
            raise ApiError("wrong-state", f"{made.name} was changed while it was started: start it again")

    def _filled(self, config: DomainConfig) -> DomainConfig:
        return replace(config, vifs=with_macs(config.vifs, config.uuid))

    def _domid_for(self, saved: Saved | None) -> int:
        """That which a saved domain had, if it is free. ApiError."""
        if saved is not None and self._registry.is_free(saved.domid):
            return saved.domid
        try:
            return self._registry.next_domid()
        except OSError as error:
            raise ApiError("failed", f"{self._registry.where.run}: {error.strerror}") from error

    def _definition(self, config: DomainConfig) -> DomainConfig:
        """As it is now: it may have been changed, or deleted, while the start waited for its turn."""
        found = self._registry.managed.get(config.uuid)
        if found is None:
            raise ApiError("no-such-domain", f"{config.name} was deleted before it could start")
        return found.config

    async def _answer(self, made: Live | dict[str, Any], task: RunningTask | None) -> t.Domain:
        """The domain, once its guest has run. ApiError."""
        if isinstance(made, Live):
            await self._built(made, task)
            domain, refusal, reason = made.shown(), made.condition.refusal, made.condition.reason
        else:
            domain, refusal, reason = made["domain"], made["refusal"], made["reason"]
        if refusal:
            raise ApiError("refused", refusal)
        if not domain["boots"] and reason == "destroyed":
            raise ApiError("wrong-state", f"{domain['name']} was destroyed while it was built")
        if not domain["boots"]:
            why = f"the process of {domain['name']} ended while it was built; see {domain['folder']}/process.log"
            raise ApiError("failed", why)
        return domain

    async def _built(self, live: Live, task: RunningTask | None) -> None:
        """Returns when the guest has run, or there is nothing left of it."""
        try:
            await live.until(lambda: live.condition.boot > 0)
        except asyncio.CancelledError:
            if task is not None and task.cancelled:
                await asyncio.shield(live.stop())
            raise


def _step(task: RunningTask | None, text: str) -> None:
    if task is not None:
        task.step(text)
