"""Devices of a domain that runs: attached, detached, changed. Its process is told, its record and definition follow."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, TypeVar

from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.config.domain import ConfigError, DomainConfig
from xenion.config.vif import Vif
from xenion.xend.chronicle import LOST, RECONCILE
from xenion.xend.devices import Devices, OpenDevice
from xenion.xend.disks.layers import layers_of
from xenion.xend.entries import VBD, VIF, DeviceEntry, with_device
from xenion.xend.live import Live

ANSWER_S = 30.0
"""The process itself gives the guest less to let go of a device."""
BUSY = "changing its devices"
"""Beside the words of `wants`."""
T = TypeVar("T")

Change = Callable[[DomainConfig], DomainConfig]
"""What becomes of a configuration. ConfigError."""


class Attaching:
    """`look_after` begins what is wanted for a domain."""

    def __init__(self, devices: Devices) -> None:
        self._devices = devices
        self.look_after: Callable[[Live], None] = lambda live: None

    @asynccontextmanager
    async def turn(self, live: Live) -> AsyncIterator[None]:
        """One change at a time, of a domain that is there and is not buried meanwhile. ApiError."""
        async with self._devices.turn(live.record):
            if live.gone.is_set() or live.is_gone():
                raise _ended(live)
            if not live.linked:
                raise ApiError("wrong-state", f"{live.name} is being built: try again in a moment")
            if not live.alive:
                raise ApiError("wrong-state", f"{live.name} has stopped: its devices are gone")
            live.busy.add(BUSY)
            try:
                yield
            finally:
                live.busy.discard(BUSY)
                live.change()

    # --- attaching

    async def attach_disk(self, live: Live, disk: Disk) -> int:
        """Its number. ApiError."""
        async with self.turn(live):
            if live.record.entry_of(VBD, disk.devid) is not None:
                raise ApiError("already-exists", f"{live.name} has a disk {disk.vdev}: choose another name")
            _check(live, lambda config: with_device(config, disk))
            return await self._attach(live, self._devices.open_disk(live.record, disk, coming=True))

    async def attach_vif(self, live: Live, vif: Vif) -> int:
        """As `attach_disk`."""
        async with self.turn(live):
            taken = {entry.devid for entry in live.record.devices if entry.kind == VIF}
            devid = next(number for number in range(len(taken) + 1) if number not in taken)
            named = self._devices.with_mac(live.record, devid, vif)
            _check(live, lambda config: with_device(config, named))
            return await self._attach(live, self._devices.open_vif(live.record, devid, named, coming=True))

    async def _attach(self, live: Live, opening: Awaitable[OpenDevice]) -> int:
        device = await _unless_gone(live, opening)
        order = device.order
        await self._hand_over(
            live,
            device,
            "attach",
            kind=order.kind,
            devid=order.devid,
            description=dict(order.description),
            config=dict(order.config),
        )
        self.came(live, device.entry)
        return device.entry.devid

    async def _hand_over(self, live: Live, device: OpenDevice, what: str, **fields: Any) -> None:
        """Written down first: a killed xend leaves nothing that nobody knows. ApiError: it is undone, or will be as
        soon as the process tells what it has."""
        asked = False
        try:
            live.save()
            asked = True
            await live.ask(what, fds=list(device.opened.fds), **fields)
        except ApiError as error:
            if asked and (
                error.code == "failed" or not live.linked
            ):  # nobody knows whether the process has it
                live.record.want(RECONCILE)
                self.look_after(live)
                raise
            device.opened.close()
            await self._devices.undo_entry(live.record, device.entry)
            with suppress(ApiError):
                live.save()
            raise
        finally:
            device.opened.close()

    def came(self, live: Live, entry: DeviceEntry) -> None:
        """The process has it. ApiError (failed): that cannot be written down."""
        made = live.record
        with suppress(ConfigError):  # which has it already
            made.config = with_device(made.config, entry.config)
        entry.coming = False
        self.keep(live)

    # --- detaching

    async def detach(self, live: Live, kind: str, devid: int, *, force: bool) -> None:
        """When the guest has let go of it; with `force` whether or not it does. ApiError."""
        if live.record.entry_of(kind, devid) is None:
            raise ApiError("no-such-device", f"{live.name} has no {kind} {devid}")
        await live.ask("detach", kind=kind, devid=devid, force=force, timeout=ANSWER_S)
        undone = live.until(lambda: live.record.entry_of(kind, devid) is None)
        try:
            await asyncio.wait_for(undone, ANSWER_S)
        except TimeoutError:
            why = "is detached, but what worked for it on the host cannot be ended: see xend's log"
            raise ApiError("failed", f"{kind} {devid} of {live.name} {why}") from None

    # --- changing

    async def configure(
        self, live: Live, kind: str, devid: int, changes: Mapping[str, Any], change: Change
    ) -> None:
        """ApiError."""
        async with self.turn(live):
            _check(live, change)
            await live.ask("configure-device", kind=kind, devid=devid, changes=dict(changes))
            live.record.config = _check(live, change)  # it may have another name now
            self.keep(live)

    async def grow(self, live: Live, disk: Disk, size_bytes: int) -> None:
        """The image, and what the guest sees of it. ApiError."""
        async with self.turn(live):
            self._check_settled(live, disk)
            device = await self._devices.grow_disk(live.record, disk, size_bytes)
            if device is not None:
                await self.reconnect(live, device)
            await live.ask("configure-device", kind=VBD, devid=disk.devid, changes={"grown": True})
            self.keep(live)

    def _check_settled(self, live: Live, disk: Disk) -> None:
        """Which file it has is known, whenever xend was killed. ApiError (wrong-state)."""
        layers = layers_of(disk, live.logs)
        note = layers.read() if layers is not None else None
        if note is not None and note.next:
            raise ApiError(
                "wrong-state", f"disk {disk.vdev}: a checkpoint of it was broken off: make another one first"
            )

    async def reconnect(self, live: Live, device: OpenDevice) -> None:
        """The process goes on with new connections; that it has lost others counts no more. ApiError."""
        order = device.order
        description, fds = dict(order.description), list(order.fds)
        try:
            live.save()
            await live.ask(
                "reconnect-device", kind=order.kind, devid=order.devid, description=description, fds=fds
            )
        finally:
            device.opened.close()
        lost = f"{LOST} {order.kind} {order.devid}"
        live.record.wants = [what for what in live.record.wants if what != lost]

    async def change_medium(self, live: Live, disk: Disk) -> None:
        """Another disc, or none, in a CD-ROM drive. ApiError."""
        async with self.turn(live):
            await self.insert(live, disk)

    async def insert(self, live: Live, disk: Disk) -> None:
        """As `change_medium`, within a turn."""
        before = live.record.entries_of(VBD, disk.devid)
        device = await _unless_gone(live, self._devices.open_disk(live.record, disk, coming=True))
        changes = {"medium": dict(device.order.description)}
        await self._hand_over(live, device, "configure-device", kind=VBD, devid=disk.devid, changes=changes)
        for entry in before:
            await self._devices.undo_entry(live.record, entry)
        device.entry.coming = False
        live.record.config = with_disk(live.record.config, disk)
        self.keep(live)

    # --- what is written down

    def keep(self, live: Live) -> None:
        """For the next start of a managed domain, and in the record, by which a killed xend's work is finished.
        ApiError (failed)."""
        self._devices.keep(live.record)
        live.save()


def with_disk(config: DomainConfig, disk: Disk) -> DomainConfig:
    """With this one in the place of its namesake."""
    return replace(config, disks=tuple(disk if other.vdev == disk.vdev else other for other in config.disks))


def with_vif(config: DomainConfig, vif: Vif) -> DomainConfig:
    return replace(config, vifs=tuple(vif if other.mac == vif.mac else other for other in config.vifs))


def _check(live: Live, change: Change) -> DomainConfig:
    """ApiError (bad-configuration)."""
    try:
        return change(live.record.config)
    except ConfigError as error:
        raise ApiError("bad-configuration", str(error)) from error


def _ended(live: Live) -> ApiError:
    return ApiError("wrong-state", f"{live.name} has just ended")


async def _unless_gone(live: Live, work: Awaitable[T]) -> T:
    """What `work` returns; broken off when the domain's process goes: its end waits for this. ApiError."""
    working, ending = asyncio.ensure_future(work), asyncio.ensure_future(live.until(live.is_gone))
    try:
        await asyncio.wait((working, ending), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            working.cancel()
            await asyncio.wait((working,))
            if working.cancelled():
                raise _ended(live)
        return working.result()
    except asyncio.CancelledError:
        working.cancel()
        await asyncio.wait((working,))
        raise
    finally:
        ending.cancel()
