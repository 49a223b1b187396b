"""Where other hosts come in: who may, how many, and what becomes of them when xend ends."""

import asyncio
import socket
import ssl
import struct
from contextlib import AsyncExitStack
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import run, standins, within
from tests.unit.xend.migration.kit import WORD, Far, Host, free_port, source
from xenion.xend.migration import listening
from xenion.xend.migration.connecting import Connector
from xenion.xend.migration.listening import Listening
from xenion.xend.migration.talk import Accepted, Arrived, Query, Unknown
from xenion.xend.migration.target import Target
from xenion.xend.migration.wire import GREETING, MAGIC, VERSION, WireError
from xenion.xend.settings import Migration

HELLO = GREETING.pack(MAGIC, VERSION)


def listens(host: Host, /, **more: Any) -> None:
    host.chosen = replace(host.chosen, migration=replace(host.chosen.migration, **more))


async def is_heard(host: Host) -> bool:
    try:
        async with source(host) as far:
            await far.say(Query(WORD))
            return bool((await far.hear(Unknown)).ledger)
    except WireError:
        return False


# --- who


@pytest.mark.parametrize(
    ("allow", "address", "may"),
    [
        ([], "192.0.2.7", True),
        ([], "::1", True),
        (["192.0.2.0/24"], "192.0.2.7", True),
        (["192.0.2.0/24"], "192.0.3.7", False),
        (["192.0.2.7"], "192.0.2.7", True),
        (["192.0.2.7"], "192.0.2.8", False),
        (["192.0.2.0/24"], "::ffff:192.0.2.7", True),
        (["192.0.2.0/24"], "::ffff:192.0.3.7", False),
        (["192.0.2.0/24"], "2001:db8::1", False),
        (["192.0.2.0/24"], "::192.0.2.7", False),
        (["2001:db8::/32"], "2001:db8::1", True),
        (["2001:db8::/32"], "2001:db9::1", False),
        (["2001:db8::/32"], "192.0.2.7", False),
        (["fe80::/10"], "fe80::1%eth0", True),
        (["0.0.0.0/0"], "2001:db8::1", False),
        (["::/0"], "192.0.2.7", False),
        (["198.51.100.0/24", "2001:db8::/32", "192.0.2.7"], "192.0.2.7", True),
    ],
)
def test_who_may(allow: list[str], address: str, may: bool) -> None:
    chosen = Migration("0.0.0.0", 1, tuple(ip_network(one) for one in allow))
    assert Listening(chosen, None)._allowed(address) is may  # type: ignore[arg-type]


