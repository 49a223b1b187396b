"""`xm checkpoint-restore`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, task


@pytest.fixture(autouse=True)
def restored(xend: FakeXend) -> None:
    found = [{"name": name, "path": f"/state/{name}.saved"} for name in ("old", "new")]
    xend.answers["checkpoints"] = {"domain": "web", "checkpoints": found}
    xend.answers["restore"] = task(action="restore", result={"domain": domain(domid=7)})


@pytest.mark.parametrize(("words", "name"), [((), "new"), (("old",), "old"), (("new",), "new")])
def test_restored(xm: Xm, xend: FakeXend, words: tuple[str, ...], name: str) -> None:
    ran = xm("checkpoint-restore", "web", *words)
    assert (ran.status, ran.out, ran.err) == (0, f"web goes on from {name}\n", "")
    assert xend.asked[0].parameters == {"domain": "web"}
    assert xend.asked[1].body == {
        "path": f"/state/{name}.saved",
        "name": "web",
        "paused": False,
        "back": True,
    }


def test_paused(xm: Xm, xend: FakeXend) -> None:
    assert json.loads(xm("checkpoint-restore", "-p", "--json", "web").out) == {"domain": domain(domid=7)}
    assert xend.asked[1].body == {"path": "/state/new.saved", "name": "web", "paused": True, "back": True}


def test_one_that_is_not_there(xm: Xm, xend: FakeXend) -> None:
    ran = xm("checkpoint-restore", "web", "other")
    assert (ran.status, ran.out) == (1, "")
    assert 'web has no checkpoint "other": `xm checkpoint-list web`' in ran.err
    xend.answers["checkpoints"] = {"domain": "web", "checkpoints": []}
    assert "web has no checkpoints" in xm("checkpoint-restore", "web").err
    assert [asked.action for asked in xend.asked] == ["checkpoints"] * 2


@pytest.mark.parametrize("words", [(), ("web", "a", "b")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("checkpoint-restore", *words).status == 2
    assert xend.asked == []
