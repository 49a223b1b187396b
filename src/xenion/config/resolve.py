"""From the values of a configuration file to the configuration object.

Every function raises `ConfigError` with the key it is about; the caller knows the place.
"""

from __future__ import annotations

from collections.abc import Mapping

from xenion.config.domain import Action, DomainConfig, Processor, check_name
from xenion.config.errors import ConfigError, shown
from xenion.config.keys import KEYS, Key, Status
from xenion.config.values import Given, Value

# The fields of the kernel's ip= parameter in its order (Documentation/admin-guide/nfs/nfsroot.rst in Linux).
_IP_FIELDS = ("ip", "nfs_server", "gateway", "netmask", "hostname", "interface", "dhcp")
_CMDLINE_PARTS = ("root", "nfs_root", *_IP_FIELDS, "extra")


def resolve(values: Mapping[str, Value], fallback_name: str) -> DomainConfig:
    """The configuration that `values` of known keys ask for; `fallback_name` is for one without a name."""
    given = Given(values)
    for key in KEYS.values():
        _check(given, key)
    vcpus = _number(given, "vcpus")
    memory_mib = _number(given, "memory")
    _check_most(given, "maxvcpus", "vcpus", vcpus)
    _check_most(given, "maxmem", "memory", memory_mib)
    kernel = given.path("kernel")
    if kernel is None:
        raise ConfigError('kernel is missing: give it, as in kernel = "/boot/vmlinuz"', key="kernel")
    return DomainConfig(
        name=_name(given, fallback_name),
        kernel=kernel,
        ramdisk=given.path("ramdisk") if given.text("ramdisk") else None,
        cmdline=_cmdline(given),
        memory_mib=memory_mib,
        vcpus=vcpus,
        processor=Processor(_text(given, "processor")),
        on_poweroff=Action(_text(given, "on_poweroff")),
        on_reboot=Action(_text(given, "on_reboot")),
        on_crash=Action(_text(given, "on_crash")),
        cpus=_cpus(given, vcpus),
        notes=_notes(given),
    )


def _check(given: Given, key: Key) -> None:
    if key.name == "ramdisk" and not given.text("ramdisk"):
        return
    value = given.converted(key.name, key.kind)
    if value is None:
        return
    if key.choices and value not in key.choices:
        hint = ": only paravirtualised guests are supported" if key.name in ("type", "builder") else ""
        sentence = f"{key.name} must be one of {', '.join(key.choices)}, not {shown(value)}{hint}"
        raise ConfigError(sentence, key=key.name)
    if key.status is Status.REFUSED and value and value not in key.neutral:
        raise ConfigError(f"{key.name} is not supported yet: remove it or leave it empty", key=key.name)


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


def _check_most(given: Given, key: str, of: str, amount: int) -> None:
    most = given.number(key, 0)
    if most not in (0, amount):
        raise ConfigError(f"{key} must equal {of} ({amount}) for now, not {shown(most)}: remove it", key=key)


def _cmdline(given: Given) -> str:
    if "cmdline" in given:
        return given.text("cmdline")
    root = given.text("root")
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
    return bool(given.text("ip")) or _text(given, "dhcp") != "off"


def _ip(given: Given) -> str:
    if not _asks_for_ip(given):
        return ""
    if not any(field in given for field in _IP_FIELDS[1:]):
        return f"ip={given.text('ip')}"
    return "ip=" + ":".join(_text(given, field) for field in _IP_FIELDS)


def _cpus(given: Given, vcpus: int) -> str:
    cpus = given.item_or_items("cpus")
    if isinstance(cpus, tuple):
        if len(cpus) > vcpus:
            raise ConfigError(
                f"cpus pins {len(cpus)} virtual CPUs and there are {vcpus}: shorten it", key="cpus"
            )
        cpus = cpus[0] if cpus else ""
    cpu = given.number("cpu", -1)
    return cpus or (str(cpu) if cpu >= 0 else "")


_ACTS_AS = {
    "preserve": "destroy",
    "rename-restart": "restart",
    "coredump-destroy": "destroy",
    "coredump-restart": "restart",
}


def _notes(given: Given) -> tuple[str, ...]:
    notes = []
    for key in KEYS.values():
        value = given.converted(key.name, key.kind) if key.status is Status.ACCEPTED else None
        if value and value != -1:
            notes.append(f"{key.name}: {key.doc}")
    notes += [
        f"{name}: {given.text(name)} acts as {_ACTS_AS[given.text(name)]} until there is a daemon to do more."
        for name in ("on_poweroff", "on_reboot", "on_crash")
        if name in given and given.text(name) in _ACTS_AS
    ]
    if "cmdline" in given:
        notes += [
            f"{key}: Ignored, as cmdline is the whole command line." for key in _CMDLINE_PARTS if key in given
        ]
    elif not _asks_for_ip(given):
        unused = [key for key in ("gateway", "netmask", "hostname", "interface") if key in given]
        notes += [f"{key}: Without effect, as neither ip nor dhcp asks for an address." for key in unused]
    return tuple(notes)
