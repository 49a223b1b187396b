"""`xm network-detach`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, interface, interfaces


@pytest.mark.parametrize(
    ("word", "device"), [("0", "0"), ("007", "7"), ("00:16:3E:00:00:01", "00:16:3e:00:00:01")]
)
def test_an_interface_goes(xm: Xm, xend: FakeXend, word: str, device: str) -> None:
    xend.answers["detach_interface"] = {}
    ran = xm("network-detach", "web", word)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert (xend.asked[0].parameters, xend.asked[0].query) == ({"domain": "web", "device": device}, {})


def test_by_force(xm: Xm, xend: FakeXend) -> None:
    xend.answers["detach_interface"] = {}
    assert xm("network-detach", "web", "0", "--force").status == 0
    assert xend.asked[0].query == {"force": "true"}


@pytest.mark.parametrize("word", ["1", "00:16:3e:00:00:01"])
def test_the_connection_breaks(xm: Xm, xend: FakeXend, word: str) -> None:
    there, gone = interfaces(interface(0), interface(1)), interfaces(interface(0))
    xend.answers.update(detach_interface=Broken(), interfaces=Series([there, gone]))
    assert xm("network-detach", "web", word).status == 0
    assert xend.actions() == ["detach_interface", "interfaces"] * 2


@pytest.mark.parametrize("word", ["", "eth0", "-1", "01:00:00:00:00:00", "123456"])
def test_what_is_no_interface(xm: Xm, xend: FakeXend, word: str) -> None:
    ran = xm("network-detach", "web", word)
    assert ran.status == 2
    assert xend.asked == []
