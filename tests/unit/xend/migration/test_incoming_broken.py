"""What goes wrong while a domain comes: it never arrives then, and nothing of it stays."""

import asyncio
import json
import zlib

import pytest

from tests.unit.xend.kit import end, run, standins, within
from tests.unit.xend.migration.incoming_kit import (
    OTHER,
    STEPS,
    Step,
    after_accepted,
    after_loaded,
    after_the_stream,
    comes,
    in_the_stream,
    never_came,
    outcome,
    refused,
    says_nothing,
)
from tests.unit.xend.migration.kit import Far, Host, source
from xenion.api.errors import ApiError
from xenion.xend import eventlog
from xenion.xend.migration import incoming, wire
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    Loaded,
    Refused,
    Sent,
    Unknown,
)
from xenion.xend.migration.wire import DATA, MESSAGE

# --- what goes wrong on the way


IN_BETWEEN = [after_accepted, in_the_stream, after_the_stream, after_loaded]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("until", STEPS)
def test_cut(host: Host, until: Step, reset: bool) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                await until(far, host)
                if reset:
                    far.wire._writer.transport.abort()
            await never_came(host)
            assert until is says_nothing or outcome(host) == "failed"
            assert await comes(host, id=OTHER) == 9

    run(work)


@pytest.mark.parametrize("until", STEPS)
def test_silent(host: Host, until: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WORD_S", "SILENCE_S", "DECISION_S"):
        monkeypatch.setattr(incoming, name, 0.3)

    async def work() -> None:
        async with host, source(host) as far:
            await until(far, host)
            if until is after_the_stream:
                await far.hear(Loaded)
            assert await far.over()
            await never_came(host)

    run(work)


@pytest.mark.parametrize(
    "said",
    [
        (MESSAGE, b"nonsense"),
        (MESSAGE, b""),
        (MESSAGE, b'{"type":"commit"}'),
        (MESSAGE, b'{"type":"loaded"}'),
        (MESSAGE, b'{"type":"refused","why":"I have changed my mind"}'),
        (MESSAGE, b'{"type":"refused","why":""}'),
        (MESSAGE, b'{"type":"query","id":"0123456789abcdef"}'),
        (MESSAGE, b"[" * 100000),
        (b"X", b""),
        (DATA, None),
    ],
)
@pytest.mark.parametrize("until", IN_BETWEEN)
def test_nonsense(host: Host, until: Step, said: tuple[bytes, bytes | None]) -> None:
    kind, data = said

    async def work() -> None:
        async with host, source(host) as far:
            await until(far, host)
            size = wire.MOST_BYTES[DATA] + 1 if data is None else len(data)
            header = wire.HEADER.pack(kind, size, zlib.crc32(data or b""))
            far.wire._writer.write(header + (data or b""))
            while not await far.over():
                pass
            await never_came(host)
            assert outcome(host) == "failed"

    run(work)


@pytest.mark.parametrize("kind", [MESSAGE, DATA])
def test_a_commit_that_comes_too_early(host: Host, kind: bytes) -> None:
    """Before all of it is here, or as part of the stream."""

    async def work() -> None:
        async with host, source(host) as far:
            await after_accepted(far, host)
            await far.wire.send(kind, b'{"type":"commit","disks":[]}')
            await far.say(Sent(), Commit([]))
            answers: list[str] = []
            while not answers or answers[-1]:
                answers.append(await next_word(far))
            if kind == DATA:
                assert answers[0] == "loaded"
            else:
                assert "arrived" not in answers
                await never_came(host)

    run(work)


async def next_word(far: Far) -> str:
    """ "" at the end."""
    try:
        frame = await within(far.wire.receive())
    except wire.WireError:
        return ""
    return str(json.loads(frame.data)["type"])


def test_first_words_that_are_none(host: Host) -> None:
    async def work() -> None:
        async with host:
            for word in (Sent(), Loaded(), Commit([]), Accepted(), Unknown(), Arrived(3), Refused("x")):
                async with source(host) as far:
                    await far.say(word)
                    assert await far.over()
            await never_came(host)

    run(work)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("refuse-load", "it is no domain"),
        ("die-load", "the process of web has ended there"),
        ("no-load", "cannot be loaded there in 0.3 seconds"),
        ("deaf", "cannot be loaded there in 0.3 seconds"),
    ],
)
def test_a_stream_that_cannot_be_read(
    host: Host, how: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "LOADING_S", 0.3)
    host.to(how)

    async def work() -> None:
        async with host, source(host) as far:
            await after_the_stream(far, host)
            assert says in await refused(far)
            await never_came(host)
            assert outcome(host) == "failed"

    run(work)


def test_a_process_that_does_not_read_holds_nothing_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has long given up."""
    monkeypatch.setattr(incoming, "SILENCE_S", 0.3)
    host.to("deaf")

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await after_accepted(far, host)
                await far.data(*[b"x" * wire.MOST_BYTES[DATA]] * 3)
            await never_came(host)

    run(work)


@pytest.mark.parametrize("until", IN_BETWEEN)
def test_its_process_ends(host: Host, until: Step) -> None:
    if until is after_the_stream:
        host.to("no-load")

    async def work() -> None:
        async with host, source(host) as far:
            if until in (after_accepted, in_the_stream):
                host.to("no-load")
            await until(far, host)
            await host.until(lambda: host.live().linked)
            end(host.live(), signal=9)
            assert "the process of web has ended there" in await refused(far)
            await never_came(host)

    run(work)


def test_its_end_counts_whatever_comes_with_it(host: Host) -> None:
    """What was waited for ends at the same moment, as being loaded does."""

    async def work() -> None:
        async with host:
            live = await host.has()
            work = host.services.listening._incoming._while_it_lives(live, live.gone.wait())
            waiting = asyncio.ensure_future(work)
            await host.call("destroy", domain="web")
            with pytest.raises(ApiError, match="has ended there"):
                await within(waiting)

    run(work)


def test_destroyed_here_while_it_comes(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            await far.brings(host)
            await host.call("destroy", domain="web")
            assert "has ended there" in await refused(far)
            await never_came(host)

    run(work)


def test_xend_ends_while_it_comes(host: Host) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.brings(host)
                await within(host.services.listening.close())
                assert await far.over()
            assert (host.names, host.arrivals, standins(host.shared)) == ([], {}, [])
            assert outcome(host) == "failed"

    run(work)


def test_a_log_that_cannot_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered of what was not begun."""

    def full(*_: object, **__: object) -> int:
        raise eventlog.EventLogError("the disk is full")

    async def work() -> None:
        async with host:
            with monkeypatch.context() as patch:
                patch.setattr(eventlog.EventLog, "begin", full)
                async with source(host) as far:
                    await far.say(far.offer(host))
                    assert await far.over()
            await host.idle()
            assert (host.sessions, host.names) == ({}, [])
            assert await comes(host) == 9

    run(work)
