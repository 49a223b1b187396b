"""Over the Unix socket, as clients see it."""

import asyncio
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.xend.web.kit import Fakes, Serving, ask, head_of, sample
from xenion.api.actions import ACTIONS, Action
from xenion.api.errors import STATUSES, ApiError
from xenion.xend.call import Call
from xenion.xend.web.app import make_app

AT = {
    "domain": "guest-1",
    "task": "t1",
    "uuid": "u1",
    "vdev": "xvda",
    "device": "0",
    "capture": "1",
    "checkpoint": "c",
}
PLAIN = [action for action in ACTIONS if action.kind == "json"]


@pytest.mark.parametrize("action", PLAIN, ids=lambda action: action.name)
def test_each_action_reaches_its_handler(serving: Serving, fakes: Fakes, action: Action) -> None:
    path = action.path.format(**AT)
    body = None if action.body is None else {**sample(action.body), **SMALL.get(action.name, {})}
    answer = serving.ask(action.method, path, body)
    assert (answer.status, answer.value) == (action.status, sample(action.result))
    ((name, call),) = fakes.calls
    assert name == action.name
    assert dict(call.body) == (body or {})
    assert set(call.parameters.values()) <= set(AT.values())


SMALL: dict[str, dict[str, Any]] = {"sysrq": {"key": "s"}}
"""What `sample` cannot know of."""


def test_the_peer_is_who_connected(serving: Serving, fakes: Fakes) -> None:
    serving.ask("GET", "/v1/info")
    who = fakes.last.peer.who
    assert f" pid {os.getpid()} (" in who


def test_answers_are_json_and_not_kept(serving: Serving) -> None:
    for path in ("/v1/info", "/", "/v1", "/v1/openapi.json", "/nowhere"):
        answer = serving.ask("GET", path)
        assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
        assert answer.headers["Cache-Control"] == "no-store"


def test_index_names_the_document(serving: Serving) -> None:
    for path in ("/", "/v1"):
        answer = serving.ask("GET", path)
        assert answer.value["name"] == "xend"
        assert serving.ask("GET", answer.value["openapi"]).value["openapi"].startswith("3.1")


def test_one_connection_takes_many_requests(serving: Serving) -> None:
    with serving.http() as client:
        assert [ask(client, "GET", "/v1/info").status for _ in range(5)] == [200] * 5


def test_requests_sent_at_once_are_answered_in_order(serving: Serving, fakes: Fakes) -> None:
    request = b"GET /v1/domains/%s HTTP/1.1\r\nHost: x\r\n%s\r\n"
    answer = serving.talk(request % (b"a", b"") + request % (b"b", b"Connection: close\r\n"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert [call.parameters["domain"] for _, call in fakes.calls] == ["a", "b"]


def test_curl_understands_the_answers(serving: Serving) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not here: install curl")
    done = subprocess.run(
        [curl, "-sS", "--unix-socket", serving.path, "http://xend/v1/info"], capture_output=True, check=True
    )
    assert json.loads(done.stdout)["host"] == "some"


# --- errors of handlers


@pytest.mark.parametrize("code", STATUSES)
def test_a_refusal_has_its_status_and_sentence(serving: Serving, fakes: Fakes, code: str) -> None:
    async def refuse(call: Call) -> Any:
        raise ApiError(code, "A sentence.")

    fakes.replaced["destroy"] = refuse
    answer = serving.ask("POST", "/v1/domains/a/destroy")
    assert answer.status == STATUSES[code]
    assert answer.value == {"error": {"code": code, "message": "A sentence."}}


@pytest.mark.parametrize("name", ["destroy", "domain", "events"])
def test_a_bug_is_one_sentence_to_the_client_and_a_traceback_in_the_log(
    serving: Serving, fakes: Fakes, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async def break_(call: Call) -> Any:
        raise ZeroDivisionError("secret detail")

    fakes.replaced[name] = break_
    method, path = {
        "destroy": ("POST", "/v1/domains/a/destroy"),
        "domain": ("GET", "/v1/domains/a"),
        "events": ("GET", "/v1/events"),
    }[name]
    answer = serving.ask(method, path)
    assert answer.refusal == (500, "failed")
    assert "secret" not in answer.value["error"]["message"]
    assert "ZeroDivisionError: secret detail" in caplog.text


def test_an_answer_that_is_no_json_is_a_bug(
    serving: Serving, fakes: Fakes, caplog: pytest.LogCaptureFixture
) -> None:
    async def answer(call: Call) -> Any:
        return object()

    fakes.replaced["info"] = answer
    assert serving.ask("GET", "/v1/info").refusal == (500, "failed")
    assert caplog.records[-1].levelno == logging.ERROR


def test_an_action_without_handler_is_found_at_once(fakes: Fakes) -> None:
    handlers = fakes.handlers()
    del handlers["sysrq"]
    with pytest.raises(KeyError, match="sysrq"):
        make_app(handlers)


# --- paths and methods


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("HEAD", "/v1/info", "GET"),
        ("OPTIONS", "/v1/domains", "GET, POST"),
        ("DELETE", "/v1/domains", "GET, POST"),
        ("TRACE", "/", "GET"),
        ("BREW", "/v1/managed/a", "DELETE"),
        ("POST", "/v1/tasks/a", "DELETE, GET"),
        ("POST", "/v1/openapi.json", "GET"),
    ],
)
def test_a_method_that_a_path_has_not(serving: Serving, method: str, path: str, allowed: str) -> None:
    answer = serving.ask(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"] == allowed
    if method != "HEAD":
        assert answer.refusal == (405, "method-not-allowed")


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/v1/",
        "/v1/info/",
        "/v1//info",
        "//v1/info",
        "/v1/domains/",
        "/v1/domains//vcpus",
        "/v1/domains/a/../b",
        "/v1/./info",
        "/%76%31/info",
        "/V1/info",
        "/v2/info",
        "/v1/domains/a/vcpus/b",
        "/v1/info;x",
        "http://xend/v1/info",
    ],
)
def test_an_unknown_path(serving: Serving, fakes: Fakes, path: str) -> None:
    assert serving.ask("GET", path).refusal == (404, "not-found")
    assert not fakes.calls


