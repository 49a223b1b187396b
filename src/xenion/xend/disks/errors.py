"""Refusals that several kinds of disks have in common, a sentence each."""

from collections.abc import Mapping
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.xend.disks.place import DiskPlace


def cannot(disk: Disk, why: str, code: str = "refused") -> ApiError:
    """`why` goes on from the disk's name."""
    return ApiError(code, f"disk {disk.vdev}: {why}")


def not_opened(disk: Disk, path: str | Path, error: OSError) -> ApiError:
    if isinstance(error, FileNotFoundError):
        return cannot(disk, f"{path} does not exist: correct the path")
    return cannot(disk, f"{path}: {error.strerror}")


def no_locks(disk: Disk, path: str | Path) -> str:
    """A note."""
    return f"disk {disk.vdev}: {path} cannot be locked, for its file system has no locks: use it once only"


def in_use(disk: Disk, path: str | Path, place: DiskPlace) -> ApiError:
    user = _user(Path(path), place.others())
    by = f"by the domain {user}" if user else "by another program"
    hint = "detach it there first" if user else "end that one first"
    return cannot(disk, f"{path} is in use {by}: {hint}, or attach it read-only in both")


def _user(path: Path, others: Mapping[str, tuple[Disk, ...]]) -> str:
    for name, disks in others.items():
        if any(disk.format is not Format.NBD and _is_same(path, disk.target) for disk in disks):
            return name
    return ""


def _is_same(path: Path, target: str) -> bool:
    try:
        return bool(target) and path.samefile(target)
    except OSError:
        return False
