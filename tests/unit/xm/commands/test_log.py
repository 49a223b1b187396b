"""`xm log`."""

import json
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, Stream
from xenion.api.errors import ApiError
from xenion.xm.commands import log


def entry(n: int, **values: Any) -> dict[str, Any]:
    return {
        "n": n,
        "time": 0.0,
        "who": "uid 0",
        "action": "create",
        "domain": "web",
        "domid": 3,
        "uuid": "u",
        "result": "done",
        "seconds": 0.25,
        "detail": "",
        **values,
    }


def test_for_people(xm: Xm, xend: FakeXend) -> None:
    xend.answers["log"] = {"entries": [entry(1), entry(2, domid=None, seconds=None, detail="a\x1b[2Jb")]}
    first, second = xm("log").out.splitlines()
    assert first[19:] == "  uid 0  create  web (3)  done  0.250s"
    assert second[19:] == "  uid 0  create  web  done  a\\x1b[2Jb"


def test_the_last_ones_for_programs(xm: Xm, xend: FakeXend) -> None:
    xend.answers["log"] = {"entries": [entry(1), entry(2)]}
    lines = xm("log", "-n", "2", "--json").out.splitlines()
    assert [json.loads(line) for line in lines] == [entry(1), entry(2)]
    assert xend.asked[0].query == {"last": "2"}


def test_followed_over_a_restart(xm: Xm, xend: FakeXend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes on after the last entry that it has seen."""
    monkeypatch.setattr(log, "AGAIN_S", 0.0)
    xend.answers["log"] = {"entries": [entry(4)]}
    xend.answers["events"] = Series(
        [Stream([entry(5), entry(6)]), Stream([entry(7)]), ApiError("failed", "enough")]
    )
    ran = xm("log", "-f", "--json")
    assert (ran.status, ran.err) == (1, "xm: enough\n")
    assert [json.loads(line)["n"] for line in ran.out.splitlines()] == [4, 5, 6, 7]
    assert [asked.query for asked in xend.asked_for("events")] == [
        {"since": "4"},
        {"since": "6"},
        {"since": "7"},
    ]


def test_only_new_ones(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(log={"entries": []}, events=ApiError("failed", "enough"))
    xm("log", "-f", "-n", "0")
    assert xend.asked_for("events")[0].query == {}


@pytest.mark.parametrize("number", ["10001", "9" * 5000, "-1", "x"])
def test_a_number_of_entries(xm: Xm, number: str) -> None:
    ran = xm("log", "-n", number)
    said = f'xm: argument -n/--last: "{number}" is not a whole number from 0 to 10000; see "xm log -h"\n'
    assert (ran.status, ran.err) == (2, said)
