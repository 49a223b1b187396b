"""`xm vcpu-set`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend


def test_the_guest_is_asked(xm: Xm, xend: FakeXend) -> None:
    xend.answers["set_vcpus"] = {}
    assert xm("vcpu-set", "web", "3").status == 0
    assert xend.asked[0].body == {"vcpus": 3}


@pytest.mark.parametrize("count", ["0", "65", "-1", "two"])
def test_counts_that_cannot_be(xm: Xm, count: str) -> None:
    ran = xm("vcpu-set", "web", count)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert "VCPUS" in ran.err or count == "-1"
