"""`xm dump-core`."""

import json
from pathlib import Path

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, task

RESULT = {"path": "/dumps/web.core", "size": 5, "remarks": []}


@pytest.fixture(autouse=True)
def dumped(xend: FakeXend) -> None:
    xend.answers["dump"] = task(action="dump", result=RESULT)


def test_where_xend_likes(xm: Xm, xend: FakeXend) -> None:
    ran = xm("dump-core", "-L", "web")
    assert (ran.status, ran.out, ran.err) == (0, "The core is in /dumps/web.core\n", "")
    assert xend.asked[0].body == {"path": "", "live": True, "crash": False}


def test_where_we_are(xm: Xm, xend: FakeXend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert json.loads(xm("dump-core", "-C", "--json", "web", "a.core").out) == RESULT
    assert xend.asked[0].body == {"path": str(tmp_path / "a.core"), "live": False, "crash": True}


def test_remarks_are_told(xm: Xm, xend: FakeXend) -> None:
    xend.answers["dump"] = task(result={**RESULT, "remarks": ["a page was missing"]})
    assert xm("dump-core", "web").err == "xm: a page was missing\n"
