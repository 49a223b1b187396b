"""`xm list`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, host, no_domain
from xenion.xm.commands.list import HEADER

DOMAINS = [
    host(),
    domain(),
    domain("idle", 2, state="blocked"),
    domain("held", 3, state="paused"),
    domain("bad", 4, state="crashed", reason="crash"),
    domain("later", None, state="defined"),
]
LISTED = """\
Name                                        ID   Mem VCPUs      State   Time(s)
Domain-0                                     0  1024     2     r-----      12.3
web                                          1   128     1     r-----      12.3
idle                                         2   128     1     -b----      12.3
held                                         3   128     1     --p---      12.3
bad                                          4   128     1     ----c-      12.3
later                                        -   128     1     ------      12.3
"""


@pytest.fixture(autouse=True)
def domains(xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": DOMAINS}


def test_the_classic_table(xm: Xm) -> None:
    ran = xm("list")
    assert (ran.status, ran.out, ran.err) == (0, LISTED, "")


def test_some_only(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = lambda asked: domain() if asked.parameters["domain"] == "web" else no_domain("x")
    ran = xm("list", "web", "x", "web")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "x"\n')
    assert [line.split()[0] for line in ran.out.splitlines()] == ["Name", "web", "web"]
    assert xend.actions() == ["domain"] * 3


def test_one_that_may_run_elsewhere(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [domain(), domain("mail", 2, leaving="there:8002")]}
    ran = xm("list")
    assert ran.status == 0
    assert ran.err == (
        "xm: mail is held: whether it runs on there:8002 is not known yet; `xm migrate --resolve` can decide\n"
    )
    assert len(ran.out.splitlines()) == 3
    assert xm("list", "--json").err == ""


def test_one_that_is_not_there(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = no_domain()
    ran = xm("list", "web")
    assert (ran.status, ran.out, ran.err) == (1, "", 'xm: there is no domain of the name "web"\n')


def test_by_state(xm: Xm) -> None:
    assert xm("list", "--state=crashed").out == f"{HEADER}\n{LISTED.splitlines()[5]}\n"
    assert xm("list", "--state", "odd").status == 2


def test_for_programs(xm: Xm) -> None:
    assert json.loads(xm("list", "--json").out) == DOMAINS
    assert json.loads(xm("list", "-l", "--json").out) == DOMAINS


def test_everything_as_text(xm: Xm) -> None:
    blocks = xm("list", "-l").out.split("\n\n")
    assert len(blocks) == len(DOMAINS)
    assert "config.notes           : one\nconfig.notes           : two" in blocks[1]
    assert "autostart              : no\n" in blocks[1]
    assert "domid                  : -\n" in blocks[5]


def test_the_names_only_for_completion_scripts(xm: Xm) -> None:
    assert xm("list", "--names").out == "web\nidle\nheld\nbad\nlater\n"


def test_a_hostile_name_is_harmless(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [domain("\x1b[2Jé\n")]}
    assert xm("list").out.splitlines()[1].startswith("\\x1b[2Jé\\n ")
