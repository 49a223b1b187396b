"""Values as a configuration file holds them, and their conversion to what a key expects.

Every function here raises `ConfigError` with the key in it; no value is trusted to have any type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from xenion.config.errors import ConfigError, shown

# Not typing.TYPE_CHECKING: `typing` alone costs more to import than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    Value: TypeAlias = int | float | str | list["Value"] | tuple["Value", ...] | None
else:
    Value = object

_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,18}|0x[0-9a-fA-F]{1,16})")
_FLAGS = {"0": False, "1": True, "no": False, "yes": True}


class Kind(Enum):
    """What a key expects; the value is its name in the documentation."""

    TEXT = "text"
    PATH = "path"
    NUMBER = "number"
    DECIMAL = "number, also with a point"
    FLAG = "0 or 1"
    ITEMS = "list of texts"
    ITEM_OR_ITEMS = "text or list of texts"
    ANY = "any"

    @property
    def example(self) -> str:
        """A value as one writes it in a file."""
        return {
            Kind.TEXT: '"..."',
            Kind.PATH: '"/..."',
            Kind.NUMBER: "1",
            Kind.DECIMAL: "1.5",
            Kind.FLAG: "1",
            Kind.ITEMS: '["..."]',
            Kind.ITEM_OR_ITEMS: '"..."',
            Kind.ANY: '"..."',
        }[self]


def text(key: str, value: Value) -> str:
    """A string, whatever is in it."""
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be text, not {shown(value)}: put it in quotes", key=key)
    return value


def number(key: str, value: Value) -> int:
    """A whole number, also from its decimal or hexadecimal text, as xm and xl take it."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value, 0)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{key} must be a whole number, not {shown(value)}", key=key)
    return value


def decimal(key: str, value: Value) -> int | float:
    """A number, whole or not."""
    if isinstance(value, float):
        return value
    try:
        return number(key, value)
    except ConfigError:
        raise ConfigError(f"{key} must be a number, not {shown(value)}", key=key) from None


def flag(key: str, value: Value) -> bool:
    """A truth value: True, False, 0, 1, the text of one of these numbers, or xm's yes and no."""
    if isinstance(value, str) and value in _FLAGS:
        return _FLAGS[value]
    if not isinstance(value, int) or value not in (0, 1):
        raise ConfigError(f"{key} must be 0 or 1, not {shown(value)}", key=key)
    return bool(value)


def items(key: str, value: Value) -> tuple[str, ...]:
    """The texts of a list; what else is in it comes as text that stands for it."""
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{key} must be a list, not {shown(value)}: write {key} = [ ... ]", key=key)
    return tuple(item if isinstance(item, str) else shown(item) for item in value)


def item_or_items(key: str, value: Value) -> str | tuple[str, ...]:
    """One text (a whole number stands for its own), or the texts of a list."""
    if isinstance(value, list | tuple):
        return items(key, value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(key, value)


def path(key: str, value: Value) -> Path:
    """An absolute path; a relative one starts at the current directory. Nothing is looked up."""
    name = text(key, value)
    if not name.strip():
        raise ConfigError(f"{key} must not be empty: give the path of a file", key=key)
    try:
        return Path.cwd() / name
    except OSError:
        raise ConfigError(f"{key} is a relative path and the current directory is gone", key=key) from None


def converted(key: str, kind: Kind, value: Value) -> object:
    """`value` as a key of `kind` expects it; raises `ConfigError` for any other."""
    match kind:
        case Kind.TEXT:
            return text(key, value)
        case Kind.PATH:
            return path(key, value)
        case Kind.NUMBER:
            return number(key, value)
        case Kind.DECIMAL:
            return decimal(key, value)
        case Kind.FLAG:
            return flag(key, value)
        case Kind.ITEMS:
            return items(key, value)
        case Kind.ITEM_OR_ITEMS:
            return item_or_items(key, value)
        case Kind.ANY:
            return value


class Given:
    """The values that a configuration gives, read by type; None means that a key is not given."""

    def __init__(self, values: Mapping[str, Value]) -> None:
        self._values = {key: value for key, value in values.items() if value is not None}

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def converted(self, key: str, kind: Kind) -> object:
        """The value as a key of `kind` expects it, or None."""
        return converted(key, kind, self._values[key]) if key in self else None

    def items(self, key: str) -> tuple[str, ...]:
        """The key's texts, or none."""
        return items(key, self._values[key]) if key in self else ()

    def item_or_items(self, key: str) -> str | tuple[str, ...]:
        """The key's text or texts, or no text."""
        return item_or_items(key, self._values[key]) if key in self else ""

    def text(self, key: str, default: str = "") -> str:
        """The key's text, or `default`."""
        return text(key, self._values[key]) if key in self else default

    def number(self, key: str, default: int) -> int:
        """The key's whole number, or `default`."""
        return number(key, self._values[key]) if key in self else default

    def path(self, key: str) -> Path | None:
        """The key's path, or None."""
        return path(key, self._values[key]) if key in self else None
