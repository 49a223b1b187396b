"""`xm network-list`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Series, interface, interfaces, no_domain

FORWARD = {"protocol": "tcp", "host_address": "127.0.0.1", "host_port": 8022, "guest_port": 22}
SECOND = interface(
    1,
    attachment="isolated",
    network="lab",
    state="closed",
    addresses=["10.0.0.1"],
    forwards=[FORWARD, {**FORWARD, "host_address": "::1"}],
)


def test_a_table(xm: Xm, xend: FakeXend) -> None:
    xend.answers["interfaces"] = interfaces(interface(), SECOND)
    ran = xm("network-list", "web")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines() == [
        "Name                     Idx MAC Addr.         State        Network                  Addresses and forwards",
        "web                        0 00:16:3e:00:00:00 connected    user                     -",
        "web                        1 00:16:3e:00:00:01 closed       isolated lab             "
        "10.0.0.1 tcp:127.0.0.1:8022:22 tcp:[::1]:8022:22",
    ]


def test_of_several(xm: Xm, xend: FakeXend) -> None:
    xend.answers["interfaces"] = Series([interfaces(interface()), no_domain("x")])
    ran = xm("network-list", "--json", "web", "x")
    assert (ran.status, ran.err) == (1, 'xm: there is no domain of the name "x"\n')
    assert json.loads(ran.out) == [{"domain": "web", "domid": 1, **interface()}]


def test_everything(xm: Xm, xend: FakeXend) -> None:
    xend.answers["interfaces"] = interfaces(SECOND)
    assert "forwards.1.host_address : ::1\n" in xm("network-list", "-l", "web").out
