"""Connections to other xends: whatever is there, or is not, becomes a sentence."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import run, within
from tests.unit.xend.migration.kit import free_port
from xenion.xend.migration import connecting, wire
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import GREETING, MAGIC, VERSION, WireError
from xenion.xend.settings import Migration

HELLO = GREETING.pack(MAGIC, VERSION)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def why(target: Target) -> str:
    with pytest.raises(WireError) as caught:
        await within(Connector(Migration()).connect(target))
    return str(caught.value)


def against(serve: Serve) -> str:
    """Why nothing comes of it; nothing is left of the attempt either."""

    async def work() -> str:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        before = descriptors()
        said = await why(Target(*server.sockets[0].getsockname()[:2]))
        await asyncio.sleep(0.01)
        assert len(descriptors()) <= len(before)
        server.close()
        return said

    return str(run(work))


def test_greeted() -> None:
    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HELLO + await reader.readexactly(len(HELLO)))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        found = await within(Connector(Migration()).connect(Target(*server.sockets[0].getsockname())))
        assert await found._reader.read() == HELLO
        await found.close()
        server.close()

    run(work)


def test_another_program() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2p1\r\n")
        await reader.read()
        writer.close()

    assert against(serve) == "nothing of Xenion's listens there"


def test_one_that_hangs_up() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    assert against(serve) in (
        "the connection has been closed",
        "the connection is broken (Connection reset by peer)",
        "the connection is broken (Connection lost)",
    )


def test_one_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "GREETING_S", 0.1)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    assert against(serve) == "it does not answer"


def test_nobody() -> None:
    assert run(lambda: why(Target("127.0.0.1", free_port()))).startswith("it cannot be reached (")


def test_a_host_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packets are lost, or its queue is full."""
    monkeypatch.setattr(connecting, "CONNECT_S", 0.1)

    async def work() -> None:
        async def never(*_: Any, **__: Any) -> None:
            await asyncio.sleep(100)

        monkeypatch.setattr(asyncio, "open_connection", never)
        assert await why(Target("192.0.2.1", 8002)) == "it does not answer"

    run(work)


@pytest.mark.parametrize(
    "host", ["no.such.host.invalid", "a..b", "x" * 64, ".", "a\0b", "\udc80", "::1::", "[::1]"]
)
@pytest.mark.parametrize("port", [1, 65535])
def test_names_that_are_none(host: str, port: int) -> None:
    said = run(lambda: why(Target(host, port)))
    assert said.startswith("it cannot be reached (")


def test_tls_without_certificates() -> None:
    said = run(lambda: why(Target("127.0.0.1", 1, ssl=True)))
    assert said == "TLS needs certificate, key and ca in [migration] of xend.toml"


async def greets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(HELLO)
    await reader.read()
    writer.close()


def test_ipv6() -> None:
    async def work() -> None:
        try:
            server = await asyncio.start_server(greets, "::1", 0)
        except OSError:
            pytest.skip("there is no IPv6 here")
        target = Target("::1", server.sockets[0].getsockname()[1])
        found = await within(Connector(Migration()).connect(target))
        assert found._writer.get_extra_info("socket").family == socket.AF_INET6
        await found.close()
        await asyncio.sleep(0.01)
        server.close()

    run(work)


def test_cancelled() -> None:
    """Nothing of it stays open."""

    async def work() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        before = descriptors()
        task = asyncio.ensure_future(
            Connector(Migration()).connect(Target(*server.sockets[0].getsockname()[:2]))
        )
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        await asyncio.sleep(0.01)
        assert len(descriptors()) <= len(before)
        server.close()

    run(work)
