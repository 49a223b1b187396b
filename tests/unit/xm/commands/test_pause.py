"""`xm pause`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain


def test_domains_are_paused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["pause"] = {}
    assert xm("pause", "web", "2").status == 0
    assert [asked.parameters["domain"] for asked in xend.asked] == ["web", "2"]


def test_the_connection_breaks(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(pause=Broken(), domain=Series([domain(), domain(state="paused")]))
    assert xm("pause", "web").status == 0
    assert xend.actions() == ["pause", "domain", "pause", "domain"]
