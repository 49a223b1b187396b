"""One virtual disk of a domain, as its configuration gives it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from xenion.config.amounts import AMOUNT_MAX
from xenion.config.checks import (
    check_path,
    check_range,
    check_text,
    choice,
    members,
    number,
    plain_fields,
    text,
    truth,
    within,
)
from xenion.config.errors import ConfigError, shown
from xenion.config.vdev import canonical, devid_of

SECTORS = (512, 4096)
URL_BYTES = 2048

_TCP = re.compile(r"nbd://([A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(:[0-9]{1,5})?(/[^?#]*)?")
_UNIX = re.compile(r"nbd\+unix://(/[^?#]*)?\?socket=(/[^&#]+)")
_NBD = ("nbd://", "nbd+unix://", "nbds://", "nbds+unix://")


class Format(StrEnum):
    """What the target holds. `nbd`: the target is an NBD URL."""

    RAW = "raw"
    QCOW2 = "qcow2"
    NBD = "nbd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """`vdev` is xvda, hda or sda, with a partition number or without. `target` is an absolute path or an NBD URL; ""
    is the empty drive of a CD-ROM.

    `overlay`: the guest's writes go to a copy-on-write file beside the domain's state, the target is never written.
    Limits are per second, 0 for none. Making one with a bad value raises `ConfigError`.
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
    persistent_grants: bool = False
    """The front end is offered them: it copies into pages that stay mapped."""
    limit_bytes: int = 0
    limit_requests: int = 0

    def __post_init__(self) -> None:
        """Check every value; types are the business of mypy and, for JSON, of `from_mapping`."""
        devid_of(self.vdev)
        _check_target(self)
        if self.cdrom and self.writable:
            raise ConfigError("a CD-ROM is read-only: it cannot be writable", key="writable")
        if self.overlay and not self.writable:
            raise ConfigError("an overlay is for a disk that the guest writes: leave it out", key="overlay")
        if self.sector_bytes not in SECTORS:
            sentence = f"sector_bytes must be 512 or 4096, not {shown(self.sector_bytes)}"
            raise ConfigError(sentence, key="sector_bytes")
        check_range("limit_bytes", self.limit_bytes, 0, AMOUNT_MAX)
        check_range("limit_requests", self.limit_requests, 0, AMOUNT_MAX)

    @property
    def devid(self) -> int:
        """As Xen numbers virtual disks (docs/misc/vbd-interface.txt)."""
        return devid_of(self.vdev)

    def holding(self, target: str) -> Disk:
        """The same drive with another CD in it, or with none (""); ConfigError unless it is a CD-ROM."""
        if not self.cdrom:
            raise ConfigError(f"{self.vdev} is not a CD-ROM: its target stays", key="target")
        return replace(self, target=target, format=format_of(target))

    def to_mapping(self) -> dict[str, object]:
        """The disk as plain JSON values, every field in it."""
        return plain_fields(self)

    @classmethod
    def from_mapping(cls, values: object, what: str = "disk") -> Disk:
        """The disk from plain JSON values, where `format` and `writable` may be left to the others.

        Raises `ConfigError` for anything unknown or mistyped, with `what` in front.
        """
        with within("disk", what):
            full = members(cls, "a disk", values)
            given = values if isinstance(values, Mapping) else {}
            target, cdrom = text("target", full["target"]), truth("cdrom", full["cdrom"])
            form = full["format"] if "format" in given else format_of(target).value
            return cls(
                target=target,
                vdev=canonical(text("vdev", full["vdev"])),
                format=Format(choice("format", form, Format)),
                writable=truth("writable", full["writable"]) if "writable" in given else not cdrom,
                cdrom=cdrom,
                overlay=truth("overlay", full["overlay"]),
                sector_bytes=number("sector_bytes", full["sector_bytes"]),
                discard=truth("discard", full["discard"]),
                persistent_grants=truth("persistent_grants", full["persistent_grants"]),
                limit_bytes=number("limit_bytes", full["limit_bytes"]),
                limit_requests=number("limit_requests", full["limit_requests"]),
            )


def format_of(target: str) -> Format:
    """Of a target whose format nobody gave: an image's content is never asked, for a guest may have written it."""
    return Format.NBD if is_url(target) else Format.RAW


def is_url(target: str) -> bool:
    """Whether it is meant as an NBD URL."""
    return target.startswith(_NBD)


def _check_target(disk: Disk) -> None:
    if not disk.target:
        if not disk.cdrom:
            raise ConfigError("target is missing: give the path of an image or a device", key="target")
        if disk.format is not Format.RAW:
            raise ConfigError("format is raw for an empty drive", key="format")
    elif is_url(disk.target):
        _check_url(disk.target)
        if disk.format is not Format.NBD:
            raise ConfigError(f"format is nbd for an NBD URL, not {disk.format}", key="format")
    else:
        check_path("target", disk.target)
        if disk.format is Format.NBD:
            raise ConfigError(
                "format nbd needs an NBD URL: nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH",
                key="format",
            )


def _check_url(url: str) -> None:
    """As the NBD project's doc/uri.md has them, without TLS."""
    check_text("target", url, URL_BYTES)
    if url.startswith("nbds"):
        raise ConfigError("target is an NBD URL over TLS, which is not supported: use nbd://", key="target")
    match = _TCP.fullmatch(url)
    if match and (match[2] is None or 0 < int(match[2][1:]) < 1 << 16):
        return
    if not _UNIX.fullmatch(url):
        form = "nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH"
        raise ConfigError(f"target must be written as {form}, not {shown(url)}", key="target")
