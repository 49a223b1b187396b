"""`xm config-update`."""

import json
from pathlib import Path

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import Broken, FakeXend, Series, domain


def test_the_configuration_is_sent(xm: Xm, xend: FakeXend, config: Path) -> None:
    xend.answers["configure"] = Series([Broken(), domain()])
    ran = xm("config-update", "2", config, "memory=77")
    assert (ran.status, ran.out, ran.err) == (0, "", "note: latency: not supported yet\n")
    assert len(xend.asked) == 2
    assert xend.asked[1].parameters == {"domain": "2"}
    assert xend.asked[1].body["config"]["memory_mib"] == 77
    assert json.loads(xm("config-update", "--json", "-q", "web", config).out) == domain()
