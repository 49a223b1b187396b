"""`xm mem-set`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend


@pytest.mark.parametrize(("word", "mib"), [("96", 96), ("1g", 1024), ("2048k", 2), ("64M", 64)])
def test_the_amount_is_in_mib_or_has_a_unit(xm: Xm, xend: FakeXend, word: str, mib: int) -> None:
    xend.answers["set_memory"] = {}
    assert xm("mem-set", "web", word).status == 0
    assert xend.asked[0].body == {"mib": mib}


@pytest.mark.parametrize("word", ["0", "1k", "1.5g", "much", "", "3t", "9" * 30, "12x"])
def test_amounts_that_cannot_be(xm: Xm, word: str) -> None:
    ran = xm("mem-set", "web", word)
    assert (ran.status, len(ran.err.splitlines())) == (2, 1)
    assert "MEMORY" in ran.err
