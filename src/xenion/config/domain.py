"""The one configuration object of a domain, however it was written: file, JSON or flags."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from xenion.config.checks import (
    check_path,
    check_text,
    choice,
    items,
    members,
    number,
    path_or_none,
    plain_fields,
    text,
    texts,
)
from xenion.config.cloud_init import CloudInit
from xenion.config.devices import check_disks, check_vifs
from xenion.config.disk import Disk
from xenion.config.errors import ConfigError, shown
from xenion.config.vif import Vif

__all__ = ["Action", "ConfigError", "DomainConfig", "Processor", "XendStart", "XendStop"]

NAME_CHARACTERS = 64
MEMORY_MIB_MAX = 1 << 20
VCPUS_MAX = 64
DEFAULT_WEIGHT, WEIGHT_MAX = 256, 65535
CAP_MAX = 100 * VCPUS_MAX
# Xen copies the command line into start_info.cmd_line, MAX_GUEST_CMDLINE (public/xen.h) bytes with its zero.
CMDLINE_BYTES = 1023
SCROLLBACK_KIB_MIN = 16
SCROLLBACK_KIB_MAX = 1 << 14

# What xend allowed, less the slash: a name becomes part of paths, store keys and URLs.
_NAME = re.compile(r"[A-Za-z0-9_:+][A-Za-z0-9_.:+-]*")
_CPUS = re.compile(r"[0-9a-z:,^ -]*")
_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HOST_NAME = "Domain-0"
_HOST_UUID = "00000000-0000-0000-0000-000000000000"


class Action(StrEnum):
    """What becomes of a domain that has ended (xl.cfg, event actions)."""

    DESTROY = "destroy"
    RESTART = "restart"
    PRESERVE = "preserve"
    RENAME_RESTART = "rename-restart"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


class Processor(StrEnum):
    """What runs the guest's instructions."""

    AUTO = "auto"
    SOFTWARE = "software"
    HARDWARE = "hardware"


class XendStart(StrEnum):
    """What xend does with a managed domain when it starts for the first time after the host did."""

    IGNORE = "ignore"
    START = "start"


class XendStop(StrEnum):
    """What becomes of a managed domain when xend is stopped."""

    IGNORE = "ignore"
    SHUTDOWN = "shutdown"
    DESTROY = "destroy"
    SUSPEND = "suspend"


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainConfig:
    """A domain's configuration, complete and checked: making one with a bad value raises `ConfigError`.

    Paths are absolute and are not looked up here. `uuid` is in lower case, or "" for one that is made when the
    domain is created. `cmdline` is the whole kernel command line. `console_scrollback_kib` is how much output
    is kept for those who attach later. `cpus` tells the host's CPUs that it runs on; "": all. `vifs` are
    numbered in their order, from 0. `notes` tell the user what was accepted without effect; they are no part of
    what the domain is, so configurations that differ only in them are equal.
    The guest starts with `vcpus` online and `memory_mib`, and may have `most_vcpus` and `most_memory_mib`; `maxvcpus`
    and `maxmem_mib` 0: no more than it starts with.
    """

    name: str
    kernel: Path
    uuid: str = ""
    ramdisk: Path | None = None
    cmdline: str = ""
    memory_mib: int = 128
    maxmem_mib: int = 0
    vcpus: int = 1
    maxvcpus: int = 0
    cpu_weight: int = DEFAULT_WEIGHT
    cap: int = 0
    processor: Processor = Processor.AUTO
    on_poweroff: Action = Action.DESTROY
    on_reboot: Action = Action.RESTART
    on_crash: Action = Action.DESTROY
    on_watchdog: Action = Action.DESTROY
    on_xend_start: XendStart = XendStart.IGNORE
    on_xend_stop: XendStop = XendStop.IGNORE
    console_scrollback_kib: int = 256
    cpus: str = ""
    disks: tuple[Disk, ...] = ()
    vifs: tuple[Vif, ...] = ()
    cloud_init: CloudInit | None = None
    notes: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        """Check every value; types are the business of mypy and, for JSON, of `from_mapping`."""
        check_name(self.name)
        _check_uuid(self.uuid)
        check_path("kernel", self.kernel)
        if self.ramdisk is not None:
            check_path("ramdisk", self.ramdisk)
        check_text("cmdline", self.cmdline, CMDLINE_BYTES)
        _check_memory(self.memory_mib, self.maxmem_mib)
        _check_vcpus(self.vcpus, self.maxvcpus)
        _check_share(self.cpu_weight, self.cap)
        _check_scrollback(self.console_scrollback_kib)
        if not _CPUS.fullmatch(self.cpus) or len(self.cpus) > CMDLINE_BYTES:
            raise ConfigError(
                f'cpus must be a list of CPUs such as "0-3,^1", not {shown(self.cpus)}', key="cpus"
            )
        check_disks(self.disks)
        check_vifs(self.vifs)

    @property
    def most_vcpus(self) -> int:
        """How many virtual CPUs it may have online at once."""
        return self.maxvcpus or self.vcpus

    @property
    def most_memory_mib(self) -> int:
        """How much memory it may come to have."""
        return self.maxmem_mib or self.memory_mib

    def to_mapping(self) -> dict[str, object]:
        """The configuration as plain JSON values, every field in it."""
        return plain_fields(self)

    @classmethod
    def from_mapping(cls, values: object) -> DomainConfig:
        """The configuration from plain JSON values; raises `ConfigError` for anything unknown or mistyped."""
        full = members(cls, "a configuration", values)
        return cls(
            name=text("name", full["name"]),
            uuid=text("uuid", full["uuid"]).lower(),
            kernel=Path(text("kernel", full["kernel"])),
            ramdisk=path_or_none("ramdisk", full["ramdisk"]),
            cmdline=text("cmdline", full["cmdline"]),
            memory_mib=number("memory_mib", full["memory_mib"]),
            maxmem_mib=number("maxmem_mib", full["maxmem_mib"]),
            vcpus=number("vcpus", full["vcpus"]),
            maxvcpus=number("maxvcpus", full["maxvcpus"]),
            cpu_weight=number("cpu_weight", full["cpu_weight"]),
            cap=number("cap", full["cap"]),
            processor=Processor(choice("processor", full["processor"], Processor)),
            on_poweroff=Action(choice("on_poweroff", full["on_poweroff"], Action)),
            on_reboot=Action(choice("on_reboot", full["on_reboot"], Action)),
            on_crash=Action(choice("on_crash", full["on_crash"], Action)),
            on_watchdog=Action(choice("on_watchdog", full["on_watchdog"], Action)),
            on_xend_start=XendStart(choice("on_xend_start", full["on_xend_start"], XendStart)),
            on_xend_stop=XendStop(choice("on_xend_stop", full["on_xend_stop"], XendStop)),
            console_scrollback_kib=number("console_scrollback_kib", full["console_scrollback_kib"]),
            cpus=text("cpus", full["cpus"]),
            disks=tuple(
                Disk.from_mapping(one, f"disk {n}") for n, one in enumerate(items("disks", full["disks"]))
            ),
            vifs=tuple(
                Vif.from_mapping(one, f"vif {n}") for n, one in enumerate(items("vifs", full["vifs"]))
            ),
            cloud_init=None if full["cloud_init"] is None else CloudInit.from_mapping(full["cloud_init"]),
            notes=texts("notes", full["notes"]),
        )

    def to_json(self) -> str:
        """The configuration as one JSON object."""
        import json

        return json.dumps(self.to_mapping())


