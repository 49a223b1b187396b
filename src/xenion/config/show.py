"""A configuration as text in xm's syntax, which reads back as the same configuration (`xm create -n`)."""

from __future__ import annotations

from xenion.config.domain import DomainConfig


def show(config: DomainConfig) -> str:
    """Aligned `key = value` lines of every value that is set, then the notes as comments; ASCII only."""
    values: dict[str, str | int | None] = {
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
        "cpus": config.cpus or None,
    }
    width = max(map(len, values))
    lines = [f"{key:{width}} = {_literal(value)}" for key, value in values.items() if value is not None]
    return "\n".join(lines + [f"# {_escaped(note)}" for note in config.notes]) + "\n"


def _literal(value: str | int) -> str:
    if isinstance(value, int):
        return str(value)
    quoted = _escaped(value).replace('"', r"\"")
    return f'"{quoted}"'


def _escaped(text: str) -> str:
    """What is not printable ASCII as Python's escapes: a terminal must not obey a configuration."""
    return text.encode("unicode_escape").decode("ascii")
