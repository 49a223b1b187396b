"""`xm sched-credit`."""

import json
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, domain, host, no_domain
from xenion.api.errors import ApiError


def share(name: str = "web", domid: int = 1, **values: Any) -> dict[str, Any]:
    usual = {"weight": 256, "cap": 0, "cpus": "all", "mechanism": "cgroup v2"}
    return {"name": name, "domid": domid, **usual, **values}


def test_of_all_that_run(xm: Xm, xend: FakeXend) -> None:
    shown = [host(), domain(), domain("gone", 2), domain("later", None), domain("big", 3)]
    xend.answers["list"] = {"domains": shown}
    xend.answers["share"] = Series([share(), no_domain(), share("big", 3, weight=65535, cap=6400)])
    ran = xm("sched-credit")
    assert ran.out.splitlines() == [
        "Name                                ID Weight  Cap",
        "web                                  1    256    0",
        "big                                  3  65535 6400",
    ]
    assert (ran.status, ran.err) == (0, "")
    asked = [asked.parameters["domain"] for asked in xend.asked_for("share")]
    assert asked == ["uuid-of-web", "uuid-of-gone", "uuid-of-big"]


def test_none_run(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [host()]}
    assert xm("sched-credit").out.splitlines() == ["Name                                ID Weight  Cap"]
    assert json.loads(xm("sched-credit", "--json").out) == []


@pytest.mark.parametrize("option", ["-d", "--domain"])
def test_of_one(xm: Xm, xend: FakeXend, option: str) -> None:
    xend.answers["share"] = share(cap=50)
    ran = xm("sched-credit", option, "web")
    assert ran.out.splitlines()[1:] == ["web                                  1    256   50"]
    assert xend.actions() == ["share"]
    assert xend.asked[0].parameters == {"domain": "web"}


def test_as_json(xm: Xm, xend: FakeXend) -> None:
    xend.answers["share"] = share()
    assert json.loads(xm("sched-credit", "--json", "-d", "web").out) == [share()]


def test_other_failures_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [domain()]}
    xend.answers["share"] = ApiError("failed", "it is broken")
    ran = xm("sched-credit")
    assert (ran.status, ran.out, ran.err) == (1, "", "xm: it is broken\n")


@pytest.mark.parametrize(
    ("words", "body"),
    [
        (["-w", "512"], {"weight": 512}),
        (["-c", "0"], {"cap": 0}),
        (["--weight", "1", "--cap", "6400"], {"weight": 1, "cap": 6400}),
    ],
)
def test_what_is_named_is_changed(xm: Xm, xend: FakeXend, words: list[str], body: dict[str, int]) -> None:
    xend.answers["set_share"] = share()
    ran = xm("sched-credit", "-d", "web", *words)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [(asked.action, asked.parameters, asked.body) for asked in xend.asked] == [
        ("set_share", {"domain": "web"}, body)
    ]


@pytest.mark.parametrize("words", [["-w", "512"], ["-c", "0"]])
def test_a_change_needs_a_domain(xm: Xm, xend: FakeXend, words: list[str]) -> None:
    ran = xm("sched-credit", *words)
    said = 'xm: whose is to be changed? name it with -d; see "xm sched-credit -h"\n'
    assert (ran.status, ran.out, ran.err) == (2, "", said)
    assert xend.asked == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-w", "0"], '"0" is not a whole number from 1 to 65535'),
        (["-w", "65536"], '"65536" is not a whole number from 1 to 65535'),
        (["-w", "1.5"], '"1.5" is not a whole number from 1 to 65535'),
        (["-c", "6401"], '"6401" is not a whole number from 0 to 6400'),
        (["-c", "ten"], '"ten" is not a whole number from 0 to 6400'),
        (["-c", ""], '"" is not a whole number from 0 to 6400'),
    ],
)
def test_numbers_that_cannot_be(xm: Xm, xend: FakeXend, words: list[str], said: str) -> None:
    ran = xm("sched-credit", "-d", "web", *words)
    assert (ran.status, len(ran.err.splitlines()), xend.asked) == (2, 1, [])
    assert said in ran.err


@pytest.mark.parametrize("words", [[], ["-w", "512"]])
def test_a_domain_has_a_name(xm: Xm, xend: FakeXend, words: list[str]) -> None:
    ran = xm("sched-credit", "-d", "", *words)
    assert (ran.status, xend.asked) == (2, [])
    assert "give a domain's name, id or UUID" in ran.err
