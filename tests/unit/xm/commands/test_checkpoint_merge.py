"""`xm checkpoint-merge`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, task
from xenion.api.errors import ApiError


@pytest.mark.parametrize(
    ("merged", "said"),
    [(0, "web has nothing to merge\n"), (1, "1 file of web merged\n"), (3, "3 files of web merged\n")],
)
def test_merged(xm: Xm, xend: FakeXend, merged: int, said: str) -> None:
    xend.answers["merge_checkpoints"] = task(action="merge_checkpoints", result={"merged": merged})
    ran = xm("checkpoint-merge", "web")
    assert (ran.status, ran.out, ran.err) == (0, said, "")
    assert xend.asked[0].parameters == {"domain": "web"}
    assert json.loads(xm("checkpoint-merge", "--json", "web").out) == {"merged": merged}


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["merge_checkpoints"] = ApiError("wrong-state", "web runs on what would be merged")
    ran = xm("checkpoint-merge", "web")
    assert (ran.status, ran.err) == (1, "xm: web runs on what would be merged\n")


@pytest.mark.parametrize("words", [(), ("web", "db")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("checkpoint-merge", *words).status == 2
    assert xend.asked == []
