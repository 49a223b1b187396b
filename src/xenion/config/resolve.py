"""From the values of a configuration file to the configuration object.

Every function raises `ConfigError` with the key it is about; the caller knows the place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from xenion.config.cloud_init import CloudInit
from xenion.config.devices import VIFS_MAX
from xenion.config.diskspec import read_disk
from xenion.config.domain import (
    DEFAULT_WEIGHT,
    WEIGHT_MAX,
    Action,
    DomainConfig,
    Processor,
    XendStart,
    XendStop,
    check_name,
)
from xenion.config.errors import ConfigError, shown
from xenion.config.key import Key, Status
from xenion.config.keys import KEYS
from xenion.config.values import Given, Kind, Value
from xenion.config.vif import Vif
from xenion.config.vifspec import read_vif

# The fields of the kernel's ip= parameter in its order (Documentation/admin-guide/nfs/nfsroot.rst in Linux).
_IP_FIELDS = ("ip", "nfs_server", "gateway", "netmask", "hostname", "interface", "dhcp")
_CMDLINE_PARTS = ("root", "nfs_root", *_IP_FIELDS, "extra")

_ONLY_PV = ": only paravirtualised guests are supported"


def resolve(values: Mapping[str, Value], fallback_name: str) -> DomainConfig:
    """The configuration that `values` of known keys ask for; `fallback_name` is for one without a name."""
    given = Given(values)
    for key in KEYS.values():
        _check(given, key)
    vcpus = _number(given, "vcpus")
    disks = [read_disk(spec) for spec in given.items("disk")]
    vifs = _vifs(given)
    return DomainConfig(
        name=_name(given, fallback_name),
        uuid=given.text("uuid").lower(),
        kernel=_kernel(given),
        ramdisk=given.path("ramdisk") if given.text("ramdisk") else None,
        cmdline=_cmdline(given),
        memory_mib=_number(given, "memory"),
        maxmem_mib=given.number("maxmem", 0),
        vcpus=vcpus,
        maxvcpus=given.number("maxvcpus", 0),
        cpu_weight=_weight(given),
        cap=given.number("cap", given.number("cpu_cap", 0)),
        processor=Processor(_text(given, "processor")),
        on_poweroff=_action(given, "on_poweroff"),
        on_reboot=_action(given, "on_reboot"),
        on_crash=_action(given, "on_crash"),
        on_watchdog=Action(_text(given, "on_watchdog")),
        on_xend_start=XendStart(_text(given, "on_xend_start")),
        on_xend_stop=XendStop(_text(given, "on_xend_stop")),
        console_scrollback_kib=_number(given, "console_scrollback"),
        cpus=_cpus(given, vcpus),
        disks=tuple(disk for disk, _ in disks),
        vifs=tuple(vif for vif, _ in vifs),
        cloud_init=_cloud_init(given),
        notes=(
            *(note for _, notes in (*disks, *vifs) for note in notes),
            *_notes(given),
        ),
    )


def _check(given: Given, key: Key) -> None:
    if key.name == "ramdisk" and not given.text("ramdisk"):
        return
    value = given.converted(key.name, key.kind)
    if value is None:
        return
    if key.choices and value not in key.choices:
        sentence = f"{key.name} must be one of {', '.join(key.choices)}, not {shown(value)}"
        raise ConfigError(sentence + _hint(key.name), key=key.name)
    if key.name == "pvh" and value:
        raise ConfigError(f"pvh must be 0{_ONLY_PV}", key="pvh")


def _hint(key: str) -> str:
    if key in ("type", "builder"):
        return _ONLY_PV
    return ""


def _text(given: Given, key: str) -> str:
    default = KEYS[key].default
    return given.text(key, default if isinstance(default, str) else "")


def _number(given: Given, key: str) -> int:
    default = KEYS[key].default
    return given.number(key, default if isinstance(default, int) else 0)


def _name(given: Given, fallback: str) -> str:
    if "name" in given:
        return given.text("name")
    try:
        check_name(fallback)
    except ConfigError:
        raise ConfigError('name is missing: give it, as in name = "web"', key="name") from None
    return fallback


def _kernel(given: Given) -> Path:
    kernel = given.path("kernel")
    if kernel is None:
        loader = " (a boot loader is not supported yet)" if given.text("bootloader") else ""
        sentence = f'kernel is missing: give it, as in kernel = "/boot/vmlinuz"{loader}'
        raise ConfigError(sentence, key="kernel")
    return kernel


def _action(given: Given, key: str) -> Action:
    """What `key` says, or else xm's old `restart`, which says it for the three ends at once."""
    if key in given or "restart" not in given:
        return Action(_text(given, key))
    after = given.text("restart")
    restarts = after == "always" or (after == "onreboot" and key == "on_reboot")
    return Action.RESTART if restarts else Action.DESTROY


