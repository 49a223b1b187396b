"""Clients that are slow, greedy, or stuck: each is refused clearly, and nothing of them stays."""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.xend.web.kit import Fakes, Serving, ask, head_of, read_all
from xenion.xend.call import Call
from xenion.xend.web.limits import Limits

Start = Callable[..., Serving]
POST = b"POST /v1/domains/a/rename HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
SOON = 0.15
HURRIED = Limits(
    head_s=SOON, body_s=SOON, idle_s=SOON, stuck_s=SOON, linger_s=SOON, body_bytes=1000, head_bytes=2000
)


@pytest.fixture
def hurried(start: Start) -> Serving:
    return start(HURRIED)


def refused(answer: bytes, status: int, code: str) -> bool:
    return head_of(answer).startswith(b"HTTP/1.1 %d " % status) and b'"code":"%s"' % code.encode() in answer


def send_for_ever(client: socket.socket, data: bytes) -> None:
    while True:
        client.sendall(data)


# --- heads


@pytest.mark.parametrize("begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_head_that_does_not_end(hurried: Serving, begun: bytes) -> None:
    assert refused(hurried.talk(begun), 408, "timeout")


def test_a_head_that_comes_drop_by_drop(hurried: Serving) -> None:
    with hurried.connect() as client:
        client.settimeout(0.01)
        answer = b""
        for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 1000:
            try:
                client.send(bytes([byte]))
                if found := client.recv(1000):
                    answer += found
                break
            except TimeoutError:
                continue
    assert refused(answer, 408, "timeout")


def test_the_second_head_is_bounded_too(hurried: Serving) -> None:
    answer = hurried.talk(b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\nGET /v1/in")
    first, _, second = answer.rpartition(b"HTTP/1.1 ")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"408")


def test_an_idle_connection_is_closed_without_a_word(hurried: Serving) -> None:
    answer = hurried.talk(b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer.count(b"HTTP/1.1") == 1


def test_a_long_answer_outlives_the_heads_time(start: Start, fakes: Fakes) -> None:
    async def wait(call: Call) -> Any:
        await asyncio.sleep(3 * SOON)
        return {}

    fakes.replaced["task"] = wait
    assert start(HURRIED).ask("GET", "/v1/tasks/t?wait=1").status == 200


@pytest.mark.parametrize("size", [3000, 100_000, 1_000_000])
def test_a_head_too_large(hurried: Serving, size: int) -> None:
    for head in (
        b"GET /v1/info?%s HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n",
    ):
        with hurried.connect() as client:
            try:
                client.sendall(head % (b"a" * size))
                answer = read_all(client)
            except (BrokenPipeError, ConnectionResetError):
                assert size > 100_000  # it went on long after it had been refused
                continue
        assert refused(answer, 431, "too-large")


def test_many_small_header_lines_are_a_head_too_large(hurried: Serving) -> None:
    assert refused(
        hurried.talk(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 1000 + b"\r\n"), 431, "too-large"
    )


# --- bodies


def test_half_a_body(hurried: Serving, fakes: Fakes) -> None:
    assert refused(hurried.talk(POST + b'Content-Length: 30\r\n\r\n{"name'), 408, "timeout")
    chunked = b'Transfer-Encoding: chunked\r\n\r\n6\r\n{"name\r\n'
    assert refused(hurried.talk(POST + chunked), 408, "timeout")
    assert not fakes.calls


def test_a_body_of_a_request_that_needs_none(hurried: Serving, fakes: Fakes) -> None:
    assert refused(
        hurried.talk(b"GET /v1/info HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"), 408, "timeout"
    )
    for path in (b"/", b"/nowhere"):
        answer = hurried.talk(b"GET %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n" % path)
        assert b"connection: close" in answer
    assert not fakes.calls


def test_half_a_body_and_gone(hurried: Serving, fakes: Fakes) -> None:
    with hurried.connect() as client:
        client.sendall(POST + b'Content-Length: 30\r\n\r\n{"name')
    hurried.until(lambda: not hurried.server._state.connections)
    assert not fakes.calls


def test_a_body_too_large_is_refused_from_its_length(hurried: Serving) -> None:
    assert refused(hurried.talk(POST + b"Content-Length: 1001\r\n\r\n"), 413, "too-large")
    assert refused(hurried.talk(POST + b"Content-Length: 99999999999999999999\r\n\r\n"), 413, "too-large")
    assert head_of(hurried.talk(POST + b"Content-Length: " + b"9" * 1500 + b"\r\n\r\n")).startswith(
        b"HTTP/1.1 4"
    )


def test_a_client_that_waits_before_a_body_too_large(hurried: Serving) -> None:
    answer = hurried.talk(POST + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n")
    assert head_of(answer).startswith(b"HTTP/1.1 413")


def test_a_body_too_large_in_chunks(hurried: Serving) -> None:
    chunk = b"1f4\r\n" + b" " * 500 + b"\r\n"
    assert refused(hurried.talk(POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 3), 413, "too-large")


def test_who_sends_too_much_reads_the_refusal_and_no_broken_pipe(serving: Serving) -> None:
    assert serving.ask("POST", "/v1/domains", b" " * 3_000_000).refusal == (413, "too-large")


def test_the_largest_body_is_taken(serving: Serving) -> None:
    size = Limits().body_bytes
    begin, end = b'{"config": {"a": "', b'"}}'
    body = begin + b"x" * (size - len(begin) - len(end)) + end
    assert serving.ask("POST", "/v1/managed", body).status == 200
    assert serving.ask("POST", "/v1/managed", body + b" ").refusal == (413, "too-large")


def test_an_endless_body_is_not_read_for_ever(hurried: Serving) -> None:
    with hurried.connect() as client:
        client.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(client, b"1f4\r\n" + b" " * 500 + b"\r\n")


@pytest.mark.parametrize(
    "broken",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"Transfer-Encoding: gzip\r\n\r\n",
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    ],
)
def test_a_body_that_is_broken(hurried: Serving, fakes: Fakes, broken: bytes) -> None:
    assert head_of(hurried.talk(POST + broken)).startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
    assert not fakes.calls


def test_garbage_after_an_answer_that_has_begun_closes_the_connection(serving: Serving) -> None:
    answer = serving.talk(b"GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n\x00\x01\r\n\r\n")
    assert head_of(answer) == b"HTTP/1.1 200 OK"


# --- clients that do not read


def test_an_answer_that_nobody_reads_is_dropped(start: Start, fakes: Fakes) -> None:
    async def much(call: Call) -> Any:
        return {"text": "x" * 5_000_000}

    fakes.replaced["dmesg"] = much
    serving = start(HURRIED)
    with serving.connect() as stuck:
        stuck.sendall(b"GET /v1/dmesg HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: bool(fakes.calls))
        serving.until(lambda: not serving.server._state.connections)
        assert len(read_all(stuck)) < 5_000_000


def test_a_client_that_reads_slowly_gets_everything(start: Start, fakes: Fakes) -> None:
    async def much(call: Call) -> Any:
        return {"text": "x" * 2_000_000}

    fakes.replaced["dmesg"] = much
    serving = start(HURRIED)
    begun = time.monotonic()
    with serving.connect() as client:
        client.sendall(b"GET /v1/dmesg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        size = 0
        while data := client.recv(300_000):
            size += len(data)
            time.sleep(SOON / 3)
    assert size > 2_000_000
    assert time.monotonic() - begun > SOON


def test_requests_without_end_whose_answers_nobody_reads(start: Start, fakes: Fakes) -> None:
    serving = start(HURRIED)
    with serving.connect() as client:
        client.settimeout(5)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_for_ever(client, b"GET /v1/info HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
    serving.until(lambda: not serving.server._state.connections)


def test_stuck_clients_delay_nobody(start: Start, fakes: Fakes) -> None:
    async def much(call: Call) -> Any:
        return {"text": "x" * 1_000_000}

    fakes.replaced["dmesg"] = much
    serving = start(Limits())
    stuck: list[socket.socket] = []
    try:
        for _ in range(30):
            stuck.append(serving.connect())
            stuck[-1].sendall(b"GET /v1/dmesg HTTP/1.1\r\nHost: x\r\n\r\n")
        serving.until(lambda: len(fakes.calls) == 30)
        with serving.http() as client:
            assert [ask(client, "GET", "/v1/info").status for _ in range(20)] == [200] * 20
        assert len(serving.server._state.connections) >= 30, "the others are stuck still"
    finally:
        for client_ in stuck:
            client_.close()
