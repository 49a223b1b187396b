"""`xm resume`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, task
from xenion.api.errors import ApiError


def test_resumed(xm: Xm, xend: FakeXend) -> None:
    xend.answers["resume"] = task(action="resume", result={"domain": domain(domid=7)})
    ran = xm("resume", "web")
    assert (ran.status, ran.out, ran.err) == (0, "web goes on\n", "")
    assert json.loads(xm("resume", "-p", "--json", "web").out) == {"domain": domain(domid=7)}
    assert [asked.body for asked in xend.asked if asked.body] == [{"paused": False}, {"paused": True}]


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["resume"] = ApiError("wrong-state", "web is not suspended")
    assert xm("resume", "web").err == "xm: web is not suspended\n"


@pytest.mark.parametrize("words", [(), ("web", "db")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("resume", *words).status == 2
    assert xend.asked == []
