"""`xm suspend`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, task
from xenion.api.errors import ApiError


@pytest.mark.parametrize(("words", "as_it_stands"), [((), False), (("-s",), True)])
def test_suspended(xm: Xm, xend: FakeXend, words: tuple[str, ...], as_it_stands: bool) -> None:
    xend.answers["suspend"] = task(action="suspend", result={"size": 5, "remarks": ["late"]})
    ran = xm("suspend", *words, "web")
    assert (ran.status, ran.out, ran.err) == (0, "", "xm: late\n")
    assert xend.asked[0].parameters == {"domain": "web"}
    assert xend.asked[0].body == {"as_it_stands": as_it_stands}


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["suspend"] = ApiError("wrong-state", "web is not a managed domain")
    assert xm("suspend", "web").err == "xm: web is not a managed domain\n"


@pytest.mark.parametrize("words", [(), ("web", "db")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("suspend", *words).status == 2
    assert xend.asked == []
