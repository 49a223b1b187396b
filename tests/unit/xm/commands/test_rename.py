"""`xm rename`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain


def test_by_uuid(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(domain=domain(), rename=domain("other"))
    ran = xm("rename", "web", "other")
    assert (ran.status, ran.out) == (0, "")
    assert xend.asked[1].parameters == {"domain": "uuid-of-web"}
    assert xend.asked[1].body == {"name": "other"}


def test_the_connection_breaks_when_it_is_done(xm: Xm, xend: FakeXend) -> None:
    xend.answers.update(domain=Series([domain(), domain(name="other")]), rename=Broken())
    assert xm("rename", "web", "other").status == 0
    assert xend.actions() == ["domain", "rename", "domain"]
