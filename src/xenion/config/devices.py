"""A domain's disks and interfaces together."""

from __future__ import annotations

from collections.abc import Sequence

from xenion.config.checks import within
from xenion.config.disk import Disk
from xenion.config.errors import ConfigError
from xenion.config.vif import Forward, Vif, check_forwards

DISKS_MAX = 128
VIFS_MAX = 32


def check_disks(disks: Sequence[Disk]) -> None:
    """Raise `ConfigError` unless a domain can have these at once."""
    names: set[str] = set()
    for disk in disks:
        if disk.vdev in names:
            raise ConfigError(f"there are two disks {disk.vdev}: give each its own virtual disk", key="disk")
        names.add(disk.vdev)
        if len(names) > DISKS_MAX:
            raise ConfigError(f"there are more than {DISKS_MAX} disks", key="disk")


def check_vifs(vifs: Sequence[Vif]) -> None:
    """Raise `ConfigError` unless a domain can have these at once."""
    if len(vifs) > VIFS_MAX:
        raise ConfigError(f"there are more than {VIFS_MAX} network interfaces", key="vif")
    macs, forwards = [vif.mac for vif in vifs if vif.mac], list[Forward]()
    for mac in macs:
        if macs.count(mac) > 1:
            raise ConfigError(f"there are two network interfaces {mac}: give each its own mac", key="vif")
    for vif in vifs:
        forwards += vif.forwards
    with within("vif", "vif"):
        check_forwards(forwards)
