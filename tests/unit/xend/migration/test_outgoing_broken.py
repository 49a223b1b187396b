"""What goes wrong while a domain leaves: it goes on here, whatever the other host says or does not say."""

import asyncio

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import end, run, within
from tests.unit.xend.migration.kit import Far, Host, Targets, words
from tests.unit.xend.migration.outgoing_kit import (
    GAVE_UP,
    Step,
    after_the_stream,
    at_once,
    fails,
    goes_on,
    in_the_stream,
    when_offered,
)
from xenion.xend.migration import outgoing, talk
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    Got,
    Loaded,
    Offer,
    Refused,
)
from xenion.xend.migration.wire import DATA, MESSAGE

# --- what goes wrong on the way


UNDECIDED = [when_offered, in_the_stream, after_the_stream]
EARLY = [at_once, *UNDECIDED]


def said_then(until: Step) -> list[str]:
    """What the process was asked when it had come to nothing there."""
    return [] if until in (at_once, when_offered) else GAVE_UP


@pytest.mark.parametrize("until", UNDECIDED)
def test_refused(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def refuses(far: Far) -> None:
                await until(far)
                await far.say(Refused("no room"))

            targets.then(refuses)
            error = await fails(host, targets)
            assert error.code == "refused"
            assert error.message == f"127.0.0.1:{targets.port} does not take web: no room"
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("until", EARLY)
def test_cut(host: Host, until: Step, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def cuts(far: Far) -> None:
                await until(far)
                if reset:
                    far.wire._writer.transport.abort()

            targets.then(cuts)
            error = await fails(host, targets)
            assert error.code == "failed"
            assert error.message.startswith(f"web is not moved, 127.0.0.1:{targets.port}: the connection ")
            assert error.message.endswith("; it goes on here")
            goes_on(host, live, said_then(until))
        descriptors()  # what was garbage is none any more

    run(work)
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("until", [when_offered, after_the_stream])
def test_silent(host: Host, until: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk.hear, "__defaults__", (0.2,))
    monkeypatch.setattr(outgoing, "LOADED_S", 0.2)

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def waits(far: Far) -> None:
                await until(far)
                assert await far.over()

            targets.then(waits)
            error = await fails(host, targets)
            assert "it does not answer; it goes on here" in error.message
            goes_on(host, live, said_then(until))

    run(work)


NONSENSE = [
    (MESSAGE, b"nonsense"),
    (MESSAGE, b'{"type":"arrived","domid":3}'),
    (MESSAGE, b'{"type":"sent"}'),
    (MESSAGE, b'{"type":"unknown"}'),
    (MESSAGE, b'{"type":"commit","disks":[]}'),
    (DATA, b'{"type":"accepted"}'),
    (DATA, b'{"type":"loaded"}'),
    (MESSAGE, b"[" * 100000),
]


@pytest.mark.parametrize(("kind", "data"), NONSENSE)
@pytest.mark.parametrize("until", UNDECIDED)
def test_nonsense(host: Host, until: Step, kind: bytes, data: bytes) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def says(far: Far) -> None:
                await until(far)
                await far.wire.send(kind, data)
                await far.over()

            targets.then(says)
            error = await fails(host, targets)
            assert "what it says makes no sense; it goes on here" in error.message
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("until", [when_offered, after_the_stream])
def test_read_before_or_after_it_was_sent(host: Host, until: Step) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def says(far: Far) -> None:
                await until(far)
                await far.say(Got(1))
                await far.over()

            targets.then(says)
            assert "makes no sense; it goes on here" in (await fails(host, targets)).message
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("until", [when_offered, in_the_stream, after_the_stream])
def test_cancelled(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def waits(far: Far) -> None:
                await until(far)
                there.set()
                assert await far.over()

            targets.then(waits)
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            shown = await host.call("cancel", task=begun["id"])
            assert shown["state"] == "cancelled"
            goes_on(host, live, said_then(until))
            await host.until(lambda: targets.done)

    run(work)


def test_its_process_keeps_the_stream_open(host: Host) -> None:
    """It can be cancelled still, and the other host gives it up at some time."""
    host.to("keeps")

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def gives_up(far: Far) -> None:
                await in_the_stream(far)

            async def waits(far: Far) -> None:
                await in_the_stream(far)
                there.set()
                assert await far.over()

            targets.then(gives_up, waits)
            assert "it goes on here" in (await fails(host, targets)).message
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            assert (await host.call("cancel", task=begun["id"]))["state"] == "cancelled"
            goes_on(host, live, GAVE_UP * 2)
            await host.until(lambda: targets.done)

    run(work)


def test_its_process_refuses(host: Host) -> None:
    """Nothing of it is given up: what it does instead may be somebody else's."""
    host.to("no-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            targets.then(waits_for_the_end)
            error = await fails(host, targets)
            assert (error.code, error.message) == ("wrong-state", "it is being saved or moved already")
            goes_on(host, live, ["migrate"])

    run(work)


async def waits_for_the_end(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    assert await far.over()


def test_twice_at_once(host: Host) -> None:
    """The second one does no harm to the first."""

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def takes_its_time(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                await there.wait()
                await far.say(Loaded())
                await far.hear(Commit)
                await far.say(Arrived(3))

            targets.then(takes_its_time)
            begun = await host.call("migrate", targets.where, domain="web")
            await host.until(lambda: words(live) == ["migrate"])
            host.to("no-migrate")
            targets.then(waits_for_the_end)
            assert (await fails(host, targets)).code == "wrong-state"
            there.set()
            await within(host.services.tasks.get(begun["id"]).over())
            assert host.names == []

    run(work)


@pytest.mark.parametrize("until", [in_the_stream, after_the_stream])
def test_its_process_ends(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def kills(far: Far) -> None:
                await until(far)
                end(live, signal=9)
                if until is after_the_stream:
                    await within(live.gone.wait())
                    await far.say(Loaded())
                assert await far.over(), "there is nothing to commit"

            targets.then(kills)
            await fails(host, targets)
            await within(live.gone.wait())
            assert host.names == []

    run(work)
