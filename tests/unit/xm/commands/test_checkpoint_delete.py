"""`xm checkpoint-delete`."""

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend
from xenion.api.errors import ApiError


def test_deleted(xm: Xm, xend: FakeXend) -> None:
    xend.answers["delete_checkpoint"] = {}
    ran = xm("checkpoint-delete", "web", "one", "two")
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    assert [asked.parameters for asked in xend.asked] == [
        {"domain": "web", "checkpoint": name} for name in ("one", "two")
    ]


def test_one_that_is_not_there(xm: Xm, xend: FakeXend) -> None:
    xend.answers["delete_checkpoint"] = ApiError("no-such-checkpoint", 'web has no checkpoint "one"')
    ran = xm("checkpoint-delete", "web", "one")
    assert (ran.status, ran.err) == (1, 'xm: web has no checkpoint "one"\n')


@pytest.mark.parametrize("words", [(), ("web",)])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("checkpoint-delete", *words).status == 2
    assert xend.asked == []
