"""Bases: what all root disks of one recipe begin as, built once and kept in the user's cache.

A base is a folder, named after the recipe's key, with root.img, vmlinuz, initrd.img and base.json. Packages that were
downloaded are kept beside the bases, so that the next build downloads only what is new.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xenion.images import cache, guestfiles, host, mmdebstrap
from xenion.images.ext4 import FileSystem
from xenion.images.failure import RootDiskError
from xenion.images.mmdebstrap import DebianError, Progress, Report
from xenion.images.programs import follow
from xenion.images.recipe import Recipe
from xenion.images.workshop import Workshop, need_room, workshop

CURRENT_S = 7 * 86400
"""A base that is older is built anew, with the security updates since."""
KEPT_S = 14 * 86400
"""After that, a base goes when another one is built."""
DEBS_BYTES = 1 << 30
_DISK, _KERNEL, _INITRD, _RECORD = "root.img", "vmlinuz", "initrd.img", "base.json"
_WORK, _LOG = "work", "build.log"


class BaseError(RootDiskError):
    """A base cannot be made."""


@dataclass(frozen=True, slots=True)
class Base:
    """`folder` may go when the cache's lock is given back."""

    folder: Path
    release: str
    """What `uname -r` says."""
    packages: int
    built_at: float

    @property
    def disk(self) -> Path:
        return self.folder / _DISK

    @property
    def kernel(self) -> Path:
        return self.folder / _KERNEL

    @property
    def initrd(self) -> Path:
        return self.folder / _INITRD


def folder() -> Path:
    """Where bases are; CacheError."""
    return cache.folder() / "roots"


def key(recipe: Recipe) -> str:
    """The name of a recipe's base; another one for each change of what is done to make it."""
    done = "\0".join(mmdebstrap.command(recipe, 0)).encode()
    files = guestfiles.early_tar() + guestfiles.late_tar(cloud_init=recipe.cloud_init)
    return hashlib.sha256(done + files).hexdigest()[:24]


def obtain(recipe: Recipe, *, refresh: bool, report: Report, say: cache.Say) -> Base:
    """The base of `recipe`, built if there is none of the last days or if `refresh` asks for it.

    For the holder of the lock of `folder()`. Where Debian cannot be reached, an older base will do, which `say` tells.
    RootDiskError, CacheError, OSError.
    """
    root = folder()
    present = load(root / key(recipe))
    if present and not refresh and 0 <= time.time() - present.built_at < CURRENT_S:
        return present
    try:
        return _build(recipe, root, report)
    except DebianError as error:
        if present is None or refresh:
            raise
        built = time.strftime("%Y-%m-%d", time.localtime(present.built_at))
        say(f"using the system as it was on {built}: {error}")
        return present


def load(path: Path) -> Base | None:
    """What is in a base's folder; None if it is not whole."""
    try:
        record = json.loads((path / _RECORD).read_text())
        base = Base(path, str(record["release"]), int(record["packages"]), float(record["built_at"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return base if all(file.is_file() for file in (base.disk, base.kernel, base.initrd)) else None


def _build(recipe: Recipe, root: Path, report: Report) -> Base:
    report("looking at what is here", None)
    host.check()
    need_room(root)
    _prune(root)
    with cache.scratch(root) as scratch:
        debs = root / "debs" / recipe.suite
        debs.mkdir(parents=True, exist_ok=True)
        content = scratch / "content"
        content.mkdir()
        with workshop(root / _WORK) as shop:
            _make(recipe, scratch, shop, debs, content / _DISK, root / _LOG, report)
        report("reading the kernel out of it", None)
        record = _extract(content, scratch)
        (content / _RECORD).write_text(json.dumps(record, indent=2) + "\n")
        place = root / key(recipe)
        if place.exists():
            place.rename(scratch / "old")
        content.rename(place)
    _limit(debs, DEBS_BYTES)
    base = load(place)
    if base is None:
        raise BaseError(f"What was built in {place} is not whole.")
    return base


def _make(
    recipe: Recipe, scratch: Path, shop: Workshop, debs: Path, disk: Path, log: Path, report: Report
) -> None:
    (scratch / "early.tar").write_bytes(guestfiles.early_tar())
    (scratch / "late.tar").write_bytes(guestfiles.late_tar(cloud_init=recipe.cloud_init))
    progress = Progress(report)
    with disk.open("xb+") as made, log.open("w", encoding="utf-8") as lines:
        os.fchmod(made.fileno(), 0o600)
        status = follow(
            shop.inside(mmdebstrap.command(recipe, made.fileno())),
            folder=scratch,
            on_line=_both(lines.write, progress.line),
            more=mmdebstrap.variables(shop.folder, debs.absolute()),
            descriptors=[made.fileno()],
            tidies=not shop.isolated,
        )
        empty = os.fstat(made.fileno()).st_size == 0
    if status or empty:
        raise DebianError(
            f"Debian cannot be unpacked: {mmdebstrap.reason(recipe, progress)}; all of it is in {log}."
        )


def _both(write: Callable[[str], object], hear: Callable[[str], None]) -> Callable[[str], None]:
    def on_line(line: str) -> None:
        write(line + "\n")
        hear(line)

    return on_line


def _extract(content: Path, scratch: Path) -> dict[str, object]:
    """Copies kernel and initrd out of the disk; what is told about the base."""
    system = FileSystem(content / _DISK, scratch)
    system.check()
    releases = [
        name.removeprefix("vmlinuz-") for name in system.names("/boot") if name.startswith("vmlinuz-")
    ]
    if len(releases) != 1:
        raise BaseError(f"There are {len(releases)} kernels in the new root disk instead of one.")
    system.dump(f"/boot/vmlinuz-{releases[0]}", content / _KERNEL)
    system.dump(f"/boot/initrd.img-{releases[0]}", content / _INITRD)
    packages = system.read("/var/lib/dpkg/status").count(b"\nStatus: install ok installed\n")
    return {"release": releases[0], "packages": packages, "built_at": time.time()}


def _prune(root: Path) -> None:
    """Removes bases that nobody has built for long."""
    for path in root.iterdir():
        base = load(path) if path.is_dir() and not path.is_symlink() else None
        if base and time.time() - base.built_at > KEPT_S:
            for file in path.iterdir():
                file.unlink()
            path.rmdir()


def _limit(folder: Path, most: int) -> None:
    """Removes the packages that were downloaded first, so that `most` bytes are left at most."""
    files = [(path.stat(), path) for path in folder.glob("*.deb")]
    size = sum(status.st_size for status, _ in files)
    for status, path in sorted(files, key=lambda file: file[0].st_mtime):
        if size <= most:
            break
        path.unlink()
        size -= status.st_size
