"""The session's record: medians of good runs only, and the shape of its JSON."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benches import record
from benches.record import Measured, Session

DATE = datetime(2025, 11, 22, 12, 0, 0, 500, UTC)
MACHINE: dict[str, str | int | float] = {"cpu": "a processor", "cores": 2, "kernel": "6.1", "load_1min": 0.5}


def session() -> Session:
    runs = [
        Measured("xenion", 0, {"syscall": 1.0, "pss_less_guest_mib": 80.0}, None, "0.log"),
        Measured("tcg", 0, {"syscall": 2.0}, None, "1.log"),
        Measured("xenion", 1, {"syscall": 3.0}, None, "2.log"),
        Measured("tcg", 1, {"syscall": 900.0}, "killed: still running after 300 s", "3.log"),
    ]
    return Session(runs, {"xen-tcg": "install it with `x`"}, {"qemu": "7.2"}, MACHINE)


def test_samples_keep_the_order_and_leave_out_failures() -> None:
    assert session().samples()["syscall"] == {"xenion": [1.0, 3.0], "tcg": [2.0]}
    assert session().medians()["syscall"] == {"xenion": 2.0, "tcg": 2.0}
    assert [failed.log for failed in session().failures()] == ["3.log"]


def test_spread_is_half_the_range_over_the_median() -> None:
    assert record.spread([9.0, 10.0, 12.0]) == pytest.approx(0.15)
    assert record.spread([5.0]) == 0.0


def test_json_holds_everything() -> None:
    document = json.loads(record.as_json(session(), DATE))
    assert document["format"] == record.FORMAT
    assert document["date"] == "2025-11-22T12:00:00+00:00"
    assert document["machine"] == MACHINE
    assert document["versions"] == {"qemu": "7.2"}
    assert document["units"] == {"syscall": "us", "pss_less_guest_mib": "MiB"}
    assert document["skipped"] == {"xen-tcg": "install it with `x`"}
    assert document["medians"]["syscall"] == {"xenion": 2.0, "tcg": 2.0}
    assert len(document["runs"]) == 4
    assert document["runs"][3] == {
        "peer": "tcg",
        "run": 1,
        "values": {"syscall": 900.0},
        "failure": "killed: still running after 300 s",
        "log": "3.log",
    }


def test_json_tells_each_target() -> None:
    document = json.loads(record.as_json(session(), DATE))
    assert document["targets"] == [
        {"row": "syscall", "against": "tcg", "at_most": 1.75, "measured": 1.0, "met": True},
        {"row": "pss_less_guest_mib", "against": None, "at_most": 90.0, "measured": 80.0, "met": True},
    ]


def test_an_empty_session_is_a_record_too() -> None:
    document = json.loads(record.as_json(Session(), DATE))
    assert document["runs"] == document["targets"] == []


def test_save_makes_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "bench.json"
    record.save(session(), path)
    assert json.loads(path.read_text())["machine"] == MACHINE


def test_this_machine_is_told_in_the_same_words() -> None:
    machine = record.this_machine()
    assert set(machine) == set(MACHINE)
    assert isinstance(machine["cores"], int)
    assert machine["cores"] >= 1
