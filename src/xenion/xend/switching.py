"""Fixes what is on a running domain's disks at the moment that its memory is saved: each gets a new file on top.

The files are made while the guest runs. A disk that a storage daemon serves gets its new one there; a raw image, which
the domain's process writes itself, is served by a storage daemon from then on, which stands by. When the process tells
that all is at rest the daemons are told, and then the process: it goes on only then.
"""

import asyncio
import os
import secrets
from collections.abc import Awaitable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.dom0.block import locks
from xenion.xend import told
from xenion.xend.attaching import Attaching
from xenion.xend.devices import Devices, OpenDevice
from xenion.xend.disks import storage_daemon
from xenion.xend.disks.chain import Image
from xenion.xend.disks.errors import cannot
from xenion.xend.disks.files import is_device
from xenion.xend.disks.layers import Layers, layers_of
from xenion.xend.disks.opening import close
from xenion.xend.disks.place import DiskPlace
from xenion.xend.disks.qmp import Qmp, QmpError
from xenion.xend.entries import VBD
from xenion.xend.live import Live

T = TypeVar("T")
REST = "rest"
"""What the process tells when all of them are at rest."""


def check_switchable(live: Live) -> None:
    """ApiError (refused)."""
    for disk in written(live):
        why = ""
        if disk.format is Format.NBD:
            why = f"what {disk.target} has is its server's"
        elif not disk.overlay and is_device(disk.target):
            why = f"{disk.target} is a device, of which nobody could tell whether it was changed since"
        if why:
            raise cannot(
                disk,
                f"a checkpoint cannot keep what is on it, {why}: detach it, or keep the memory alone (--memory-only)",
            )


def written(live: Live) -> list[Disk]:
    """Those of its disks that change."""
    return [disk for disk in live.record.config.disks if disk.writable and disk.target]


@dataclass(slots=True)
class _Switched:
    """One disk: its storage daemon, if it has one, and the names that its files have there."""

    disk: Disk
    layers: Layers
    place: DiskPlace
    daemon: Qmp | None = None
    node: str = ""
    above: str = ""

    def talk(self) -> Qmp:
        """A storage daemon listens to one at a time."""
        return Qmp(storage_daemon.qmp_socket(self.disk, self.place))

    async def said(self, answer: Awaitable[T]) -> T:
        """ApiError (failed)."""
        try:
            return await answer
        except QmpError as error:
            raise cannot(self.disk, f"its storage daemon does not go along: {error}", "failed") from error


