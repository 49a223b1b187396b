"""What tests of domains that come have in common: the source's steps, and how it looks afterwards."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.unit.xend.kit import standins
from tests.unit.xend.migration.kit import WORD, Far, Host, source
from xenion.dom0.block import locks
from xenion.xend.migration import wire
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Query,
    RefusalError,
    Sent,
    Undecided,
    Unknown,
)
from xenion.xend.migration.wire import DATA

OTHER = "fedcba9876543210"


async def comes(host: Host, **more: Any) -> int:
    """Its id here."""
    async with source(host) as far:
        await far.commits(host, **more)
        return (await far.hear(Arrived)).domid


async def asks(host: Host, word: str = WORD) -> Arrived | Undecided | Unknown:
    async with source(host) as far:
        await far.say(Query(word))
        kinds: Any = (Arrived, Undecided, Unknown)
        answer: Arrived | Undecided | Unknown = await far.hear(kinds)
        assert not isinstance(answer, Unknown) or answer.ledger == host.ledger
        return Unknown() if isinstance(answer, Unknown) else answer


async def refused(far: Far) -> str:
    with pytest.raises(RefusalError) as caught:
        await far.hear(Arrived)
    return str(caught.value)


async def never_came(host: Host) -> None:
    """And can no more."""
    await host.until(lambda: not host.names)
    await host.idle()
    assert host.arrivals == {}
    assert host.sessions == {}
    assert await asks(host) == Unknown()
    assert standins(host.shared) == []
    assert host.store.known == {}  # type: ignore[attr-defined]
    assert list(host.services.registry.managed) == []


def outcome(host: Host) -> str:
    """Of what came last, as the event log has it."""
    entries = [entry for entry in host.services.log.entries() if entry["action"] == "receive"]
    assert [entry["result"] for entry in entries[:-1:2]] == ["begun"] * (len(entries) // 2)
    return entries[-1]["result"]


def take(path: str) -> None:
    """And give back."""
    fd = os.open(path, os.O_RDWR)
    try:
        locks.take(fd, writable=True)
    finally:
        os.close(fd)


async def says_nothing(far: Far, host: Host) -> None:
    """Its connection is cut at the end of the test's block."""


async def after_accepted(far: Far, host: Host) -> None:
    await far.say(far.offer(host))
    await far.hear(Accepted)


async def in_the_stream(far: Far, host: Host) -> None:
    await after_accepted(far, host)
    await far.data(b"x" * 1000)


async def in_a_frame(far: Far, host: Host) -> None:
    await after_accepted(far, host)
    far.wire._writer.write(wire.HEADER.pack(DATA, 1000, 0) + b"x" * 10)


async def after_the_stream(far: Far, host: Host) -> None:
    await in_the_stream(far, host)
    await far.say(Sent())


async def after_loaded(far: Far, host: Host) -> None:
    await far.brings(host)


Step = Callable[[Far, Host], Awaitable[None]]


STEPS = [says_nothing, after_accepted, in_the_stream, in_a_frame, after_the_stream, after_loaded]
