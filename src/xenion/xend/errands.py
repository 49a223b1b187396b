"""What is wanted for a domain and may take several steps: done when it is linked, by this xend or by the next one."""

import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Protocol
from uuid import uuid4

from xenion.api.errors import ApiError
from xenion.config.domain import NAME_CHARACTERS, DomainConfig
from xenion.config.vif import with_macs
from xenion.xend import logs
from xenion.xend.boot_files import boot_files
from xenion.xend.chronicle import (
    CONFIGURATION,
    DETACHED,
    DEVICES,
    LOG,
    LOST,
    NAME,
    RECONCILE,
    SHARE,
    STORE,
    SUCCESSOR,
    Chronicle,
)
from xenion.xend.devices import Devices
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.mending import Mending
from xenion.xend.outcomes import Outcomes
from xenion.xend.record import Record, folders
from xenion.xend.registry import Registry
from xenion.xend.renaming import Renaming
from xenion.xend.scheduling.scheduler import Scheduler
from xenion.xend.xenstored import Xenstored

AT_START = {"cloud_init": "its cloud-init data", "console_scrollback_kib": "its console's scrollback"}
"""What acts when a process is started: a managed domain has other starts before it."""
MIGRATED = "migrated"
"""The reason of an end here."""
CHECK_S = 60.0
"""The process reads the kernel, to see whether it could be booted."""


class Restart(Protocol):
    def __call__(self, config: DomainConfig, *, managed: bool, lasting: bool) -> Awaitable[object]:
        """Starts a domain. ApiError."""
        ...


