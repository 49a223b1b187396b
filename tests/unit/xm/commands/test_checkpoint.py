"""`xm checkpoint`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, task
from xenion.api.errors import ApiError

RESULT = {"name": "now", "path": "/state/now.saved", "size": 5, "held_s": 0.0124, "remarks": []}


@pytest.fixture(autouse=True)
def kept(xend: FakeXend) -> None:
    xend.answers["checkpoint"] = task(action="checkpoint", result=RESULT)


def test_kept(xm: Xm, xend: FakeXend) -> None:
    ran = xm("checkpoint", "web")
    assert (ran.status, ran.out, ran.err) == (0, "web is kept as now; it stood still for 12 ms\n", "")
    assert xend.asked[0].parameters == {"domain": "web"}
    assert xend.asked[0].body == {"name": "", "suspend": False}


def test_under_a_name(xm: Xm, xend: FakeXend) -> None:
    assert json.loads(xm("checkpoint", "-S", "--json", "web", "before").out) == RESULT
    assert xend.asked[0].body == {"name": "before", "suspend": True}


def test_remarks_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["checkpoint"] = task(result={**RESULT, "remarks": ["it is saved as it stands"]})
    assert xm("checkpoint", "web").err == "xm: it is saved as it stands\n"


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["checkpoint"] = ApiError("refused", "disk xvda: a checkpoint cannot keep what is on it")
    ran = xm("checkpoint", "web")
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == "xm: disk xvda: a checkpoint cannot keep what is on it\n"


@pytest.mark.parametrize("words", [(), ("web", "a", "b")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("checkpoint", *words).status == 2
    assert xend.asked == []
