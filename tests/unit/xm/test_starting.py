"""What is behind `xm create` and `xm start` and not seen in their own tests."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain
from xenion.api.errors import ApiError
from xenion.xm.starting import is_not_paused


def test_paused_or_not() -> None:
    assert is_not_paused(None)
    assert is_not_paused(domain())
    assert not is_not_paused(domain(state="paused"))


@pytest.mark.parametrize("words", [["create", "CONFIG"], ["start", "web"]])
def test_a_failure_says_nothing_on_standard_output(
    xm: Xm, xend: FakeXend, config: object, words: list[str]
) -> None:
    xend.answers[words[0]] = ApiError("failed", "no")
    ran = xm(*[str(config) if word == "CONFIG" else word for word in words])
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.endswith("xm: no\n")
