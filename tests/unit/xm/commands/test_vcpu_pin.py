"""`xm vcpu-pin`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend
from xenion.api.errors import ApiError


@pytest.mark.parametrize("vcpu", ["all", "0", "63"])
@pytest.mark.parametrize("cpus", ["all", "0-3,^1", "2"])
def test_a_domain_is_pinned_whichever_is_named(xm: Xm, xend: FakeXend, vcpu: str, cpus: str) -> None:
    xend.answers["set_share"] = {}
    ran = xm("vcpu-pin", "web", vcpu, cpus)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [(asked.action, asked.parameters, asked.body) for asked in xend.asked] == [
        ("set_share", {"domain": "web"}, {"cpus": cpus})
    ]


@pytest.mark.parametrize("vcpu", ["x", "", "1.5", "1000", "0-1"])
def test_vcpus_that_cannot_be(xm: Xm, xend: FakeXend, vcpu: str) -> None:
    ran = xm("vcpu-pin", "web", vcpu, "all")
    said = f'"{vcpu}" is neither a virtual CPU\'s number nor "all"; see "xm vcpu-pin -h"\n'
    assert (ran.status, ran.err, xend.asked) == (2, f"xm: argument VCPU: {said}", [])


@pytest.mark.parametrize("words", [[], ["web"], ["web", "0"], ["", "0", "1"], ["web", "0", "1", "2"]])
def test_all_three_are_needed(xm: Xm, xend: FakeXend, words: list[str]) -> None:
    ran = xm("vcpu-pin", *words)
    assert (ran.status, len(ran.err.splitlines()), xend.asked) == (2, 1, [])


def test_what_xend_says_of_the_cpus_is_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["set_share"] = ApiError("bad-request", 'cpus "x" is no list of CPUs')
    ran = xm("vcpu-pin", "web", "0", "x")
    assert (ran.status, ran.out, ran.err) == (2, "", 'xm: cpus "x" is no list of CPUs\n')
