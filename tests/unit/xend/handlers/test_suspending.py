"""suspend, resume: a managed domain's memory is kept by xend, and it goes on from it once."""

from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, config, names, run
from tests.unit.xend.saving_kit import UUID, content, creates, state, words
from tests.unit.xend.standin import CONTENT
from xenion.xend import suspended
from xenion.xend.live import Live
from xenion.xend.suspended import SUSPENDED


@pytest.fixture
def world(tmp_path: Path, standins: None) -> World:
    return World(tmp_path)


async def defines(world: World, behaviour: str = "", **more: Any) -> None:
    made = config(world.at, behaviour=behaviour, **more)
    content(world.at / CONTENT, made)
    await world.call("define", {"config": {**made.to_mapping(), "uuid": UUID}})


async def starts(world: World, behaviour: str = "", **more: Any) -> Live:
    await defines(world, behaviour, **more)
    await world.task("start", domain="web")
    return world.live("web")


async def now(world: World) -> str:
    return str((await world.call("domain", domain="web"))["state"])


async def settle(world: World) -> None:
    await suspended.settle(world.where, world.services.registry.live.values())


def kept(world: World) -> list[str]:
    return [name for name in names(state(world)) if name.endswith(".saved")]


def test_it_goes_on_where_it_was(world: World) -> None:
    async def work() -> None:
        async with world:
            await starts(world)
            before = descriptors()
            for paused in (False, True):
                result = await world.task("suspend", {"as_it_stands": paused}, domain="web")
                assert result["size"] > 0
                assert (world.names, kept(world), await now(world)) == ([], [SUSPENDED], "suspended")
                result = await world.task("resume", {"paused": paused}, domain="web")
                assert (result["domain"]["state"] == "paused") is paused
                assert (world.names, kept(world)) == (["web"], [])
                assert words(world.live("web"))[:1] == ["goes-on"]
            assert len(descriptors()) == len(before)

    run(work)


@pytest.mark.parametrize("body", [{"as_it_stands": True}, {"as_it_stands": False}, {}])
def test_its_guest_is_asked(world: World, body: dict[str, bool]) -> None:
    """One that is not suspended goes on."""

    async def work() -> None:
        async with world:
            live = await starts(world, "no-save")
            error = await world.refusal(world.task("suspend", body, domain="web"))
            assert "it cannot be saved now" in error.message
            (request,) = [request for request in asked(live) if request["do"] == "save"]
            assert request["ask"] is not body.get("as_it_stands", False)
            assert (world.names, kept(world)) == (["web"], [])

    run(work)


def test_what_cannot_be_suspended(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            error = await world.refusal(world.call("suspend", domain="web"))
            assert (error.code, "not a managed domain" in error.message) == ("wrong-state", True)
            await world.call("destroy", domain="web")
            await defines(world)
            error = await world.refusal(world.call("suspend", domain="web"))
            assert "is not running" in error.message
            error = await world.refusal(world.call("resume", domain="web"))
            assert (error.code, "is not suspended" in error.message) == ("wrong-state", True)
            await world.task("start", domain="web")
            error = await world.refusal(world.call("resume", domain="web"))
            assert (error.code, "running already" in error.message) == ("wrong-state", True)

    run(work)


def test_it_is_not_started_from_its_beginning_by_mistake(world: World) -> None:
    async def work() -> None:
        async with world:
            await starts(world)
            await world.task("suspend", domain="web")
            error = await world.refusal(world.call("start", domain="web"))
            assert (error.code, "`xm resume web`" in error.message) == ("wrong-state", True)
            assert kept(world) == [SUSPENDED]
            await world.task("start", {"anew": True}, domain="web")
            assert (kept(world), words(world.live("web"))) == ([], [])

    run(work)


def test_it_is_deleted_with_its_memory(world: World) -> None:
    async def work() -> None:
        async with world:
            await starts(world)
            await world.task("suspend", domain="web")
            await world.call("delete", domain="web")
            assert kept(world) == []

    run(work)


def test_one_that_does_not_go_on_stays_suspended(world: World) -> None:
    async def work() -> None:
        async with world:
            await starts(world)
            await world.task("suspend", domain="web")
            path = state(world) / SUSPENDED
            data = path.read_bytes()
            path.write_bytes(data[: len(data) // 2])
            error = await world.refusal(world.call("resume", domain="web"))
            assert (error.code, kept(world), await now(world)) == ("refused", [SUSPENDED], "suspended")
            path.write_bytes(data)
            await world.task("resume", domain="web")

    run(work)


def test_one_whose_process_refuses_stays_suspended(world: World) -> None:
    async def work() -> None:
        async with world:
            await starts(world)
            content(world.at / CONTENT, config(world.at, behaviour="refuse"))
            await world.task("suspend", domain="web")
            error = await world.refusal(world.task("resume", domain="web"))
            assert error.code == "refused"
            assert (kept(world), world.names) == ([SUSPENDED], [])

    run(work)


def test_what_a_killed_xend_has_left(world: World) -> None:
    """It goes on once: nobody resumes one that runs, or has run."""

    async def resuming() -> None:
        async with world:
            await starts(world)
            await world.task("suspend", domain="web")
            path = suspended.take(state(world))
            await settle(world)
            assert kept(world) == [SUSPENDED], "nothing came of it"
            await world.task("resume", domain="web")
            path.write_bytes(b"which is the domain's that runs")

    async def later() -> None:
        async with world:
            assert world.names == ["web"]
            await settle(world)
            assert kept(world) == []

    run(resuming)
    run(later)
