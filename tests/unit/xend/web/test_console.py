"""Consoles through WebSockets, between a real client and a domain's socket."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as connect_in_loop
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, unix_connect

from tests.unit.xend.web.kit import PATIENCE_S, TOKEN, Fakes, Serving
from xenion.api.addresses import bind
from xenion.api.errors import ApiError
from xenion.xend.call import Call
from xenion.xend.web.limits import Limits


class Domain:
    """A console's far end: takes one client and says what it is told to."""

    def __init__(self, folder: Path, fakes: Fakes, answer: Any = None) -> None:
        self.path = folder / "console.sock"
        self._answer = json.dumps(answer or {"first": 5, "lost": 2}).encode() + b"\n"
        self._listener = bind(self.path)
        self._listener.listen(1)
        self._listener.settimeout(PATIENCE_S)
        self.greeting: Any = None
        self.stream: socket.socket
        self._greeted = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

        async def find(call: Call) -> Path:
            return self.path

        fakes.replaced["console"] = find

    def _run(self) -> None:
        self.stream, _ = self._listener.accept()
        self.stream.settimeout(PATIENCE_S)
        line = b""
        while not line.endswith(b"\n"):
            line += self.stream.recv(1)
        self.greeting = json.loads(line)
        self.stream.sendall(self._answer)
        self._greeted.set()

    def greeted(self) -> "Domain":
        assert self._greeted.wait(PATIENCE_S)
        return self

    def take(self, size: int) -> bytes:
        found = b""
        while len(found) < size and (data := self.stream.recv(size - len(found))):
            found += data
        return found

    def close(self) -> None:
        self._thread.join(PATIENCE_S)
        self.stream.close()
        self._listener.close()


@pytest.fixture
def domain(tmp_path: Path, fakes: Fakes) -> Iterator[Domain]:
    made = Domain(tmp_path, fakes)
    yield made
    made.close()


@contextmanager
def attached(serving: Serving, query: str = "", **more: Any) -> Iterator[ClientConnection]:
    uri = f"ws://xend/v1/domains/a/console{query}"
    with unix_connect(str(serving.path), uri, compression=None, **more) as client:
        yield client


def closed(client: ClientConnection) -> tuple[int, str]:
    """How it ends; what comes before is thrown away."""
    try:
        while True:
            client.recv(timeout=PATIENCE_S)
    except ConnectionClosed as error:
        return (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "")


def test_bytes_go_both_ways(serving: Serving, domain: Domain) -> None:
    with attached(serving) as client:
        assert json.loads(client.recv(timeout=PATIENCE_S)) == {"first": 5, "lost": 2}
        domain.greeted().stream.sendall(b"login: \xff\x00")
        assert client.recv(timeout=PATIENCE_S) == b"login: \xff\x00"
        client.send(b"root\n\xfe")
        assert domain.take(6) == b"root\n\xfe"
        client.send("é")
        assert domain.take(2) == "é".encode()
    assert domain.greeting == {"since": None, "read_only": False}


def test_the_query_passes_through(serving: Serving, domain: Domain, fakes: Fakes) -> None:
    with attached(serving, "?since=-1&read_only=true") as client:
        client.recv(timeout=PATIENCE_S)
    assert domain.greeting == {"since": -1, "read_only": True}
    assert fakes.last.parameters == {"domain": "a"}


def test_the_end_of_the_domain_is_the_end(serving: Serving, domain: Domain) -> None:
    with attached(serving) as client:
        client.recv(timeout=PATIENCE_S)
        domain.greeted().stream.sendall(b"x" * 500_000)
        domain.stream.shutdown(socket.SHUT_RDWR)
        assert sum(len(message) for message in client) == 500_000
        assert closed(client)[0] == 1000


def test_what_was_typed_last_arrives(serving: Serving, domain: Domain) -> None:
    typed = b"poweroff\n" * 50_000
    with attached(serving) as client:
        client.recv(timeout=PATIENCE_S)
        sender = threading.Thread(target=client.send, args=(typed,))
        sender.start()
        assert domain.greeted().take(10) == typed[:10]
        rest = threading.Thread(target=lambda: found.append(domain.take(len(typed) - 10)))
        found: list[bytes] = []
        rest.start()
        sender.join()
    rest.join()
    assert found == [typed[10:]]
    assert domain.stream.recv(1) == b""


