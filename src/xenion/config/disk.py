"""One virtual disk of a domain, as its configuration gives it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Format(StrEnum):
    """What the target holds. `nbd`: the target is an NBD URL."""

    RAW = "raw"
    QCOW2 = "qcow2"
    NBD = "nbd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`vdev` is xvda, hda or sda, with a partition number or without. `target` is an absolute path or an NBD URL.

    `overlay`: the guest's writes go to a copy-on-write file beside the domain's state, the target is never written.
    Limits are per second, 0 for none.
    """

    target: str
    vdev: str
    format: Format = Format.RAW
    writable: bool = True
    cdrom: bool = False
    overlay: bool = False
    sector_bytes: int = 512
    """Logical sector: 512 or 4096."""
    discard: bool = True
    limit_bytes: int = 0
    limit_requests: int = 0

    @property
    def devid(self) -> int:
        """As Xen numbers virtual disks (docs/misc/vbd-interface.txt)."""
        raise NotImplementedError
