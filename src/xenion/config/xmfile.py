"""Configuration files in the syntax of xm and xl: assignments of Python-like expressions, read and never run.

A name that is no key may be set for use in later expressions, as classic files do; one that nothing uses is
taken for a mistyped key and refused. Every function raises `ConfigError`, with `FILE:LINE:COLUMN`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xenion.config.domain import DomainConfig
from xenion.config.errors import ConfigError, shown
from xenion.config.expression import Evaluator, check, literal
from xenion.config.keys import KEYS, suggestion
from xenion.config.resolve import resolve
from xenion.config.source import TEXT_BYTES, Source, refusal, statements
from xenion.config.values import Kind, Value

_COMMAND_LINE = "command line"


def parse(text: str, filename: str, overrides: Mapping[str, str]) -> dict[str, Value]:
    """The values of the known keys that a file's text sets, with `overrides` (NAME=VALUE arguments).

    An override is set before the first line and no line changes it, so the file's expressions see it too.
    """
    return _read(text, filename, overrides).known()


def load(path: Path, overrides: Mapping[str, str]) -> DomainConfig:
    """The configuration in a file; relative paths in it start at the current directory, as with xm."""
    file = _read(_text_of(path), str(path), overrides)
    try:
        return resolve(file.known(), path.stem)
    except ConfigError as error:
        raise error.at(file.places.get(error.key or "", file.name)) from None


@dataclass(slots=True)
class _File:
    """What has been set so far, by which place; `pinned` are the names that the command line has set."""

    name: str
    pinned: frozenset[str]
    values: dict[str, Value] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def known(self) -> dict[str, Value]:
        return {name: value for name, value in self.values.items() if name in KEYS}

    def refuse_unknown(self) -> None:
        for name in self.values:
            if name not in KEYS and name not in self.used:
                sentence = f"{shown(name)[1:-1]} is not a known key, and nothing uses it{suggestion(name)}"
                raise ConfigError(sentence, key=name, where=self.places[name])


def _read(text: str, filename: str, overrides: Mapping[str, str]) -> _File:
    source = Source(text, filename)
    file = _File(source.filename, frozenset(overrides))
    for name, written in overrides.items():
        file.values[name] = _override(name, written)
        file.places[name] = _COMMAND_LINE
    evaluator = Evaluator(source, file.values)
    for statement in statements(source):
        _execute(source, file, evaluator, statement)
    file.refuse_unknown()
    return file


def _execute(source: Source, file: _File, evaluator: Evaluator, statement: ast.stmt) -> None:
    """Take one assignment, `NAME = VALUE` or xl's `NAME += VALUE`."""
    match statement:
        case ast.Assign(targets=targets, value=expression):
            names = [_target(source, target) for target in targets]
            value = _evaluate(source, file, evaluator, expression)
        case ast.AugAssign(target=target, op=ast.Add(), value=expression):
            names = [_target(source, target)]
            before = evaluator.evaluate(ast.copy_location(ast.Name(names[0], ast.Load()), target))
            value = evaluator.add(before, _evaluate(source, file, evaluator, expression), statement)
        case _:
            raise refusal(source, statement, statement)
    for name in names:
        if name not in file.pinned:
            file.values[name] = value
            file.places[name] = source.place(statement)


def _target(source: Source, target: ast.expr) -> str:
    if not isinstance(target, ast.Name):
        raise source.error(target, "only a plain name can be set: write NAME = VALUE")
    return target.id


def _evaluate(source: Source, file: _File, evaluator: Evaluator, expression: ast.expr) -> Value:
    check(source, expression)
    file.used.update(node.id for node in ast.walk(expression) if isinstance(node, ast.Name))
    return evaluator.evaluate(expression)


def _override(name: str, written: str) -> Value:
    """The value of `NAME=VALUE`: a literal if it is one, else plain text, as where the key expects text."""
    try:
        value = literal(written)
    except ConfigError:
        value = written
    kind = KEYS[name].kind if name in KEYS else Kind.ANY
    if isinstance(value, str) or kind in (Kind.NUMBER, Kind.DECIMAL, Kind.FLAG, Kind.ANY):
        plain = value
    elif kind in (Kind.ITEMS, Kind.ITEM_OR_ITEMS) and isinstance(value, list | tuple):
        return value
    else:
        plain = written
    return [plain] if kind is Kind.ITEMS and plain else plain


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "its name holds a zero character"
        raise ConfigError(f"{shown(str(path))} cannot be read: {reason}") from None
    where = Source("", str(path)).filename
    if len(content) > TEXT_BYTES:
        raise ConfigError(f"the file is over {TEXT_BYTES} bytes: shorten it", where=where)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = len(content[content.rfind(b"\n", 0, error.start) + 1 : error.start].decode()) + 1
        place = f"{where}:{line}:{column}"
        sentence = f"the byte 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8"
        raise ConfigError(sentence, where=place) from None
