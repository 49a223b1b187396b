"""`xm call`."""

import json

import pytest

from tests.unit.xm.conftest import Xm
from tests.unit.xm.fake_xend import FakeXend, Stream, host, task
from xenion.api.actions import ACTIONS
from xenion.api.errors import ApiError


def test_fields_become_the_body(xm: Xm, xend: FakeXend) -> None:
    xend.answers["shutdown"] = task("running")
    ran = xm("call", "post", "/v1/domains/a b/shutdown", "mode=halt", "n:=[1, null]", "e=a=b:=c")
    assert (ran.status, ran.err) == (0, "")
    assert json.loads(ran.out) == task("running")
    assert ran.out.startswith('{\n  "id": "t1"')
    assert xend.asked[0].parameters == {"domain": "a b"}
    assert xend.asked[0].body == {"mode": "halt", "n": [1, None], "e": "a=b:=c"}


def test_or_the_query(xm: Xm, xend: FakeXend) -> None:
    xend.answers["log"] = {"entries": []}
    assert xm("call", "GET", "/v1/log?last=5", "since:=3", "uuid=ab").status == 0
    assert xend.asked[0].query == {"last": "5", "since": "3", "uuid": "ab"}
    assert xend.asked[0].body is None


def test_a_refusal_is_a_failure(xm: Xm, xend: FakeXend) -> None:
    xend.answers["create"] = ApiError("bad-configuration", "it is bad")
    ran = xm("call", "POST", "/v1/domains")
    assert (ran.status, ran.out, ran.err) == (1, "", "xm: it is bad\n")
    assert xend.asked[0].body == {}


def test_events_as_they_come(xm: Xm, xend: FakeXend) -> None:
    xend.answers["events"] = Stream([{"n": 3}, {"n": 4}])
    assert xm("call", "GET", "/v1/events", "since:=2").out == '{"n": 3}\n{"n": 4}\n'
    assert xend.asked[0].query == {"since": "2"}


def test_the_list(xm: Xm, xend: FakeXend) -> None:
    lines = xm("call", "--list").out.splitlines()
    assert len(lines) == len(ACTIONS)
    assert lines[0].split(maxsplit=2) == ["GET", "/v1/info", "The host, xend and the processor"]
    assert json.loads(xm("call", "--list", "--json").out)[1]["path"] == "/v1/domains"
    assert xend.asked == []


@pytest.mark.parametrize(
    "words",
    [[], ["GET"], ["GET", "v1/log"], ["EAT", "/v1/log"], ["GET", "/v1/log", "a"], ["GET", "/v1/log", "a:=b"]],
)
def test_wrong_usage(xm: Xm, words: list[str]) -> None:
    ran = xm("call", *words)
    assert ran.status == 2
    assert ran.err.count("\n") == 1


def test_a_path_that_is_no_path(xm: Xm, xend: FakeXend) -> None:
    xend.answers["domain"] = host()
    assert xm("call", "GET", "/v1/domains/\x1b\n").status == 0
    assert xend.asked[0].parameters == {"domain": "\x1b\n"}
