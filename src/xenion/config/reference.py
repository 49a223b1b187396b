"""The generated tables of docs/config.md: `python -m xenion.config.reference DOCUMENT` renews them in it."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from enum import StrEnum
from pathlib import Path

from xenion.config.checks import plain
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk, Format
from xenion.config.domain import Action, DomainConfig, Processor, XendStart, XendStop
from xenion.config.key import Key
from xenion.config.keys import KEYS
from xenion.config.vif import LOOPBACK, Attachment, Forward, Vif

_KEYS_HEAD = "| Key | Type | Default | Example | Status | Effect |\n|---|---|---|---|---|---|\n"
_FIELDS_HEAD = "| Field | Type | Default | From the key |\n|---|---|---|---|\n"

_CHOICES: dict[str, type[StrEnum]] = {
    choices.__name__: choices for choices in (Action, Attachment, Format, Processor, XendStart, XendStop)
}
_TYPES = {
    "str": "text",
    "int": "whole number",
    "bool": "true or false",
    "Path": "text, an absolute path",
    "Path | None": "text, an absolute path, or null",
    "tuple[str, ...]": "list of texts",
    "tuple[Disk, ...]": "list of objects",
    "tuple[Vif, ...]": "list of objects",
    "tuple[Forward, ...]": "list of objects",
    "CloudInit | None": "object, or null",
}
# The fields that are not called as the key that they come from.
_SOURCES = {
    "cmdline": "`cmdline`, or `root`, `extra` and those beside them",
    "memory_mib": "`memory`",
    "maxmem_mib": "`maxmem`",
    "console_scrollback_kib": "`console_scrollback`",
    "disks": "`disk`",
    "vifs": "`vif`, `nics`",
    "cloud_init": "`cloud_user_data` and those beside it",
    "notes": "what was accepted without effect",
}
# The objects within a configuration, and the words that their fields come from.
_PARTS: dict[type, dict[str, str]] = {
    Disk: {
        "target": "the target",
        "vdev": "the virtual disk, in its canonical form",
        "format": "the format; left out: `nbd` for an NBD URL, else `raw`",
        "writable": "the access; left out: true unless it is a CD-ROM",
        "cdrom": "`cdrom`, `devtype=cdrom`",
        "overlay": "`overlay`",
        "sector_bytes": "`sector=`",
        "discard": "`discard`, `no-discard`",
        "persistent_grants": "`persistent-grants`",
        "limit_bytes": "`limit-bytes=`",
        "limit_requests": "`limit-requests=`",
    },
    Vif: {
        "mac": "`mac=`; empty: made of the domain's UUID",
        "attachment": "`user`, `isolated=`, `bridge=`, `network=`",
        "network": "the name that it is given",
        "addresses": "`ip=`",
        "rate_bytes": "`rate=`, in bytes a second; 0: no limit",
        "rate_window_us": "`rate=...@`, in microseconds",
        "forwards": "`forward=`",
        "name": "`vifname=`",
        "multiqueue": "`queues=`",
        "anti_spoofing": "`nospoofcheck`",
    },
    Forward: {
        "protocol": "tcp or udp",
        "host_address": "the host's address",
        "host_port": "the host's port",
        "guest_port": "the guest's port",
    },
    CloudInit: {
        "user_data": "`cloud_user_data`",
        "meta_data": "`cloud_meta_data`",
        "network_config": "`cloud_network_config`",
        "hostname": "`cloud_hostname`",
        "ssh_keys": "`cloud_ssh_keys`",
    },
}
_NEEDED = ("name", "kernel")
_LEFT_TO_OTHERS = ((Disk, "format"), (Disk, "writable"))
_DEFAULTS: dict[tuple[type, str], str] = {(Forward, "host_address"): LOOPBACK}


def keys_table() -> str:
    """One row for each key of a file, as Markdown."""
    return _KEYS_HEAD + "".join(f"{_key_row(key)}\n" for key in KEYS.values())


def fields_table() -> str:
    """One row for each field of the JSON form, as Markdown."""
    return _FIELDS_HEAD + "".join(f"{_field_row(member)}\n" for member in fields(DomainConfig))


def part_table(part: type) -> str:
    """One row for each field of an object within the JSON form, as Markdown."""
    return _part_head(part) + "".join(f"{_part_row(part, member)}\n" for member in fields(part))


def renewed(document: str) -> str:
    """`document` with the present tables in the place of the ones that it has."""
    parts = [(_part_head(part), part_table(part)) for part in _PARTS]
    for head, table in ((_KEYS_HEAD, keys_table()), (_FIELDS_HEAD, fields_table()), *parts):
        before, _, rest = document.partition(head)
        lines = rest.splitlines(keepends=True)
        while lines and lines[0].startswith("|"):
            del lines[0]
        document = before + table + "".join(lines)
    return document


def _key_row(key: Key) -> str:
    default = "" if key.default is None else _literal(key.default)
    effect = [key.doc]
    if key.reason:
        effect.append(f"{key.reason[0].upper()}{key.reason[1:]}.")
    if key.choices:
        effect.append(f"One of {_listed(key.choices)}.")
    cells = (f"`{key.name}`", key.kind.value, default, f"`{key.example}`", key.status.value, " ".join(effect))
    return f"| {' | '.join(cells)} |"


def _field_row(member: Field[object]) -> str:
    default = DomainConfig(name="web", kernel=Path("/k")).to_mapping()[member.name]
    needed = member.name in _NEEDED
    source = _SOURCES.get(member.name, f"`{member.name}`")
    cells = (f"`{member.name}`", _type(member), "needed" if needed else _literal(default), source)
    return f"| {' | '.join(cells)} |"


def _part_head(part: type) -> str:
    what = {Disk: "a disk", Vif: "an interface", Forward: "a forward", CloudInit: "`cloud_init`"}[part]
    return f"| Field of {what} | Type | Default | From |\n|---|---|---|---|\n"


def _part_row(part: type, member: Field[object]) -> str:
    default = _DEFAULTS.get((part, member.name), member.default)
    if (part, member.name) in _LEFT_TO_OTHERS:
        shown = ""
    else:
        shown = "needed" if default is MISSING else _literal(plain(default))
    cells = (f"`{member.name}`", _type(member), shown, _PARTS[part][member.name])
    return f"| {' | '.join(cells)} |"


def _type(member: Field[object]) -> str:
    annotation = str(member.type)
    choices = _CHOICES.get(annotation)
    return f"one of {_listed(choices)}" if choices else _TYPES[annotation]


def _listed(names: tuple[str, ...] | type[StrEnum]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _literal(value: object) -> str:
    import json

    return f"`{json.dumps(value)}`"


def main(document: Path) -> None:
    """Renew the tables of a document in place."""
    document.write_text(renewed(document.read_text()))


if __name__ == "__main__":
    import sys

    main(Path(sys.argv[1]))
