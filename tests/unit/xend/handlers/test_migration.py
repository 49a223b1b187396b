"""migrate, resolve: what the API takes and what it says no to. How it goes on is in tests/unit/xend/migration."""

from typing import Any

import pytest

from tests.unit.xend.kit import World, add, config, ended, run, within
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.migration.outgoing import How, Outgoing
from xenion.xend.migration.target import Target
from xenion.xend.tasks import RunningTask

HERE = {"host": "there"}


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Target, How]]:
    """What was to be moved, where, and how; nothing is."""
    seen: list[tuple[str, Target, How]] = []

    async def migrate(self: Outgoing, live: Live, target: Target, how: How, task: RunningTask) -> Any:
        seen.append((live.name, target, how))
        return {"a": 1}

    monkeypatch.setattr(Outgoing, "migrate", migrate)
    return seen


@pytest.mark.parametrize(
    ("body", "target", "how"),
    [
        ({}, Target("there", 8002), How(live=False, ask=True)),
        ({"port": 9}, Target("there", 9), How(live=False, ask=True)),
        ({"ssl": True, "live": True}, Target("there", 8002, ssl=True), How(live=True, ask=False)),
        ({"ssh": True, "live": True}, Target("there", 8002, ssh=True), How(live=True, ask=False)),
        ({"live": True, "as_it_stands": True}, Target("there", 8002), How(live=True, ask=False)),
        ({"as_it_stands": True}, Target("there", 8002), How(live=False, ask=False)),
        ({"check": True, "same_disks": True}, Target("there", 8002), How(False, True, True, True)),
        (
            {"most_mbit_per_s": 8, "abort_after_downtime_ms": 30},
            Target("there", 8002),
            How(live=False, ask=True, most_bytes_per_s=1_000_000, worst_ms=30),
        ),
    ],
)
def test_asked_for(world: World, moves: list[Any], body: dict[str, Any], target: Target, how: How) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            assert await world.task("migrate", {**HERE, **body}, domain="web") == {"a": 1}
            assert moves == [("web", target, how)]
            entries = [entry for entry in world.services.log.entries() if entry["action"] == "migrate"]
            assert [entry["result"] for entry in entries] == ["begun", "done"]
            assert {entry["domain"] for entry in entries} == {"web"}

    run(work)


def test_one_way_of_the_two(world: World, moves: list[Any]) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            error = await world.refusal(
                world.call("migrate", {**HERE, "ssl": True, "ssh": True}, domain="web")
            )
            assert (error.code, moves) == ("bad-request", [])

    run(work)


@pytest.mark.parametrize("state", ["defined", "slow", "stopped", "undecided"])
def test_what_cannot_be_moved(world: World, moves: list[Any], state: str) -> None:
    async def work() -> None:
        async with world:
            if state == "defined":
                await world.call("define", {"config": config(world.at).to_mapping()})
            elif state == "slow":
                await world.call("create", {"config": config(world.at, behaviour="slow").to_mapping()})
                await world.until(lambda: "web" in world.names and world.live().linked)
            else:
                live = await world.create(config(world.at))
                if state == "stopped":
                    add(live, ended("crash", "preserve"))
                    await world.until(lambda: live.over)
                else:
                    live.record.leaving = {"id": "a", **Target("there", 1).to_mapping()}
            error = await world.refusal(world.call("migrate", HERE, domain="web"))
            assert error.code == "wrong-state"
            assert moves == []

    run(work)


@pytest.mark.parametrize("action", ["migrate", "resolve"])
def test_of_no_domain(world: World, moves: list[Any], action: str) -> None:
    async def work() -> None:
        async with world:
            for word, code in (("web", "no-such-domain"), ("0", "wrong-state"), ("Domain-0", "wrong-state")):
                body = HERE if action == "migrate" else {"goes_on": "source"}
                assert (await world.refusal(world.call(action, body, domain=word))).code == code

    run(work)


def test_what_it_says_is_what_the_task_says(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def migrate(*_: object) -> Any:
        raise ApiError("refused", "there does not take web: no room")

    monkeypatch.setattr(Outgoing, "migrate", migrate)

    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            begun = await world.call("migrate", HERE, domain="web")
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            assert task.shown()["error"] == {"code": "refused", "message": "there does not take web: no room"}
            assert world.services.log.entries()[-1]["detail"] == "there does not take web: no room"

    run(work)


@pytest.mark.parametrize("goes_on", ["source", "target"])
def test_resolved(world: World, monkeypatch: pytest.MonkeyPatch, goes_on: str) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            seen: list[tuple[str, bool]] = []

            async def resolve(live: Live, *, here: bool) -> None:
                seen.append((live.name, here))

            monkeypatch.setattr(type(world.services.decided), "resolve", staticmethod(resolve))
            await world.call("resolve", {"goes_on": goes_on}, domain="web")
            assert seen == [("web", goes_on == "source")]
            assert world.told(who="test")[-1] == "resolve"

    run(work)
