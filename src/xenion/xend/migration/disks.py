"""Whether a domain finds the same disks on another host: those it writes have to be on storage that both reach."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.domain import DomainConfig
from xenion.xend.disks.files import is_device
from xenion.xend.disks.layers import layers_of
from xenion.xend.migration.talk import DiskMark

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def check_movable(config: DomainConfig, *, same_disks: bool) -> None:
    """ApiError (refused)."""
    for disk in config.disks:
        if not disk.writable or not disk.target:
            continue
        if disk.overlay or disk.format is Format.QCOW2:
            raise ApiError(
                "refused",
                f"disk {disk.vdev} of {config.name} stays here: images of the format qcow2, and overlays, cannot move "
                "yet: use a raw file or device that both hosts have",
            )
        if not same_disks and (is_device(disk.target) or _is_local(disk)):
            raise ApiError(
                "refused",
                f"disk {disk.vdev} of {config.name}: whether {disk.target} is the same device on both hosts cannot be "
                "told: if it is, say so with --same-disks",
            )


def check_whole(config: DomainConfig, logs: Path) -> None:
    """Of a domain that runs here: what its checkpoints keep stays here. ApiError (refused)."""
    for disk in config.disks:
        layers = layers_of(disk, logs) if disk.writable else None
        note = layers.read() if layers is not None else None
        if note is not None and (note.top or note.next):
            raise ApiError(
                "refused",
                f"disk {disk.vdev} of {config.name} stays here: since a checkpoint it goes on in a file above "
                f"{disk.target}; `xm checkpoint-delete` and `xm checkpoint-merge` make it one image again",
            )


def marks_of(config: DomainConfig) -> list[DiskMark]:
    """Of the disks that it writes. ApiError (refused): one of them is not there."""
    return [_mark_of(disk) for disk in config.disks if disk.writable and disk.target]


def check_same(theirs: Sequence[DiskMark], config: DomainConfig, *, still_written: bool) -> None:
    """What the other host has told of its disks is so here, too. `still_written`: when they were written last may
    differ. ApiError (refused)."""
    ours = {mark.vdev: mark for mark in marks_of(config)}
    if ours.keys() != {mark.vdev for mark in theirs}:
        raise ApiError("refused", f"{config.name} has other disks there than its configuration says")
    for mark in theirs:
        here = ours[mark.vdev]
        known = (mark.size, mark.inode) == (here.size, here.inode)
        if not known or not (still_written or mark.mtime_ns == here.mtime_ns):
            target = next(disk.target for disk in config.disks if disk.vdev == mark.vdev)
            raise ApiError(
                "refused",
                f"disk {mark.vdev} of {config.name}: {target} is another file here than there, or not as it was left: "
                "it has to be on storage that both hosts reach",
            )


def _is_local(disk: Disk) -> bool:
    """An NBD server that each host looks for on itself."""
    if disk.format is not Format.NBD:
        return False
    url = urlsplit(disk.target)
    return url.scheme.endswith("+unix") or (url.hostname or "localhost") in LOOPBACK


def _mark_of(disk: Disk) -> DiskMark:
    if disk.format is Format.NBD:
        return DiskMark(disk.vdev, None, None, None)
    try:
        now = os.stat(disk.target)  # noqa: PTH116
    except OSError as error:
        raise ApiError("refused", f"disk {disk.vdev}: {disk.target}: {error.strerror}") from error
    if not stat.S_ISREG(now.st_mode):
        return DiskMark(disk.vdev, None, None, None)
    return DiskMark(disk.vdev, now.st_size, now.st_ino, now.st_mtime_ns)
