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


def test_one_that_may_run_elsewhere(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = domain(state="paused", leaving="there:8002")
    assert xm("domstate", "web").out == "paused (it may run on there:8002)\n"
    assert json.loads(xm("domstate", "--json", "web").out)["leaving"] == "there:8002"
