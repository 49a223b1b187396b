"""Entries as lines, and the state they add up to."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.xend.logstate import JOURNALS, LogEntry, LogState, clean, encode, parse, restore


def entry(n: int, **other: Any) -> LogEntry:
    made: LogEntry = {
        "n": n,
        "time": 1e9,
        "who": "root",
        "action": "create",
        "domain": "",
        "domid": None,
        "uuid": "",
        "result": "",
        "seconds": None,
        "detail": "",
        "journal": None,
    }
    made.update(other)  # type: ignore[typeddict-item]
    return made


@given(st.text(), st.integers(0, 2**53 - 1), st.floats(0, 1e9))
def test_what_is_encoded_is_parsed(text: str, number: int, seconds: float) -> None:
    made = entry(number, who=text, domid=number, seconds=seconds, begun=1)
    line = encode(made)
    assert line.count(b"\n") == 1
    assert parse(line) == made


@given(st.text(alphabet=st.characters(), max_size=30))
def test_a_clean_text_is_short_and_can_be_sent(text: str) -> None:
    assert len(clean(text, 10)) <= 10
    clean(text, 10).encode()
    assert clean("\ud800x") == "?x"
    assert clean("a" * 11, 10) == "aaaaaaa..."


BAD: list[dict[str, Any]] = [
    {"n": "1"},
    {"n": True},
    {"n": -1},
    {"n": 2**60},
    {"time": float("nan")},
    {"time": None},
    {"who": 7},
    {"domid": "3"},
    {"result": "perhaps"},
    {"seconds": float("inf")},
    {"journal": 1.5},
    {"carried": 1},
    {"carried": {"journals": {"u": "1"}, "begun": []}},
    {"carried": {"journals": {"u": 1}, "begun": [1]}},
    {"carried": {"journals": [], "begun": []}},
]


@pytest.mark.parametrize("wrong", BAD)
def test_an_entry_with_a_wrong_value_is_none(wrong: dict[str, Any]) -> None:
    assert parse(json.dumps({**entry(1), **wrong}).encode()) is None


@given(st.binary() | st.sampled_from([b"[" * 100_000, b"1" * 5000, b"null", b"[]", b"{}", b'{"n":1}']))
def test_garbage_is_none(line: bytes) -> None:
    assert parse(line) is None


def lines(*entries: LogEntry) -> list[bytes]:
    return [encode(e) for e in reversed(entries)]


def test_the_state_is_restored_from_the_newest_line_that_carries_it() -> None:
    before = LogState()
    before.add(entry(5, result="begun", detail="long"))
    before.add(entry(6, uuid="a", journal=3))
    never_read = iter([b"garbage"])
    newest = [*lines(entry(7, uuid="b", journal=1)), b"garbage", before.line()]
    state, garbage = restore(line for part in (newest, never_read) for line in part)
    assert (state.number, state.journals, garbage) == (7, {"a": 3, "b": 1}, 1)
    assert state.begun == {5: entry(5, result="begun")}
    assert next(never_read) == b"garbage"


def test_lines_that_come_twice_change_nothing() -> None:
    some = [entry(1, result="begun"), entry(2, uuid="a", journal=2), entry(3, result="done", begun=1)]
    once, _ = restore(lines(*some))
    twice, _ = restore(lines(*some, *some))
    assert vars(once) == vars(twice)
    assert once.begun == {}


def test_a_journal_that_is_gone_is_forgotten() -> None:
    state, _ = restore(lines(entry(1, uuid="a", journal=2), entry(2, uuid="a", journal=0)))
    assert state.journals == {}


def test_journals_are_bounded() -> None:
    state = LogState()
    for i in range(JOURNALS + 2):
        state.add(entry(i, uuid=str(i), journal=1))
        state.add(entry(i, uuid="busy", journal=i + 1))
    assert len(state.journals) == JOURNALS
    assert "0" not in state.journals
    assert state.journals["busy"] == JOURNALS + 2
