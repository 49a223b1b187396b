"""`xm info`."""

import json

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import INFO, FakeXend


def test_for_people(xm: Xm, xend: FakeXend) -> None:
    xend.answers["info"] = INFO
    lines = xm("info").out.splitlines()
    assert lines[0] == "host                   : box"
    assert "total_memory           : 4096" in lines
    assert "free_memory            : 1000" in lines
    assert "processor_notes        : second" in lines
    assert "xenstore_socket        : -" in lines
    assert any(line.startswith("xend_started_at        : 19") for line in lines)


def test_for_programs(xm: Xm, xend: FakeXend) -> None:
    xend.answers["info"] = INFO
    assert json.loads(xm("info", "--json").out) == INFO
