"""What a domain's record says of each of its devices, and what its configuration is with one device more or less."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.config.vif import Vif
from xenion.xend.helpers import Helper

VBD, VIF = "vbd", "vif"
"""Kinds of devices."""


@dataclass(slots=True)
class DeviceEntry:
    """Written before the domain's process gets the device, so that nothing is left over whenever xend is killed.

    `config`: what it was opened from; the domain's configuration follows when the process has it.
    """

    devid: int
    config: Disk | Vif
    helpers: list[Helper] = field(default_factory=list)
    """Programs that work for it, to be ended when it goes."""
    undo: dict[str, Any] = field(default_factory=dict)
    """What xenion.xend.networks is told then; empty if there is nothing to be told."""
    coming: bool = False
    """A process that runs has not acknowledged it yet."""

    @property
    def kind(self) -> str:
        return VBD if isinstance(self.config, Disk) else VIF

    @property
    def key(self) -> tuple[str, int]:
        return self.kind, self.devid

    def to_mapping(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "devid": self.devid,
            "config": self.config.to_mapping(),
            "helpers": [helper.to_mapping() for helper in self.helpers],
            "undo": self.undo,
            "coming": self.coming,
        }

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "DeviceEntry":
        """KeyError, TypeError, ValueError."""
        kinds: dict[str, type[Disk] | type[Vif]] = {VBD: Disk, VIF: Vif}
        return cls(
            devid=values["devid"],
            config=kinds[values["kind"]].from_mapping(values["config"]),
            helpers=[Helper.from_mapping(helper) for helper in values["helpers"]],
            undo=values["undo"],
            coming=values["coming"],
        )


def with_device(config: DomainConfig, device: Disk | Vif) -> DomainConfig:
    """ConfigError."""
    if isinstance(device, Disk):
        return replace(config, disks=(*config.disks, device))
    return replace(config, vifs=(*config.vifs, device))


def without_device(config: DomainConfig, entry: DeviceEntry) -> DomainConfig:
    """One that is not in it is fine."""
    gone = entry.config
    if isinstance(gone, Disk):
        return replace(config, disks=tuple(disk for disk in config.disks if disk.devid != gone.devid))
    return replace(config, vifs=tuple(vif for vif in config.vifs if vif.mac != gone.mac))
