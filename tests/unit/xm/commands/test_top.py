"""`xm top` in batch mode; test_screen.py drives the live one."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import INFO, FakeXend, domain, host
from xenion.xm.usage import HEADER


@pytest.fixture(autouse=True)
def answers(xend: FakeXend) -> None:
    xend.answers.update(info=INFO, list={"domains": [host(), domain()]})


def test_samples_one_after_the_other(xm: Xm, xend: FakeXend) -> None:
    ran = xm("top", "-b", "-i", "3", "-d", "0.01")
    assert ran.status == 0
    assert ran.out.count(HEADER) == 3
    assert ran.out.count("\nweb ") == 3
    assert xend.actions() == ["info", "list"] * 3


def test_for_programs(xm: Xm) -> None:
    (line,) = xm("top", "-b", "-i", "1", "--json").out.splitlines()
    rows = json.loads(line)["domains"]
    assert [(row["name"], row["cpu_percent"]) for row in rows] == [("Domain-0", 0.0), ("web", 0.0)]


@pytest.mark.parametrize("words", [[], ["-i", "3"], ["--json"], ["-b", "-d", "0"]])
def test_wrong_usage(xm: Xm, words: list[str]) -> None:
    ran = xm("top", *words)
    assert ran.status == 2
    assert ran.err.count("\n") == 1
