"""Disks that get larger while their domain runs."""

from xenion.config.disk import Disk, Format
from xenion.xend.disks import storage_daemon
from xenion.xend.disks.errors import cannot
from xenion.xend.disks.files import grow_file
from xenion.xend.disks.opening import reopen
from xenion.xend.disks.place import DiskPlace, OpenDisk, description
from xenion.xend.disks.qmp import Qmp, QmpError
from xenion.xend.helpers import Helper

SECTOR_BYTES = 512


async def grow(disk: Disk, size_bytes: int, place: DiskPlace, helpers: list[Helper]) -> OpenDisk:
    """What the domain process is told; ApiError.

    A file keeps the descriptor that the process has: there is none in the answer. The sockets of other disks are cut
    off before it grows, and new ones are in the answer; if it cannot grow, `reopen` gives new ones of the old size.
    """
    if not disk.writable:
        raise cannot(disk, "it is read-only and keeps its size")
    if size_bytes <= 0 or size_bytes % max(SECTOR_BYTES, disk.sector_bytes):
        raise cannot(
            disk, f"a size is a multiple of {max(SECTOR_BYTES, disk.sector_bytes)} bytes, not {size_bytes}"
        )
    if helpers or disk.overlay or disk.format is Format.QCOW2:
        return await _grow_image(disk, size_bytes, place, helpers)
    if disk.format is Format.NBD:
        raise cannot(disk, f"{disk.target} is grown at its server, and detached and attached again here")
    return OpenDisk(description(disk, "file", grow_file(disk, size_bytes, place)))


async def _grow_image(disk: Disk, size_bytes: int, place: DiskPlace, helpers: list[Helper]) -> OpenDisk:
    """A node that is exported keeps its size, so its export goes away meanwhile."""
    try:
        async with Qmp(storage_daemon.qmp_socket(disk, place)) as daemon:
            node, _ = await storage_daemon.exported(daemon)
            await _check_larger(disk, daemon, node, size_bytes)
            await daemon.do("block-export-del", id=storage_daemon.NODE, mode="hard")
            await daemon.event("BLOCK_EXPORT_DELETED", id=storage_daemon.NODE)
            try:
                await daemon.do("block_resize", **{"node-name": node, "size": size_bytes})
            finally:
                await daemon.do("block-export-add", **storage_daemon.export(disk, node))
    except QmpError as error:
        raise cannot(disk, f"it cannot be grown: {error}", "failed") from error
    return await reopen(disk, place, helpers)


async def _check_larger(disk: Disk, daemon: Qmp, name: str, size_bytes: int) -> None:
    nodes = await daemon.do("query-named-block-nodes", flat=True)
    size = next(node["image"]["virtual-size"] for node in nodes if node["node-name"] == name)
    if size_bytes < size:
        raise cannot(disk, f"it has {size} bytes and can only grow: give a larger size")
