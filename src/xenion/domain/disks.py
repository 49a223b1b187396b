"""A virtual disk's side on the host, in the domain's process: an image, its limits and its counters."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from xenion.dom0.block.backend import BlockBackend, MediumError
from xenion.dom0.block.disk import Disk, EmptyDrive
from xenion.dom0.block.file import FileDisk
from xenion.dom0.block.locks import InUseError
from xenion.dom0.block.nbd import NbdDisk
from xenion.dom0.block.nbd_handshake import NbdError, NbdInfo
from xenion.dom0.guest import Guest
from xenion.dom0.loop import Loop
from xenion.domain.devices import DeviceError, DeviceOrder, close_all


class DiskResource:
    """`lost(why)` is called when the image's server is gone: `reconnect` is wanted then."""

    def __init__(self, order: DeviceOrder, loop: Loop, lost: Callable[[str], None]) -> None:
        self._loop = loop
        self._lost = lost
        self._persistent = bool(order.description["persistent_grants"])
        self._disk = self._open(order.description, order.fds)
        self._backend: BlockBackend | None = None
        self._standby: tuple[Mapping[str, Any], Sequence[int]] | None = None
        self._unfit = ""
        """Why what stood by for it cannot be used."""
        self._below: list[int] = []

    def _open(self, description: Mapping[str, Any], fds: Sequence[int]) -> Disk:
        """As xend's xenion.xend.disks.place describes it. DeviceError."""
        about = {
            "writable": description["writable"],
            "cdrom": description["cdrom"],
            "sector_bytes": description["sector_bytes"],
            "discard": description["discard"],
        }
        try:
            disk = self._make(description, fds, about)
        except NbdError as error:
            close_all(fds)
            raise DeviceError(f"disk {description['vdev']}: {error}") from error
        except OSError as error:
            close_all(fds)
            why = f"what was opened for it is no image: {error.strerror}"
            raise DeviceError(f"disk {description['vdev']}: {why}") from error
        disk.set_limits(description["limit_bytes"], description["limit_requests"])
        return disk

    def _make(self, description: Mapping[str, Any], fds: Sequence[int], about: dict[str, Any]) -> Disk:
        match description["type"]:
            case "file":
                return FileDisk(fds[0], self._loop, **about)
            case "nbd":
                return NbdDisk(fds, NbdInfo(**description["nbd"]), self._loop, on_lost=self._lost, **about)
            case _:
                return EmptyDrive(self._loop)

    def backend(self, guest: Guest, devid: int) -> BlockBackend:
        self._backend = BlockBackend(guest, devid, self._disk, self._loop, persistent=self._persistent)
        return self._backend

    def forget(self) -> None:
        self._backend = None

    def describe(self) -> dict[str, Any]:
        disk = self._disk
        served = isinstance(disk, NbdDisk)
        sizes = {"size_bytes": disk.size, "sector_bytes": disk.sector_bytes}
        return {"served": int(served), **sizes, **disk.counters.as_dict()}

    def configure(self, changes: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        """`limits` [bytes, requests a second]; `grown`: the image has another size; `medium`: another image; `below`:
        the descriptors keep locked what is below the image."""
        if "below" in changes:
            self._below += fds
        if "medium" in changes:
            self._insert(self._open(changes["medium"], fds))
        if "limits" in changes:
            self._disk.set_limits(*changes["limits"])
        if "grown" in changes:
            self._disk.resize()
            if self._backend is not None:
                self._backend.resized()
        return {}

    def _insert(self, disk: Disk) -> None:
        old = self._disk
        try:
            if self._backend is not None:
                self._backend.insert(disk)
            elif not old.cdrom:
                raise MediumError("only a CD-ROM drive takes another medium")
        except MediumError as error:
            disk.close()
            raise DeviceError(str(error)) from error
        self._disk = disk
        old.drain(old.close)

    def standby(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        self._drop_standby()
        self._standby = description, fds

    def switch(self) -> None:
        if self._unfit:
            raise DeviceError(self._unfit)
        if self._standby is None:
            return
        (description, fds), self._standby = self._standby, None
        try:
            disk = self._fitting(description, fds)
        except DeviceError as error:
            self._unfit = str(error)
            raise
        old = self._disk
        disk.counters = old.counters
        if self._backend is not None:
            self._backend.go_on_with(disk)
        self._disk = disk
        old.drain(old.close)

    def _fitting(self, description: Mapping[str, Any], fds: Sequence[int]) -> Disk:
        """DeviceError."""
        disk, old = self._open(description, fds), self._disk
        if (disk.size, disk.sector_bytes, disk.writable) != (old.size, old.sector_bytes, old.writable):
            disk.close()
            raise DeviceError(
                f"disk {description['vdev']}: what stands by for it has another size, or is only read"
            )
        return disk

    def _drop_standby(self) -> None:
        self._unfit = ""
        if self._standby is not None:
            close_all(self._standby[1])
            self._standby = None

    def reconnect(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        if not isinstance(self._disk, NbdDisk):
            close_all(fds)
            raise DeviceError("the disk has no connection that could be replaced")
        try:
            self._disk.reconnect(fds, NbdInfo(**description["nbd"]))
        except NbdError as error:
            close_all(fds)
            raise DeviceError(str(error)) from error

    def sync(self, then: Callable[[int], None]) -> None:
        if self._disk.writable:
            self._disk.flush(then)
            self._disk.hurry()
        else:
            then(0)

    def announce(self) -> None:
        """Nobody asks where a disk is."""

    def unlock(self) -> None:
        """One that is only read is for both hosts."""
        if self._disk.writable:
            self._disk.unlock()

    def lock(self) -> None:
        try:
            if self._disk.writable:
                self._disk.lock()
        except InUseError:
            raise DeviceError("another domain uses it") from None
        except OSError as error:
            raise DeviceError(f"it cannot be locked: {error.strerror}") from error

    def close(self) -> None:
        self._drop_standby()
        self._disk.close()
        close_all(self._below)
        self._below = []
