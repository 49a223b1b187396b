"""Opens what a domain's devices are on the host, writes down what has to be undone, and undoes it."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.disk import Disk
from xenion.config.vif import Vif, with_macs
from xenion.domain.devices import DeviceOrder
from xenion.xend import seed
from xenion.xend.disks import opening as disks
from xenion.xend.disks import overlay
from xenion.xend.disks.growing import grow
from xenion.xend.disks.place import DiskPlace, OpenDisk
from xenion.xend.entries import VBD, VIF, DeviceEntry
from xenion.xend.helpers import strays
from xenion.xend.managed import Managed
from xenion.xend.networks.place import Plugged, VifPlace
from xenion.xend.networks.plugging import Networks
from xenion.xend.record import Record, folders
from xenion.xend.registry import Registry
from xenion.xend.storage import failing, private_folder

HELPERS_LOG = "helpers.log"


@dataclass(slots=True)
class OpenDevice:
    """One that is open here, and its entry in the record."""

    entry: DeviceEntry
    opened: OpenDisk | Plugged

    @property
    def order(self) -> DeviceOrder:
        entry, opened = self.entry, self.opened
        return DeviceOrder(
            entry.kind, entry.devid, opened.description, entry.config.to_mapping(), tuple(opened.fds)
        )


@dataclass(slots=True)
class OpenDevices:
    """`close` them when the domain's process has them."""

    devices: list[OpenDevice] = field(default_factory=list)

    @property
    def orders(self) -> tuple[DeviceOrder, ...]:
        return tuple(device.order for device in self.devices)

    @property
    def notes(self) -> list[str]:
        return [note for device in self.devices for note in device.opened.notes]

    def close(self) -> None:
        for device in self.devices:
            device.opened.close()


