"""One NBD connection, with a server that a test plays."""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.dom0.block.nbd_server import PlayedServer
from xenion.dom0.block.nbd_connection import CMD_FLUSH, CMD_READ, CMD_WRITE, Command, Connection
from xenion.dom0.loop import Loop


class Client:
    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.server = PlayedServer()
        self.lost: list[str] = []
        self.received = 0
        self.connection = Connection(
            self.server.client, loop, lambda _, why: self.lost.append(why), self._received
        )
        self.ended: list[tuple[int, int]] = []
        self.views: dict[int, list[memoryview]] = {}

    def _received(self) -> None:
        self.received += 1

    def ask(self, code: int, number: int, *sizes: int) -> None:
        views = [memoryview(bytearray([number]) * size) for size in sizes]
        self.views[number] = views
        self.connection.queue(
            Command(code, number * 4096, sum(sizes), views, lambda error: self.ended.append((number, error)))
        )

    def turn(self) -> None:
        for _ in range(3):
            self.loop.turn(0)

    def data(self, number: int) -> bytes:
        return b"".join(self.views[number])


@contextmanager
def connected(loop: Loop) -> Iterator[Client]:
    made = Client(loop)
    try:
        yield made
    finally:
        made.connection.close()
        made.server.close()


@pytest.fixture
def client(loop: Loop) -> Iterator[Client]:
    with connected(loop) as made:
        yield made


def test_requests_and_replies_in_any_order(client: Client) -> None:
    client.ask(CMD_READ, 1, 100, 400)
    client.ask(CMD_WRITE, 2, 300, 212)
    client.ask(CMD_FLUSH, 3)
    client.ask(CMD_READ, 4, 512)
    assert client.server.requests() == []
    client.connection.submit()
    first, second, third, fourth = client.server.requests()
    assert (first.code, first.offset, first.length) == (0, 4096, 500)
    assert (second.code, second.data) == (1, b"\x02" * 512)
    assert (third.code, third.offset, third.length) == (3, 0 + 3 * 4096, 0)
    client.server.reply(fourth, b"d" * 512)
    client.server.reply(second)
    client.server.reply(first, b"a" * 500)
    client.server.reply(third, error=errno.EIO)
    client.turn()
    assert client.ended == [(4, 0), (2, 0), (1, 0), (3, errno.EIO)]
    assert client.data(1) == b"a" * 500
    assert client.data(4) == b"d" * 512
    assert client.connection.outstanding == {}
    assert client.received
    assert client.lost == []


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_replies_that_come_in_pieces(loop: Loop, data: st.DataObject) -> None:
    with connected(loop) as client:
        reply_in_pieces(client, data)


def reply_in_pieces(client: Client, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    kinds = [data.draw(st.sampled_from([CMD_READ, CMD_READ, CMD_WRITE, CMD_FLUSH])) for _ in range(count)]
    for number, code in enumerate(kinds):
        sizes = data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=4)) if code != CMD_FLUSH else []
        client.ask(code, number, *sizes)
    client.connection.submit()
    stream = bytearray()
    expected = {}
    for request in data.draw(st.permutations(client.server.requests())):
        error = data.draw(st.sampled_from([0, 0, 0, 5, 28]))
        number = request.offset // 4096
        fill = os.urandom(request.length) if request.code == CMD_READ and not error else b""
        stream += struct.pack(">IIQ", 0x67446698, error, request.cookie) + fill
        expected[number] = (error, fill)
    while stream:
        piece = data.draw(st.integers(1, len(stream)))
        client.server.send(bytes(stream[:piece]))
        del stream[:piece]
        client.turn()
    assert client.ended == [(number, error) for number, (error, _) in expected.items()]
    for number, (error, fill) in expected.items():
        if kinds[number] == CMD_READ and not error:
            assert client.data(number) == fill
        else:
            assert set(client.data(number)) <= {number}
    assert client.lost == []


def test_a_full_socket_is_waited_for(client: Client) -> None:
    for number in range(64):
        client.ask(CMD_WRITE, number, 65536, 65536)
    client.connection.submit()
    seen = client.server.requests()
    assert len(seen) < 64
    while len(seen) < 64:
        client.turn()
        fresh = client.server.requests()
        for request in fresh:
            client.server.reply(request)
        seen += fresh
    assert [request.data for request in seen] == [bytes([number]) * 131072 for number in range(64)]


HOSTILE = {
    "magic": (lambda r: struct.pack(">IIQ", 0x668E33EF, 0, r.cookie), "sent 0x668e33ef where a reply"),
    "cookie": (lambda r: struct.pack(">IIQ", 0x67446698, 0, r.cookie + 7), "request that nobody made"),
    "shutdown": (lambda r: struct.pack(">IIQ", 0x67446698, 108, r.cookie), "shutting down"),
    "twice": (
        lambda r: (struct.pack(">IIQ", 0x67446698, 0, r.cookie) + bytes(512)) * 2,
        "request that nobody made",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_servers_that_break_the_protocol(client: Client, name: str) -> None:
    client.ask(CMD_READ, 1, 512)
    client.ask(CMD_READ, 2, 512)
    client.connection.submit()
    request = client.server.requests()[0]
    make, why = HOSTILE[name]
    client.server.send(make(request))  # type: ignore[no-untyped-call]
    client.turn()
    assert len(client.lost) == 1
    assert why in client.lost[0]
    assert len(client.connection.outstanding) == 2 - len(client.ended)
    assert set(client.data(2)) == {2}
    client.ask(CMD_READ, 3, 512)
    client.connection.submit()  # harmless
    client.turn()
    assert len(client.lost) == 1


@pytest.mark.parametrize("half", [False, True])
def test_a_server_that_goes(client: Client, half: bool) -> None:
    client.ask(CMD_READ, 1, 512)
    client.connection.submit()
    request = client.server.requests()[0]
    if half:
        client.server.send(struct.pack(">IIQ", 0x67446698, 0, request.cookie) + b"half")
        client.turn()
    client.server.close()
    client.turn()
    assert client.lost == ["the NBD server hung up"]
    assert client.ended == []
    assert len(client.connection.outstanding) == 1


def test_it_says_when_it_leaves(client: Client) -> None:
    client.connection.leave()
    assert [request.code for request in client.server.requests()] == [2]
    assert client.server.sock.recv(1) == b""
    assert client.lost == []


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=64), max_size=6), st.booleans(), st.integers(0, 3))
def test_garbage_touches_no_memory_but_what_was_asked_for(
    loop: Loop, parts: list[bytes], start: bool, reads: int
) -> None:
    with connected(loop) as client:
        client.ask(CMD_WRITE, 9, 512)
        for number in range(reads):
            client.ask(CMD_READ, number, 16)
        client.connection.submit()
        client.server.requests()
        if start and reads:
            client.server.send(struct.pack(">IIQ", 0x67446698, 0, 2))
        for part in parts:
            client.server.send(part)
        client.turn()
        assert set(client.data(9)) == {9}
        assert len(client.ended) + len(client.connection.outstanding) == reads + 1
