"""A virtual disk of a guest: the back end of public/io/blkif.h, with the nodes and features of Linux's xen-blkback."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import ClassVar

from xenion.abi.io.blkif import SECTOR_BYTES, Vdisk
from xenion.dom0.block.disk import Disk
from xenion.dom0.block.frontend import MAX_QUEUES, MAX_RING_PAGE_ORDER, Frontend
from xenion.dom0.block.queue import MAX_INDIRECT_SEGMENTS, Queue
from xenion.dom0.guest import GrantError, Guest, MappedGrant, PortError
from xenion.dom0.loop import Loop
from xenion.dom0.xenbus.backend import FrontendError


class MediumError(Exception):
    """Another medium cannot be put into the drive; the message says why."""


class BlockBackend:
    """`disk` belongs to the caller, who closes it; it may serve one back end after the other.

    `persistent`: whether front ends are offered persistent grants.
    """

    kind: ClassVar[str] = "vbd"

    def __init__(self, guest: Guest, devid: int, disk: Disk, loop: Loop, *, persistent: bool = True) -> None:
        self._guest = guest
        self.devid = devid
        self.disk = disk
        self.sector_bytes = disk.sector_bytes
        self._loop = loop
        self._persistent = persistent
        self._log: Callable[[str], None] = _ignore
        self.changed: Callable[[Mapping[str, str]], None] = _ignore
        self._queues: list[Queue] = []
        self._leaving = 0
        """Queues that are not done yet."""
        self._left: list[Callable[[], None]] = []
        self.error: str | None = None
        """Why a ring is not served any more; until the next `connect`."""

    def log_to(self, log: Callable[[str], None]) -> None:
        self._log = log

    def backend_nodes(self) -> Mapping[str, str]:
        disk = self.disk
        discard = {
            "feature-discard": "1",
            "discard-granularity": str(disk.discard_bytes),
            "discard-alignment": "0",
            "discard-secure": "0",
        }
        return {
            "mode": "w" if disk.writable else "r",
            "removable": str(int(disk.cdrom)),
            "max-ring-page-order": str(MAX_RING_PAGE_ORDER),
            "multi-queue-max-queues": str(MAX_QUEUES),
            "feature-persistent": str(int(self._persistent)),
            "feature-max-indirect-segments": str(MAX_INDIRECT_SEGMENTS),
            "feature-flush-cache": str(int(disk.writable)),
            "feature-barrier": str(int(disk.writable)),
            "discard-enable": str(int(bool(disk.discard_bytes))),
        } | (discard if disk.discard_bytes else {})

    def frontend_nodes(self) -> Mapping[str, str]:
        return {"virtual-device": str(self.devid), "device-type": "cdrom" if self.disk.cdrom else "disk"}

    def connect(self, front: Mapping[str, str]) -> Mapping[str, str]:
        frontend = Frontend(front)
        self.error = None
        queues: list[Queue] = []
        with ExitStack() as undo:
            for port, refs in frontend.rings:
                queue = Queue(
                    self._guest,
                    self._loop,
                    self,
                    self._map(refs, undo),
                    frontend.slots,
                    self._persistent and frontend.persistent,
                )
                undo.callback(queue.abandon)
                self._start(queue, port)
                queues.append(queue)
            undo.pop_all()
        self._queues = queues
        return self._medium_nodes() | {
            "sector-size": str(self.sector_bytes),
            "physical-sector-size": str(self.disk.physical_sector_bytes),
        }

    def _map(self, refs: list[int], undo: ExitStack) -> list[MappedGrant]:
        """A ring's pages, which `undo` unmaps again."""
        pages: list[MappedGrant] = []
        for ref in refs:
            try:
                pages.append(self._guest.map(ref, write=True))
            except GrantError as error:
                raise FrontendError(f"the front end's ring cannot be mapped: {error}") from error
            undo.callback(pages[-1].unmap)
        return pages

    def _start(self, queue: Queue, port: int) -> None:
        try:
            queue.start(port)
        except PortError as error:
            raise FrontendError(str(error)) from error

    def _medium_nodes(self) -> dict[str, str]:
        info = Vdisk.CDROM | Vdisk.REMOVABLE if self.disk.cdrom else Vdisk(0)
        if not self.disk.writable:
            info |= Vdisk.READONLY
        return {"sectors": str(self.disk.size // SECTOR_BYTES), "info": str(int(info))}

    def disconnect(self, done: Callable[[], None]) -> None:
        """Requests that wait for a limit are not held back any longer."""
        self._left.append(done)
        queues, self._queues = self._queues, []
        self._leaving += len(queues)
        for queue in queues:
            queue.stop(self._queue_left)
        if queues:
            self.disk.hurry()
        self._check_left()

    def _queue_left(self) -> None:
        self._leaving -= 1
        self._check_left()

    def _check_left(self) -> None:
        while self._left and not self._leaving:
            self._left.pop(0)()

    def resized(self) -> None:
        """The disk has another size: the front end is told, if there is one.

        `changed` writes `sectors`; who writes it also writes the back end's `state` again, which makes Linux look.
        """
        if self._queues:
            self.changed({"sectors": str(self.disk.size // SECTOR_BYTES)})

    def insert(self, disk: Disk) -> None:
        """Another medium for a CD-ROM drive, or an EmptyDrive. What runs on the old one ends there. MediumError."""
        if not self.disk.cdrom or not disk.cdrom:
            raise MediumError(
                "only a CD-ROM drive takes another medium: detach the disk and attach another one"
            )
        if disk.sector_bytes != self.sector_bytes:
            raise MediumError(
                f"the drive has sectors of {self.sector_bytes} bytes, the medium {disk.sector_bytes}: use the same"
            )
        self.disk.hurry()
        self.disk = disk
        self.resized()

    def go_on_with(self, disk: Disk) -> None:
        """The same disk in another place: same size, same sectors. Nothing runs on the old one."""
        self.disk = disk

    def broken(self, why: str) -> None:
        """A ring of it is given up; what else the guest has goes on."""
        self.error = why
        self._log(why)
        self.changed({"error": why})


def _ignore(_: object) -> None:
    pass