def _cmdline(given: Given) -> str:
    if "cmdline" in given:
        return given.text("cmdline")
    root = given.text("root").removeprefix("root=")
    parts = (f"root={root}" if root else "", _nfsroot(given), _ip(given), given.text("extra"))
    return " ".join(part for part in parts if part)


def _nfsroot(given: Given) -> str:
    root = given.text("nfs_root")
    if not root:
        return ""
    server = given.text("nfs_server")
    if not server:
        raise ConfigError("nfs_root needs nfs_server: give both or none", key="nfs_root")
    return f"nfsroot={server}:{root}"


def _asks_for_ip(given: Given) -> bool:
    return bool(given.text("ip").removeprefix("ip=")) or _text(given, "dhcp") != "off"


def _ip(given: Given) -> str:
    if not _asks_for_ip(given):
        return ""
    if not any(field in given for field in _IP_FIELDS[1:]):
        return f"ip={given.text('ip').removeprefix('ip=')}"
    return "ip=" + ":".join(_text(given, field) for field in _IP_FIELDS).removeprefix("ip=")


def _weight(given: Given) -> int:
    """Xen 3.0's are around 1.0, the credit scheduler's around 256."""
    value = given.converted("cpu_weight", Kind.DECIMAL)
    if isinstance(value, float):
        return round(value * DEFAULT_WEIGHT) if 0 < value < WEIGHT_MAX else 0
    return value if isinstance(value, int) else DEFAULT_WEIGHT


def _cpus(given: Given, vcpus: int) -> str:
    cpus = given.item_or_items("cpus")
    if isinstance(cpus, tuple):
        if len(cpus) > vcpus:
            raise ConfigError(
                f"cpus pins {len(cpus)} virtual CPUs and there are {vcpus}: shorten it", key="cpus"
            )
        cpus = ",".join(cpus)
    cpu = given.number("cpu", -1)
    return cpus or (str(cpu) if cpu >= 0 else "")


def _vifs(given: Given) -> list[tuple[Vif, tuple[str, ...]]]:
    specs = given.items("vif")
    missing = _number(given, "nics") - len(specs)
    if missing > VIFS_MAX:
        raise ConfigError(f"nics must be at most {VIFS_MAX}", key="nics")
    return [read_vif(spec, place=place) for place, spec in enumerate((*specs, *[""] * missing))]


def _cloud_init(given: Given) -> CloudInit | None:
    """None if nothing is to be found."""
    found = CloudInit(
        user_data=given.path("cloud_user_data"),
        meta_data=given.path("cloud_meta_data"),
        network_config=given.path("cloud_network_config"),
        hostname=given.text("cloud_hostname"),
        ssh_keys=given.items("cloud_ssh_keys"),
    )
    return None if found == CloudInit() else found


def _notes(given: Given) -> tuple[str, ...]:
    """What has no effect."""
    notes = []
    for key in KEYS.values():
        value = given.converted(key.name, key.kind) if key.status is Status.ACCEPTED else None
        if value and value not in key.neutral:
            notes.append(key.note)
    if "cmdline" in given:
        notes += [
            f"{key}: ignored, as cmdline is the whole command line" for key in _CMDLINE_PARTS if key in given
        ]
    elif not _asks_for_ip(given):
        unused = [key for key in ("gateway", "netmask", "hostname", "interface") if key in given]
        notes += [f"{key}: without effect, as neither ip nor dhcp asks for an address" for key in unused]
    return tuple(notes)
