"""xend is killed before each step of each action in turn: the next one finds the state before it or after it."""

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.processes.killing import Scenario, killed
from tests.unit.xend import kit
from tests.unit.xend.kit import World, add, asked, config, ended, run, within
from xenion.xend import supervisor

Check = Callable[[World], Awaitable[None]]


async def nothing(world: World) -> None:
    pass


async def sound(world: World) -> None:
    """What holds after any kill."""
    lives = list(world.services.registry.live.values())
    assert sorted(path.name for path in world.where.domains.iterdir()) == sorted(live.uuid for live in lives)
    assert sorted(kit.standins(world.at.parent)) == sorted(live.pid for live in lives if live.pid)
    every = [
        *world.names,
        *(m.name for m in world.services.registry.managed if m.uuid not in {x.uuid for x in lives}),
    ]
    assert len(set(every)) == len(every)
    assert len({live.domid for live in lives}) == len(lives)
    for live in lives:
        assert live.record.logs == live.name
        assert (live.logs / "console.log").exists()
    ready = {name.partition("/")[0] for name in world.files(world.where.state / "domains") if "/." in name}
    assert ready <= set(world.names)
    entries = [entry for entry in world.services.log.entries() if entry["who"] == "domain"]
    twice = Counter(
        (entry["uuid"], entry["domid"], entry["journal"]) for entry in entries if entry["journal"] is not None
    )
    assert [key for key, times in twice.items() if times > 1] == []
    assert not any(
        entry["begun"] for entry in world.services.log.entries() if entry.get("begun") and not entry["result"]
    )


async def leave_nothing(world: World) -> None:
    """Ends all that is there; no file of it is left."""
    for live in list(world.services.registry.live.values()):
        await within(live.stop())
    assert world.files(world.where.domains) == []
    assert list(world.where.domains.iterdir()) == []
    left = [
        name
        for name in world.files(world.at)
        if name.rpartition("/")[2].startswith(".") or name.endswith((".part", ".new"))
    ]
    assert left == []


def kill_at_each_step(folder: Path, before: Scenario, scenario: Scenario, check: Check) -> int:
    """How many steps there were."""
    for steps in itertools.count(1):
        at = folder / str(steps)
        at.mkdir()
        was_killed = killed(at, before, scenario, steps)

        async def look(at: Path = at) -> None:
            async with World(at) as world:
                await world.settled()
                await sound(world)
                await check(world)
                await world.settled()
                await sound(world)
                await leave_nothing(world)

        run(look)
        if not was_killed:
            return steps - 1
    raise AssertionError


def test_create(tmp_path: Path, standins: None) -> None:
    async def create(world: World) -> None:
        await world.create(config(world.at), request="word")

    async def check(world: World) -> None:
        assert world.names in ([], ["web"])
        again = await world.task("create", {"config": config(world.at).to_mapping(), "request": "word"})
        assert world.names == ["web"]
        assert again["domain"]["boots"] == 1

    assert kill_at_each_step(tmp_path, nothing, create, check) > 15


async def one(world: World) -> None:
    await world.create(config(world.at))


async def defined(world: World) -> None:
    await world.call("define", {"config": config(world.at).to_mapping()})


async def started(world: World) -> None:
    await defined(world)
    await world.task("start", domain="web")


async def rename(world: World) -> None:
    await world.call("rename", {"name": "new"}, domain="web")
    await world.settled()


@pytest.mark.parametrize("before", [one, started])
def test_rename(tmp_path: Path, standins: None, before: Scenario) -> None:
    async def check(world: World) -> None:
        (live,) = world.services.registry.live.values()
        assert live.name in ("web", "new")
        assert live.record.config.name == live.name
        renames = [request["name"] for request in asked(live) if request["do"] == "rename"]
        assert renames[-1:] == ([] if live.name == "web" else ["new"])
        assert [managed.name for managed in world.services.registry.managed] in ([], [live.name])
        assert [path.name for path in (world.where.state / "domains").iterdir()] == [live.name]

    assert kill_at_each_step(tmp_path, before, rename, check) > 5


def test_rename_of_a_domain_that_does_not_run(tmp_path: Path, standins: None) -> None:
    async def ran(world: World) -> None:
        await started(world)
        await world.call("destroy", domain="web")

    async def check(world: World) -> None:
        (managed,) = world.services.registry.managed
        assert managed.name in ("web", "new")
        assert managed.logs == managed.name
        assert [path.name for path in (world.where.state / "domains").iterdir()] == [managed.name]

    assert kill_at_each_step(tmp_path, ran, rename, check) > 5


async def configure(world: World) -> None:
    changed = {**config(world.at).to_mapping(), "memory_mib": 24}
    await world.call("configure", {"config": changed}, domain="web")


@pytest.mark.parametrize("before", [one, started])
def test_configure(tmp_path: Path, standins: None, before: Scenario) -> None:
    async def check(world: World) -> None:
        live = world.live()
        sent = [request["config"]["memory_mib"] for request in asked(live) if request["do"] == "configure"]
        now = live.record.config.memory_mib
        assert (now, sent[-1:]) in ((16, []), (24, [24]))
        assert [managed.config.memory_mib for managed in world.services.registry.managed] in ([], [now])

    assert kill_at_each_step(tmp_path, before, configure, check) > 3


def test_configure_of_a_domain_that_does_not_run(tmp_path: Path, standins: None) -> None:
    async def check(world: World) -> None:
        (managed,) = world.services.registry.managed
        assert managed.config.memory_mib in (16, 24)

    assert kill_at_each_step(tmp_path, defined, configure, check) > 2


