"""`xm checkpoint-list`."""

import json
import time
from typing import Any

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend
from xenion.api.errors import ApiError


def one(name: str, **more: Any) -> dict[str, Any]:
    made = {"name": name, "path": f"/state/{name}.saved", "created_at": 1e9, "size": 3 << 19}
    return {**made, "disks": True, "there": True, **more}


def test_listed(xm: Xm, xend: FakeXend) -> None:
    xend.answers["checkpoints"] = {
        "checkpoints": [one("first"), one("bad\x1b[2J", disks=False), one("gone", there=False)]
    }
    head, *lines = xm("checkpoint-list", "web").out.splitlines()
    made = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(1e9))
    assert head.split() == ["Name", "Made", "MiB", "Disks", "File"]
    assert lines[0].split() == ["first", *made.split(), "1.5", "yes", "/state/first.saved"]
    assert lines[1].split()[-2] == "no"
    assert "\x1b" not in lines[1]
    assert lines[2].split()[3:5] == ["lost", "yes"]
    assert xend.asked[0].parameters == {"domain": "web"}


def test_json(xm: Xm, xend: FakeXend) -> None:
    xend.answers["checkpoints"] = {"checkpoints": [one("first")]}
    assert json.loads(xm("checkpoint-list", "--json", "web").out) == [one("first")]


def test_refused(xm: Xm, xend: FakeXend) -> None:
    xend.answers["checkpoints"] = ApiError("no-such-domain", 'there is no domain of the name "web"')
    assert xm("checkpoint-list", "web").err == 'xm: there is no domain of the name "web"\n'


@pytest.mark.parametrize("words", [(), ("web", "db")])
def test_wrong_words(xm: Xm, xend: FakeXend, words: tuple[str, ...]) -> None:
    assert xm("checkpoint-list", *words).status == 2
    assert xend.asked == []
