"""`xm trigger`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend


@pytest.mark.parametrize(("words", "vcpu"), [([], 0), (["3"], 3)])
def test_an_event_is_sent(xm: Xm, xend: FakeXend, words: list[str], vcpu: int) -> None:
    xend.answers["trigger"] = {}
    assert xm("trigger", "web", "nmi", *words).status == 0
    assert xend.asked[0].body == {"trigger": "nmi", "vcpu": vcpu}


def test_unknown_ones_are_refused(xm: Xm) -> None:
    assert xm("trigger", "web", "smile").status == 2
    assert xm("trigger", "web", "nmi", "-1").status == 2
    ran = xm("trigger", "web", "nmi", "64")
    said = 'xm: argument VCPU: "64" is not a whole number from 0 to 63; see "xm trigger -h"\n'
    assert (ran.status, ran.err) == (2, said)
