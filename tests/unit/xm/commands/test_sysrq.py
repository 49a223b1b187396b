"""`xm sysrq`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend


def test_a_key_is_pressed(xm: Xm, xend: FakeXend) -> None:
    xend.answers["sysrq"] = {}
    assert xm("sysrq", "web", "s").status == 0
    assert (xend.asked[0].parameters, xend.asked[0].body) == ({"domain": "web"}, {"key": "s"})


def test_nobody_knows_whether_it_was(xm: Xm, xend: FakeXend) -> None:
    """It is not pressed again."""
    xend.answers["sysrq"] = Broken()
    assert xm("sysrq", "web", "s").status == 1
    assert xend.actions() == ["sysrq"]


@pytest.mark.parametrize("key", ["", "sb", "\u00e4", "-"])
def test_a_key_is_a_letter_or_a_digit(xm: Xm, xend: FakeXend, key: str) -> None:
    ran = xm("sysrq", "web", key)
    said = f'xm: argument KEY: "{key}" is not one letter or digit; see "xm sysrq -h"\n'
    assert (ran.status, ran.err) == (2, said)
    assert xend.asked == []