def check_name(name: str) -> None:
    """Raise `ConfigError` unless `name` can be a domain's name."""
    if not name:
        raise ConfigError("name must not be empty", key="name")
    if len(name) > NAME_CHARACTERS:
        raise ConfigError(f"name must be at most {NAME_CHARACTERS} characters, not {len(name)}", key="name")
    if not _NAME.fullmatch(name):
        allowed = "use letters, digits and _ . : + - only, and neither . nor - first"
        raise ConfigError(f"name must not be {shown(name)}: {allowed}", key="name")
    if name.isdecimal():
        raise ConfigError(
            f"name must not be {shown(name)}: digits alone are a domain's id, add a letter", key="name"
        )
    if name.casefold() == _HOST_NAME.casefold():
        raise ConfigError(f"name must not be {shown(name)}: it is the host's own name", key="name")


def _check_uuid(uuid: str) -> None:
    if uuid and not _UUID.fullmatch(uuid):
        form = "it has 8, 4, 4, 4 and 12 hexadecimal digits with - between them"
        raise ConfigError(f"uuid must not be {shown(uuid)}: {form}", key="uuid")
    if uuid == _HOST_UUID:
        raise ConfigError("uuid must not be all zeros: that is the host's own", key="uuid")


def _check_memory(mib: int, most: int) -> None:
    for key, value in (("memory", mib), ("maxmem", most or mib)):
        if not 1 <= value <= MEMORY_MIB_MAX:
            raise ConfigError(f"{key} must be from 1 to {MEMORY_MIB_MAX} MiB, not {shown(value)}", key=key)
    if most and most < mib:
        raise ConfigError(
            f"maxmem must be at least memory ({mib}), not {shown(most)}: raise it", key="maxmem"
        )


def _check_vcpus(vcpus: int, most: int) -> None:
    for key, value in (("vcpus", vcpus), ("maxvcpus", most or vcpus)):
        if not 1 <= value <= VCPUS_MAX:
            raise ConfigError(f"{key} must be from 1 to {VCPUS_MAX}, not {shown(value)}", key=key)
    if most and most < vcpus:
        raise ConfigError(
            f"maxvcpus must be at least vcpus ({vcpus}), not {shown(most)}: raise it", key="maxvcpus"
        )


def _check_share(weight: int, cap: int) -> None:
    if not 1 <= weight <= WEIGHT_MAX:
        raise ConfigError(f"cpu_weight must be from 1 to {WEIGHT_MAX}, not {shown(weight)}", key="cpu_weight")
    if not 0 <= cap <= CAP_MAX:
        raise ConfigError(
            f"cap must be from 0, for no limit, to {CAP_MAX} percent of a CPU, not {shown(cap)}", key="cap"
        )


def _check_scrollback(kib: int) -> None:
    if not SCROLLBACK_KIB_MIN <= kib <= SCROLLBACK_KIB_MAX:
        limits = f"from {SCROLLBACK_KIB_MIN} to {SCROLLBACK_KIB_MAX} KiB"
        raise ConfigError(f"console_scrollback must be {limits}, not {shown(kib)}", key="console_scrollback")
