"""`xm unpause`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain


def test_domains_go_on(xm: Xm, xend: FakeXend) -> None:
    xend.answers["unpause"] = {}
    assert xm("unpause", "web", "2").status == 0
    assert [asked.parameters["domain"] for asked in xend.asked] == ["web", "2"]


def test_the_connection_breaks(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(unpause=Broken(), domain=Series([domain(state="paused"), domain()]))
    assert xm("unpause", "web").status == 0
    assert xend.actions() == ["unpause", "domain", "unpause", "domain"]