@dataclass(slots=True)
class Switching:
    """With `async with`, within a turn of the domain's devices: the process is asked to save, `figures` gets what it
    tells, then `fixed` what there is. It is the point `point` if `kept` is set at the end. Everything raises ApiError.
    """

    live: Live
    devices: Devices
    attaching: Attaching
    point: str
    kept: bool = False
    _open: AsyncExitStack = field(default_factory=AsyncExitStack)
    _talks: AsyncExitStack = field(default_factory=AsyncExitStack)
    _disks: list[_Switched] = field(default_factory=list)
    _switching: asyncio.Task[None] | None = None
    _gone_over: bool = False

    @property
    def any(self) -> bool:
        """There are disks to be switched."""
        return bool(self._disks)

    async def __aenter__(self) -> "Switching":
        try:
            check_switchable(self.live)
            place = self._open.enter_context(self.devices.disk_place(self.live.record))
            for disk in written(self.live):
                layers = layers_of(disk, place.state)
                if layers is not None:
                    await self._prepare(_Switched(disk, layers, place))
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    # --- before

    async def _prepare(self, one: _Switched) -> None:
        await self._decide(one, "")  # an xend may have been killed over it
        self._disks.append(one)
        served = await self._is_served(one)
        if served and await self._top(one) != str(one.layers.written()):
            await self._serve_anew(one)
        await self._put_above(one, await one.layers.begin(one.place), served=served)

    async def _put_above(self, one: _Switched, image: Path, *, served: bool) -> None:
        if not served:
            await self._stand_by(await self.devices.stand_by(self.live.record, one.disk, image))
            return
        one.daemon = await one.said(self._talks.enter_async_context(one.talk()))
        one.node, _ = await one.said(storage_daemon.exported(one.daemon))
        one.above = f"layer{secrets.token_hex(4)}"
        top = [Image(image, Format.QCOW2, device=False, size_bytes=0)]
        await one.said(one.daemon.do("blockdev-add", **storage_daemon.node(one.disk, top, one.above)))

    async def _serve_anew(self, one: _Switched) -> None:
        """The domain was renamed: its storage daemon knows files by names that they have no more."""
        entry = self.live.record.entry_of(VBD, one.disk.devid)
        if entry is not None:
            await close(one.disk, one.place, entry.helpers)
            device = await self.devices.reopen_disk(self.live.record, one.disk)
            await self.attaching.reconnect(self.live, device)

    async def _is_served(self, one: _Switched) -> bool:
        has = await told.devices(self.live)
        return bool(has.get((VBD, one.disk.devid), told.NOTHING).count("served"))

    async def _stand_by(self, device: OpenDevice) -> None:
        order = device.order
        try:
            self.live.save()
            await self.live.ask(
                "standby-device",
                kind=order.kind,
                devid=order.devid,
                description=dict(order.description),
                fds=list(order.fds),
            )
        finally:
            device.opened.close()

    # --- the moment

    def figures(self, figures: Mapping[str, float]) -> None:
        """What the domain's process tells while it saves."""
        if REST in figures and self._switching is None:
            self._switching = asyncio.ensure_future(self._switch())

    async def _switch(self) -> None:
        try:
            for one in self._disks:
                if one.daemon is not None:
                    await one.said(one.daemon.do("blockdev-snapshot", node=one.node, overlay=one.above))
            await self._talks.aclose()
            self._gone_over = (await self.live.ask("switched")).get("switched") is True
            if not self._gone_over:
                return  # whoever saves is told why the process has gone on
            for one in self._disks:
                if not await self._decide(one, self.point):
                    raise cannot(one.disk, "it has not gone over to its new file", "failed")
        except ApiError:
            with suppress(ApiError):
                await self.live.ask("cancel-save")
            raise

    # --- afterwards

    async def fixed(self) -> list[tuple[Disk, Layers]]:
        """What the disks had when the process saved, of which all is in the file."""
        if not self._disks:
            return []
        if self._switching is not None:
            await self._switching
        if not self._gone_over:
            raise ApiError("failed", f"the process of {self.live.name} has not told that its disks rest")
        return [(one.disk, one.layers) for one in self._disks]

    async def why(self) -> None:
        """ApiError: the process has not saved because of this."""
        if self._switching is not None:
            await self._switching

    async def _leave(self) -> None:
        try:
            if self._switching is not None:
                await asyncio.wait([self._switching])
                self._switching.exception()  # told by whoever saves
            await self._talks.aclose()
            if not self.kept:
                for one in self._disks:
                    with suppress(ApiError):  # it is decided when the disk is opened, or switched, again
                        await self._decide(one, "")
                    with suppress(ApiError):
                        one.layers.forget(self.point)
        finally:
            await self._open.aclose()

    async def _decide(self, one: _Switched, point: str) -> bool:
        """Whether the new file is on top, as its domain's process and its storage daemon know."""
        note = one.layers.read()
        if note is None or not note.next:
            return False
        served = await self._is_served(one)
        if served and Path(await self._top(one)).name == note.next:  # its folder may have another name by now
            below = one.layers.path(note.top)
            one.layers.commit(point)
            await self._keep_locked(one, below)
            return True
        await (self._drop_node(one) if served else self._drop_standby(one))
        one.layers.withdraw()
        return False

    async def _top(self, one: _Switched) -> str:
        async def ask() -> str:
            async with one.talk() as daemon:
                _, file = await storage_daemon.exported(daemon)
                return file

        return await one.said(ask())

    async def _keep_locked(self, one: _Switched, below: Path) -> None:
        """Nobody else writes what is below; a file system without locks cannot see to that."""
        with one.layers.refusals():
            fd = os.open(below, os.O_RDONLY | os.O_CLOEXEC)
        try:
            locks.take(fd, writable=False)
            changes = {"below": True}
            await self.live.ask("configure-device", kind=VBD, devid=one.disk.devid, changes=changes, fds=[fd])
        except (locks.NoLocksError, locks.InUseError, OSError):
            pass
        finally:
            os.close(fd)

    async def _drop_node(self, one: _Switched) -> None:
        """One that an earlier xend has left there stays, and is nothing to anybody."""
        with suppress(QmpError):
            async with one.talk() as daemon:
                await daemon.do("blockdev-del", **{"node-name": one.above})

    async def _drop_standby(self, one: _Switched) -> None:
        entry = self.live.record.entry_of(VBD, one.disk.devid)
        if entry is not None:
            await close(one.disk, one.place, entry.helpers)
            entry.helpers = []
            self.live.save()
