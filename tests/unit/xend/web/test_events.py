"""Streams of events, over the Unix socket."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from tests.unit.xend.web.kit import Fakes, Serving, read_all
from xenion.api.client import Client
from xenion.api.folders import Folders
from xenion.xend.call import Call
from xenion.xend.web.limits import Limits

GET = b"GET /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Entries:
    """What a handler gives: entries until it is told to stop."""

    def __init__(self, fakes: Fakes, size: int = 10) -> None:
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False
        self.taken = 0
        self._size = size
        fakes.replaced["events"] = self._handle

    async def _handle(self, call: Call) -> AsyncIterator[Any]:
        return self._run()

    async def _run(self) -> AsyncIterator[Any]:
        try:
            while (n := await self.queue.get()) is not None:
                self.taken += 1
                yield {"n": n, "detail": "x" * self._size}
        finally:
            self.closed = True


def put(serving: Serving, entries: Entries, *numbers: int | None) -> None:
    async def put_all() -> None:
        for n in numbers:
            entries.queue.put_nowait(n)

    serving.run(put_all())


def test_entries_come_with_their_numbers(serving: Serving, fakes: Fakes) -> None:
    entries = Entries(fakes)
    with serving.http() as client:
        client.request("GET", "/v1/events")
        response = client.getresponse()
        assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.readline() + response.readline() == b":\n\n"
        put(serving, entries, 7)
        assert response.readline() == b"id: 7\n"
        assert json.loads(response.readline().removeprefix(b"data: "))["n"] == 7
        assert response.readline() == b"\n"
        put(serving, entries, None)
        assert response.read() == b""
    assert entries.closed


def test_the_client_of_the_api_reads_them(serving: Serving, fakes: Fakes) -> None:
    with_socket = Folders(serving.path.parent, serving.path.parent)
    events = Client(with_socket, start=False).events(since=4)
    assert [next(events)["n"], next(events)["n"]] == [1, 2]
    assert fakes.last.query == {"since": 4}
    assert not list(events)


def test_comments_show_that_it_lives(start: Callable[..., Serving], fakes: Fakes) -> None:
    entries = Entries(fakes)
    serving = start(Limits(comment_s=0.02))
    with serving.http() as client:
        client.request("GET", "/v1/events")
        response = client.getresponse()
        assert response.read(12) == b":\n\n" * 4
        put(serving, entries, 1)
        while (line := response.readline()) != b"id: 1\n":
            assert line in (b":\n", b"\n")
        put(serving, entries, None)


def test_a_client_comes_again_where_it_was(serving: Serving, fakes: Fakes) -> None:
    with serving.http() as client:
        client.request("GET", "/v1/events?since=3", headers={"Last-Event-ID": "9"})
        client.getresponse().read()
    assert fakes.last.query == {"since": 9}


@pytest.mark.parametrize("last", ["x", "-1", "", "1.5", "9" * 40, "\xb2"])
def test_a_bad_last_event(serving: Serving, last: str) -> None:
    assert serving.ask("GET", "/v1/events", Last_Event_ID=last).refusal == (400, "bad-request")


def test_the_stream_is_closed_when_the_client_goes(serving: Serving, fakes: Fakes) -> None:
    entries = Entries(fakes)
    with serving.connect() as client:
        client.sendall(GET)
        assert client.recv(1)
    serving.until(lambda: entries.closed)


def test_a_client_that_does_not_read_is_dropped(start: Callable[..., Serving], fakes: Fakes) -> None:
    entries = Entries(fakes, size=100_000)
    serving = start(Limits(stuck_s=0.1))
    with serving.connect() as client:
        client.sendall(GET)
        put(serving, entries, *range(100))
        serving.until(lambda: entries.closed)
    assert entries.taken < 50


def test_a_stream_that_breaks_ends(serving: Serving, fakes: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    async def broken(call: Call) -> AsyncIterator[Any]:
        async def run() -> AsyncIterator[Any]:
            yield {"n": 1}
            raise ZeroDivisionError

        return run()

    fakes.replaced["events"] = broken
    answer = serving.talk(GET)
    assert b"id: 1\n" in answer
    assert answer.endswith(b"0\r\n\r\n")
    assert "ZeroDivisionError" in caplog.text


def test_close_ends_streams(serving: Serving, fakes: Fakes) -> None:
    entries = Entries(fakes)
    with serving.connect() as client:
        client.sendall(GET)
        assert client.recv(1)
        serving.stop()
        read_all(client)
    assert entries.closed
