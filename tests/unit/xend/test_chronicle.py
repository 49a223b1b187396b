"""What journals say is entered once, with the time when it happened."""

import asyncio

import pytest

from tests.unit.xend.kit import World, add, config, ended, run
from xenion.xend import logs
from xenion.xend.allowance import BURST
from xenion.xend.chronicle import NOTES_KEPT


def test_entered_once_with_its_time(world: World) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, {"kind": "paused", "time": 5.5}, {"kind": "note", "text": "a\x1bb", "time": 6})
            await world.until(lambda: bool(live.condition.notes))

    async def again() -> None:
        async with world:
            entries = world.services.log.entries(uuid=world.live().uuid)
            told = [
                (e["action"], e["detail"], e["domid"], e["journal"]) for e in entries if e["who"] == "domain"
            ]
            assert told == [("booted", "boot 1", 1, 1), ("paused", "", 1, 2), ("note", "a\x1bb", 1, 3)]
            assert entries[-1]["time"] == 6
            assert world.live().condition.state == "paused"
            assert world.services.ring.read().count("d1: a\\x1bb\n") == 1

    run(first)
    run(again)
    run(again)


def test_no_domain_fills_the_ring(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            words = [f"word {number}" for number in range(700)]
            # in a thread: the stand-in waits for a link that is not read
            await asyncio.to_thread(add, live, *({"kind": "note", "text": word} for word in words))
            await world.until(lambda: live.condition.notes[-1:] == words[-1:])
            said = world.services.ring.read().count("d1: word")
            entered = [entry["detail"] for entry in world.services.log.entries(uuid=live.uuid)]
            assert said == sum(detail.startswith("word") for detail in entered)
            assert BURST - 5 <= said < 650

    run(work)


def test_crashes_are_in_the_ring(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, ended("watchdog", "preserve", report=True, time=0))
            await world.until(lambda: live.condition.state == "crashed")
            report = live.logs / "crash-19700101-000000.000.txt"
            assert f"Domain 1 (web) was ended by its watchdog: {report}" in world.services.ring.read()
            entry = world.services.log.entries()[-1]
            assert entry["detail"] == f"watchdog: preserve, {report}"

    run(work)


def test_a_report_that_cannot_be_kept_is_told_of(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            with monkeypatch.context() as patch:
                patch.setattr(logs, "keep", fail)
                add(live, ended("crash", "preserve", report=True))
                await world.until(lambda: live.condition.state == "crashed")
            assert world.services.log.entries()[-1]["detail"] == (
                "crash: preserve, the report is lost: Read-only file system"
            )
            assert live.outcome()["report"] == ""

    run(work)


def test_notes_are_bounded(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, *({"kind": "note", "text": str(n)} for n in range(NOTES_KEPT + 5)))
            await world.until(lambda: live.condition.notes[-1:] == [str(NOTES_KEPT + 4)])
            assert live.outcome()["notes"] == [str(n) for n in range(5, NOTES_KEPT + 5)]

    run(work)


def test_the_end_of_an_earlier_run_is_not_that_of_this_one(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.call("define", {"config": config(world.at).to_mapping()})
            await world.task("start", domain="web")
            first = world.live().record
            await world.call("destroy", domain="web")
            await world.task("start", domain="web")
            chronicle = world.services.supervisor._chronicle
            second = world.live().record
            assert (first.uuid, first.domid, second.domid) == (second.uuid, 1, 2)
            assert not chronicle.has_told_of_end(second)
            await world.call("destroy", domain="web")
            assert chronicle.has_told_of_end(second)

    run(work)


def test_a_process_cannot_promise_itself_memory(world: World) -> None:
    """It may be its guest's: more than xend had it built for is not believed, and no vCPUs that nobody can have."""

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, maxmem_mib=24))
            more = {"kind": "resized", "memory_mib": 1 << 40, "maxmem_mib": 1 << 40}
            add(live, {**more, "vcpus": 65}, {**more, "vcpus": 2})
            await world.until(lambda: live.condition.vcpus == 2)
            assert (live.shown()["memory_mib"], live.shown()["maxmem_mib"]) == (24, 24)
            assert world.services.registry.promised() == [(24, live.pid)]

    run(work)


def test_what_is_loaded_does_not_run_yet(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            assert not live.condition.loaded
            add(live, {"kind": "echo", "number": 3}, {"kind": "loaded"}, ended("migrated"))
            await world.until(lambda: live.over)
            assert live.condition.loaded
            assert live.condition.echo == 3
            assert (live.condition.boot, live.outcome()["reason"]) == (1, "migrated")
            assert world.told(live.uuid) == ["booted", "loaded", "ended"]

    run(work)


def test_what_xend_does_by_itself_is_told(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            world.services.supervisor._chronicle.told(live, "migrated", "done", "to there:8002")
            (entry,) = [entry for entry in world.services.log.entries() if entry["action"] == "migrated"]
            assert (entry["who"], entry["result"], entry["detail"]) == ("domain", "done", "to there:8002")
            assert (entry["domain"], entry["uuid"]) == ("web", live.uuid)

    run(work)


def test_each_boot_begins_with_the_share_that_is_configured(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, cap=30))
            await world.call("set_share", {"cap": 50}, domain="web")
            assert live.record.share.cap == 50
            add(live, {"kind": "running", "boot": 2, "cpu_base": 0.0, "paused": False})
            await world.until(lambda: live.condition.boot == 2 and not live.record.wants)
            assert (await world.call("share", domain="web"))["cap"] == 30

    run(work)