@pytest.mark.parametrize(
    "name",
    [
        "a%2fvcpus",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e",
        "..",
        ".",
        "%00",
        "a%00b",
        "%ff%fe",
        "%c3%a9",
        "a%0ab",
        "a%20b",
        "%252e",
        "%",
        "~",
        "x" * 65,
        "x" * 20000,
        "%61" * 65,
    ],
)
def test_path_tricks_are_no_names(serving: Serving, fakes: Fakes, name: str) -> None:
    for method, path, code in (
        ("GET", f"/v1/domains/{name}", "no-such-domain"),
        ("POST", f"/v1/domains/{name}/destroy", "no-such-domain"),
        ("GET", f"/v1/tasks/{name}", "no-such-task"),
        ("GET", f"/v1/outcomes/{name}", "no-such-domain"),
        ("DELETE", f"/v1/domains/web/checkpoints/{name}", "no-such-checkpoint"),
        ("DELETE", f"/v1/domains/{name}/checkpoints/one", "no-such-domain"),
    ):
        answer = serving.ask(method, path)
        assert answer.refusal == (404, code)
        assert len(answer.value["error"]["message"]) < 300
    assert not fakes.calls


def test_names_are_decoded_once(serving: Serving, fakes: Fakes) -> None:
    serving.ask("GET", "/v1/domains/web%2D1%2b")
    assert fakes.last.parameters == {"domain": "web-1+"}


# --- queries and bodies


def test_queries_come_as_their_types(serving: Serving, fakes: Fakes) -> None:
    serving.ask("GET", "/v1/tasks/t?wait=0.5&seen=7")
    assert fakes.last.query == {"wait": 0.5, "seen": 7}
    serving.ask("GET", "/v1/log?since=5&uuid=a%20b")
    assert fakes.last.query == {"since": 5, "uuid": "a b"}
    serving.ask("GET", "/v1/log")
    assert fakes.last.query == {}


@pytest.mark.parametrize(
    "query",
    [
        "wait=61",
        "wait=-1",
        "wait=nan",
        "wait=inf",
        "wait=x",
        "wait=",
        "seen=1.5",
        "seen=99999999999999999999",
        "seen=" + "9" * 5000,
        "wait=1&wait=2",
        "other=1",
        "wait",
        "wait=%ff",
        "&".join(f"a{n}=1" for n in range(100)),
    ],
)
def test_a_bad_query(serving: Serving, fakes: Fakes, query: str) -> None:
    answer = serving.ask("GET", f"/v1/tasks/t?{query}")
    assert answer.refusal == (400, "bad-request")
    assert answer.value["error"]["message"].endswith(".")
    assert not fakes.calls


def test_an_action_without_query_takes_none(serving: Serving) -> None:
    assert serving.ask("POST", "/v1/domains/a/destroy?force=1").refusal == (400, "bad-request")


