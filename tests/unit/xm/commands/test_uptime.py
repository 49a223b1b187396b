"""`xm uptime`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, host

DOMAINS = [host(uptime_seconds=200000.0), domain(), domain("later", None, uptime_seconds=None)]


def test_of_all_that_run(xm: Xm, xend: FakeXend) -> None:
    xend.answers["list"] = {"domains": DOMAINS}
    lines = xm("uptime").out.splitlines()
    assert lines[0].split() == ["Name", "ID", "Uptime"]
    assert lines[1].endswith("   0 2 days,  7:33:20")
    assert lines[2] == f"{'web':<33}    1 1:02:05"
    assert len(lines) == 3
    assert xm("uptime", "-s").out == "200000\n3725\n"
    shown = json.loads(xm("uptime", "--json").out)
    assert shown[1] == {"name": "web", "domid": 1, "uptime_seconds": 3725.5}


def test_of_some(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = DOMAINS[2]
    assert xm("uptime", "later").out.splitlines()[1].split() == ["later", "-", "-"]
    assert xm("uptime", "-s", "later").out == "0\n"
