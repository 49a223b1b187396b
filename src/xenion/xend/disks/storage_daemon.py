"""qemu-storage-daemon: QEMU's block layer for one disk, over NBD on a private socket.

It gets its sockets when they listen already, so nobody waits for it to be ready: who connects is served once it is, and
is cut off when it cannot open the image. A flush of the guest's is a flush of the image, and what it discards is freed.
"""

import json
import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from xenion.api.addresses import bind
from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.dom0.block import locks
from xenion.dom0.block.locks import InUseError, NoLocksError
from xenion.xend import helpers
from xenion.xend.disks import chain as chains
from xenion.xend.disks.chain import Image
from xenion.xend.disks.errors import cannot, in_use, no_locks, not_opened
from xenion.xend.disks.files import open_image
from xenion.xend.disks.place import DiskPlace
from xenion.xend.disks.qmp import Qmp
from xenion.xend.helpers import Helper
from xenion.xend.tail import Tail

PROGRAM = "qemu-storage-daemon"
NODE = "disk"
"""The name of the image, and of its export."""
CONNECTIONS_MAX = 16


def nbd_socket(disk: Disk, place: DiskPlace) -> Path:
    return place.run / f"{disk.vdev}.nbd"


def qmp_socket(disk: Disk, place: DiskPlace) -> Path:
    return place.run / f"{disk.vdev}.qmp"


def start(
    disk: Disk, chain: list[Image], place: DiskPlace, notes: list[str], held: Sequence[Image]
) -> Helper:
    """It may still end at once, see `why_ended`. `held`: of the chain, what nobody is to write. ApiError."""
    program = helpers.find(PROGRAM)
    with ExitStack() as opened:
        try:
            nbd, qmp = (
                opened.enter_context(_listening(path))
                for path in (nbd_socket(disk, place), qmp_socket(disk, place))
            )
        except OSError as error:
            raise ApiError("failed", f"{place.run}: {error.strerror}") from error
        locked = [_hold(disk, image, place, opened, notes) for image in held]
        return helpers.start(
            f"the storage daemon of {place.name}'s disk {disk.vdev}",
            [program, *_arguments(disk, chain, nbd.fileno(), qmp.fileno())],
            works_for=place.run,
            said=place.said,
            pass_fds=(nbd.fileno(), qmp.fileno(), *locked),
        )


def _hold(disk: Disk, image: Image, place: DiskPlace, opened: ExitStack, notes: list[str]) -> int:
    """A descriptor that the daemon keeps without knowing it, and with it a lock: QEMU itself would let others write to
    what is below an image. ApiError."""
    fd = open_image(disk, str(image.path), place, writable=False)
    opened.callback(os.close, fd)
    try:
        locks.take(fd, writable=False)
    except InUseError:
        raise in_use(disk, image.path, place) from None
    except NoLocksError:
        notes.append(no_locks(disk, image.path))
    except OSError as error:
        raise not_opened(disk, image.path, error) from error
    return fd


def _listening(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    made = bind(path)
    try:
        made.listen(CONNECTIONS_MAX)
    except OSError:
        made.close()
        raise
    return made


def export(disk: Disk, node: str = NODE) -> dict[str, Any]:
    """The arguments of block-export-add."""
    return {
        "type": "nbd",
        "id": NODE,
        "node-name": node,
        "name": NODE,
        "writable": disk.writable,
    }


def node(disk: Disk, chain: list[Image], name: str) -> dict[str, Any]:
    """The arguments of blockdev-add, for what the guest is to have."""
    freeing = disk.discard and disk.writable
    return chains.node(
        chain,
        **{
            "node-name": name,
            "read-only": not disk.writable,
            "discard": "unmap" if freeing else "ignore",
            "detect-zeroes": "unmap" if freeing else "off",
            "cache": {"direct": False, "no-flush": False},
        },
    )


async def exported(daemon: Qmp) -> tuple[str, str]:
    """The node that the guest has now, and its file. QmpError."""
    exports = await daemon.do("query-block-exports")
    name = next((one["node-name"] for one in exports if one["id"] == NODE), "")
    nodes = await daemon.do("query-named-block-nodes", flat=True)
    return name, next((_file(str(one["file"])) for one in nodes if one["node-name"] == name), "")


def _file(name: str) -> str:
    """QEMU describes an image whose backing file was opened under another name than the image says."""
    if not name.startswith("json:"):
        return name
    try:
        return str(json.loads(name.removeprefix("json:"))["file"]["filename"])
    except (ValueError, LookupError, TypeError):
        return ""


def _arguments(disk: Disk, chain: list[Image], nbd: int, qmp: int) -> list[str]:
    image = node(disk, chain, NODE)
    return [
        *("--chardev", f"socket,id=qmp,fd={qmp},server=on,wait=off"),
        *("--monitor", "chardev=qmp"),
        *("--blockdev", json.dumps(image)),
        *("--nbd-server", f"addr.type=fd,addr.str={nbd},max-connections={CONNECTIONS_MAX}"),
        *("--export", json.dumps(export(disk))),
    ]


def why_ended(disk: Disk, chain: list[Image], place: DiskPlace, said: Tail) -> ApiError:
    """When one that has just been started has cut its connection off and has ended. `said`: what it has written."""
    text = said.read()
    image = chain[0].path
    if "Failed to get" in text and "lock" in text:
        locked = [found.path for found in chain if f"[{found.path}]" in text]
        return in_use(disk, locked[0] if locked else image, place)
    lines = [line.removeprefix(f"{PROGRAM}: ") for line in text.splitlines() if line.startswith(PROGRAM)]
    if not lines:
        return cannot(disk, f"the storage daemon for {image} ended without a word: try again", "failed")
    return cannot(disk, f"{image} cannot be opened: {_without_options(lines[0])}")


def _without_options(line: str) -> str:
    """QEMU repeats the whole option before it says what is wrong with it."""
    if line.startswith("--blockdev {"):
        line = line.removeprefix("--blockdev ")
        try:
            _, end = json.JSONDecoder().raw_decode(line)
        except ValueError:
            return line
        line = line[end:].removeprefix(": ")
    return line


def remove_sockets(disk: Disk, place: DiskPlace) -> None:
    """OSError."""
    for path in (nbd_socket(disk, place), qmp_socket(disk, place)):
        path.unlink(missing_ok=True)
