"""`xm start`."""

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, task
from xenion.api.errors import ApiError


def test_a_managed_domain_is_started(xm: Xm, xend: FakeXend) -> None:
    xend.answers["start"] = task(result={"domain": domain(domid=7)})
    ran = xm("start", "-p", "web")
    assert (ran.status, ran.out) == (0, "Started domain web (id=7)\n")
    (asked,) = xend.asked
    assert asked.parameters == {"domain": "web"}
    assert asked.body["paused"] is True
    assert asked.body.keys() == {"paused", "request"}


def test_one_that_runs(xm: Xm, xend: FakeXend) -> None:
    xend.answers["start"] = ApiError("wrong-state", "web is running already")
    ran = xm("start", "web")
    assert (ran.status, ran.err) == (1, "xm: web is running already\n")
