"""The generated tables of docs/config.md: `python -m xenion.config.reference DOCUMENT` renews them in it."""

from __future__ import annotations

from dataclasses import Field, fields
from enum import StrEnum
from pathlib import Path

from xenion.config.domain import Action, DomainConfig, Processor, XendStart, XendStop
from xenion.config.key import Key
from xenion.config.keys import KEYS

_KEYS_HEAD = "| Key | Type | Default | Example | Status | Effect |\n|---|---|---|---|---|---|\n"
_FIELDS_HEAD = "| Field | Type | Default | From the key |\n|---|---|---|---|\n"

_CHOICES: dict[str, type[StrEnum]] = {
    choices.__name__: choices for choices in (Action, Processor, XendStart, XendStop)
}
_TYPES = {
    "str": "text",
    "int": "whole number",
    "Path": "text, an absolute path",
    "Path | None": "text, an absolute path, or null",
    "tuple[str, ...]": "list of texts",
}
# The fields that are not called as the key that they come from.
_SOURCES = {
    "cmdline": "`cmdline`, or `root`, `extra` and those beside them",
    "memory_mib": "`memory`",
    "console_scrollback_kib": "`console_scrollback`",
    "notes": "what was accepted without effect",
}


def keys_table() -> str:
    """One row for each key of a file, as Markdown."""
    return _KEYS_HEAD + "".join(f"{_key_row(key)}\n" for key in KEYS.values())


def fields_table() -> str:
    """One row for each field of the JSON form, as Markdown."""
    return _FIELDS_HEAD + "".join(f"{_field_row(member)}\n" for member in fields(DomainConfig))


def renewed(document: str) -> str:
    """`document` with the present tables in the place of the ones that it has."""
    for head, table in ((_KEYS_HEAD, keys_table()), (_FIELDS_HEAD, fields_table())):
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
    annotation = str(member.type)
    choices = _CHOICES.get(annotation)
    kind = f"one of {_listed(choices)}" if choices else _TYPES[annotation]
    default = DomainConfig(name="web", kernel=Path("/k")).to_mapping()[member.name]
    needed = member.name in ("name", "kernel")
    source = _SOURCES.get(member.name, f"`{member.name}`")
    cells = (f"`{member.name}`", kind, "needed" if needed else _literal(default), source)
    return f"| {' | '.join(cells)} |"


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