def test_who_may_not_is_not_heard(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    listens(host, allow=(ip_network("192.0.2.0/24"),))

    async def work() -> None:
        async with host:
            before = descriptors()
            for _ in range(5):
                assert not await is_heard(host)
            await asyncio.sleep(0.01)
            assert len(descriptors()) <= len(before)

    run(work)
    assert "a migration from 127.0.0.1 is refused" in caplog.text


def test_nobody_listens(host: Host) -> None:
    listens(host, host="", port=0)

    async def work() -> None:
        async with host:
            await host.services.listening.close()

    run(work)


def test_an_address_that_is_taken(host: Host, there: Host) -> None:
    there.chosen = host.chosen

    async def work() -> None:
        async with host:
            with pytest.raises(OSError, match="address already in use"):
                await there.__aenter__()
            await there.services.listening.close()
            await there.__aexit__()

    run(work)


@pytest.mark.parametrize("address", ["::1", "::"])
def test_ipv6(host: Host, address: str) -> None:
    """Of an IPv4 host that comes over IPv6 the IPv4 address counts."""
    try:
        listens(host, host=address, port=free_port(socket.AF_INET6))
    except OSError:
        pytest.skip("there is no IPv6 here")

    async def work() -> None:
        async with host:
            for there in ("::1", "127.0.0.1")[: 1 if address == "::1" else 2]:
                found = Connector(Migration()).connect(Target(there, host.target.port))
                try:
                    wire = await within(found)
                except WireError:
                    assert there == "127.0.0.1", "asyncio listens for IPv6 alone"
                    continue
                await Far(wire).say(Query(WORD))
                assert (await Far(wire).hear(Unknown)).ledger
                await wire.close()

    run(work)


# --- how many


def test_so_many(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_CONNECTIONS", 3)

    async def work() -> None:
        async with host:
            async with AsyncExitStack() as stack:
                for _ in range(3):
                    await stack.enter_async_context(source(host))
                for _ in range(5):
                    assert not await is_heard(host)
                assert len(host.services.listening._serving) == 3
            await host.idle()
            assert await is_heard(host)

    run(work)


def test_who_says_nothing_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenion.xend.migration.wire.GREETING_S", 0.1)

    async def work() -> None:
        async with host:
            streams = [
                await asyncio.open_connection("127.0.0.1", host.target.port)
                for _ in range(listening.MOST_CONNECTIONS)
            ]
            for reader, writer in streams:
                await within(reader.read())
                writer.close()
            await host.idle()
            assert await is_heard(host)

    run(work)


def test_garbage(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with host:
            for said in (
                b"",
                b"x",
                b"GET / HTTP/1.1\r\n\r\n",
                HELLO,
                HELLO + b"x" * 100,
                HELLO + bytes(1 << 20),
            ):
                for reset in (False, True):
                    reader, writer = await asyncio.open_connection("127.0.0.1", host.target.port)
                    writer.write(said)
                    if reset:
                        kept = writer.get_extra_info("socket")
                        kept.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        writer.transport.abort()
                    else:
                        writer.close()
                    with_nothing = asyncio.ensure_future(reader.read())
                    await asyncio.wait([with_nothing])
                    with_nothing.exception()
            await host.idle()
            assert await is_heard(host)

    run(work)
    assert [record.message for record in caplog.records if record.exc_info] == []


def test_who_is_gone_before_he_is_looked_at(host: Host, caplog: pytest.LogCaptureFixture) -> None:

    async def work() -> None:
        async with host:
            before = descriptors()
            for _ in range(20):
                with socket.socket() as hasty:
                    hasty.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    hasty.connect(("127.0.0.1", host.target.port))
            await asyncio.sleep(0.1)
            await host.idle()
            assert await is_heard(host)
            assert len(descriptors()) <= len(before)

    run(work)
    descriptors()
    assert [record.message for record in caplog.records if record.exc_info] == []


# --- TLS


@pytest.fixture
def certificates(tmp_path: Path) -> dict[str, Path]:
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    issued = authority.issue_cert("xenion.example.org")
    paths = {name: tmp_path / f"{name}.pem" for name in ("certificate", "key", "ca")}
    issued.private_key_pem.write_to_path(paths["key"])
    issued.cert_chain_pems[0].write_to_path(paths["certificate"])
    authority.cert_pem.write_to_path(paths["ca"])
    return paths


@pytest.mark.parametrize("allow", [(), (ip_network("127.0.0.1"),), (ip_network("192.0.2.0/24"),)])
def test_through_tls(host: Host, certificates: dict[str, Path], allow: Any) -> None:
    """Who has a certificate may if nothing else is said."""
    listens(host, allow=allow, **certificates)

    async def work() -> None:
        async with host:
            target = replace(host.target, ssl=True)
            try:
                wire = await within(Connector(host.chosen.migration).connect(target))
                await Far(wire).commits(host)
                assert (await Far(wire).hear(Arrived)).domid == 9
                await wire.close()
            except WireError:
                assert allow == (ip_network("192.0.2.0/24"),)
            else:
                assert allow != (ip_network("192.0.2.0/24"),)
            assert not await is_heard(host)  # without TLS

    run(work)


def test_who_does_not_shake_hands_is_not_waited_for(
    host: Host, certificates: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "HANDSHAKE_S", 0.1)
    listens(host, **certificates)

    async def work() -> None:
        async with host:
            reader, writer = await asyncio.open_connection("127.0.0.1", host.target.port)
            assert await within(reader.read()) == b""
            writer.close()

    run(work)


def test_files_that_cannot_be_used(host: Host, certificates: dict[str, Path]) -> None:
    certificates["key"].write_text("nonsense")
    listens(host, **certificates)

    async def work() -> None:
        with pytest.raises((OSError, ssl.SSLError), match="cannot be used"):
            await host.__aenter__()
        await host.__aexit__()

    run(work)


# --- the end


def test_the_end_while_a_domain_comes(host: Host) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.say(far.offer(host))
                await far.hear(Accepted)
                await far.data(b"x" * 1000)
                assert host.names == ["web"]
                await within(host.services.listening.close())
                assert host.names == []
                assert await far.over()
            assert (standins(host.shared), host.arrivals, host.sessions) == ([], {}, {})
            with pytest.raises(WireError, match="cannot be reached"):
                async with source(host):
                    pass
            await host.services.listening.close()

    run(work)


def test_the_end_while_nobody_comes(host: Host) -> None:
    async def work() -> None:
        async with host, source(host):
            await within(host.services.listening.close())
            assert not host.services.listening._serving

    run(work)


@pytest.mark.parametrize("moment", range(8))
def test_the_end_at_any_moment(host: Host, moment: int) -> None:
    """It has come or it has not, and xend ends at once."""

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.commits(host)
                for _ in range(moment * 3):
                    await asyncio.sleep(0)
                await within(host.services.listening.close())
            await host.until(lambda: bool(host.names) == bool(host.arrivals))
            if host.arrivals:
                await host.until(lambda: host.live().condition.boot == 1)

    run(work)
