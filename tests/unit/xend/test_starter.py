"""Domains are started: each name once, each request once, as many at a time as may be."""

import asyncio
from typing import cast

import pytest

from tests.unit.xend.kit import World, add, config, run, standins, within
from tests.unit.xend.saving_kit import file as saved_file
from xenion.api.errors import ApiError
from xenion.xend import host, starter
from xenion.xend.devices import OpenDevices
from xenion.xend.going_back import GoingBack
from xenion.xend.record import Record
from xenion.xend.starter import Saved


def test_two_of_one_name_at_once(world: World) -> None:
    async def work() -> None:
        async with world:
            body = {"config": config(world.at).to_mapping()}
            begun = await asyncio.gather(*(world.call("create", body) for _ in range(5)))
            tasks = [world.services.tasks.get(task["id"]) for task in begun]
            for task in tasks:
                await within(task.over())
            assert sorted(task.state for task in tasks) == ["done"] + ["failed"] * 4
            assert {task.failure.code for task in tasks if task.failure} == {"already-exists"}
            assert len(standins(world.at)) == 1

    run(work)


def test_one_request_many_times_at_once(world: World) -> None:
    """A client whose connection breaks asks again while its first request waits for its turn."""

    async def work() -> None:
        async with world:
            world.services.starter._turns._value = 0
            body = {"config": config(world.at).to_mapping(), "request": "word"}
            begun = [await world.call("create", body) for _ in range(3)]
            assert len({task["id"] for task in begun}) == 1
            world.services.starter._turns._value = 1
            world.services.starter._turns.release()
            tasks = [world.services.tasks.get(task["id"]) for task in begun]
            for task in tasks:
                await within(task.over())
            assert {task.result["domain"]["uuid"] for task in tasks} == {world.live().uuid}
            assert len(standins(world.at)) == 1

    run(work)


@pytest.mark.parametrize("again", [False, True])
def test_a_repeated_request_is_answered_as_the_first_was(world: World, again: bool) -> None:
    answers = {"refuse": ("refused", "it is no kernel"), "die": ("failed", "ended while it was built")}

    async def first() -> None:
        async with world:
            for behaviour in answers:
                made = config(world.at, behaviour, behaviour)
                await world.refusal(world.task("create", {"config": made.to_mapping(), "request": behaviour}))
            await world.create(config(world.at), request="lives")
            live = await world.create(config(world.at, "over"), request="over")
            await world.call("destroy", domain="over")
            assert live.gone.is_set()
            if not again:
                await repeat()

    async def repeat() -> None:
        for behaviour, (code, says) in answers.items():
            made = config(world.at, behaviour, behaviour)
            error = await world.refusal(
                world.task("create", {"config": made.to_mapping(), "request": behaviour})
            )
            assert error.code == code
            assert says in error.message
        for word, name in (("lives", "web"), ("over", "over")):
            found = await world.task(
                "create", {"config": config(world.at, name).to_mapping(), "request": word}
            )
            assert (found["domain"]["name"], found["domain"]["boots"]) == (name, 1)
        assert world.names == ["web"]

    async def second() -> None:
        async with world:
            await repeat()

    run(first)
    if again:
        run(second)


def test_cancelled_while_it_is_built(world: World) -> None:
    async def work() -> None:
        async with world:
            begun = await world.call("create", {"config": config(world.at, behaviour="slow").to_mapping()})
            await world.until(lambda: "web" in world.names and world.live().linked)
            uuid = world.live().uuid
            shown = await world.call("cancel", task=begun["id"])
            assert shown["state"] == "cancelled"
            assert (world.names, standins(world.at)) == ([], [])
            assert world.files(world.where.domains) == []
            (entry,) = [e for e in world.services.log.entries() if e["action"] == "create" and e.get("begun")]
            assert entry["result"] == "cancelled"
            assert (await world.call("outcome", uuid=uuid))["reason"] == "destroyed"

    run(work)


def test_cancelled_while_it_waits_for_its_turn(world: World) -> None:
    async def work() -> None:
        async with world:
            world.services.starter._turns._value = 0
            begun = await world.call("create", {"config": config(world.at).to_mapping()})
            await asyncio.sleep(0)
            assert (await world.call("task", task=begun["id"]))["step"] == "waiting for its turn"
            assert (await world.call("cancel", task=begun["id"]))["state"] == "cancelled"
            world.services.starter._turns.release()
            await world.create(config(world.at))

    run(work)


