"""Building an image: a base, copied, sized and made somebody's; its name is there when everything is."""

import os
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from xenion.images import base, cache, personal, startfile, store
from xenion.images.base import Base
from xenion.images.ext4 import FileSystem
from xenion.images.failure import WrongRequestError
from xenion.images.mmdebstrap import SIZE_BYTES, Report
from xenion.images.personal import Personal
from xenion.images.programs import environment
from xenion.images.recipe import Recipe
from xenion.images.size import shown
from xenion.images.store import Image, NameTakenError
from xenion.images.workshop import RoomError, need_room


class TooSmallError(WrongRequestError):
    """The system does not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be built; `size` in bytes."""

    name: str
    recipe: Recipe
    personal: Personal
    size: int = SIZE_BYTES
    replace: bool = False
    refresh: bool = False


def build(order: Order, *, report: Report, say: cache.Say) -> Image:
    """The finished image. `say` takes remarks. RootDiskError, CacheError, OSError: nothing is left after these."""
    _check_place(order)
    bases = base.folder()
    with cache.locked(bases, say):
        found = base.obtain(order.recipe, refresh=order.refresh, report=report, say=say)
        images = store.folder()
        with cache.locked(images, say):
            _check_place(order)
            need_room(images, found.disk.stat().st_blocks * 512)
            with cache.scratch(images) as scratch:
                return _finish(order, found, scratch, report)


def _check_place(order: Order) -> None:
    place = store.place(order.name)
    if not order.replace and (place.exists() or place.is_symlink()):
        raise NameTakenError(f"There is an image {order.name} already: --force replaces it.")
    if order.replace and place.is_dir():
        with store.unused(order.name):
            pass


def _finish(order: Order, found: Base, scratch: Path, report: Report) -> Image:
    content = scratch / order.name
    content.mkdir()
    report("copying the system", None)
    for source, name in (
        (found.disk, store.DISK),
        (found.kernel, store.KERNEL),
        (found.initrd, store.INITRD),
    ):
        copy(source, content / name)
    (content / store.DISK).chmod(0o600)  # it holds a password's hash, a host key
    system = FileSystem(content / store.DISK, scratch)
    report(f"making it {shown(order.size)} large", None)
    _resize(system, order.size, found)
    report("giving it its name and keys", None)
    identity = str(uuid.uuid4())
    system.identify(identity)
    system.write(personal.files(order.personal, identity, system.read("/etc/shadow")))
    report("checking it", None)
    system.check()
    image = _image(order, found, identity)
    store.write_record(image, content)
    (content / f"{order.name}.cfg").write_text(startfile.text(image))
    report("putting it in its place", None)
    _place(order, content, scratch)
    return image


def copy(source: Path, target: Path) -> None:
    """A copy that has the same holes, and shares its blocks where the file system can."""
    done = subprocess.run(
        ["cp", "--reflink=auto", "--sparse=auto", "--", source, target],
        env=environment(),
        capture_output=True,
        check=False,
    )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition(": ")[2]
        raise RoomError(f"{target} cannot be written: {reason or 'cp has failed'}.")


def _resize(system: FileSystem, size: int, found: Base) -> None:
    if size < found.disk.stat().st_size and size < (least := system.smallest()):
        raise TooSmallError(f"{shown(size)} is too small: this system needs {shown(least)} at least.")
    system.resize(size)


def _image(order: Order, found: Base, identity: str) -> Image:
    return Image(
        name=order.name,
        folder=store.place(order.name),
        suite=order.recipe.suite,
        release=found.release,
        cmdline=f"root={startfile.ROOT} {startfile.CMDLINE}",
        hostname=order.personal.hostname,
        uuid=identity,
        packages=found.packages,
        added=order.recipe.packages,
        cloud_init=order.recipe.cloud_init,
        built_at=time.time(),
        system_at=found.built_at,
    )


def _place(order: Order, content: Path, scratch: Path) -> None:
    """What is on the disk when the name is there is whole, even if the host's power fails."""
    for path in content.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    place = store.place(order.name)
    if order.replace and place.is_dir():
        with store.unused(order.name):
            place.rename(scratch / "old")
            content.rename(place)
    else:
        content.rename(place)
