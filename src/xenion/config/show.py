"""A configuration as text in xm's syntax, which reads back as the same configuration (`xm create -n`)."""

from __future__ import annotations

from xenion.config.cloud_init import CloudInit
from xenion.config.diskspec import write_disk
from xenion.config.domain import DomainConfig
from xenion.config.keys import KEYS
from xenion.config.vifspec import write_vif

_Values = dict[str, str | int | tuple[str, ...] | None]


def show(config: DomainConfig) -> str:
    """Aligned `key = value` lines, then the notes as comments; ASCII only.

    The keys that most files set are always there; the others where their value is not the default.
    """
    values = _usual(config) | _unusual(config)
    shown = {key: value for key, value in values.items() if value is not None}
    width = max(map(len, shown))
    lines = [f"{key:{width}} = {_literal(value)}" for key, value in shown.items()]
    return "\n".join(lines + [f"# {_escaped(note)}" for note in config.notes]) + "\n"


def _usual(config: DomainConfig) -> _Values:
    return {
        "name": config.name,
        "kernel": str(config.kernel),
        "ramdisk": None if config.ramdisk is None else str(config.ramdisk),
        "cmdline": config.cmdline or None,
        "memory": config.memory_mib,
        "vcpus": config.vcpus,
        "processor": config.processor.value,
        "on_poweroff": config.on_poweroff.value,
        "on_reboot": config.on_reboot.value,
        "on_crash": config.on_crash.value,
    }


def _unusual(config: DomainConfig) -> _Values:
    values: _Values = {
        "cpu_weight": config.cpu_weight,
        "cap": config.cap,
        "maxmem": config.maxmem_mib or "",
        "maxvcpus": config.maxvcpus or "",
        "on_watchdog": config.on_watchdog.value,
        "on_xend_start": config.on_xend_start.value,
        "on_xend_stop": config.on_xend_stop.value,
        "console_scrollback": config.console_scrollback_kib,
        "uuid": config.uuid,
        "cpus": config.cpus,
        "disk": tuple(map(write_disk, config.disks)),
        "vif": tuple(map(write_vif, config.vifs)),
        **_cloud_init(config.cloud_init),
    }
    return {key: None if value in (KEYS[key].default, "", ()) else value for key, value in values.items()}


def _cloud_init(cloud: CloudInit | None) -> _Values:
    if cloud is None:
        return {}
    values = {f"cloud_{name}": getattr(cloud, name) for name in ("user_data", "meta_data", "network_config")}
    paths = {key: None if path is None else str(path) for key, path in values.items()}
    return {**paths, "cloud_hostname": cloud.hostname, "cloud_ssh_keys": cloud.ssh_keys}


def _literal(value: str | int | tuple[str, ...]) -> str:
    if isinstance(value, int):
        return str(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    quoted = _escaped(value).replace('"', r"\"")
    return f'"{quoted}"'


def _escaped(text: str) -> str:
    """What is not printable ASCII as Python's escapes: a terminal must not obey a configuration."""
    return text.encode("unicode_escape").decode("ascii")
