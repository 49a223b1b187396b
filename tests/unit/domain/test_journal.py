"""The journal: numbered lines, of which none but notes is ever left out."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from xenion.domain import journal
from xenion.domain.journal import Journal
from xenion.xend import journal_reader


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def fd(path: Path) -> Iterator[int]:
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    yield opened
    os.close(opened)


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_entries_are_numbered_and_told(fd: int, path: Path) -> None:
    told: list[int] = []
    made = Journal(fd, told.append)
    made.add("running", boot=1)
    made.add("ended", reason="crash")
    assert told == [1, 2] == [entry["n"] for entry in entries(path)]
    assert entries(path)[1]["reason"] == "crash"
    assert made.n == 2


def test_only_what_is_kept_elsewhere_is_trimmed(fd: int, path: Path) -> None:
    made = Journal(fd)
    made.add("running")
    made.add("paused")
    assert not made.trim(1)
    assert len(entries(path)) == 2
    assert made.trim(2)
    made.add("unpaused")
    assert [entry["n"] for entry in entries(path)] == [3]


def test_notes_beyond_the_limit_are_counted(fd: int, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "NOTES_BYTES", 200)
    made = Journal(fd)
    for number in range(10):
        made.add("note", text=f"{number} is a note")
    made.add("ended")
    kept = entries(path)
    assert kept[-1]["kind"] == "ended"
    assert made.trim(made.n)
    made.add("leaving")
    left_out = 10 - (len(kept) - 1)
    assert entries(path)[0]["text"] == f"{left_out} notes were left out"
    assert [entry["n"] for entry in entries(path)] == [kept[-1]["n"] + 1, kept[-1]["n"] + 2]


def test_the_longest_text_can_be_read_by_xend(fd: int, path: Path) -> None:
    made = Journal(fd)
    for kind in ("note", "refused"):
        made.add(kind, text="\N{GRINNING FACE}" * 100_000)
    assert [entry["kind"] for entry in journal_reader.Journal(path).entries(0)] == ["note", "refused"]


def test_what_a_full_disk_does_not_take_comes_with_the_next_entry(
    fd: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Journal(fd)
    with monkeypatch.context() as disk, Path("/dev/full").open("wb") as full:
        disk.setattr(made, "_fd", full.fileno())
        made.add("running")
    assert not made.trim(1)
    assert entries(path) == []
    made.add("ended")
    assert [entry["kind"] for entry in entries(path)] == ["running", "ended"]
