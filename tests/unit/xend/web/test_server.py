"""How many may come, who they are, and how it ends."""

import asyncio
import http.client
import os
import resource
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.web.kit import TOKEN, Answer, Fakes, Serving, ask, head_of, read_all
from xenion.xend.call import Call
from xenion.xend.web import peers
from xenion.xend.web.app import make_app
from xenion.xend.web.limits import Limits
from xenion.xend.web.server import WebServer

FDS = Path("/proc/self/fd")
Start = Callable[..., Serving]
GET = b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n"


def waiting(fakes: Fakes, name: str) -> asyncio.Event:
    """The handler of `name` waits for it."""
    event = asyncio.Event()

    async def wait(call: Call) -> Any:
        await event.wait()
        return {}

    fakes.replaced[name] = wait
    return event


# --- numbers


def test_who_comes_beyond_the_limit_is_told_so(start: Start) -> None:
    serving = start(Limits(unix_connections=3))
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(serving.http())
            assert ask(client, "GET", "/v1/info").status == 200
        for _ in range(5):
            answer = serving.ask("GET", "/v1/info")
            assert answer.refusal == (429, "too-many")
            assert answer.headers["Connection"] == "close"
    serving.until(lambda: not serving.server._state.connections)
    assert serving.ask("GET", "/v1/info").status == 200


def test_of_very_many_beyond_the_limit_all_are_closed(start: Start) -> None:
    serving = start(Limits(unix_connections=1, refusals=2, linger_s=0.2))
    with ExitStack() as stack:
        stack.enter_context(serving.connect()).sendall(GET)
        serving.until(lambda: bool(serving.server._state.connections))
        clients = [stack.enter_context(serving.connect()) for _ in range(40)]
        answers = [read_all(client) for client in clients]
    assert sum(head_of(answer).startswith(b"HTTP/1.1 429") for answer in answers) >= 38


def connect_patiently(serving: Serving) -> socket.socket:
    """Again when more wait than the kernel lets wait."""
    while True:
        try:
            return serving.connect()
        except BlockingIOError:
            serving.until(lambda: True)