@pytest.mark.parametrize("before", [one, started])
def test_destroy(tmp_path: Path, standins: None, before: Scenario) -> None:
    async def destroy(world: World) -> None:
        await world.call("destroy", domain="web")

    async def check(world: World) -> None:
        (uuid,) = {e["uuid"] for e in world.services.log.entries() if e["action"] == "booted"}
        if world.names:
            return
        assert world.told(uuid) == ["booted", "ended", "leaving", "gone"]
        outcome = await world.call("outcome", uuid=uuid)
        assert (outcome["over"], outcome["reason"]) == (True, "destroyed")
        assert bool(list(world.services.registry.managed)) == (before is started)

    assert kill_at_each_step(tmp_path, before, destroy, check) > 8


def test_start(tmp_path: Path, standins: None) -> None:
    async def start(world: World) -> None:
        await world.task("start", {"request": "word"}, domain="web")

    async def check(world: World) -> None:
        await world.task("start", {"request": "word"}, domain="web")
        assert world.live().record.managed
        assert world.live().condition.boot == 1

    assert kill_at_each_step(tmp_path, defined, start, check) > 15


def test_define_and_delete(tmp_path: Path, standins: None) -> None:
    async def again(world: World) -> None:
        await defined(world)
        changed = {**config(world.at).to_mapping(), "memory_mib": 24}
        await world.call("define", {"config": changed})
        await world.call("delete", domain="web")

    async def check(world: World) -> None:
        assert [m.config.memory_mib for m in world.services.registry.managed] in ([], [16], [24])
        for managed in world.services.registry.managed:
            await world.call("delete", domain=managed.uuid)
        assert world.files(world.where.managed) == []

    assert kill_at_each_step(tmp_path, nothing, again, check) > 8


CRASH = ended("crash", "rename-restart", report=True)


@pytest.mark.parametrize("before", [one, started])
def test_rename_restart(tmp_path: Path, standins: None, before: Scenario) -> None:
    async def crash(world: World) -> None:
        add(world.live(), CRASH, {"kind": "preserved", "action": "rename-restart"})
        await world.until(lambda: len(world.names) == 2)
        await world.settled()

    async def check(world: World) -> None:
        assert len(world.names) == 2
        assert "restart" not in world.told()
        web = world.live("web")
        (old,) = (live for live in world.services.registry.live.values() if live is not web)
        assert old.name.startswith("web-2")
        assert (web.condition.boot, web.condition.state, old.condition.state) == (1, "running", "crashed")
        assert [request["name"] for request in asked(old) if request["do"] == "rename"][-1] == old.name
        report = Path(old.outcome()["report"])
        assert report.parent == old.logs
        assert report.exists()
        definitions = [
            (managed.uuid, managed.name, managed.logs) for managed in world.services.registry.managed
        ]
        assert definitions == ([(web.uuid, "web", "web")] if before is started else [])
        assert web.record.managed == (before is started)
        assert not old.record.managed

    assert kill_at_each_step(tmp_path, before, crash, check) > 30


def test_crash_and_restart(tmp_path: Path, standins: None) -> None:
    """Its report and its core are kept once, and it gets files for the next ones."""

    async def crash(world: World) -> None:
        crashed = {**ended("crash", "coredump-restart", core=True), "report": True}
        add(world.live(), crashed, {"kind": "running", "boot": 2, "cpu_base": 0, "paused": False})
        await world.until(lambda: world.live().condition.boot == 2)
        await world.settled()

    async def check(world: World) -> None:
        live = world.live()
        assert world.told(live.uuid) == ["booted", "ended", "booted"]
        names = [name.partition("-")[0] for name in world.files(live.logs)]
        assert names == [".core", ".report", "console.log", "core", "crash", "process.log"]
        sent = {request["do"] for request in asked(live)}
        assert sent == {"report", "core"}
        assert all(Path(live.outcome()[kind]).exists() for kind in ("report", "core"))

    assert kill_at_each_step(tmp_path, one, crash, check) > 10


def test_a_full_log(tmp_path: Path, standins: None) -> None:
    async def written(world: World) -> None:
        await one(world)
        (world.live().logs / "console.log").write_text("full")

    async def full(world: World) -> None:
        add(world.live(), {"kind": "log-full"})
        await world.until(lambda: (world.live().logs / "console.log.1").exists())
        await world.settled()

    async def check(world: World) -> None:
        live = world.live()
        assert (live.logs / "console.log.1").read_text() == "full"
        assert (live.logs / "console.log").read_text() == ""
        assert asked(live)[-1]["do"] == "log"

    assert kill_at_each_step(tmp_path, written, full, check) > 3


def test_a_long_journal(tmp_path: Path, standins: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "JOURNAL_BYTES", 300)

    async def long(world: World) -> None:
        add(world.live(), *({"kind": "note", "text": f"note {n}"} for n in range(5)))
        await world.until(lambda: world.live().journal.size == 0)
        add(world.live(), {"kind": "note", "text": "after"})
        await world.until(lambda: world.live().condition.notes[-1] == "after")

    async def check(world: World) -> None:
        live = world.live()
        entries = world.services.log.entries(uuid=live.uuid)
        notes = [entry["detail"] for entry in entries if entry["action"] == "note"]
        assert notes in ([f"note {n}" for n in range(5)], [*(f"note {n}" for n in range(5)), "after"])
        assert notes == live.condition.notes
        assert live.condition.state == "running"

    assert kill_at_each_step(tmp_path, one, long, check) > 8


def test_dump(tmp_path: Path, standins: None) -> None:
    async def dump(world: World) -> None:
        await world.task("dump", {"path": str(world.at / "here.core")}, domain="web")

    async def check(world: World) -> None:
        assert [path.name for path in world.at.glob("here*")] in ([], ["here.core"])

    assert kill_at_each_step(tmp_path, one, dump, check) > 5
