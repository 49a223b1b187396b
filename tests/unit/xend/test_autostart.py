"""on_xend_start holds once after each start of the host; on_xend_stop when xend is stopped."""

import asyncio
from typing import Any

import pytest

from tests.unit.xend.kit import World, add, asked, config, end, ended, run, standins, within
from tests.unit.xend.saving_kit import UUID, content
from tests.unit.xend.standin import CONTENT
from xenion.config.domain import XendStart, XendStop
from xenion.xend import autostart, host
from xenion.xend.storage import read_json, write_json

START = {"on_xend_start": XendStart.START}


async def started(world: World) -> list[str]:
    await within(autostart.start_all(world.services, world.handlers))
    return world.names


async def define(world: World, **names: Any) -> None:
    for name, more in names.items():
        await world.call("define", {"config": config(world.at, name, **more).to_mapping()})


def test_once_after_each_start_of_the_host(world: World) -> None:
    async def first() -> None:
        async with world:
            await define(world, a=START, b={}, c=START, d={"behaviour": "refuse", **START})
            assert await started(world) == ["a", "c"]
            assert [e["who"] for e in world.services.log.entries() if e["action"] == "start"] == ["xend"] * 6
            await world.call("destroy", domain="a")

    async def later() -> None:
        async with world:
            assert await started(world) == ["c"]
            await world.call("destroy", domain="c")

    async def after_a_new_start_of_the_host() -> None:
        """The run folder may have outlived it."""
        mark = world.where.run / autostart.MARK
        write_json(mark, {**read_json(mark), "host": "another"})
        async with world:
            assert await started(world) == ["a", "c"]

    run(first)
    run(later)
    run(after_a_new_start_of_the_host)


def test_the_next_xend_starts_the_rest(world: World) -> None:
    """But not what has run and ended meanwhile."""

    async def killed() -> None:
        async with world:
            await define(world, a=START, b=START, c=START)
            await world.task("start", domain="a")
            await world.task("start", domain="b")
            begun = [world.live(name).uuid for name in ("a", "b")]
            mark = {"host": host.boot_id(), "started": begun, "complete": False}
            write_json(world.where.run / autostart.MARK, mark)
            await world.call("destroy", domain="b")

    async def second() -> None:
        async with world:
            assert await started(world) == ["a", "c"]

    run(killed)
    run(second)


def test_a_start_that_takes_long_can_be_broken_off(world: World) -> None:
    async def work() -> None:
        async with world:
            await define(world, a={"behaviour": "slow", **START})
            job = asyncio.ensure_future(autostart.start_all(world.services, world.handlers))
            await world.until(lambda: world.names == ["a"])
            job.cancel()
            await asyncio.wait([job])

    run(work)
    assert len(standins(world.at)) == 1
    assert not (world.where.run / autostart.MARK).exists()


def test_stopped_with_xend(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            ends = {
                "stay": XendStop.IGNORE,
                "go": XendStop.DESTROY,
                "shut": XendStop.SHUTDOWN,
                "deaf": XendStop.SHUTDOWN,
            }
            await define(world, **{name: {"on_xend_stop": what} for name, what in ends.items()})
            for name in ends:
                await world.task("start", domain=name)
            await world.create(config(world.at, "transient", on_xend_stop=XendStop.DESTROY))
            shut, deaf = world.live("shut"), world.live("deaf")
            monkeypatch.setattr(autostart, "STOP_S", 0.3)
            stopping = asyncio.ensure_future(autostart.stop_all(world.services, world.handlers["suspend"]))
            await world.until(lambda: bool(asked(shut)))
            assert asked(shut)[-1]["mode"] == "poweroff"
            add(shut, ended("poweroff"), {"kind": "leaving"})
            end(shut)
            await within(stopping)
            assert world.names == ["stay", "transient"]
            assert (await world.call("outcome", uuid=shut.uuid))["reason"] == "poweroff"
            assert (await world.call("outcome", uuid=deaf.uuid))["reason"] == "destroyed"

    run(work)


def test_suspended_with_xend_and_resumed_with_the_host(world: World) -> None:
    """One that cannot be goes on."""
    made = config(world.at, "goes", on_xend_stop=XendStop.SUSPEND, **START)
    content(world.at / CONTENT, made)

    async def stopped() -> None:
        async with world:
            await world.call("define", {"config": {**made.to_mapping(), "uuid": UUID}})
            await define(world, stays={"on_xend_stop": XendStop.SUSPEND, "behaviour": "no-save"})
            for name in ("goes", "stays"):
                await world.task("start", domain=name)
            await within(autostart.stop_all(world.services, world.handlers["suspend"]))
            assert world.names == ["stays"]
            assert (await world.call("domain", domain="goes"))["state"] == "suspended"

    async def started_again() -> None:
        async with world:
            assert await started(world) == ["goes", "stays"]
            assert [request["do"] for request in asked(world.live("goes"))][:1] == ["goes-on"]

    run(stopped)
    run(started_again)
