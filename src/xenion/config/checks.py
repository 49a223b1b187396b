"""Checks and conversions that the configuration's objects have in common.

Each raises `ConfigError` with the key in it; of values that came as JSON, no type is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from pathlib import Path

from xenion.config.errors import ConfigError, shown

# Not typing.TYPE_CHECKING: `typing` alone costs more to import than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PATH_BYTES = 4095


def check_text(key: str, value: str, most_bytes: int) -> None:
    """UTF-8 without a zero, of at most so many bytes."""
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise ConfigError(f"{key} holds a character that UTF-8 cannot carry: remove it", key=key) from None
    if "\0" in value:
        raise ConfigError(f"{key} holds a zero character: remove it", key=key)
    if length > most_bytes:
        raise ConfigError(f"{key} must be at most {most_bytes} bytes, not {length}: shorten it", key=key)


def check_path(key: str, path: Path | str) -> None:
    """An absolute path; nothing is looked up."""
    check_text(key, str(path), PATH_BYTES)
    if not str(path).startswith("/"):
        raise ConfigError(f"{key} must be an absolute path, not {shown(str(path))}", key=key)


def check_range(key: str, value: int, least: int, most: int) -> None:
    """Both bounds are allowed."""
    if not least <= value <= most:
        raise ConfigError(f"{key} must be from {least} to {most}, not {shown(value)}", key=key)


@contextmanager
def within(key: str, what: str) -> Iterator[None]:
    """Errors of the block are about `what`, which the configuration key `key` gives."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{what}: {error.sentence}", key=key, where=error.where) from None


# --- from and to JSON


def plain(value: object) -> object:
    """`value` as JSON has it."""
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value):
        return plain_fields(value)
    return [plain(item) for item in value] if isinstance(value, tuple) else value


def plain_fields(value: Any) -> dict[str, object]:
    """The fields of a dataclass's instance as JSON has them."""
    return {member.name: plain(getattr(value, member.name)) for member in fields(value)}


def members(cls: type[Any], what: str, values: object) -> dict[str, Any]:
    """What a JSON object gives for each field of the dataclass `cls`, its default where it gives none."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{what} must be a JSON object, not {shown(values)}")
    known = {member.name: member.default for member in fields(cls)}
    for key in values:
        if key not in known:
            raise ConfigError(f"{shown(key)} is not a key of {what}: remove it", key=str(key))
    full = {key: values.get(key, plain(default)) for key, default in known.items()}
    for key, value in full.items():
        if value is MISSING:
            raise ConfigError(f"{key} is missing from {what}: give it", key=key)
    return full


def text(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be text, not {shown(value)}", key=key)
    return value


def number(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ConfigError(f"{key} must be a whole number, not {shown(value)}", key=key)
    return value


def truth(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, not {shown(value)}", key=key)
    return value


def path_or_none(key: str, value: object) -> Path | None:
    return None if value is None else Path(text(key, value))


def choice(key: str, value: object, choices: type[StrEnum]) -> str:
    """`value` if it names one of `choices`; raises `ConfigError` with the names there are."""
    names = [one.value for one in choices]
    if not isinstance(value, str) or value not in names:
        raise ConfigError(f"{key} must be one of {', '.join(names)}, not {shown(value)}", key=key)
    return value


def items(key: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list, not {shown(value)}", key=key)
    return value


def texts(key: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list of texts, not {shown(value)}", key=key)
    return tuple(text(key, item) for item in value)