def test_what_a_client_typed_before_it_left_arrives_at_a_domain_that_was_busy(
    serving: Serving, domain: Domain
) -> None:
    typed = b"x" * (held_by_a_socket() + 30_000)
    with attached(serving) as client:
        client.recv(timeout=PATIENCE_S)
        client.send(typed)
    serving.until(lambda: not serving.server._state.connections)
    assert domain.greeted().take(len(typed)) == typed


def held_by_a_socket() -> int:
    """What the kernel takes of one that nobody reads."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        size = 0
        try:
            while True:
                size += ours.send(b"x" * 65536)
        except BlockingIOError:
            return size


# --- refusals


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ApiError("no-such-domain", "There is no domain a."), 4404),
        (ApiError("wrong-state", "It does not run. " + "é" * 200), 4409),
        (ZeroDivisionError("secret"), 1011),
    ],
)
def test_a_refusal_is_the_reason_of_the_end(
    serving: Serving, fakes: Fakes, error: Exception, code: int
) -> None:
    async def refuse(call: Call) -> Any:
        raise error

    fakes.replaced["console"] = refuse
    with attached(serving) as client:
        found, reason = closed(client)
    assert found == code
    assert "secret" not in reason
    assert 10 < len(reason.encode()) <= 123


def test_a_slash_in_a_name_makes_no_other_path(serving: Serving, fakes: Fakes) -> None:
    with unix_connect(str(serving.path), "ws://xend/v1/domains/a%2fb/console") as client:
        assert closed(client)[0] == 4404
    assert not fakes.calls


@pytest.mark.parametrize("query", ["?since=x", "?since=-2", "?other=1", "?read_only=maybe"])
def test_a_bad_query(serving: Serving, fakes: Fakes, query: str) -> None:
    with attached(serving, query) as client:
        assert closed(client)[0] == 4400
    assert not fakes.calls


def test_a_domain_whose_console_is_gone(serving: Serving, fakes: Fakes, tmp_path: Path) -> None:
    async def find(call: Call) -> Path:
        return tmp_path / "nothing" / "console.sock"

    fakes.replaced["console"] = find
    with attached(serving) as client:
        assert closed(client)[0] == 1000


@pytest.mark.parametrize(
    ("answer", "code"), [({"error": "Too many read it."}, 4409), ([1], 1011), ("x" * 10_000, 1011)]
)
def test_a_console_that_refuses(
    serving: Serving, fakes: Fakes, tmp_path: Path, answer: Any, code: int
) -> None:
    domain = Domain(tmp_path, fakes, answer)
    with attached(serving) as client:
        assert closed(client)[0] == code
    domain.close()


def test_only_the_console_is_a_websocket(serving: Serving) -> None:
    for path in ("/v1/info", "/nowhere", "/v1/domains/a/b/console"):
        with pytest.raises(InvalidStatus) as caught, unix_connect(str(serving.path), f"ws://xend{path}"):
            pass
        assert caught.value.response.status_code == 404
        assert b'"code":"not-found"' in (caught.value.response.body or b"")


@pytest.mark.parametrize(
    "head",
    [
        b"Sec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Key: eA==\r\nSec-WebSocket-Version: 8\r\n",
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
    ],
)
def test_a_broken_handshake(serving: Serving, fakes: Fakes, head: bytes) -> None:
    start = b"GET /v1/domains/a/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    assert serving.talk(start + head + b"\r\n").startswith(b"HTTP/1.1 4")
    assert serving.talk(start.replace(b"GET", b"POST") + head + b"\r\n").startswith(b"HTTP/1.1 4")
    assert not fakes.calls


# --- over TLS


def test_over_tls_with_the_token_and_from_no_browser(
    start: Callable[..., Serving],
    domain: Domain,
    server_context: ssl.SSLContext,
    client_context: ssl.SSLContext,
) -> None:
    """One thread a client: two that share an SSLSocket lose a request now and then (websockets.sync, Python 3.11)."""
    serving = start(Limits(), server_context)
    token = {"Authorization": f"Bearer {TOKEN}"}
    to_console = partial(
        connect_in_loop, f"wss://127.0.0.1:{serving.port}/v1/domains/a/console", ssl=client_context
    )

    async def refused(headers: dict[str, str], origin: Any) -> int:
        with pytest.raises(InvalidStatus) as caught:
            async with to_console(additional_headers=headers, origin=origin):
                pass
        return caught.value.response.status_code

    async def work() -> None:
        assert await refused({}, None) == 401
        assert await refused(token, "https://evil.example") == 403
        async with to_console(additional_headers=token) as client:
            assert json.loads(await client.recv())["first"] == 5
            await client.send(b"x" * 300_000)
            assert len(await asyncio.to_thread(domain.greeted().take, 300_000)) == 300_000

    asyncio.run(asyncio.wait_for(work(), PATIENCE_S))


# --- slow ones


def test_a_client_that_does_not_read_is_dropped_and_the_domain_waits_meanwhile(
    start: Callable[..., Serving], domain: Domain
) -> None:
    serving = start(Limits(stuck_s=0.2))
    with raw(serving) as client:
        client.recv(1)
        domain.greeted().stream.settimeout(0.05)
        sent = 0
        with pytest.raises((TimeoutError, BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            while True:
                sent += domain.stream.send(b"x" * 65536)
        assert sent < 4_000_000
        serving.until(lambda: not serving.server._state.connections)


def test_a_domain_that_does_not_read_holds_the_client_back(serving: Serving, domain: Domain) -> None:
    with raw(serving) as client:
        client.recv(1)
        domain.greeted()
        client.settimeout(0.2)
        sent = 0
        frame = b"\x82\xfe\xff\xff\0\0\0\0" + b"x" * 65535
        with pytest.raises(TimeoutError):  # noqa: PT012
            while True:
                sent += client.send(frame[sent % len(frame) :])
        assert sent < 4_000_000
        whole = sent // len(frame) * 65535
        assert len(domain.take(whole)) == whole


def test_pings_that_nobody_reads_the_answers_of_do_not_pile_up(
    start: Callable[..., Serving], domain: Domain
) -> None:
    serving = start(Limits(stuck_s=0.2))
    with raw(serving) as client:
        domain.greeted()
        pings = b"\x89\xfd\0\0\0\0" + b"p" * 125
        sent = 0
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            while True:
                sent += client.send(pings * 100)
        assert sent < 8_000_000
    serving.until(lambda: not serving.server._state.connections)


def test_one_byte_messages_are_gathered(serving: Serving, domain: Domain) -> None:
    with raw(serving) as client:
        client.recv(1)
        client.sendall(b"\x82\x81\0\0\0\0x" * 20_000)
        assert domain.greeted().take(20_000) == b"x" * 20_000


def test_a_message_without_end_is_passed_on_as_it_comes(serving: Serving, domain: Domain) -> None:
    with raw(serving) as client:
        client.recv(1)
        client.sendall(b"\x02\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0" + b"abc")
        assert domain.greeted().take(3) == b"abc"


@pytest.mark.parametrize("garbage", [b"\xff" * 100, b"\x82\x01x", b"\x8b\x80\0\0\0\0", b"\x88\x81\0\0\0\0x"])
def test_garbage_in_a_websocket_closes_it(serving: Serving, domain: Domain, garbage: bytes) -> None:
    with raw(serving) as client:
        client.sendall(garbage)
        domain.greeted()
        serving.until(lambda: not serving.server._state.connections)


def test_close_ends_consoles(serving: Serving, domain: Domain) -> None:
    with attached(serving) as client:
        client.recv(timeout=PATIENCE_S)
        serving.stop()
        assert closed(client)[0] == 1012


@contextmanager
def raw(serving: Serving) -> Iterator[socket.socket]:
    """An open WebSocket without a client's good manners; what it has to read begins with the answer's line."""
    with serving.connect() as client:
        client.sendall(
            b"GET /v1/domains/a/console HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        assert head.startswith(b"HTTP/1.1 101")
        yield client