class Devices:
    def __init__(self, where: Folders, registry: Registry, networks: Networks) -> None:
        self._where = where
        self._registry = registry
        self._networks = networks
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._layers: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def turn(self, made: Record) -> AsyncIterator[None]:
        """Whoever changes a running domain's devices, or their connections, is alone within the block."""
        turn = self._turns.setdefault(made.uuid, asyncio.Lock())
        async with turn:
            yield

    @asynccontextmanager
    async def layers(self, logs: str) -> AsyncIterator[None]:
        """Whoever changes what is above a domain's images is alone within the block. `logs`: its folder's name."""
        turn = self._layers.setdefault(logs, asyncio.Lock())
        async with turn:
            yield

    # --- opening

    async def open_all(self, made: Record) -> OpenDevices:
        """All that its configuration has; its entries are in the record then. ApiError: nothing is left open."""
        opened = OpenDevices()
        try:
            for disk in made.config.disks:
                opened.devices.append(await self.open_disk(made, disk))
            cloud_init = await seed.make(made.config, made.uuid, self._where.logs(made.logs))
            if cloud_init is not None:
                opened.devices.append(await self.open_disk(made, cloud_init))
            for devid, vif in enumerate(made.config.vifs):
                opened.devices.append(await self.open_vif(made, devid, vif))
        except BaseException:
            await self.abandon(made, opened)
            raise
        return opened

    def lock(self, opened: OpenDevices) -> None:
        """What was left to be locked. A thread of its own. ApiError."""
        for device in opened.devices:
            if isinstance(device.opened, OpenDisk) and device.opened.lock is not None:
                device.opened.lock()

    async def abandon(self, made: Record, opened: OpenDevices) -> None:
        """The domain does not come to be."""
        opened.close()
        await self.forget(made)

    async def open_disk(self, made: Record, disk: Disk, *, coming: bool = False) -> OpenDevice:
        """Its entry is in the record then. ApiError."""
        with self.disk_place(made) as place:
            opened = await disks.open_disk(disk, place)
        return _entered(made, disk.devid, disk, opened, coming=coming)

    async def stand_by(self, made: Record, disk: Disk, image: Path) -> OpenDevice:
        """`image` instead of what is directly below it, which the domain's process has itself. Its entry is in the
        record instead of the disk's. ApiError."""
        with self.disk_place(made) as place:
            opened = await disks.open_above(disk, image, place)
        return self._instead_of(made, made.entry_of(VBD, disk.devid), disk, opened)

    async def open_vif(self, made: Record, devid: int, vif: Vif, *, coming: bool = False) -> OpenDevice:
        """As `open_disk`."""
        with self._said(made) as said:
            place = VifPlace(
                name=made.name, domid=made.domid, devid=devid, run=self._run_folder(made), said=said
            )
            plugged = await self._networks.plug(vif, place)
        return _entered(made, devid, vif, plugged, coming=coming)

    async def reopen_disk(self, made: Record, disk: Disk) -> OpenDevice:
        """New connections to a disk whose storage daemon has died. ApiError."""
        entry = made.entry_of(VBD, disk.devid)
        if entry is None:
            raise ApiError("no-such-device", f"{made.name} has no disk {disk.vdev}")
        with self.disk_place(made) as place:
            opened = await disks.reopen(disk, place, entry.helpers)
        return self._instead_of(made, entry, disk, opened)

    async def replug(self, made: Record, devid: int, vif: Vif) -> OpenDevice:
        """As `reopen_disk`, for an interface whose other end has died."""
        entry = made.entry_of(VIF, devid)
        if entry is None:
            raise ApiError("no-such-device", f"{made.name} has no interface {devid}")
        await self._undo_what_is_outside(entry)
        device = await self.open_vif(made, devid, vif)
        made.devices = [other for other in made.devices if other is not entry]
        return device

    async def grow_disk(self, made: Record, disk: Disk, size_bytes: int) -> OpenDevice | None:
        """New connections to it, if it has any. ApiError: it has its old size, and `reopen_disk` is wanted perhaps."""
        entry = made.entry_of(VBD, disk.devid)
        with self.disk_place(made) as place:
            opened = await grow(disk, size_bytes, place, [] if entry is None else entry.helpers)
        if not opened.fds:
            return None
        return self._instead_of(made, entry, disk, opened)

    def _instead_of(
        self, made: Record, entry: DeviceEntry | None, disk: Disk, opened: OpenDisk
    ) -> OpenDevice:
        made.devices = [other for other in made.devices if other is not entry]
        return _entered(made, disk.devid, disk, opened)

    def with_mac(self, made: Record, devid: int, vif: Vif) -> Vif:
        """It gets an address of its own, if it has none."""
        others = made.config.vifs
        return with_macs((*others, vif), f"{made.uuid}/{devid}")[-1]

    @contextmanager
    def disk_place(self, made: Record) -> Iterator[DiskPlace]:
        """ApiError (failed)."""

        def others() -> dict[str, tuple[Disk, ...]]:
            return {name: used for name, used in self._registry.disks().items() if name != made.name}

        with self._said(made) as said:
            yield DiskPlace(
                name=made.name,
                uuid=made.uuid,
                run=self._run_folder(made),
                state=self._where.logs(made.logs),
                said=said,
                lasting=made.lasting,
                arriving=bool(made.arriving),
                others=others,
            )

    def _run_folder(self, made: Record) -> Path:
        """ApiError (failed)."""
        folder = self._where.helpers(made.uuid)
        with failing(folder):
            private_folder(folder.parent)
            return private_folder(folder)

    @contextmanager
    def _said(self, made: Record) -> Iterator[int]:
        """Where helpers write what they say. ApiError (failed)."""
        folder = self._where.logs(made.logs)
        with failing(folder):
            private_folder(folder)
            fd = os.open(folder / HELPERS_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            yield fd
        finally:
            os.close(fd)

    # --- writing down

    def keep(self, made: Record) -> None:
        """What it has now, for the next start of a managed domain. ApiError (failed)."""
        managed = self._registry.managed.get(made.uuid) if made.managed else None
        if managed is None:
            return
        kept = replace(managed.config, disks=made.config.disks, vifs=made.config.vifs)
        if kept != managed.config:
            self._registry.managed.put(Managed(kept, managed.logs))

    # --- undoing

    async def sweep(self, never_came: list[Record]) -> None:
        """Helpers that an xend has started just before it was killed, what is left of domains that are gone, and of
        those that never had a process. ApiError."""
        # All that looks for leftovers comes before the first await: no client can have made anything new yet.
        alone = {path.name for path in folders(self._where.domains)} - set(self._registry.live)
        known = [
            helper
            for live in self._registry.live.values()
            for entry in live.record.devices
            for helper in entry.helpers
        ]
        for uuid in alone:  # of a domain whose record is unreadable; it may run
            known += strays(self._where.helpers(uuid), known)
        left = strays(self._where.helpers(""), known)
        if not alone:
            self._sweep_states()
        undone = [self._undo_what_is_outside(entry) for made in never_came for entry in made.devices]
        await _all_of([*(helper.end() for helper in left), *undone])
        with suppress(FileNotFoundError):
            for folder in list(self._where.helpers("").iterdir()):
                if not self._registry.is_running(folder.name) and folder.name not in alone:
                    shutil.rmtree(folder, ignore_errors=True)

    def _sweep_states(self) -> None:
        used = {live.record.logs for live in self._registry.live.values()}
        with suppress(FileNotFoundError):
            for state in self._where.logs("").iterdir():
                if state.name not in used and state.is_dir():
                    _tidy(state)

    async def undo(self, made: Record, kind: str, devid: int) -> None:
        """Of a device that the domain's process has let go of, or never got; one that is gone is fine. ApiError."""
        for entry in made.entries_of(kind, devid):
            await self.undo_entry(made, entry)

    async def undo_entry(self, made: Record, entry: DeviceEntry) -> None:
        """As `undo`."""
        await self._undo_what_is_outside(entry)
        made.devices = [other for other in made.devices if other is not entry]

    async def _undo_what_is_outside(self, entry: DeviceEntry) -> None:
        """Again is fine. ApiError."""
        for helper in entry.helpers:
            await helper.end()
        if entry.undo:
            await self._networks.unplug(entry.undo)

    async def undo_all(self, made: Record) -> None:
        """Of a domain whose process has let go of everything. ApiError: all but that is undone."""
        try:
            await _all_of([self.undo_entry(made, entry) for entry in made.devices])
        finally:
            shutil.rmtree(self._where.helpers(made.uuid), ignore_errors=True)

    async def forget(self, made: Record) -> None:
        """Of a domain that is gone, or never came: with what was written for it only. ApiError, as `undo_all`."""
        try:
            await self.undo_all(made)
        finally:
            _tidy(self._where.logs(made.logs))


def _entered(
    made: Record, devid: int, config: Disk | Vif, opened: OpenDisk | Plugged, *, coming: bool = False
) -> OpenDevice:
    undo = opened.undo if isinstance(opened, Plugged) else {}
    entry = DeviceEntry(devid, config, list(opened.helpers), undo, coming)
    made.devices.append(entry)
    return OpenDevice(entry, opened)


async def _all_of(works: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Each, whatever becomes of the others. ApiError: the first."""
    failed: ApiError | None = None
    for work in works:
        try:
            await work
        except ApiError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _tidy(state: Path) -> None:
    """A domain's folder, when it is gone: overlays that do not last, what cloud-init was to find, an empty log."""
    with suppress(OSError):
        overlay.remove(state)
    with suppress(OSError):
        seed.remove(state)
    with suppress(OSError):
        if not (state / HELPERS_LOG).stat().st_size:
            (state / HELPERS_LOG).unlink()
