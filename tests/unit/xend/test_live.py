"""What is shown of a domain, and how its process is ended."""

import asyncio
import os
import signal

import pytest

from tests.unit.xend.kit import World, add, config, end, ended, run, standins, within
from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.config.domain import XendStart
from xenion.xend import live as live_module
from xenion.xend import process


def test_shown(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, on_xend_start=XendStart.START))
            shown = live.shown()
            assert shown.keys() == t.Domain.__required_keys__
            assert (shown["boots"], shown["autostart"]) == (1, True)
            await world.until(lambda: live.shown()["state"] == "blocked")
            assert shown["uptime_seconds"] is not None
            assert 0 <= shown["uptime_seconds"] < 60
            assert shown["console"] == str(live.folder / "console.sock")
            add(live, ended("crash", "preserve", cpu_seconds=2.5))
            await world.until(lambda: live.condition.state == "crashed")
            shown = live.shown()
            assert (shown["state"], shown["reason"], shown["cpu_seconds"]) == ("crashed", "crash", 2.5)
            assert shown["started_at"] is shown["uptime_seconds"] is None

    run(work)


def test_a_guest_that_boots_again_is_not_over(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, ended("reboot", "restart"))
            await world.until(lambda: live.condition.state == "building")
            assert live.alive
            assert not live.outcome()["over"]
            waiting = asyncio.ensure_future(world.call("outcome", {}, {"wait": 20}, uuid=live.uuid))
            add(live, {"kind": "running", "boot": 2, "cpu_base": 0}, ended("poweroff", "preserve"))
            outcome = await within(waiting)
            assert (outcome["over"], outcome["reason"], outcome["action"]) == (True, "poweroff", "preserve")

    run(work)


def test_killed(world: World) -> None:
    """Nobody waits for it; again is fine."""

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            live.kill()
            live.kill()
            await within(live.gone.wait())
            assert (live.condition.reason, live.condition.action) == ("destroyed", "destroy")
            live.kill()
            assert standins(world.at) == []

    run(work)


def test_what_is_over_stays_so_while_its_process_says_goodbye(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, ended("poweroff", "destroy"), {"kind": "leaving"})
            await world.until(lambda: live.condition.state == "dying")
            outcome = await within(world.call("outcome", {}, {"wait": 20}, uuid=live.uuid))
            assert (outcome["over"], outcome["reason"]) == (True, "poweroff")
            assert not live.gone.is_set()

    run(work)


def test_destroyed_before_it_listens(world: World) -> None:
    async def work() -> None:
        async with world:
            begun = await world.call("create", {"config": config(world.at, behaviour="hang").to_mapping()})
            await world.until(lambda: "web" in world.names)
            error = await world.refusal(world.call("pause", domain="web"))
            assert error.message == "web is being built: try again in a moment"
            await asyncio.wait_for(world.call("destroy", domain="web"), 1.5)
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.failure is not None
            assert (task.failure.code, task.failure.message) == (
                "wrong-state",
                "web was destroyed while it was built",
            )
            assert standins(world.at) == []
            (entry,) = [e for e in world.services.log.entries() if e["action"] == "create" and e.get("begun")]
            assert entry["result"] == "refused"

    run(work)


def test_a_process_that_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "STOP_S", 0.05)

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="mute"))
            error = await world.refusal(live.ask("pause", timeout=0.01))
            assert (error.code, "`xm destroy` ends it" in error.message) == ("failed", True)
            await world.call("destroy", domain="web")
            assert (await world.call("outcome", uuid=live.uuid))["reason"] == "destroyed"

    run(work)


def test_a_process_that_has_just_ended(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            end(live, signal=signal.SIGKILL)
            error = await world.refusal(live.ask("unpause"))
            assert (error.code, error.message) == ("wrong-state", "web has just ended")
            await within(live.stop())

    run(work)


def test_destroyed_by_many_at_once(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await asyncio.gather(*(world.call("destroy", domain=live.uuid) for _ in range(5)))
            assert world.told() == ["booted", "ended", "leaving", "gone"]

    run(work)


def test_a_process_that_cannot_be_ended(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "STOP_S", 0.01)
    monkeypatch.setattr(live_module, "GONE_S", 0.01)
    monkeypatch.setattr(process.Process, "kill", lambda self: False)

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="mute"))
            error = await world.refusal(live.stop())
            assert error.message == f"process {live.pid} of web cannot be ended"
            os.kill(live.pid or 0, signal.SIGKILL)
            await within(live.gone.wait())

    run(work)


def test_a_record_that_cannot_be_written(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.call("destroy", domain="web")
            with pytest.raises(ApiError) as caught:
                live.save()
            assert caught.value.code == "failed"

    run(work)