def test_so_many_are_built_at_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starter, "BUILDING", 2)

    async def work() -> None:
        async with world:
            for number in range(3):
                await world.call("create", {"config": config(world.at, f"d{number}", "slow").to_mapping()})
            await world.until(lambda: len(standins(world.at)) == 2)
            await world.until(lambda: world.live("d0").linked)
            add(world.live("d0"), {"kind": "running", "boot": 1, "cpu_base": 0})
            await world.until(lambda: len(world.names) == 3)

    run(work)


def test_what_does_not_fit_is_refused_with_the_figures(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "memory", lambda: host.Memory(1000, 210))

    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            error = await world.refusal(world.call("create", {"config": config(world.at, "b").to_mapping()}))
            await world.call("destroy", domain="web")
            assert error.code == "does-not-fit"
            assert "memory = 16 MiB does not fit: the host has 1000 MiB" in error.message
            await world.create(config(world.at, "b"))

    monkeypatch.setattr(host, "resident_mib", lambda pid: 0)
    monkeypatch.setattr(host, "HEADROOM_MIB", 95)
    run(work)


def test_files_that_are_not_there(world: World) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at)
            made.kernel.unlink()
            error = await world.refusal(world.call("create", {"config": made.to_mapping()}))
            assert (error.code, error.message) == (
                "refused",
                f"kernel {made.kernel} does not exist: correct the path",
            )
            made.kernel.mkdir()
            error = await world.refusal(world.call("create", {"config": made.to_mapping()}))
            assert "is not a file" in error.message
            assert not (world.where.state / "domains").exists()

    run(work)


def test_a_definition_counts_as_it_is_at_the_start(world: World) -> None:
    async def work() -> None:
        async with world:
            for name in ("a", "b"):
                await world.call("define", {"config": config(world.at, name).to_mapping()})
            world.services.starter._turns._value = 0
            begun = [await world.call("start", domain=name) for name in ("a", "b")]
            await asyncio.sleep(0)
            await world.call("delete", domain="a")
            changed = {**config(world.at, "b").to_mapping(), "memory_mib": 20}
            await world.call("define", {"config": changed})
            await world.call("rename", {"name": "c"}, domain="b")
            world.services.starter._turns.release()
            tasks = [world.services.tasks.get(task["id"]) for task in begun]
            for task in tasks:
                await within(task.over())
            assert [task.state for task in tasks] == ["failed", "done"]
            assert tasks[0].failure is not None
            assert tasks[0].failure.code == "no-such-domain"
            live = world.live("c")
            assert (live.record.managed, live.record.config.memory_mib) == (True, 20)

    run(work)


class Back:
    """Stands in for disks that go back; `fails` to."""

    def __init__(self, world: World, *, fails: bool = False) -> None:
        self.world = world
        self.fails = fails
        self.seen: list[tuple[str, bool, bool]] = []
        """The domain's name, whether that was taken by then, and whether its process was there."""

    async def go(self, made: Record) -> None:
        registry = self.world.services.registry
        self.seen.append((made.name, registry.is_running(made.uuid), bool(standins(self.world.at))))
        if self.fails:
            raise ApiError("refused", "they cannot go back")


@pytest.mark.parametrize("fails", [False, True])
def test_its_disks_go_back_first(world: World, monkeypatch: pytest.MonkeyPatch, fails: bool) -> None:
    """Before they are opened, and when nobody else can start it any more."""

    async def work() -> None:
        async with world:
            back, opened = Back(world, fails=fails), []
            open_all = world.services.devices.open_all

            async def opens(made: Record) -> OpenDevices:
                opened.append(len(back.seen))
                return await open_all(made)

            monkeypatch.setattr(world.services.devices, "open_all", opens)
            path = saved_file(world)
            with path.open("rb") as file:
                came = Saved(file.fileno(), 7, back=cast("GoingBack", back))
                starting = world.services.starter.start(config(world.at), saved=came)
                if fails:
                    error = await world.refusal(starting)
                    assert error.message == "they cannot go back"
                else:
                    assert (await within(starting))["domid"] == 7
            assert back.seen == [("web", True, False)]
            assert opened == ([] if fails else [1])
            assert world.names == ([] if fails else ["web"])
            world.services.registry.check_name_is_free("web", world.live().uuid if not fails else "")

    run(work)
