"""`xm migrate`."""

import json
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, task
from xenion.api.errors import ApiError

RESULT = {
    "host": "there:8002",
    "domid": 7,
    "rounds": [],
    "sent_bytes": 5 << 20,
    "downtime_s": 0.0421,
    "remarks": [],
    "seconds": 1.25,
}
SAID = "web runs on there:8002 as domain 7: it stood still for 42 ms, 5.0 MiB were sent in 1.2 s\n"
PLAIN = {"ssl": False, "live": False, "check": False, "as_it_stands": False, "same_disks": False}
FIGURES = {
    "round": 1,
    "pages": 40960,
    "sent_bytes": 1,
    "seconds": 1.5,
    "written_pages": 256,
    "hot_pages": 3,
    "written_per_s": 512.0,
    "copied_per_s": 25600.0,
    "downtime_s": 0.0123,
}
ROUND = (
    "round  1:    40960 pages copied in   1.500 s (   100 MiB/s),     256 written meanwhile (     2 MiB/s),"
    "      3 of them each time; the rest would take 12 ms\n"
)


@pytest.fixture(autouse=True)
def moved(xend: FakeXend) -> None:
    xend.answers["migrate"] = task(action="migrate", result=RESULT)
    xend.answers["resolve"] = {}


def test_moved(xm: Xm, xend: FakeXend) -> None:
    ran = xm("migrate", "web", "there")
    assert (ran.status, ran.out, ran.err) == (0, SAID, "")
    (asked,) = xend.asked
    assert (asked.action, asked.parameters) == ("migrate", {"domain": "web"})
    assert asked.body == {"host": "there", **PLAIN}


@pytest.mark.parametrize(
    ("words", "more"),
    [
        (["-l"], {"live": True}),
        (["--live", "--ssl"], {"live": True, "ssl": True}),
        (["-s", "-p", "9000"], {"ssl": True, "port": 9000}),
        (["--ssh"], {"ssh": True}),
        (["--resource", "100"], {"most_mbit_per_s": 100}),
        (
            ["-l", "-r", "1", "--abort-after-downtime", "300"],
            {"live": True, "most_mbit_per_s": 1, "abort_after_downtime_ms": 300},
        ),
        (["--check", "--same-disks"], {"check": True, "same_disks": True}),
        (["--as-it-stands"], {"as_it_stands": True}),
    ],
)
def test_options(xm: Xm, xend: FakeXend, words: list[str], more: dict[str, Any]) -> None:
    assert xm("migrate", *words, "web", "there").status == 0
    assert xend.asked[0].body == {"host": "there", **PLAIN, **more}


@pytest.mark.parametrize(
    ("words", "host", "port"),
    [
        (["there"], "there", None),
        (["there:1"], "there", 1),
        (["there.example.org:65535"], "there.example.org", 65535),
        (["192.0.2.7:8003"], "192.0.2.7", 8003),
        (["[::1]:8003"], "::1", 8003),
        (["[::1]"], "::1", None),
        (["::1"], "::1", None),
        (["2001:db8::7"], "2001:db8::7", None),
        (["2001:db8::"], "2001:db8::", None),
        (["there:1:"], "there:1:", None),
        (["fe80::1%eth0"], "fe80::1%eth0", None),
        (["[fe80::1%eth0]:5"], "fe80::1%eth0", 5),
        (["-p", "9", "there"], "there", 9),
        (["-p", "9", "::1"], "::1", 9),
        (["-p", "9", "[::1]"], "::1", 9),
    ],
)
def test_addresses(xm: Xm, xend: FakeXend, words: list[str], host: str, port: int | None) -> None:
    *options, there = words
    assert xm("migrate", *options, "web", there).status == 0
    body = xend.asked[0].body
    assert (body["host"], body.get("port")) == (host, port)


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":",
        ":1",
        "h:",
        "h:x",
        "h:0",
        "h:65536",
        "h:-1",
        "h:" + "9" * 5000,
        "[::1]:",
        "[::1]:x",
        "[]:5",
        "[]",
    ],
)
def test_addresses_that_are_none(xm: Xm, xend: FakeXend, host: str) -> None:
    ran = xm("migrate", "web", host)
    assert (ran.status, xend.asked) == (2, [])
    assert 'is not HOST or HOST:PORT; see "xm migrate -h"' in ran.err


def test_two_ports(xm: Xm, xend: FakeXend) -> None:
    for there in ("there:8002", "[::1]:8002"):
        ran = xm("migrate", "--port", "8002", "web", there)
        assert (ran.status, xend.asked) == (2, [])
        assert "is not HOST or HOST:PORT" in ran.err


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("web",),
        ("web", "a", "b"),
        ("--ssh", "--ssl", "web", "a"),
        ("-p", "0", "web", "a"),
        ("-p", "65536", "web", "a"),
        ("-p", "x", "web", "a"),
        ("-r", "0", "web", "a"),
        ("--abort-after-downtime", "-1", "web", "a"),
        ("--resolve", "web"),
        ("--resolve", "nowhere", "web"),
        ("--resolve", "source", "web", "a"),
        ("--resolve", "source"),
    ],
)
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("migrate", *words).status != 0
    assert xend.asked == []


