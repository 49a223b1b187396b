"""What devices need without anybody asking for it: those that a killed xend has left half attached, those that have
lost their helpers, those that the guest has let go of."""

import asyncio
from dataclasses import replace
from weakref import WeakKeyDictionary

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.vif import Attachment, Vif
from xenion.xend import told
from xenion.xend.attaching import Attaching
from xenion.xend.chronicle import LOST
from xenion.xend.devices import Devices, OpenDevice
from xenion.xend.entries import VBD
from xenion.xend.live import Live

AGAIN_S = 5.0
"""What is lost again sooner waits: its guest may be doing that."""


class Mending:
    def __init__(self, devices: Devices, attaching: Attaching) -> None:
        self._devices = devices
        self._attaching = attaching
        self._reconnected: WeakKeyDictionary[Live, dict[tuple[str, int], float]] = WeakKeyDictionary()

    async def reconcile(self, live: Live) -> None:
        """What an xend has handed over just before it was killed, or got no answer about: the process has it, or it is
        undone. ApiError."""
        async with self._devices.turn(live.record):
            coming = [entry for entry in live.record.devices if entry.coming]
            if not coming or not live.alive:  # when it has stopped, all its devices are undone
                return
            has = await told.devices(live)
            for entry in coming:
                if isinstance(entry.config, Disk) and len(live.record.entries_of(*entry.key)) > 1:
                    await self._finish_change(live, entry.config)
                elif entry.key in has:
                    self._attaching.came(live, entry)
                else:
                    await self._devices.undo_entry(live.record, entry)
            live.save()

    async def _finish_change(self, live: Live, wanted: Disk) -> None:
        """Of a disc that is in its drive or is not: it is put in again, or if it cannot be the one before, or none.
        ApiError."""
        for disk in (wanted, *_named(live, wanted.devid), replace(wanted, target="", format=Format.RAW)):
            try:
                await self._attaching.insert(live, disk)
            except ApiError as error:
                if error.code == "failed" or not live.linked:
                    raise
            else:
                return

    async def reconnect(self, live: Live, kind: str, devid: int) -> None:
        """A device whose helper has died gets another one, if the device is still there. ApiError."""
        async with self._devices.turn(live.record):
            if f"{LOST} {kind} {devid}" not in live.record.wants or not live.alive:
                return
            self._not_too_often(live, kind, devid)
            device = await self._reopened(live, kind, devid)
            if device is not None:
                await self._attaching.reconnect(live, device)

    async def _reopened(self, live: Live, kind: str, devid: int) -> OpenDevice | None:
        if kind == VBD:
            for disk in _named(live, devid):
                return await self._devices.reopen_disk(live.record, disk)
            return None
        entry = live.record.entry_of(kind, devid)
        if entry is None or not isinstance(entry.config, Vif):
            return None
        for vif in live.record.config.vifs:
            if vif.mac == entry.config.mac and vif.attachment in (Attachment.USER, Attachment.ISOLATED):
                return await self._devices.replug(live.record, devid, vif)
        return None

    def _not_too_often(self, live: Live, kind: str, devid: int) -> None:
        """ApiError."""
        now, times = asyncio.get_running_loop().time(), self._reconnected.setdefault(live, {})
        if now - times.get((kind, devid), -AGAIN_S) < AGAIN_S:
            raise ApiError(
                "failed", f"{kind} {devid} has been lost again at once: it is connected in a while"
            )
        times[kind, devid] = now

    async def release(self, live: Live, kind: str, devid: int) -> None:
        """The process holds it no more, and nothing that worked for it is needed. ApiError."""
        async with self._devices.turn(live.record):
            await self._devices.undo(live.record, kind, devid)
        self._devices.keep(live.record)


def _named(live: Live, devid: int) -> list[Disk]:
    """The disk of that number, if its configuration has one."""
    return [disk for disk in live.record.config.disks if disk.devid == devid]
