"""Names and numbers of virtual disks, as docs/misc/vbd-interface.txt (xen-vbd-interface(7)) has them.

A name in its canonical form is xvd, hd or sd, the disk's letters (a, b, ... z, aa, ...) and, for a partition, its
number. The number is what the guest finds in xenstore and, shifted, in its device number.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from xenion.config.errors import ConfigError, shown

__all__ = ["canonical", "devid_of", "name_of"]

_EXTENDED = 1 << 28
_NAME = re.compile(r"(xvd|hd|sd)([a-z]{1,5})([1-9][0-9]{0,2})?")
_PLAIN = re.compile(r"d([0-9]{1,7})(?:p([0-9]{1,3}))?")
_NUMBER = re.compile(r"0[xX][0-9a-fA-F]{1,8}|0[0-7]{0,11}|[1-9][0-9]{0,9}")
# The most disks and partitions of a kind that have a number.
_DISKS = {"xvd": 1 << 20, "hd": 4, "sd": 16}
_PARTITIONS = {"xvd": 256, "hd": 64, "sd": 16}
_HINT = "write xvda, xvdb and so on, or xvda1 for a partition"


def devid_of(name: str) -> int:
    """The number of a disk by its canonical name; ConfigError."""
    place = _parsed(name)
    if place is None or place.name != name:
        raise ConfigError(f"{shown(name)} is no virtual disk: {_HINT}", key="vdev")
    return place.devid


def name_of(devid: int) -> str:
    """The canonical name of the disk that has this number; ConfigError if none has."""
    place = _at(devid)
    if place is None or place.devid != devid:
        raise ConfigError(f"no virtual disk has the number {shown(devid)}: {_HINT}", key="vdev")
    return place.name


def canonical(text: str) -> str:
    """The canonical name of a disk in any form of xm's or xl's: xvdb1, /dev/xvdb1, ioemu:hda, d1p1, 51729, 0xca11."""
    word = text.removeprefix("ioemu:").removeprefix("/dev/")
    if _NUMBER.fullmatch(word):
        octal = word.startswith("0") and word[1:].isdecimal()
        return name_of(int(word, 8 if octal else 0))
    place = _parsed(word)
    if place is None:
        raise ConfigError(f"{shown(text)} is no virtual disk: {_HINT}", key="vdev")
    return place.name


@dataclass(frozen=True, slots=True)
class _Place:
    """`disk` counts from 0, and so does `partition`, where 0 is the whole disk."""

    kind: str
    disk: int
    partition: int

    @property
    def devid(self) -> int:
        if self.kind == "hd":
            return (3 if self.disk < 2 else 22) << 8 | (self.disk & 1) << 6 | self.partition
        if self.kind == "sd":
            return 8 << 8 | self.disk << 4 | self.partition
        if self.disk < 16 and self.partition < 16:
            return 202 << 8 | self.disk << 4 | self.partition
        return _EXTENDED | self.disk << 8 | self.partition

    @property
    def name(self) -> str:
        letters, left = "", self.disk + 1
        while left:
            left, letter = divmod(left - 1, 26)
            letters = chr(ord("a") + letter) + letters
        return f"{self.kind}{letters}{self.partition or ''}"


def _parsed(word: str) -> _Place | None:
    if match := _PLAIN.fullmatch(word):
        return _place("xvd", int(match[1]), int(match[2] or 0))
    if match := _NAME.fullmatch(word):
        disk = 0
        for letter in match[2]:
            disk = disk * 26 + ord(letter) - ord("a") + 1
        return _place(match[1], disk - 1, int(match[3] or 0))
    return None


def _place(kind: str, disk: int, partition: int) -> _Place | None:
    fits = disk < _DISKS[kind] and partition < _PARTITIONS[kind]
    return _Place(kind, disk, partition) if fits else None


def _at(devid: int) -> _Place | None:
    if devid & ~(_EXTENDED - 1) == _EXTENDED:
        return _place("xvd", (devid & _EXTENDED - 1) >> 8, devid & 0xFF)
    major, minor = devid >> 8, devid & 0xFF
    if major in (3, 22) and minor < 128:
        return _place("hd", (0 if major == 3 else 2) + (minor >> 6), minor & 0x3F)
    kind = {202: "xvd", 8: "sd"}.get(major)
    return None if kind is None else _place(kind, minor >> 4, minor & 0xF)
