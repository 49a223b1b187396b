"""A configuration as text in xm's syntax, which reads back as the same configuration (`xm create -n`)."""

from __future__ import annotations

from xenion.config.domain import DomainConfig
from xenion.config.keys import KEYS


def show(config: DomainConfig) -> str:
    """Aligned `key = value` lines, then the notes as comments; ASCII only.

    The keys that most files set are always there; the others where their value is not the default.
    """
    values = _usual(config) | _unusual(config)
    shown = {key: value for key, value in values.items() if value is not None}
    width = max(map(len, shown))
    lines = [f"{key:{width}} = {_literal(value)}" for key, value in shown.items()]
    return "\n".join(lines + [f"# {_escaped(note)}" for note in config.notes]) + "\n"


def _usual(config: DomainConfig) -> dict[str, str | int | None]:
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


def _unusual(config: DomainConfig) -> dict[str, str | int | None]:
    values: dict[str, str | int] = {
        "on_watchdog": config.on_watchdog.value,
        "on_xend_start": config.on_xend_start.value,
        "on_xend_stop": config.on_xend_stop.value,
        "console_scrollback": config.console_scrollback_kib,
        "uuid": config.uuid,
        "cpus": config.cpus,
    }
    return {key: None if value in (KEYS[key].default, "") else value for key, value in values.items()}


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    quoted = _escaped(value).replace('"', r"\"")
    return f'"{quoted}"'


def _escaped(text: str) -> str:
    """What is not printable ASCII as Python's escapes: a terminal must not obey a configuration."""
    return text.encode("unicode_escape").decode("ascii")
