"""`xm vcpu-list`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, domain, host, no_domain, vcpu


def test_of_all_that_run(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": [host(), domain(), domain("gone", 2), domain("later", None)]}
    xend.answers["vcpus"] = Series(
        [{"vcpus": [vcpu("Domain-0", 0)]}, {"vcpus": [vcpu(state="offline", cpu=None)]}, no_domain()]
    )
    ran = xm("vcpu-list")
    assert ran.out.splitlines() == [
        "Name                                ID  VCPU   CPU State   Time(s) CPU Affinity",
        "Domain-0                             0     0     1   r--       5.0 any",
        "web                                  1     0     -   ---       5.0 any",
    ]
    assert ran.status == 0


def test_of_some(xm: Xm, xend: FakeXend) -> None:
    xend.answers["vcpus"] = Series([{"vcpus": [vcpu()]}, no_domain("x")])
    ran = xm("vcpu-list", "--json", "web", "x")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "x"\n')
    assert json.loads(ran.out) == [vcpu()]
