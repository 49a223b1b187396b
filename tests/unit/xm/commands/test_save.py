"""`xm save`."""

import json
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, task
from xenion.api.errors import ApiError

RESULT = {"path": "/saves/web", "size": 5, "remarks": []}


@pytest.fixture(autouse=True)
def saved(xend: FakeXend) -> None:
    xend.answers["save"] = task(action="save", result=RESULT)


def test_saved(xm: Xm, xend: FakeXend) -> None:
    ran = xm("save", "web", "/saves/web")
    assert (ran.status, ran.out, ran.err) == (0, "The domain is in /saves/web\n", "")
    (asked,) = xend.asked
    assert asked.parameters == {"domain": "web"}
    assert asked.body == {"path": "/saves/web", "keep": False, "as_it_stands": False}


def test_where_we_are(xm: Xm, xend: FakeXend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(xm("save", "-c", "--json", "web", "here").out) == RESULT
    assert xend.asked[0].body == {"path": str(tmp_path / "here"), "keep": True, "as_it_stands": False}


def test_remarks_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["save"] = task(result={**RESULT, "remarks": ["xvda: nobody can tell"]})
    ran = xm("save", "web", "here")
    assert (ran.status, ran.err) == (0, "xm: xvda: nobody can tell\n")


def test_names_are_shown_safely(xm: Xm, xend: FakeXend) -> None:
    xend.answers["save"] = task(result={**RESULT, "path": "/a\x1b[2Jb"})
    assert "\x1b" not in xm("save", "web", "here").out


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["save"] = ApiError("refused", "web would go on and write to xvda")
    ran = xm("save", "--checkpoint", "web", "here")
    assert (ran.status, ran.out, ran.err) == (2, "", "xm: web would go on and write to xvda\n")


def test_memory_alone(xm: Xm, xend: FakeXend) -> None:
    xend.answers["save"] = task(action="save", result={**RESULT, "held_s": 0.002})
    assert "stood still for 2 ms" in xm("save", "-c", "-m", "web", "/saves/web").out
    body = {"path": "/saves/web", "keep": True, "as_it_stands": False, "memory_only": True}
    assert xend.asked[0].body == body


@pytest.mark.parametrize("words", [(), ("web",), ("web", "a", "b"), ("-m", "web", "a")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("save", *words).status != 0
    assert xend.asked == []
