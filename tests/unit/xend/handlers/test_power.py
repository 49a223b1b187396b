"""shutdown, destroy, pause, unpause."""

import asyncio

import pytest

from tests.unit.xend.kit import World, add, asked, config, end, ended, run, within


async def asked_to(world: World, mode: str) -> asyncio.Task[object]:
    begun = await world.call("shutdown", {"mode": mode}, domain="web")
    assert asked(world.live())[-1]["mode"] == mode
    assert begun["action"] == ("reboot" if mode == "reboot" else "shutdown")
    task = world.services.tasks.get(begun["id"])
    await within(task.wait(20, 0))
    assert task.shown()["step"] == "waiting for the guest"
    return asyncio.ensure_future(_result(task))


async def _result(task: object) -> object:
    await within(task.over())  # type: ignore[attr-defined]
    return task.result["reason"]  # type: ignore[attr-defined]


BOOTED = {"kind": "running", "boot": 2, "cpu_base": 0}


@pytest.mark.parametrize(
    ("mode", "entries", "reason"),
    [
        ("poweroff", [ended("poweroff", "preserve")], "poweroff"),
        ("halt", [ended("crash", "rename-restart")], "crash"),
        ("reboot", [ended("reboot", "restart"), BOOTED], "reboot"),
        ("reboot", [ended("reboot", "preserve")], "reboot"),
    ],
)
def test_waits_for_the_guest(world: World, mode: str, entries: list[dict[str, object]], reason: str) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            result = await asked_to(world, mode)
            add(live, *entries)
            assert await within(result) == reason

    run(work)


def test_a_domain_that_dies_meanwhile(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            result = await asked_to(world, "poweroff")
            end(live)
            assert await within(result) == "died"

    run(work)


def test_paused_and_unpaused(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.call("pause", domain="web")
            await world.until(lambda: live.condition.state == "paused")
            await world.call("unpause", domain="web")
            await world.until(lambda: live.condition.state == "running")
            for action in ("pause", "unpause", "shutdown", "destroy"):
                for word, code in (("x", "no-such-domain"), ("0", "wrong-state")):
                    assert (await world.refusal(world.call(action, domain=word))).code == code

    run(work)


def test_unpaused_as_it_ends(world: World) -> None:
    """Whoever comes first, the other gets a clear answer."""

    async def work() -> None:
        async with world:
            await world.create(config(world.at), paused=True)
            results = await asyncio.gather(
                *(world.call(action, domain="web") for action in ("unpause", "destroy", "unpause", "pause")),
                return_exceptions=True,
            )
            assert results[1] == {}
            assert {getattr(error, "code", "done") for error in results} <= {"done", "wrong-state"}
            assert world.names == []

    run(work)
