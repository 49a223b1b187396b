"""log, events, dmesg: what has happened, in order, each once."""

import asyncio

import pytest

from tests.unit.xend.kit import World, config, run, within
from xenion.xend.eventlog import EventLogError
from xenion.xend.handlers.messages import Events


def test_the_log(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            every = (await world.call("log"))["entries"]
            assert [e["action"] for e in every] == ["create", "booted", "create"]
            assert every == world.services.log.entries()
            assert (await world.call("log", {}, {"since": 2}))["entries"] == every[2:]
            assert (await world.call("log", {}, {"last": 1}))["entries"] == every[2:]
            assert (await world.call("log", {}, {"uuid": live.uuid}))["entries"] == every[1:]

    run(work)


def test_a_log_that_cannot_be_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:

            def fail(*_: object) -> None:
                raise EventLogError("The disk is gone.")

            monkeypatch.setattr(world.services.log, "entries", fail)
            for action, query in (("log", {}), ("events", {"since": 0})):
                error = await world.refusal(world.call(action, {}, query))
                assert (error.code, error.message) == ("failed", "The disk is gone.")
            assert world.services.log._subscriptions == []

    run(work)


async def take(events: Events, number: int) -> list[int]:
    return [(await within(events.__anext__()))["n"] for _ in range(number)]


def test_events_go_on_where_the_past_ends(world: World) -> None:
    async def work() -> None:
        async with world:
            log = world.services.log
            for _ in range(3):
                log.note("me", "x", uuid="u")
            asking = asyncio.ensure_future(world.call("events", {}, {"since": 1}))
            await asyncio.sleep(0)
            log.note("me", "x")
            events = await within(asking)
            log.note("me", "x", uuid="u")
            assert await take(events, 4) == [2, 3, 4, 5]
            await events.aclose()
            with pytest.raises(StopAsyncIteration):
                await within(events.__anext__())
            events = await world.call("events", {}, {"uuid": "u"})
            for uuid in ("u", "v", "u"):
                log.note("me", "x", uuid=uuid)
            assert await take(events, 2) == [6, 8]
            await events.aclose()

    run(work)


def test_a_client_that_is_too_slow_is_let_go(world: World) -> None:
    async def work() -> None:
        async with world:
            events = await world.call("events")
            for _ in range(1001):
                world.services.log.note("me", "x")
            assert await take(events, 1000) == list(range(1, 1001))
            with pytest.raises(StopAsyncIteration):
                await within(events.__anext__())
            await events.aclose()

    run(work)


def test_the_ring(world: World) -> None:
    async def work() -> None:
        async with world:
            world.services.ring.add("word")
            text = (await world.call("dmesg"))["text"]
            assert text.endswith("word\n")
            assert await world.call("clear_dmesg") == {"text": text}
            assert await world.call("dmesg") == {"text": ""}

    run(work)
