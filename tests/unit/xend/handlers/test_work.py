"""tasks, task, cancel."""

from tests.unit.xend.kit import World, config, run


def test_tasks_are_listed_followed_and_cancelled(world: World) -> None:
    async def work() -> None:
        async with world:
            begun = await world.call("create", {"config": config(world.at, behaviour="slow").to_mapping()})
            assert (begun["state"], begun["action"], begun["domain"]) == ("running", "create", "web")
            seen = -1
            while (task := await world.call("task", {}, {"wait": 20, "seen": seen}, task=begun["id"]))[
                "step"
            ] != ("building the domain"):
                seen = task["seen"]
            assert [t["id"] for t in (await world.call("tasks"))["tasks"]] == [begun["id"]]
            assert (
                await world.call("task", {}, {"wait": 0.01, "seen": task["seen"]}, task=begun["id"])
            ) is not None
            assert (await world.call("cancel", task=begun["id"]))["state"] == "cancelled"
            assert (await world.call("task", {}, {"wait": 20}, task=begun["id"]))["state"] == "cancelled"
            assert (await world.refusal(world.call("task", task="x"))).code == "no-such-task"
            assert (await world.refusal(world.call("cancel", task="x"))).code == "no-such-task"

    run(work)
