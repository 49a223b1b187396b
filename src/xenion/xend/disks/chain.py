"""A qcow2 image and the files below it, found and checked here; QEMU opens these and no others."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xenion.config.disk import Disk, Format
from xenion.config.errors import shown
from xenion.xend.disks import header
from xenion.xend.disks.errors import cannot, not_opened
from xenion.xend.disks.files import bytes_of, open_image
from xenion.xend.disks.header import Header, HeaderError
from xenion.xend.disks.place import DiskPlace

LONGEST = 64


@dataclass(frozen=True, slots=True)
class Image:
    """One file of a chain; `size_bytes` is what a guest sees of it."""

    path: Path
    format: Format
    device: bool
    size_bytes: int


def find(disk: Disk, path: Path, form: Format, place: DiskPlace) -> list[Image]:
    """The image first, each file's backing file behind it. ApiError."""
    chain: list[Image] = []
    seen: set[tuple[int, int]] = set()
    while True:
        image, identity, below = _look(disk, path, form, place)
        if identity in seen or len(chain) == LONGEST:
            raise cannot(disk, f"{path} is in a chain of backing files that is too long or has no end")
        seen.add(identity)
        chain.append(image)
        if below is None or not below.backing:
            return chain
        path, form = _backing(disk, path, below)


def _look(
    disk: Disk, path: Path, form: Format, place: DiskPlace
) -> tuple[Image, tuple[int, int], Header | None]:
    fd = open_image(disk, str(path), place, writable=False)
    try:
        status = os.fstat(fd)
        device = stat.S_ISBLK(status.st_mode)
        identity = (status.st_dev, status.st_ino)
        if form is Format.RAW:
            return Image(path, form, device, bytes_of(fd)), identity, None
        found = header.parse(os.pread(fd, header.HEAD_BYTES, 0))
        return Image(path, form, device, found.size_bytes), identity, found
    except HeaderError as error:
        raise cannot(disk, f"{path} {error}") from error
    except OSError as error:
        raise not_opened(disk, path, error) from error
    finally:
        os.close(fd)


def _backing(disk: Disk, path: Path, below: Header) -> tuple[Path, Format]:
    """Never guessed from what is in the file: a guest may have written there what it wants it to be."""
    name = below.backing
    if ":" in name.split("/", 1)[0]:
        raise cannot(
            disk, f"{path} has {shown(name)} as its backing file: only plain files are allowed there"
        )
    if below.backing_format not in (Format.RAW, Format.QCOW2):
        what = (
            f"of the format {shown(below.backing_format)}"
            if below.backing_format
            else "whose format it leaves open"
        )
        raise cannot(
            disk,
            f"{path} has a backing file {what}: say what it is, as with "
            f"`qemu-img rebase -u -F raw -b {name} {path}`",
        )
    return path.parent / name, Format(below.backing_format)


def node(chain: list[Image], **top: Any) -> dict[str, Any]:
    """The chain as QEMU's blockdev-add takes it; `top` is for the image itself, what is below it is read only."""
    image, *below = chain
    kept: dict[str, Any] = {
        "driver": image.format.value,
        "read-only": True,
        **top,
        "file": {
            "driver": "host_device" if image.device else "file",
            "filename": str(image.path),
            "read-only": top.get("read-only", True),
            "discard": "unmap",
        },
    }
    if image.format is Format.QCOW2:
        kept["backing"] = node(below) if below else None
    return kept
