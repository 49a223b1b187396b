"""`xm dmesg`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend


@pytest.mark.parametrize(("words", "action"), [([], "dmesg"), (["-c"], "clear_dmesg")])
def test_the_ring(xm: Xm, xend: FakeXend, words: list[str], action: str) -> None:
    xend.answers[action] = {"text": "(XEN) one\n(XEN) \x1b[2Jtwo"}
    assert xm("dmesg", *words).out == "(XEN) one\n(XEN) \\x1b[2Jtwo\n"
    assert json.loads(xm("dmesg", "--json", *words).out) == xend.answers[action]


def test_an_empty_one(xm: Xm, xend: FakeXend) -> None:
    xend.answers["dmesg"] = {"text": ""}
    assert xm("dmesg").out == ""