@pytest.mark.slow
def test_thousands_of_connections(start: Start) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8000:
        pytest.skip("this test needs 8000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (8000, hard))
    try:
        serving = start(Limits(linger_s=0.5))
        with ExitStack() as stack:
            clients = [stack.enter_context(connect_patiently(serving)) for _ in range(3000)]
            assert len(serving.server._state.connections) <= Limits().unix_connections + Limits().refusals
            ends = sum(read_all(client) != b"" for client in clients[Limits().unix_connections :])
            assert ends > 2400
        serving.until(lambda: not serving.server._state.connections)
        assert serving.ask("GET", "/v1/info").status == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_descriptors_run_out_and_come_back(start: Start) -> None:
    serving = start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        late = [stack.enter_context(serving.connect()) for _ in range(8)]
        serving.until(lambda: len(serving.server._state.connections) == 8)
        highest = max(int(entry.name) for entry in FDS.iterdir())
        further = socket.socket(socket.AF_UNIX)
        stack.enter_context(further)
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        further.settimeout(20)
        try:
            further.connect(str(serving.path))
            further.sendall(GET)
            late[0].sendall(GET)
            assert late[0].recv(100).startswith(b"HTTP/1.1 200")
        finally:
            for fd in taken:
                os.close(fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert further.recv(100).startswith(b"HTTP/1.1 200")


def test_connections_that_come_and_go_leave_nothing(start: Start) -> None:
    serving = start(Limits(unix_connections=5))
    for _ in range(200):
        serving.connect().close()
    serving.until(lambda: not serving.server._state.connections)
    before = len(descriptors())
    for _ in range(20):
        assert serving.ask("GET", "/v1/info").status == 200
    serving.until(lambda: not serving.server._state.connections)
    assert len(descriptors()) <= before


# --- who


def test_another_user_is_refused(serving: Serving, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.Credentials, "welcome", False)
    assert serving.ask("GET", "/v1/info").refusal == (403, "forbidden")
    assert not fakes.calls


# --- TLS


@pytest.fixture
def tls(start: Start, server_context: ssl.SSLContext) -> Serving:
    limits = Limits(handshake_s=0.2, head_s=0.5, tcp_connections=3, linger_s=0.3)
    return start(limits, server_context)


def ask_tls(serving: Serving, context: ssl.SSLContext, *request: Any, **headers: str) -> Answer:
    client = http.client.HTTPSConnection("127.0.0.1", serving.port, timeout=20, context=context)
    try:
        return ask(client, *request, **headers)
    finally:
        client.close()


def test_the_token_lets_one_in(tls: Serving, fakes: Fakes, client_context: ssl.SSLContext) -> None:
    answer = ask_tls(tls, client_context, "GET", "/v1/info", Authorization=f"Bearer {TOKEN}")
    assert answer.status == 200
    assert fakes.last.peer.who.startswith("token from 127.0.0.1:")
    sent = ask_tls(
        tls, client_context, "POST", "/v1/managed", {"config": {}}, Authorization=f"bearer {TOKEN}"
    )
    assert sent.status == 200


@pytest.mark.parametrize("path", ["/", "/v1/openapi.json", "/v1/info", "/nowhere"])
def test_without_the_token_there_is_nothing(
    tls: Serving, fakes: Fakes, client_context: ssl.SSLContext, path: str
) -> None:
    for headers in ({}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": f"Bearer {TOKEN}x"}):
        answer = ask_tls(tls, client_context, "GET", path, **headers)
        assert answer.refusal == (401, "unauthorized")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert not fakes.calls


def test_the_unix_socket_needs_no_token(tls: Serving) -> None:
    assert tls.ask("GET", "/v1/info").status == 200


def test_who_sends_too_much_over_tls_reads_the_refusal(tls: Serving, client_context: ssl.SSLContext) -> None:
    body = b" " * 1_500_000
    answer = ask_tls(tls, client_context, "POST", "/v1/managed", body, Authorization=f"Bearer {TOKEN}")
    assert answer.refusal == (413, "too-large")


def test_a_handshake_that_does_not_end(tls: Serving) -> None:
    with socket.create_connection(("127.0.0.1", tls.port), timeout=20) as client:
        assert read_all_or_reset(client) == b""


def test_plain_http_to_the_tls_port(tls: Serving, fakes: Fakes) -> None:
    with socket.create_connection(("127.0.0.1", tls.port), timeout=20) as client:
        client.sendall(GET)
        assert b"HTTP/1.1 200" not in read_all_or_reset(client)
    assert not fakes.calls


def read_all_or_reset(client: socket.socket) -> bytes:
    try:
        return read_all(client)
    except ConnectionResetError:
        return b""


def test_too_many_over_tls(tls: Serving, client_context: ssl.SSLContext) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            client = http.client.HTTPSConnection("127.0.0.1", tls.port, timeout=20, context=client_context)
            stack.callback(client.close)
            assert ask(client, "GET", "/", Authorization=f"Bearer {TOKEN}").status == 200
        answer = ask_tls(tls, client_context, "GET", "/", Authorization=f"Bearer {TOKEN}")
        assert answer.refusal == (429, "too-many")


def test_handshakes_that_fail_give_their_places_back(tls: Serving, client_context: ssl.SSLContext) -> None:
    for _ in range(10):
        socket.create_connection(("127.0.0.1", tls.port), timeout=20).close()
    bearer = f"Bearer {TOKEN}"  # refused as long as the server has not noticed that they are gone
    answers = (ask_tls(tls, client_context, "GET", "/", Authorization=bearer).status for _ in range(500))
    assert 200 in answers


def test_an_empty_token_is_no_token(server_context: ssl.SSLContext) -> None:
    async def listen() -> None:
        server = WebServer(make_app(Fakes().handlers()))
        await server.listen_tcp("127.0.0.1", 0, server_context, "")

    with pytest.raises(ValueError, match="token"):
        asyncio.run(listen())


# --- the end


def test_close_answers_changes_and_drops_those_who_only_wait(start: Start, fakes: Fakes) -> None:
    serving = start()
    release = waiting(fakes, "destroy")
    waiting(fakes, "task")
    with serving.connect() as change, serving.connect() as poll, serving.connect() as idle:
        change.sendall(b"POST /v1/domains/a/destroy HTTP/1.1\r\nHost: x\r\n\r\n")
        poll.sendall(b"GET /v1/tasks/t?wait=60 HTTP/1.1\r\nHost: x\r\n\r\n")
        idle.sendall(GET)
        serving.until(lambda: len(fakes.calls) == 3)
        closing = threading.Thread(target=serving.stop)
        closing.start()
        assert read_all(poll) == b""
        assert read_all(idle).startswith(b"HTTP/1.1 200")
        serving._loop.call_soon_threadsafe(release.set)
        assert read_all(change).startswith(b"HTTP/1.1 200")
        closing.join()


def test_close_does_not_wait_for_ever(start: Start, fakes: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    serving = start(Limits(grace_s=0.1))
    waiting(fakes, "destroy")
    with serving.connect() as change:
        change.sendall(b"POST /v1/domains/a/destroy HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: bool(fakes.calls))
        serving.stop()
        assert read_all_or_reset(change) == b""
    assert not caplog.records


def test_an_answer_that_nobody_reads_over_tls_is_dropped(
    start: Start, fakes: Fakes, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    async def much(call: Call) -> Any:
        return {"text": "x" * 20_000_000}

    fakes.replaced["dmesg"] = much
    serving = start(Limits(stuck_s=0.2), server_context)
    plain = socket.create_connection(("127.0.0.1", serving.port), timeout=20)
    with client_context.wrap_socket(plain, server_hostname="127.0.0.1") as client:
        client.sendall(
            b"GET /v1/dmesg HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode()
        )
        serving.until(lambda: bool(fakes.calls))
        serving.until(lambda: not serving.server._state.connections)
