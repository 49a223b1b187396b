"""The stream between two xends, whoever is at its other end."""

import asyncio
import socket
import ssl
import struct
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.xend.kit import run, within
from xenion.xend.migration import wire as wires
from xenion.xend.migration.wire import (
    DATA,
    GREETING,
    HEADER,
    MAGIC,
    MESSAGE,
    MOST_BYTES,
    VERSION,
    Wire,
    WireError,
)

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Wire, Peer]]:
    """A wire, and its other end."""
    came: asyncio.Future[Peer] = asyncio.get_running_loop().create_future()

    async def accept(*peer: Any) -> None:
        came.set_result(peer)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    wire, peer = Wire(reader, writer), await came
    try:
        yield wire, peer
    finally:
        await wire.close()
        peer[1].close()
        server.close()


def with_peer(work: Callable[[Wire, Peer], Awaitable[Any]]) -> Any:
    async def main() -> Any:
        async with connected() as (wire, peer):
            return await within(work(wire, peer))

    return run(main)


async def why(work: Awaitable[Any]) -> str:
    with pytest.raises(WireError) as caught:
        await within(work)
    return str(caught.value)


def frame(kind: bytes, data: bytes, checksum: int | None = None) -> bytes:
    return HEADER.pack(kind, len(data), zlib.crc32(data) if checksum is None else checksum) + data


# --- the greeting


def test_greeted() -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        reader, writer = peer
        other = Wire(reader, writer)
        await asyncio.gather(wire.greet(), other.greet())

    with_peer(work)


def test_what_is_said_first() -> None:
    """By which other versions know this one."""

    async def work(wire: Wire, peer: Peer) -> None:
        reader, writer = peer
        writer.write(b"XENIONMG" + struct.pack("<I", 1))
        await wire.greet()
        assert await reader.readexactly(12) == b"XENIONMG\1\0\0\0"

    with_peer(work)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "nothing of Xenion's listens there"),
        (b"XENIONMH" + struct.pack("<I", VERSION), "nothing of Xenion's listens there"),
        (bytes(12), "nothing of Xenion's listens there"),
        (GREETING.pack(MAGIC, 2), "its Xenion speaks version 2 of the protocol, and this one version 1"),
        (GREETING.pack(MAGIC, 0xFFFFFFFF), "speaks version 4294967295 of the protocol"),
    ],
)
def test_greetings_that_are_none(said: bytes, says: str) -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(said)
        assert says in await why(wire.greet())

    with_peer(work)


@pytest.mark.parametrize("said", [b"", b"XENIONMG", b"XENIONMG\1\0\0"])
def test_a_greeting_that_does_not_come(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "GREETING_S", 0.1)

    async def silent(wire: Wire, peer: Peer) -> None:
        peer[1].write(said)
        assert await why(wire.greet()) == "it does not answer"

    async def closed(wire: Wire, peer: Peer) -> None:
        peer[1].write(said)
        peer[1].close()
        assert await why(wire.greet()) == "the connection has been closed"

    with_peer(silent)
    with_peer(closed)


def test_a_greeting_that_comes_by_the_byte() -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        greeting = asyncio.ensure_future(wire.greet())
        for byte in GREETING.pack(MAGIC, VERSION):
            peer[1].write(bytes([byte]))
            await asyncio.sleep(0.001)
        await greeting

    with_peer(work)


# --- frames


@pytest.mark.parametrize("kind", [MESSAGE, DATA])
def test_there_and_back(kind: bytes) -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        other = Wire(*peer)
        for data in (b"", b"x", b"\0" * 1000, b"y" * MOST_BYTES[kind]):
            sending = asyncio.ensure_future(other.send(kind, data))
            assert await wire.receive() == (kind, data)
            await sending

    with_peer(work)


def test_many_at_once_come_in_order() -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(b"".join(frame(DATA, b"%d" % number) for number in range(500)))
        assert [(await wire.receive(1)).data for _ in range(500)] == [b"%d" % number for number in range(500)]

    with_peer(work)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (MESSAGE, MOST_BYTES[MESSAGE] + 1),
        (DATA, MOST_BYTES[DATA] + 1),
        (DATA, 0xFFFFFFFF),
        (b"X", 0),
        (b"\0", 5),
        (b"j", 5),
    ],
)
def test_frames_that_are_none(kind: bytes, size: int) -> None:
    """Refused by the header: nothing of it is waited for."""

    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(HEADER.pack(kind, size, 0))
        assert await why(wire.receive(5)) == "what it says makes no sense"

    with_peer(work)


@pytest.mark.parametrize("data", [b"", b"x", b"xy"])
def test_what_was_altered(data: bytes) -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(frame(DATA, data, zlib.crc32(data) ^ 1))
        assert await why(wire.receive(5)) == "what it says was altered on its way"

    with_peer(work)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("cut", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + 3])
