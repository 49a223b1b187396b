"""Opens what a domain's devices are on the host, writes down what has to be undone, and undoes it.

A domain's record has an entry for each device: {"kind", "devid", "config", "helpers", "undo"}. It is written before the
domain's process gets the device, so that nothing is left over whenever xend is killed.
"""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.config.disk import Disk
from xenion.config.vif import Vif, with_macs
from xenion.domain.devices import DeviceOrder
from xenion.xend.disks import opening as disks
from xenion.xend.disks.growing import grow
from xenion.xend.disks.place import DiskPlace, OpenDisk
from xenion.xend.helpers import Helper, strays
from xenion.xend.networks.place import Plugged, VifPlace
from xenion.xend.networks.plugging import Networks
from xenion.xend.record import VBD, VIF, Record, entry_of
from xenion.xend.registry import Registry
from xenion.xend.storage import private_folder

HELPERS_LOG = "helpers.log"


@dataclass(slots=True)
class OpenDevice:
    """One that is open here. `kind` and `devid` name it."""

    kind: str
    devid: int
    config: Mapping[str, Any]
    opened: OpenDisk | Plugged
    entry: dict[str, Any] = field(default_factory=dict)
    """In the record."""

    @property
    def order(self) -> DeviceOrder:
        return DeviceOrder(
            self.kind, self.devid, self.opened.description, self.config, tuple(self.opened.fds)
        )

    def make_entry(self) -> dict[str, Any]:
        undo = self.opened.undo if isinstance(self.opened, Plugged) else {}
        helpers = [helper.to_mapping() for helper in self.opened.helpers]
        return {
            "kind": self.kind,
            "devid": self.devid,
            "config": dict(self.config),
            "helpers": helpers,
            "undo": undo,
        }


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

    # --- opening

    async def open_all(self, made: Record) -> OpenDevices:
        """All that its configuration has; its entries are in the record then. ApiError: nothing is left open."""
        opened = OpenDevices()
        try:
            for disk in made.config.disks:
                opened.devices.append(await self.open_disk(made, disk))
            for devid, vif in enumerate(made.config.vifs):
                opened.devices.append(await self.open_vif(made, devid, vif))
        except BaseException:
            await self.abandon(made, opened)
            raise
        return opened

    async def abandon(self, made: Record, opened: OpenDevices) -> None:
        """The domain does not come to be."""
        opened.close()
        await self.undo_all(made)

    async def open_disk(self, made: Record, disk: Disk) -> OpenDevice:
        """Its entry is in the record then. ApiError."""
        with self._said(made) as said:
            opened = await disks.open_disk(disk, self._disk_place(made, said))
        return self._entered(made, OpenDevice(VBD, disk.devid, disk.to_mapping(), opened))

    async def open_vif(self, made: Record, devid: int, vif: Vif) -> OpenDevice:
        """As `open_disk`."""
        with self._said(made) as said:
            place = VifPlace(
                name=made.name, domid=made.domid, devid=devid, run=self._run_folder(made), said=said
            )
            plugged = await self._networks.plug(vif, place)
        return self._entered(made, OpenDevice(VIF, devid, vif.to_mapping(), plugged))

    async def reopen_disk(self, made: Record, disk: Disk) -> OpenDevice:
        """New connections to a disk whose storage daemon has died. ApiError."""
        entry = entry_of(made, VBD, disk.devid)
        if entry is None:
            raise ApiError("no-such-device", f"{made.name} has no disk {disk.vdev}")
        with self._said(made) as said:
            helpers = [Helper.from_mapping(helper) for helper in entry["helpers"]]
            opened = await disks.reopen(disk, self._disk_place(made, said), helpers)
        made.devices = [other for other in made.devices if other is not entry]
        return self._entered(made, OpenDevice(VBD, disk.devid, disk.to_mapping(), opened))

    async def grow_disk(self, made: Record, disk: Disk, size_bytes: int) -> OpenDevice | None:
        """New connections to it, if it has any. ApiError: it has its old size, and `reopen_disk` is wanted perhaps."""
        entry = entry_of(made, VBD, disk.devid)
        helpers = [Helper.from_mapping(helper) for helper in entry["helpers"]] if entry is not None else []
        with self._said(made) as said:
            opened = await grow(disk, size_bytes, self._disk_place(made, said), helpers)
        if not opened.fds:
            return None
        made.devices = [other for other in made.devices if other is not entry]
        return self._entered(made, OpenDevice(VBD, disk.devid, disk.to_mapping(), opened))

    def with_mac(self, made: Record, devid: int, vif: Vif) -> Vif:
        """It gets an address of its own, if it has none."""
        others = made.config.vifs
        return with_macs((*others, vif), f"{made.uuid}/{devid}")[-1]

    def _entered(self, made: Record, device: OpenDevice) -> OpenDevice:
        device.entry = device.make_entry()
        made.devices.append(device.entry)
        return device

    def _disk_place(self, made: Record, said: int) -> DiskPlace:
        others = {name: used for name, used in self._registry.disks().items() if name != made.name}
        return DiskPlace(
            name=made.name,
            uuid=made.uuid,
            run=self._run_folder(made),
            state=self._where.logs(made.logs),
            said=said,
            lasting=made.lasting,
            others=others,
        )

    def _run_folder(self, made: Record) -> Path:
        folder = self._where.helpers(made.uuid)
        private_folder(folder.parent)
        private_folder(folder)
        return folder

    @contextmanager
    def _said(self, made: Record) -> Iterator[int]:
        """Where helpers write what they say. ApiError (failed)."""
        folder = self._where.logs(made.logs)
        try:
            private_folder(folder)
            fd = os.open(folder / HELPERS_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ApiError("failed", f"{error.filename}: {error.strerror}") from error
        try:
            yield fd
        finally:
            os.close(fd)

    # --- undoing

    async def sweep(self) -> None:
        """Helpers that an xend has started just before it was killed, and folders of domains that are gone."""
        known = [
            Helper.from_mapping(helper)
            for live in self._registry.live.values()
            for entry in live.record.devices
            for helper in entry["helpers"]
        ]
        folder = self._where.helpers("")
        if not folder.is_dir():
            return
        for helper in strays(folder, known):  # at once, before a client can have another one started
            await helper.end()
        for left in list(folder.iterdir()):
            if not self._registry.is_running(left.name):
                shutil.rmtree(left, ignore_errors=True)

    async def undo(self, made: Record, kind: str, devid: int) -> None:
        """Of a device that the domain's process has let go of, or never got; one that is gone is fine. ApiError."""
        entry = entry_of(made, kind, devid)
        if entry is not None:
            await self.undo_entry(made, entry)

    async def undo_entry(self, made: Record, entry: dict[str, Any]) -> None:
        """As `undo`."""
        for helper in entry["helpers"]:
            await Helper.from_mapping(helper).end()
        if entry["undo"]:
            await self._networks.unplug(entry["undo"])
        made.devices = [other for other in made.devices if other is not entry]

    async def undo_all(self, made: Record) -> None:
        """Of a domain that is gone. ApiError."""
        for entry in list(made.devices):
            await self.undo_entry(made, entry)
        shutil.rmtree(self._where.helpers(made.uuid), ignore_errors=True)
        with suppress(OSError):
            log = self._where.logs(made.logs) / HELPERS_LOG
            if not log.stat().st_size:
                log.unlink()
