"""What devices need without anybody asking for it: those that a killed xend has left half attached, those that have
lost their helpers, those that the guest has let go of."""

import asyncio
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.vif import Attachment
from xenion.xend import told
from xenion.xend.attaching import Attaching
from xenion.xend.chronicle import LOST
from xenion.xend.devices import Devices, OpenDevice
from xenion.xend.live import Live
from xenion.xend.record import VBD, entries_of, entry_of

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
            coming = [entry for entry in live.record.devices if entry.get("coming")]
            if not coming or not live.alive:  # when it has stopped, all its devices are undone
                return
            has = await told.devices(live)
            for entry in coming:
                key = entry["kind"], entry["devid"]
                if len(entries_of(live.record, *key)) > 1:
                    await self._finish_change(live, entry)
                elif key in has:
                    self._attaching.came(live, entry)
                else:
                    await self._devices.undo_entry(live.record, entry)
            live.save()

    async def _finish_change(self, live: Live, entry: dict[str, Any]) -> None:
        """Of a disc that is in its drive or is not: it is put in again, or if it cannot be the one before, or none.
        ApiError."""
        wanted = Disk.from_mapping(entry["config"])
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
        entry = entry_of(live.record, kind, devid)
        for vif in live.record.config.vifs:
            is_it = entry is not None and vif.mac == entry["config"]["mac"]
            if is_it and vif.attachment in (Attachment.USER, Attachment.ISOLATED):
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
