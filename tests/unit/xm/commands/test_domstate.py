"""`xm domstate`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain


def test_a_state(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = domain()
    assert xm("domstate", "web").out == "running\n"
    xend.answers["domain"] = domain(state="crashed", reason="watchdog")
    assert xm("domstate", "web").out == "crashed (watchdog)\n"
    shown = json.loads(xm("domstate", "--json", "web").out)
    assert shown == {"name": "web", "state": "crashed", "reason": "watchdog"}