class Errands:
    """`restart` starts the successor of a domain that rename-restart has preserved."""

    def __init__(
        self,
        registry: Registry,
        chronicle: Chronicle,
        outcomes: Outcomes,
        renaming: Renaming,
        devices: Devices,
        mending: Mending,
        xenstored: Xenstored,
        scheduler: Scheduler,
    ) -> None:
        self._registry = registry
        self._devices = devices
        self._mending = mending
        self._xenstored = xenstored
        self._scheduler = scheduler
        self._chronicle = chronicle
        self._outcomes = outcomes
        self._renaming = renaming
        self.restart: Restart
        self.moved: Callable[[Live], None] = lambda live: None
        """Told of each that is buried because it runs elsewhere. ApiError."""
        self.never_ran: Callable[[Live], None] = lambda live: None
        """Told of each that is buried before it has run."""
        self._deeds: dict[str, Callable[[Live], Awaitable[None]]] = {
            NAME: self._send_name,
            CONFIGURATION: self._send_configuration,
            LOG: self._change_log,
            SUCCESSOR: self._start_successor,
            STORE: self._connect_to_store,
            DEVICES: self._release_devices,
            RECONCILE: self.reconcile,
            SHARE: scheduler.apply,
        }
        self._device_deeds: dict[str, Callable[[Live, str, int], Awaitable[None]]] = {
            DETACHED: mending.release,
            LOST: mending.reconnect,
        }

    def take_on(self, what: str, deed: Callable[[Live], Awaitable[None]]) -> None:
        """Others' deeds for a domain."""
        self._deeds[what] = deed

    async def do(self, live: Live, what: str) -> None:
        """One of the record's `wants`. ApiError, OSError: it is wanted still."""
        if what in logs.SPARES:
            await self._send_file(live, what, logs.new_spare(live.logs, what))
        elif what in self._deeds:
            await self._deeds[what](live)
        else:
            word, kind, devid = what.split()
            await self._device_deeds[word](live, kind, int(devid))
        _forget(live, what)
        live.save()

    # --- what a process cannot open or know by itself

    async def _send_name(self, live: Live) -> None:
        await live.ask("rename", name=live.name)

    async def _change_log(self, live: Live) -> None:
        await self._send_file(live, "log", logs.next_console(live.logs))
        logs.change_console(live.logs)

    async def _send_file(self, live: Live, what: str, fd: int) -> None:
        try:
            await live.ask(what, fds=[fd])
        finally:
            os.close(fd)

    # --- the store and devices

    async def _connect_to_store(self, live: Live) -> None:
        async with self._devices.turn(
            live.record
        ):  # the connections that were made last are those that count
            await self._introduce(live)

    async def _introduce(self, live: Live) -> None:
        connections = await self._xenstored.introduce(live.domid, live.uuid)
        try:
            await live.ask("store", fds=[connection.fileno() for connection in connections])
        finally:
            for connection in connections:
                connection.close()

    async def reconcile(self, live: Live) -> None:
        """After an earlier xend's end, or when it is not known what its process has. ApiError."""
        await self._mending.reconcile(live)
        async with self._devices.turn(live.record):
            if live.domid not in await self._xenstored.connected():
                await self._introduce(live)

    async def sweep(self, never_came: list[Record]) -> None:
        """What domains have left of which nobody knows any more. ApiError."""
        self._scheduler.sweep()
        await self._devices.sweep(never_came)
        if not self._xenstored.runs:
            return
        introduced = await self._xenstored.introduced()
        known = {live.domid for live in self._registry.live.values()} | self._registry.coming_domids()
        alone = {path.name for path in folders(self._registry.where.domains)}
        for domid, uuid in introduced.items():
            if domid not in known and uuid not in alone:
                await self._xenstored.release(domid)

    async def bury(self, live: Live) -> None:
        """Its process has gone: so goes what worked for it. ApiError."""
        self._scheduler.forget(live)
        if live.record.leaving and live.condition.reason == MIGRATED:
            self.moved(live)
        if not live.condition.boot:
            self.never_ran(live)
        try:
            async with self._devices.turn(live.record):
                await self._devices.forget(live.record)
        finally:
            await self._xenstored.release(live.domid)

    async def _release_devices(self, live: Live) -> None:
        async with self._devices.turn(live.record):
            await self._devices.undo_all(live.record)

    # --- configurations

    async def configure(self, live: Live, config: DomainConfig) -> None:
        """For the next boot. ApiError: everything is as before."""
        now, config = live.record.config, replace(config, vifs=with_macs(config.vifs, live.uuid))
        if (config.disks, config.vifs) != (now.disks, now.vifs):
            how = "attach or detach them (`xm block-attach`, `xm network-attach`), or leave them as they are"
            raise ApiError("wrong-state", f"{live.name} runs with other disks or interfaces: {how}")
        late = [words for field, words in AT_START.items() if getattr(config, field) != getattr(now, field)]
        if late and not live.record.managed:
            raise ApiError(
                "wrong-state", f"{live.name} has {late[0]} from its start on: create it anew with another"
            )
        if CONFIGURATION in live.busy:
            raise ApiError("wrong-state", f"{live.name} is being configured by somebody else: try again")
        before, live.record.config = live.record.config, config
        live.record.want(CONFIGURATION)
        live.busy.add(CONFIGURATION)
        try:
            live.save()
            await self.do(live, CONFIGURATION)
        except ApiError:
            now = live.record.config  # renamed, or with a device less, meanwhile
            live.record.config = replace(before, name=live.name, disks=now.disks, vifs=now.vifs)
            _forget(live, CONFIGURATION)
            with suppress(ApiError):
                live.save()
            raise
        finally:
            live.busy.discard(CONFIGURATION)
            live.change()

    async def _send_configuration(self, live: Live) -> None:
        async with boot_files(live.record.config) as boot:
            config = live.record.config.to_mapping()  # as it is by now: a device may have gone
            await live.ask("configure", config=config, fds=boot.fds, timeout=CHECK_S)
        managed = self._registry.managed.get(live.uuid) if live.record.managed else None
        if managed is not None:
            self._registry.managed.put(Managed(live.record.config, managed.logs))

    # --- rename-restart

    async def _start_successor(self, live: Live) -> None:
        """The one that has stopped keeps its state under another name; a new one takes its place."""
        await self._release_devices(live)  # the process has let go of them; the successor wants them
        if not live.record.successor:
            self._give_name_away(live)
        name, uuid = live.record.successor, live.record.successor_uuid
        definitions = self._registry.managed
        managed = definitions.get(live.uuid)
        if managed is not None:
            definitions.put(Managed(replace(managed.config, name=name, uuid=uuid), name))
            definitions.forget(managed)
        if uuid in self._registry.live or self._outcomes.get(uuid) is not None:
            return
        try:
            config = replace(live.record.config, name=name, uuid=uuid)
            managed_now = definitions.get(uuid) is not None
            await self.restart(config, managed=managed_now, lasting=live.record.lasting)
        except ApiError as error:
            self._chronicle.told(live, "restart", "refused", f"{name}: {error.message}")

    def _give_name_away(self, live: Live) -> None:
        made = live.record
        made.successor, made.successor_uuid, managed = live.name, str(uuid4()), made.managed
        made.managed = False
        try:
            self._renaming.rename(live, self._aside(live.name))
        except ApiError:
            made.successor, made.successor_uuid, made.managed = "", "", managed
            raise

    def _aside(self, name: str) -> str:
        """A free name for what keeps the state of `name`."""
        stamp = time.strftime("-%Y%m%dT%H%M%SZ", time.gmtime())
        for number in count(2):
            found = name[: NAME_CHARACTERS - len(stamp)] + stamp
            try:
                self._registry.check_name_is_free(found)
            except ApiError:
                stamp = f"{stamp.partition('.')[0]}.{number}"
            else:
                return found
        raise AssertionError("there are more numbers than domains")


def _forget(live: Live, what: str) -> None:
    with suppress(ValueError):
        live.record.wants.remove(what)
