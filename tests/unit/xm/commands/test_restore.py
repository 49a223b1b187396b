"""`xm restore`."""

import json
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, domain, task
from xenion.api.errors import ApiError


@pytest.fixture(autouse=True)
def restored(xend: FakeXend) -> None:
    xend.answers["restore"] = task(action="restore", result={"domain": domain(domid=7)})


def test_restored(xm: Xm, xend: FakeXend) -> None:
    ran = xm("restore", "/saves/web")
    assert (ran.status, ran.out, ran.err) == (0, "web goes on from /saves/web\n", "")
    assert xend.asked[0].body == {"path": "/saves/web", "paused": False, "force": False, "back": False}


def test_where_we_are(xm: Xm, xend: FakeXend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(xm("restore", "-p", "-f", "-b", "--json", "here").out) == {"domain": domain(domid=7)}
    assert xend.asked[0].body == {
        "path": str(tmp_path / "here"),
        "paused": True,
        "force": True,
        "back": True,
    }


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["restore"] = ApiError("refused", "/saves/web: it is damaged")
    ran = xm("restore", "/saves/web")
    assert (ran.status, ran.out, ran.err) == (2, "", "xm: /saves/web: it is damaged\n")


def test_one_that_fails_on_its_way(xm: Xm, xend: FakeXend) -> None:
    error = {"code": "refused", "message": "the saved domain cannot go on: it is damaged"}
    xend.answers["restore"] = task("failed", action="restore", error=error)
    ran = xm("restore", "/saves/web")
    assert (ran.status, ran.err) == (2, "xm: the saved domain cannot go on: it is damaged\n")


@pytest.mark.parametrize("words", [(), ("a", "b")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("restore", *words).status != 0
    assert xend.asked == []
