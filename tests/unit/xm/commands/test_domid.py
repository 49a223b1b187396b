"""`xm domid`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain


def test_an_id(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = domain(domid=9)
    assert xm("domid", "web").out == "9\n"
    assert xm("domid", "--json", "web").out == "9\n"


def test_a_domain_without(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = domain(domid=None)
    ran = xm("domid", "web")
    assert (ran.status, ran.err) == (1, "xm: web is defined and does not run: it has no id\n")
    assert xm("domid", "--json", "web").out == "null\n"
