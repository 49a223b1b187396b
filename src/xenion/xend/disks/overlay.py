"""Copy-on-write files over images that are never written: STATE/domains/NAME/disks/VDEV.qcow2.

Beside each is a note of what it belongs to, VDEV.json: the domain's UUID, and the base as it was. An overlay of a
domain that lasts is kept until somebody removes it; another one ends with its domain.
"""

import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from xenion.config.disk import Disk
from xenion.xend.disks import chain as chains
from xenion.xend.disks import layers
from xenion.xend.disks.errors import cannot, not_opened
from xenion.xend.disks.place import DISKS, DiskPlace
from xenion.xend.disks.qemu_img import make_over
from xenion.xend.storage import private_folder, read_json, write_json


@dataclass(frozen=True, slots=True)
class Origin:
    """`base_bytes` and `base_time` (ns) tell whether the base was changed; a device's are as much as it has."""

    uuid: str
    lasting: bool
    base: str
    base_bytes: int
    base_time: int


async def prepare(disk: Disk, place: DiskPlace) -> Path:
    """The overlay's path; it is there. ApiError."""
    try:
        private_folder(place.overlays)
        path = place.overlays / f"{disk.vdev}.qcow2"
        wanted = _origin(disk, place)
        found = _written(path)
        if not path.exists():
            if layers.note_of(layers.base_of(path, place.state), place.state).exists():
                raise cannot(disk, f"{path} is gone, above which the guest's disk goes on: put it back")
            await _make(disk, place, path, wanted)
        elif found is None:
            raise cannot(disk, f"nobody knows what {path} belongs to: move it away to begin a new overlay")
        elif found.uuid != wanted.uuid:
            if layers.is_kept(path, place.state):
                raise cannot(
                    disk,
                    f"checkpoints of another domain, {found.uuid}, keep {path}: go back to one of them, or delete them "
                    "(xm checkpoint-list)",
                )
            if found.lasting:
                of = f"the overlay of another domain, {found.uuid}"
                raise cannot(disk, f"{path} is {of}: move it away to begin a new one")
            await _make(disk, place, path, wanted)
        else:
            _check_base(disk, path, found, wanted)
            write_json(_note(path), asdict(wanted))  # it may have come to last
    except OSError as error:
        raise not_opened(disk, error.filename or place.overlays, error) from error
    return path


def remove(state: Path) -> None:
    """The overlays of a domain that is over and does not last, and has no checkpoints; others stay. OSError."""
    for note in (state / DISKS).glob("[!.]*.json"):
        path = note.with_suffix(".qcow2")
        found = _written(path)
        if found is not None and not found.lasting and not layers.is_kept(path, state):
            path.unlink(missing_ok=True)
            layers.drop(path, state)
            note.unlink(missing_ok=True)
    for fresh in (state / DISKS).glob(".*.new"):  # what a kill kept from becoming one
        fresh.unlink(missing_ok=True)
    with suppress(OSError):
        (state / DISKS).rmdir()  # only if it is empty


def keep(state: Path) -> None:
    """All of them outlive the domain from now on: it is saved, and goes on with them. OSError."""
    for note in (state / DISKS).glob("[!.]*.json"):
        found = _written(note.with_suffix(".qcow2"))
        if found is not None:
            write_json(note, asdict(replace(found, lasting=True)))


def _origin(disk: Disk, place: DiskPlace) -> Origin:
    status = Path(disk.target).stat()
    device = stat.S_ISBLK(status.st_mode)
    size, changed = (0, 0) if device else (status.st_size, status.st_mtime_ns)
    return Origin(place.uuid, place.lasting, disk.target, size, changed)


def _check_base(disk: Disk, path: Path, found: Origin, wanted: Origin) -> None:
    if found.base != wanted.base:
        raise cannot(
            disk,
            f"{path} is an overlay of {found.base}, not of {wanted.base}: move it away to begin a new one",
        )
    if (found.base_bytes, found.base_time) != (wanted.base_bytes, wanted.base_time):
        raise cannot(
            disk,
            f"{wanted.base} was changed since its overlay {path} was made, which fits no more: "
            "move the overlay away to begin a new one",
        )


def _note(path: Path) -> Path:
    return path.with_suffix(".json")


def _written(path: Path) -> Origin | None:
    try:
        return Origin(**read_json(_note(path)))
    except (OSError, ValueError, TypeError):
        return None


async def _make(disk: Disk, place: DiskPlace, path: Path, origin: Origin) -> None:
    """A new one in the place of any other; killed at any point, the next one does it again."""
    base = chains.find(disk, Path(disk.target), disk.format, place)[0]
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    await make_over(disk, fresh, base, str(base.path))
    path.unlink(missing_ok=True)
    layers.drop(path, place.state)
    write_json(_note(path), asdict(origin))
    fresh.replace(path)