def test_cut(cut: int, reset: bool) -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(frame(DATA, b"12345")[:cut])
        await asyncio.sleep(0.01)
        if reset:
            peer[1].get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        peer[1].close()
        said = await why(wire.receive(5))
        assert said in (
            "the connection has been closed",
            "the connection is broken (Connection reset by peer)",
        )

    with_peer(work)


@pytest.mark.parametrize("said", [b"", b"D", HEADER.pack(DATA, 5, 0), HEADER.pack(DATA, 5, 0) + b"1234"])
def test_slow(said: bytes) -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].write(said)
        assert await why(wire.receive(0.05)) == "it does not answer"

    with_peer(work)


def test_what_is_too_large_is_not_sent() -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        for kind, most in MOST_BYTES.items():
            assert "too large" in await why(wire.send(kind, bytes(most + 1)))
        await wire.send(DATA, b"x")
        assert await peer[0].readexactly(HEADER.size + 1) == frame(DATA, b"x")

    with_peer(work)


def test_sending_to_nobody() -> None:
    """Once it is known; and again is no worse."""

    async def work(wire: Wire, peer: Peer) -> None:
        peer[1].transport.abort()
        said = ""
        while not said:
            try:
                await wire.send(DATA, b"x" * 1000)
                await asyncio.sleep(0)
            except WireError as error:
                said = str(error)
        assert said.startswith("the connection is broken (")
        assert "the connection is broken (" in await why(wire.send(DATA, b"x"))

    with_peer(work)


def test_closed_at_our_end() -> None:
    async def work(wire: Wire, peer: Peer) -> None:
        await wire.close()
        await wire.close()
        assert await peer[0].read() == b""
        await why(wire.receive(1))
        await why(wire.send(DATA, b"x"))

    with_peer(work)


def test_closing_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "CLOSING_S", 0.1)

    async def work() -> None:
        ours, theirs = socket.socketpair()
        wire = Wire(*await asyncio.open_connection(sock=ours))
        wire._writer.write(bytes(64 << 20))
        await wire.close()
        await asyncio.sleep(0)
        assert ours.fileno() == -1
        theirs.close()

    run(work)


def test_a_peer_that_is_no_more_is_noticed() -> None:
    """By the kernel: it asks, and gives up what is not acknowledged."""

    async def work(wire: Wire, peer: Peer) -> None:
        kept = wire._writer.get_extra_info("socket")
        assert kept.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
        assert 0 < kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
        assert 0 < kept.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) <= 60_000

    with_peer(work)


def test_any_stream_will_do() -> None:
    async def work() -> None:
        ours, theirs = socket.socketpair()
        wire = Wire(*await asyncio.open_connection(sock=ours))
        other = Wire(*await asyncio.open_connection(sock=theirs))
        await asyncio.gather(wire.greet(), other.greet())
        await wire.send(MESSAGE, b"x")
        assert await other.receive() == (MESSAGE, b"x")
        await wire.close()
        await other.close()

    run(work)


class Broken:
    """A stream that fails as TLS does."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def get_extra_info(self, name: str) -> None:
        return None

    def writelines(self, parts: object) -> None:
        pass

    async def drain(self) -> None:
        raise self.error

    async def readexactly(self, size: int) -> bytes:
        raise self.error

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError(1, "[SSL] certificate required"),
        ConnectionResetError("Connection lost"),
        BrokenPipeError(32, "x"),
    ],
)
def test_what_tls_says_is_told(error: Exception) -> None:
    async def work() -> None:
        stream: Any = Broken(error)
        wire = Wire(stream, stream)
        said = getattr(error, "strerror", None) or str(error)
        assert await why(wire.send(DATA, b"")) == f"the connection is broken ({said})"
        assert await why(wire.receive()) == f"the connection is broken ({said})"
        await wire.close()

    run(work)


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_garbage(garbage: bytes) -> None:
    """Is a frame, or refused."""

    async def work() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(garbage)
        reader.feed_eof()
        stream: Any = Broken(OSError())
        wire = Wire(reader, stream)
        try:
            while True:
                found = await wire.receive(5)
                assert found.kind in MOST_BYTES
        except WireError:
            return

    run(work)


@pytest.mark.parametrize("moments", range(6))
def test_cancelled_just_as_it_comes(moments: int) -> None:
    """Whoever cancels it is heard."""

    async def work() -> None:
        reader = asyncio.StreamReader()
        stream: Any = Broken(OSError())
        task = asyncio.ensure_future(Wire(reader, stream).receive(5))
        await asyncio.sleep(0)
        reader.feed_data(frame(DATA, b"x"))
        for _ in range(moments):
            await asyncio.sleep(0)
        if not task.done():
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await within(task)

    run(work)
