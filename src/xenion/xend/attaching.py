"""Devices of a domain that runs: attached, detached, changed. Its process is told, its record and definition follow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.config.domain import ConfigError, DomainConfig
from xenion.config.vif import Vif
from xenion.xend.devices import Devices, OpenDevice
from xenion.xend.live import Live
from xenion.xend.managed import Managed
from xenion.xend.record import VBD, VIF, entry_of
from xenion.xend.registry import Registry

ANSWER_S = 30.0
"""The process itself gives the guest less to let go of a device."""


class Attaching:
    def __init__(self, registry: Registry, devices: Devices) -> None:
        self._registry = registry
        self._devices = devices
        self._turns: WeakKeyDictionary[Live, asyncio.Lock] = WeakKeyDictionary()

    @asynccontextmanager
    async def _turn(self, live: Live) -> AsyncIterator[None]:
        """One change at a time, and a domain that is there."""
        async with self._turns.setdefault(live, asyncio.Lock()):
            if not live.linked:
                raise ApiError("wrong-state", f"{live.name} is being built: try again in a moment")
            yield

    # --- attaching

    async def attach_disk(self, live: Live, disk: Disk) -> int:
        """Its number. ApiError."""
        async with self._turn(live):
            config = _changed(live, disks=(*live.record.config.disks, disk))
            return await self._attach(live, config, lambda: self._devices.open_disk(live.record, disk))

    async def attach_vif(self, live: Live, vif: Vif) -> int:
        """As `attach_disk`."""
        async with self._turn(live):
            taken = {entry["devid"] for entry in live.record.devices if entry["kind"] == VIF}
            devid = next(number for number in range(len(taken) + 1) if number not in taken)
            vif = self._devices.with_mac(live.record, devid, vif)
            config = _changed(live, vifs=(*live.record.config.vifs, vif))
            return await self._attach(live, config, lambda: self._devices.open_vif(live.record, devid, vif))

    async def _attach(
        self, live: Live, config: DomainConfig, open_it: Callable[[], Awaitable[OpenDevice]]
    ) -> int:
        before, opened = live.record.config, await open_it()
        try:
            live.record.config = config
            live.save()  # before the process has it: a killed xend leaves nothing that nobody knows
            order = opened.order
            await live.ask(
                "attach",
                kind=order.kind,
                devid=order.devid,
                description=dict(order.description),
                config=dict(order.config),
                fds=list(order.fds),
            )
        except ApiError:
            live.record.config = before
            opened.opened.close()
            await self._devices.undo(live.record, opened.kind, opened.devid)
            live.save()
            raise
        finally:
            opened.opened.close()
        self.keep(live)
        return opened.devid

    # --- detaching

    async def detach(self, live: Live, kind: str, devid: int, *, force: bool) -> None:
        """When the guest has let go of it; with `force` whether or not it does. ApiError."""
        if entry_of(live.record, kind, devid) is None:
            raise ApiError("no-such-device", f"{live.name} has no {kind} {devid}")
        await live.ask("detach", kind=kind, devid=devid, force=force, timeout=ANSWER_S)
        await live.until(lambda: entry_of(live.record, kind, devid) is None)
        self.keep(live)

    # --- changing

    async def configure(
        self, live: Live, kind: str, devid: int, config: DomainConfig, changes: Mapping[str, Any]
    ) -> None:
        """ApiError."""
        async with self._turn(live):
            await live.ask("configure-device", kind=kind, devid=devid, changes=dict(changes))
            self.now(live, config)

    async def grow(self, live: Live, disk: Disk, size_bytes: int) -> None:
        """The image, and what the guest sees of it. ApiError."""
        async with self._turn(live):
            opened = await self._devices.grow_disk(live.record, disk, size_bytes)
            if opened is not None:
                try:
                    await live.ask(
                        "reconnect-device",
                        kind=VBD,
                        devid=disk.devid,
                        description=dict(opened.order.description),
                        fds=list(opened.order.fds),
                    )
                finally:
                    opened.opened.close()
            await live.ask("configure-device", kind=VBD, devid=disk.devid, changes={"grown": True})
            self.keep(live)

    async def change_medium(self, live: Live, disk: Disk) -> None:
        """Another disc, or none, in a CD-ROM drive. ApiError."""
        async with self._turn(live):
            await self._change_medium(live, disk)

    async def _change_medium(self, live: Live, disk: Disk) -> None:
        before = entry_of(live.record, VBD, disk.devid)
        opened = await self._devices.open_disk(live.record, disk)
        order = opened.order
        try:
            changes = {"medium": dict(order.description)}
            await live.ask(
                "configure-device", kind=VBD, devid=disk.devid, changes=changes, fds=list(order.fds)
            )
        except ApiError:
            await self._devices.undo_entry(live.record, opened.entry)
            raise
        finally:
            opened.opened.close()
        if before is not None:
            await self._devices.undo_entry(live.record, before)
        self.now(live, with_disk(live.record.config, disk))

    # --- what is written down

    def now(self, live: Live, config: DomainConfig) -> None:
        """The domain's configuration from now on. ApiError (failed)."""
        live.record.config = config
        self.keep(live)

    def keep(self, live: Live) -> None:
        """In the record, and for the next start of a managed domain. ApiError (failed)."""
        live.save()
        managed = self._registry.managed.get(live.uuid) if live.record.managed else None
        if managed is not None:
            config = live.record.config
            kept = replace(managed.config, disks=config.disks, vifs=config.vifs)
            self._registry.managed.put(Managed(kept, managed.logs))


def with_disk(config: DomainConfig, disk: Disk) -> DomainConfig:
    """With this one in the place of its namesake."""
    return replace(config, disks=tuple(disk if other.vdev == disk.vdev else other for other in config.disks))


def with_vif(config: DomainConfig, vif: Vif) -> DomainConfig:
    return replace(config, vifs=tuple(vif if other.mac == vif.mac else other for other in config.vifs))


def _changed(live: Live, **fields: Any) -> DomainConfig:
    """ApiError (bad-configuration)."""
    try:
        return replace(live.record.config, **fields)
    except ConfigError as error:
        raise ApiError("bad-configuration", str(error)) from error
