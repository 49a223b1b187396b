"""Reads a domain's journal (xenion.domain.journal) while its process goes on writing it.

The process may have been taken over by its guest: an entry that makes no sense is passed over, and one that is
given out is in order, with fields of the right types and sizes.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xenion.config.domain import VCPUS_MAX, Action
from xenion.xend.entries import VBD, VIF

LINE_BYTES = 1 << 16
READ_BYTES = 1 << 17
"""At a time, so that no domain keeps the others waiting."""
TEXT_CHARACTERS = 8000
_BIGGEST = 1 << 53
_REASONS = frozenset({"poweroff", "reboot", "suspend", "crash", "watchdog", "destroyed", "saved", "migrated"})
_ACTIONS = frozenset(action.value for action in Action)


class Journal:
    """`path` may not be there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.read_to = 0
        """So many bytes have been given out."""

    @property
    def size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    @property
    def more(self) -> bool:
        """There is something that was not read yet, if only a line that is not whole."""
        return self.size != self.read_to

    def entries(self, after: int) -> Iterator[dict[str, Any]]:
        """Those behind number `after` that were not given yet; a line that is not whole is left for later."""
        last = after
        for line in self._lines():
            entry = parse(line)
            if entry is not None and entry["n"] > last:
                last = entry["n"]
                yield entry

    def emptied(self) -> None:
        """The process has emptied the file."""
        self.read_to = 0

    def _lines(self) -> list[bytes]:
        if self.size < self.read_to:
            self.emptied()
        try:
            with self._path.open("rb") as file:
                file.seek(self.read_to)
                data = file.read(READ_BYTES)
        except OSError:
            return []
        whole = data.rfind(b"\n") + 1 or (len(data) if len(data) == READ_BYTES else 0)
        self.read_to += whole
        return data[:whole].split(b"\n")


def parse(line: bytes) -> dict[str, Any] | None:
    """An entry, or None if the line makes no sense."""
    if len(line) > LINE_BYTES:
        return None
    try:
        found = json.loads(line)
        checks = _KINDS[found["kind"]]
        return {"kind": found["kind"], **{name: check(found.get(name)) for name, check in checks.items()}}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < _BIGGEST:
        raise ValueError
    return value


def _vcpus(value: Any) -> int:
    if _count(value) > VCPUS_MAX:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not -_BIGGEST < value < _BIGGEST:  # which NaN is not
        raise ValueError
    return float(value)


def _time(value: Any) -> float:
    return max(_number(value), 0.0)


def _seconds(value: Any) -> float | None:
    return None if value is None else _time(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value[:TEXT_CHARACTERS].encode(errors="replace").decode()


def _one_of(words: frozenset[str]) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in words:
            raise ValueError
        return str(value)

    return check


def _devid(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _BIGGEST:
        raise ValueError
    return value


_EVERY: dict[str, Callable[[Any], Any]] = {"n": _count, "time": _time}
_DEVICE = {**_EVERY, "kind_of_device": _one_of(frozenset({VBD, VIF})), "devid": _devid}
_KINDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "running": {**_EVERY, "boot": _count, "cpu_base": _number, "paused": bool},
    "echo": {**_EVERY, "number": _count},
    "loaded": _EVERY,
    "refused": {**_EVERY, "text": _text},
    "paused": _EVERY,
    "unpaused": _EVERY,
    "resized": {**_EVERY, "vcpus": _vcpus, "memory_mib": _count, "maxmem_mib": _count},
    "note": {**_EVERY, "text": _text},
    "log-full": _EVERY,
    "ended": {
        **_EVERY,
        "reason": _one_of(_REASONS),
        "action": _one_of(_ACTIONS),
        "report": bool,
        "core": bool,
        "cpu_seconds": _seconds,
    },
    "preserved": {**_EVERY, "action": _one_of(_ACTIONS)},
    "detached": _DEVICE,
    "lost": _DEVICE,
    "leaving": _EVERY,
}
