"""Where a domain's disks are opened, and what comes of it."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xenion.config.disk import Disk
from xenion.xend.helpers import Helper

DISKS = "disks"


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskPlace:
    """The domain, as far as its disks are concerned."""

    name: str
    uuid: str
    run: Path
    """Its run folder, private: sockets of its storage daemons are put there."""
    state: Path
    """The folder of its logs; overlays are in `disks` there."""
    said: int
    """The descriptor of a file that is open for appending: what helpers say goes there."""
    lasting: bool
    """The domain is managed, or its configuration gives its UUID: overlays outlive it."""
    arriving: bool = False
    """It comes from another host, which uses its disks still: what it writes is locked later."""
    others: Callable[[], Mapping[str, tuple[Disk, ...]]] = dict
    """The disks of other domains now, by their domain's name: to tell who uses an image already. Any thread may ask."""

    @property
    def overlays(self) -> Path:
        return self.state / DISKS


@dataclass(slots=True)
class OpenDisk:
    """`description` is for the domain process, JSON-able; the descriptors that it means are `fds`, in their order.

    `type` in it tells the kind: `file` has one descriptor, of a file or device; `nbd` has sockets in NBD's transmission
    phase, and what the server said in `nbd`; `empty` has none (a CD-ROM drive without a disc).
    """

    description: dict[str, Any]
    fds: list[int] = field(default_factory=list)
    """Owned, until `close`."""
    helpers: list[Helper] = field(default_factory=list)
    """Programs that belong to the domain; they go on when the descriptors are closed here."""
    notes: list[str] = field(default_factory=list)
    lock: Callable[[], None] | None = None
    """What is still to be done before it is written to. ApiError."""

    def close(self) -> None:
        """Once the domain process has its own; again is fine."""
        while self.fds:
            os.close(self.fds.pop())

    async def abandon(self) -> None:
        """Closes everything and ends the helpers, for a domain that does not come to be. ApiError (failed)."""
        self.close()
        while self.helpers:
            await self.helpers.pop().end()


def description(disk: Disk, kind: str, size_bytes: int, **more: Any) -> dict[str, Any]:
    """What a domain process is told of a disk."""
    return {
        "type": kind,
        "vdev": disk.vdev,
        "devid": disk.devid,
        "size_bytes": size_bytes,
        "writable": disk.writable,
        "cdrom": disk.cdrom,
        "sector_bytes": disk.sector_bytes,
        "discard": disk.discard,
        "persistent_grants": disk.persistent_grants,
        "limit_bytes": disk.limit_bytes,
        "limit_requests": disk.limit_requests,
        **more,
    }
