"""`xm new`."""

import json
from pathlib import Path

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain


def test_a_domain_is_defined(xm: Xm, xend: FakeXend, config: Path) -> None:
    xend.answers["define"] = domain(domid=None, state="defined")
    ran = xm("new", config, "memory=77")
    assert (ran.status, ran.out) == (0, "Defined domain web\n")
    assert ran.err == "note: latency: not supported yet\n"
    assert xend.asked[0].body["config"]["memory_mib"] == 77
    assert xm("new", "-q", "-f", config).out == ""
    assert json.loads(xm("new", "--json", config).out)["state"] == "defined"


def test_asked_again_when_the_connection_breaks(xm: Xm, xend: FakeXend, config: Path) -> None:
    xend.answers["define"] = Series([Broken(), domain()])
    assert xm("new", "-q", config).status == 0
    assert len(xend.asked) == 2
