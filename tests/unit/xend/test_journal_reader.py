"""Of a journal only what makes sense is given out, in order, each entry once."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.xend import journal_reader
from xenion.xend.journal_reader import Journal, parse

NOTE = {"n": 1, "time": 2.5, "kind": "note", "text": "x"}
ENDED = {
    "n": 1,
    "time": 1,
    "kind": "ended",
    "reason": "crash",
    "action": "restart",
    "report": True,
    "core": 0,
}


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def test_in_order_and_once(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    journal = Journal(path)
    assert list(journal.entries(0)) == []
    assert journal.size == 0
    path.write_bytes(
        line(**NOTE) + b"rubbish\n" + line(**{**NOTE, "n": 3}) + line(**{**NOTE, "n": 2}) + b'{"n": 4'
    )
    assert [entry["n"] for entry in journal.entries(0)] == [1, 3]
    assert list(journal.entries(3)) == []
    with path.open("ab") as file:
        file.write(b', "time": 1, "kind": "paused"}\n')
    assert list(journal.entries(3)) == [{"n": 4, "time": 1, "kind": "paused"}]
    path.write_bytes(line(**{**NOTE, "n": 5}))
    assert [entry["n"] for entry in journal.entries(4)] == [5], "it was emptied meanwhile"
    journal.emptied()
    assert list(journal.entries(5)) == []
    assert [entry["n"] for entry in Journal(path).entries(0)] == [5]


def test_much_is_read_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_reader, "READ_BYTES", 100)
    path = tmp_path / "journal"
    path.write_bytes(b"x" * 250 + b"\n" + b"".join(line(**{**NOTE, "n": n}) for n in range(1, 11)))
    journal, found = Journal(path), list[int]()
    for _ in range(15):
        found += [entry["n"] for entry in journal.entries(found[-1] if found else 0)]
    assert found == list(range(1, 11))


def test_what_is_given_out_has_the_right_types() -> None:
    assert parse(line(**ENDED)) == {
        **ENDED,
        "time": 1.0,
        "core": False,
        "cpu_seconds": None,
    }
    running = parse(line(n=1, time=1, kind="running", boot=2, cpu_base=-0.5, future=1))
    assert running == {"n": 1, "time": 1.0, "kind": "running", "boot": 2, "cpu_base": -0.5, "paused": False}
    loaded = {"n": 1, "time": 1.0, "kind": "loaded"}
    assert parse(line(**loaded, text="x")) == loaded
    assert parse(line(n=1, time=1, kind="echo", number=7)) == {
        "n": 1,
        "time": 1.0,
        "kind": "echo",
        "number": 7,
    }
    for number in (-1, 1.5, "7", True, 1 << 53, None):
        assert parse(line(n=1, time=1, kind="echo", number=number)) is None
    for reason in ("saved", "migrated"):
        assert parse(line(**{**ENDED, "reason": reason})) is not None
    noted = parse(line(**{**NOTE, "text": "\ud800" + "x" * 9000}))
    assert noted is not None
    assert noted["text"] == "?" + "x" * 7999


@pytest.mark.parametrize(
    "change",
    [
        {"n": 0},
        {"n": True},
        {"n": 1.0},
        {"n": 1 << 53},
        {"n": int("9" * 400)},
        {"time": float("nan")},
        {"time": float("inf")},
        {"time": int("9" * 400)},
        {"time": "1"},
        {"time": None},
        {"kind": []},
        {"kind": "other"},
        {"kind": None},
        {"reason": "died"},
        {"reason": []},
        {"action": "fly"},
        {"action": {}},
        {"cpu_seconds": float("nan")},
        {"cpu_seconds": "1"},
    ],
)
def test_nonsense_is_passed_over(change: dict[str, Any]) -> None:
    assert parse(line(**{**ENDED, **change})) is None


@pytest.mark.parametrize("text", [b"[" * 60000, b"3", b"[]", b"\xff", b"9" * 5000, b"{}" + b" " * 70000])
def test_what_is_no_entry_is_passed_over(text: bytes) -> None:
    assert parse(text) is None


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.integers() | st.text(), st.lists), st.data())
def test_anything_does_no_harm(value: Any, data: st.DataObject) -> None:
    entry = data.draw(
        st.sampled_from([NOTE, ENDED, {"n": 1, "time": 1, "kind": "running", "boot": 1, "cpu_base": 0}])
    )
    key = data.draw(st.sampled_from(sorted(entry)))
    found = parse(json.dumps({**entry, key: value}).encode())
    assert found is None or json.dumps(found, allow_nan=False)