def test_an_empty_body_is_an_empty_object(serving: Serving, fakes: Fakes) -> None:
    assert serving.ask("POST", "/v1/domains/a/start").status == 202
    assert serving.ask("POST", "/v1/domains/a/start", b"").status == 202
    assert serving.ask("POST", "/v1/domains/a/destroy", {}).status == 200
    answer = serving.ask("POST", "/v1/domains/a/rename")
    assert answer.refusal == (400, "bad-request")
    assert "`name`" in answer.value["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"3",
        b'{"name": "a"} x',
        b'{"name": NaN}',
        b'{"name": "a", "name": "b"}',
        b'{"name": "\xff"}',
        b'{"name": "\\ud800"}',
        b'\xef\xbb\xbf{"name": "a"}',
        b'{"name": 1}',
        b'{"name": null}',
        b'{"name": ""}',
        b'{"name": "' + b"x" * 65 + b'"}',
        b'{"name": "a", "more": 1}',
        b"[" * 100_000,
        b'{"a":' * 5000,
        b"'name'",
        b"\0",
    ],
)
def test_a_bad_body(serving: Serving, fakes: Fakes, body: bytes) -> None:
    answer = serving.ask("POST", "/v1/domains/a/rename", body)
    assert answer.refusal == (400, "bad-request")
    assert not fakes.calls


@pytest.mark.parametrize(
    "config",
    [
        '{"a": 1, "a": 2}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        '{"a": ' + "9" * 400 + "}",
        '{"a": ' + "9" * 5000 + "}",
        '{"a": 18446744073709551616}',
        '{"a": ' + "[" * 40 + "]" * 40 + "}",
        '{"a": ' + "[" * 900 + "]" * 900 + "}",
    ],
)
def test_a_configuration_that_no_two_readers_agree_on(serving: Serving, fakes: Fakes, config: str) -> None:
    answer = serving.ask("POST", "/v1/managed", b'{"config": %s}' % config.encode())
    assert answer.refusal == (400, "bad-request")
    assert not fakes.calls


def test_a_body_must_be_sent_as_json(serving: Serving, fakes: Fakes) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "", "application/json; charset=latin-1"):
        answer = serving.ask("POST", "/v1/domains/a/rename", {"name": "b"}, Content_Type=kind)
        assert answer.refusal == (415, "bad-request")
    assert not fakes.calls
    for kind in ("application/json", "Application/JSON; Charset=UTF-8"):
        assert serving.ask("POST", "/v1/domains/a/rename", {"name": "b"}, Content_Type=kind).status == 200


# --- clients that go


def test_a_long_poll_ends_when_its_client_goes(serving: Serving, fakes: Fakes) -> None:
    ended: list[str] = []

    async def wait(call: Call) -> Any:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    fakes.replaced["task"] = wait
    with serving.connect() as client:
        client.sendall(b"GET /v1/tasks/t?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: bool(fakes.calls))
    serving.until(lambda: bool(ended))


def test_a_change_goes_on_when_its_client_goes(serving: Serving, fakes: Fakes) -> None:
    release = asyncio.Event()
    ended: list[str] = []

    async def change(call: Call) -> Any:
        try:
            await release.wait()
            ended.append("done")
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return {}

    fakes.replaced["destroy"] = change
    with serving.connect() as client:
        client.sendall(b"POST /v1/domains/a/destroy HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: bool(fakes.calls))
    serving.until(lambda: not serving.server._state.connections)

    async def let_go() -> None:
        release.set()

    serving.run(let_go())
    serving.until(lambda: bool(ended))
    assert ended == ["done"]


def test_a_slow_handler_delays_nobody_else(serving: Serving, fakes: Fakes) -> None:
    async def wait(call: Call) -> Any:
        await asyncio.Event().wait()

    fakes.replaced["task"] = wait
    with serving.connect() as client:
        client.sendall(b"GET /v1/tasks/t?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: bool(fakes.calls))
        assert serving.ask("GET", "/v1/info").status == 200


def test_the_console_says_that_it_is_a_websocket(serving: Serving, start: Callable[..., Serving]) -> None:
    answer = serving.ask("GET", "/v1/domains/a/console")
    assert answer.refusal == (426, "bad-request")
    assert "WebSocket" in answer.value["error"]["message"]


def test_garbage_is_a_clear_refusal(serving: Serving) -> None:
    for garbage in (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        answer = serving.talk(garbage)
        assert head_of(answer).startswith(b"HTTP/1.1 400")
        assert b'"code":"bad-request"' in answer
