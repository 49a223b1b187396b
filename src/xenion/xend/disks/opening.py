"""Opens disks for a domain process, which opens nothing itself; opens them again when a helper has died."""

from functools import partial
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.dom0.block.nbd_handshake import NbdError
from xenion.xend.disks import chain as chains
from xenion.xend.disks import nbd, overlay, storage_daemon
from xenion.xend.disks.errors import cannot
from xenion.xend.disks.files import open_file
from xenion.xend.disks.layers import layers_of
from xenion.xend.disks.nbd import UnansweredError
from xenion.xend.disks.place import DiskPlace, OpenDisk, description
from xenion.xend.helpers import Helper
from xenion.xend.tail import Tail
from xenion.xend.threads import in_thread


async def open_disk(disk: Disk, place: DiskPlace) -> OpenDisk:
    """ApiError; nothing is left open or running then."""
    if not disk.target:
        if not disk.cdrom:
            raise cannot(disk, "it has no target: name a file")
        return OpenDisk(description(disk, "empty", 0))
    if disk.overlay:
        if disk.format is Format.NBD:
            raise cannot(disk, f"an overlay goes over a file, not over {disk.target}: export a file instead")
        await overlay.prepare(disk, place)
    layers = layers_of(disk, place.state)
    if layers is None:
        return await nbd.open_url(disk)
    if disk.writable:
        layers.check_free()
    top = await in_thread(layers.top, lambda _: None)
    if top is None and layers.format("") is Format.RAW:
        return await in_thread(partial(open_file, disk, place), OpenDisk.close)
    return await _open_with_daemon(disk, top or layers.image, place)


async def open_above(disk: Disk, image: Path, place: DiskPlace) -> OpenDisk:
    """Its domain still writes to what is directly below `image`, and will stop doing so before it uses this. ApiError;
    nothing is left open or running then."""
    return await _open_with_daemon(disk, image, place, unheld=2)


async def _open_with_daemon(disk: Disk, image: Path, place: DiskPlace, *, unheld: int = 1) -> OpenDisk:
    """Nobody else is to write what is below the first `unheld` files."""
    if disk.writable and place.arriving:
        raise cannot(disk, "an image that a storage daemon writes cannot come from another host")
    chain = await in_thread(partial(chains.find, disk, image, Format.QCOW2, place), lambda _: None)
    said = Tail(place.said)
    notes: list[str] = []
    helper = storage_daemon.start(disk, chain, place, notes, chain[unheld:])
    try:
        made = await _connect(disk, place)
    except BaseException as error:
        await close(disk, place, [helper])
        if isinstance(error, UnansweredError):
            raise storage_daemon.why_ended(disk, chain, place, said) from None
        raise
    made.helpers.append(helper)
    made.notes += notes
    return made


async def _connect(disk: Disk, place: DiskPlace) -> OpenDisk:
    """To a storage daemon that runs. UnansweredError, ApiError."""
    server = nbd.Server("", 0, str(storage_daemon.nbd_socket(disk, place)), storage_daemon.NODE)
    try:
        return await nbd.open_export(disk, server.connect, server.export)
    except (ConnectionError, FileNotFoundError):
        raise UnansweredError from None
    except (OSError, NbdError) as error:
        raise cannot(disk, f"its storage daemon cannot be talked to: {error}", "failed") from error


async def reopen(disk: Disk, place: DiskPlace, helpers: list[Helper]) -> OpenDisk:
    """New sockets in the place of ones that have broken, from the same storage daemon if it lives, else from another.

    `helpers`: what the last OpenDisk of this disk had; those that are not in the new one have ended. ApiError.
    """
    if disk.format is Format.NBD:
        return await nbd.open_url(disk)
    if not helpers:
        raise ApiError("wrong-state", f"disk {disk.vdev}: it has no connection that could have broken")
    if all(helper.alive for helper in helpers):
        try:
            made = await _connect(disk, place)
        except UnansweredError:
            pass
        else:
            made.helpers.extend(helpers)
            return made
    await close(disk, place, helpers)
    if (layers := layers_of(disk, place.state)) is not None:
        layers.settled(served=True)
    return await open_disk(disk, place)


async def close(disk: Disk, place: DiskPlace, helpers: list[Helper]) -> None:
    """Of a disk that was detached, or whose domain is over: its helpers end, their sockets go. ApiError (failed)."""
    for helper in helpers:
        await helper.end()
    try:
        storage_daemon.remove_sockets(disk, place)
    except OSError as error:
        raise ApiError("failed", f"{place.run}: {error.strerror}") from error
