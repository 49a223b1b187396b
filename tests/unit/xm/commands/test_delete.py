"""`xm delete`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, no_domain


def test_several_are_forgotten(xm: Xm, xend: FakeXend) -> None:
    xend.answers["delete"] = {}
    ran = xm("delete", "web", "mail")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [asked.parameters["domain"] for asked in xend.asked] == ["web", "mail"]


def test_the_connection_breaks_when_it_is_done(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(delete=Broken(), domain=no_domain())
    assert xm("delete", "web").status == 0
    assert xend.actions() == ["delete", "domain"]


def test_the_connection_breaks_before_it_is_done(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(delete=Series([Broken(), {}]), domain=no_domain())
    xend.answers["domain"] = {"state": "defined"}
    assert xm("delete", "web").status == 0
    assert xend.actions() == ["delete", "domain", "delete"]
