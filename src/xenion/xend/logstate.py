"""The event log's entries as lines of JSON, and what has to be known of all entries so far."""

import json
import math
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict, cast

Result = Literal["begun", "done", "refused", "failed", "cancelled", "interrupted", ""]
Noted = Literal["done", "refused", "failed", "cancelled", "interrupted", ""]
Ending = Literal["done", "refused", "failed", "cancelled"]

TEXT_LIMIT = 256
DETAIL_LIMIT = 2000
JOURNALS = 4096


class LogEntry(TypedDict):
    """One entry. Its keys are the API's, too; who gets an entry must not change it."""

    n: int
    """Increases over restarts. Only numbers of entries that never reached the disk can be given again."""
    time: float
    """Seconds since the epoch."""
    who: str
    action: str
    domain: str
    """A name, or nothing."""
    domid: int | None
    uuid: str
    result: Result
    """Nothing for what is no action, such as a line of a journal."""
    seconds: float | None
    detail: str
    journal: int | None
    """The entry is this line, from 1, of the journal of the domain `uuid`; 0: that journal is no more."""
    begun: NotRequired[int]
    """The entry is the end of the action which that entry began."""


_TYPES: dict[str, tuple[type, ...]] = {
    "n": (int,),
    "time": (int, float),
    "who": (str,),
    "action": (str,),
    "domain": (str,),
    "domid": (int, type(None)),
    "uuid": (str,),
    "result": (str,),
    "seconds": (int, float, type(None)),
    "detail": (str,),
    "journal": (int, type(None)),
}
_RESULTS = frozenset(Result.__args__)  # type: ignore[attr-defined]
_BIGGEST = 2**53


class LogState:
    """The last number, how far each journal was entered, and the actions that did not end yet.

    Every file but the first begins with the state at that time, so that opening the log reads one file, and
    what was in a file that is long gone is still known. The journals entered longest ago are forgotten when
    there are more than JOURNALS that were not told to be gone.
    """

    def __init__(self) -> None:
        self.number = 0
        self.journals: dict[str, int] = {}
        self.begun: dict[int, LogEntry] = {}

    def add(self, entry: LogEntry) -> None:
        """Adding an entry again changes nothing."""
        self.number = max(self.number, entry["n"])
        if entry["journal"] is not None and entry["uuid"]:
            self._enter(entry["uuid"], entry["journal"])
        if entry["result"] == "begun":
            self.begun[entry["n"]] = entry
        elif "begun" in entry:
            self.begun.pop(entry["begun"], None)

    def _enter(self, uuid: str, line: int) -> None:
        known = self.journals.pop(uuid, 0)
        if line:
            self.journals[uuid] = max(known, line)
        if len(self.journals) > JOURNALS:
            del self.journals[next(iter(self.journals))]

    def line(self) -> bytes:
        """The state as the first line of a file."""
        begun = [{**entry, "detail": ""} for entry in self.begun.values()]
        return _line({"n": self.number, "carried": {"journals": self.journals, "begun": begun}})


def restore(lines_newest_first: Iterable[bytes]) -> tuple[LogState, int]:
    """The state after all lines, and how many of those that had to be read for it make no sense."""
    state, later, garbage = LogState(), list[LogEntry](), 0
    for line in lines_newest_first:
        record = parse(line)
        if isinstance(record, LogState):
            state = record
            break
        if record is None:
            garbage += 1
        else:
            later.append(record)
    for entry in reversed(later):
        state.add(entry)
    return state, garbage


def encode(entry: LogEntry) -> bytes:
    """One line. Texts must have gone through `clean`, else its length has no bound."""
    return _line(entry)


def _line(record: object) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def clean(text: str, limit: int = TEXT_LIMIT) -> str:
    """At most `limit` characters, and none that UTF-8 cannot say; a client may send such as JSON."""
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return text.encode(errors="replace").decode()


def parse(line: bytes) -> LogEntry | LogState | None:
    """What a line says, or None if it makes no sense."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict):
        return None
    return _state(record) if "carried" in record else _entry(record)


def _entry(record: dict[str, Any]) -> LogEntry | None:
    if any(type(record.get(name)) not in types for name, types in _TYPES.items()):
        return None
    entry = {name: record.get(name) for name in _TYPES}
    if record["result"] not in _RESULTS or not all(_sane(entry[name]) for name in _TYPES):
        return None
    if type(record.get("begun")) is int:
        entry["begun"] = record["begun"]
    return cast(LogEntry, entry)


def _sane(value: object) -> bool:
    return not isinstance(value, int | float) or (math.isfinite(value) and 0 <= value < _BIGGEST)


def _state(record: dict[str, Any]) -> LogState | None:
    carried, number = record["carried"], record.get("n")
    if type(number) is not int or not _sane(number) or not isinstance(carried, dict):
        return None
    journals, begun = carried.get("journals"), carried.get("begun")
    if not isinstance(journals, dict) or not isinstance(begun, list):
        return None
    entries = [_entry(item) if isinstance(item, dict) else None for item in begun]
    if None in entries or any(type(line) is not int or not _sane(line) for line in journals.values()):
        return None
    state = LogState()
    state.number, state.journals = number, journals
    state.begun = {entry["n"]: entry for entry in entries if entry}
    return state