@pytest.mark.parametrize("where", ["source", "target"])
def test_resolved(xm: Xm, xend: FakeXend, where: str) -> None:
    ran = xm("migrate", "--resolve", where, "web")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    (asked,) = xend.asked
    assert (asked.action, asked.parameters, asked.body) == ("resolve", {"domain": "web"}, {"goes_on": where})


def test_a_check(xm: Xm, xend: FakeXend) -> None:
    xend.answers["migrate"] = task(action="migrate", result={"host": "there:8002", "checked": True})
    ran = xm("migrate", "--check", "web", "there")
    assert (ran.status, ran.out) == (0, "there:8002 would take web\n")


def test_rounds(xm: Xm, xend: FakeXend) -> None:
    """Each once, however often xend tells of it."""
    xend.answers["migrate"] = task("running", action="migrate", seen=1)
    later = {**FIGURES, "round": 2, "pages": 256}
    xend.answers["task"] = Series(
        [
            task("running", figures=FIGURES, seen=2),
            task("running", figures=FIGURES, seen=3),
            task("running", figures=later, seen=4),
            task(figures=later, result=RESULT, seen=5),
        ]
    )
    ran = xm("migrate", "-l", "-v", "web", "there")
    assert ran.status == 0
    assert ran.out.startswith(ROUND + "round  2:      256 pages copied in")
    assert ran.out.endswith("\n" + SAID)
    assert ran.out.count("round") == 2


def test_no_rounds_unless_asked_for(xm: Xm, xend: FakeXend) -> None:
    xend.answers["migrate"] = task("running", figures=FIGURES)
    xend.answers["task"] = task(figures=FIGURES, result=RESULT)
    assert xm("migrate", "-l", "web", "there").out == SAID


@pytest.mark.parametrize(
    "figures",
    [{"round": 1}, {"round": 1.5, "nonsense": 7}, {"round": 1, "pages": -(2**53), "downtime_s": 1e300}],
)
def test_figures_that_nobody_expects(xm: Xm, xend: FakeXend, figures: dict[str, float]) -> None:
    """The domain's process may be its guest's."""
    xend.answers["migrate"] = task("running", figures=figures)
    xend.answers["task"] = task(figures=figures, result=RESULT)
    ran = xm("migrate", "-v", "web", "there")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.startswith("round  ")


@pytest.mark.parametrize("figures", [{}, {"pages": 7}, {"round": 0}, {"round": -3}, None])
def test_figures_of_no_round(xm: Xm, xend: FakeXend, figures: Any) -> None:
    xend.answers["migrate"] = task(figures=figures, result=RESULT)
    assert xm("migrate", "-v", "web", "there").out == SAID


def test_json(xm: Xm, xend: FakeXend) -> None:
    """And nothing else, whatever else is asked for."""
    xend.answers["migrate"] = task("running", figures=FIGURES)
    xend.answers["task"] = task(figures=FIGURES, result={**RESULT, "remarks": ["x"]})
    ran = xm("migrate", "-v", "--json", "web", "there")
    assert json.loads(ran.out) == {**RESULT, "remarks": ["x"]}
    assert ran.err == ""


def test_remarks_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["migrate"] = task(result={**RESULT, "remarks": ["it has not suspended itself\x1b[2J"]})
    ran = xm("migrate", "web", "there")
    assert (ran.status, ran.err) == (0, "xm: it has not suspended itself\\x1b[2J\n")


def test_what_hosts_say_is_shown_safely(xm: Xm, xend: FakeXend) -> None:
    xend.answers["migrate"] = task(result={**RESULT, "host": "a\x1b[2Jb\n"})
    ran = xm("migrate", "web", "there")
    assert "\x1b" not in ran.out
    assert ran.out.count("\n") == 1
    xend.answers["migrate"] = task(result={"host": "a\x1b[2J", "checked": True})
    assert "\x1b" not in xm("migrate", "--check", "web", "there").out
    failure = {"code": "refused", "message": "there does not take web: \x1b[2Jno\r\n"}
    xend.answers["migrate"] = task("failed", error=failure)
    ran = xm("migrate", "web", "there")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "xm: there does not take web: \\x1b[2Jno\\r\\n\n"


@pytest.mark.parametrize("words", [("web", "there"), ("--resolve", "source", "web")])
def test_refused(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    refusal = ApiError("wrong-state", "web does not run: there is nothing to move")
    xend.answers.update(migrate=refusal, resolve=refusal)
    ran = xm("migrate", *words)
    assert (ran.status, ran.out) == (1, "")
    assert ran.err == "xm: web does not run: there is nothing to move\n"


def test_not_asked_for_twice(xm: Xm, xend: FakeXend) -> None:
    """A xend that was restarted meanwhile may have moved it."""
    xend.answers["migrate"] = task("running")
    xend.answers["task"] = ApiError("no-such-task", "there is no task t1: xend was restarted")
    ran = xm("migrate", "web", "there")
    assert (ran.status, xend.actions()) == (1, ["migrate", "task"])
    assert "there is no task t1" in ran.err
