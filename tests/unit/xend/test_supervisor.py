"""Domains are followed, adopted and buried, and what becomes of them is written down once."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, add, config, end, ended, run, standins, within
from xenion.xend import live as live_module
from xenion.xend import record, supervisor
from xenion.xend.live import Live


def test_a_domain_comes_and_goes(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            assert world.names == ["web"]
            assert live.condition.state == "running"
            assert (live.domid, live.condition.boot, live.pid) == (1, 1, standins(world.at)[0])
            await world.call("destroy", domain="web")
            assert live.gone.is_set()
            assert world.names == []
            outcome = await world.call("outcome", uuid=live.uuid)
            assert (outcome["over"], outcome["reason"], outcome["action"]) == (True, "destroyed", "destroy")
            assert world.told(live.uuid) == ["booted", "ended", "leaving", "gone"]
            assert world.files(world.where.domains) == []
            assert world.files(live.logs) == ["console.log"]
            assert standins(world.at) == []

    run(work)


def zombies() -> list[int]:
    """Children of this process that nobody has waited for."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = path.read_text(errors="replace").rpartition(")")[2].split()[:2]
            if state == "Z" and int(parent) == os.getpid():
                found.append(int(path.parent.name))
    return found


def test_no_zombie_and_no_descriptor_is_left(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at, "first"))
            await world.call("destroy", domain="first")
            before = len(descriptors())
            for behaviour in ("", "refuse", "die"):
                made = config(world.at, "next", behaviour)
                task = await world.call("create", {"config": made.to_mapping()})
                await within(world.services.tasks.get(task["id"]).over())
                if not behaviour:
                    await world.call("destroy", domain="next")
            assert len(descriptors()) == before
            assert zombies() == []

    run(work)


def test_adopted_with_its_process(world: World) -> None:
    async def first() -> None:
        async with world:
            await world.create(config(world.at), paused=True)

    async def meanwhile() -> None:
        async with world:
            live = world.live()
            assert live.shown()["state"] == "paused"
            assert live.pid == standins(world.at)[0]
            await world.call("unpause", domain="web")
            await world.until(lambda: live.condition.state == "running")
            assert world.told() == ["booted", "unpaused"]

    run(first)
    run(meanwhile)

    async def last() -> None:
        async with world:
            await world.call("destroy", domain="1")
            assert world.told() == ["booted", "unpaused", "ended", "leaving", "gone"]

    run(last)


def test_adopted_after_its_last_words(world: World) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            world.services.supervisor.close()
            add(live, {"kind": "note", "text": "alone"}, ended("poweroff"), {"kind": "leaving"})
            end(live)

    async def second() -> None:
        async with world:
            await within(world.live().gone.wait())
            (entry,) = [e for e in world.services.log.entries() if e["action"] == "ended"]
            outcome = await world.call("outcome", uuid=entry["uuid"])
            assert (outcome["reason"], outcome["status"], outcome["notes"]) == ("poweroff", "", ["alone"])
            assert world.told() == ["booted", "note", "ended", "leaving", "gone"]
            assert "d1: alone" in world.services.ring.read()

    run(first)
    run(second)


@pytest.mark.parametrize("again", [False, True])
def test_a_process_that_dies_without_last_words(world: World, again: bool) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            if again:
                world.services.supervisor.close()
            end(live, signal=signal.SIGKILL)
            if not again:
                await check()

    async def check() -> None:
        uuid = world.services.log.entries()[0]["uuid"] or world.services.log.entries()[1]["uuid"]
        outcome = await world.call("outcome", {}, {"wait": 20}, uuid=uuid)
        assert (outcome["over"], outcome["reason"]) == (True, "died")
        assert outcome["status"] == ("" if again else "SIGKILL")
        assert world.told()[-1] == "gone"
        entry = world.services.log.entries()[-1]
        assert entry["result"] == "failed"
        assert "ended unexpectedly" in entry["detail"]
        assert "d1: its process ended unexpectedly" in world.services.ring.read()

    async def second() -> None:
        async with world:
            await check()

    run(first)
    if again:
        run(second)


def test_a_domain_that_never_came(world: World) -> None:
    """xend was killed before it had a process: there is nothing to bury."""

    async def first() -> Live:
        async with world:
            live = await world.create(config(world.at))
            copy = shutil.copytree(
                live.folder, world.at / "copy", ignore=lambda *_: [record.CONTROL, record.CONSOLE]
            )
            await world.call("destroy", domain="web")
            (copy / record.JOURNAL).write_bytes(b"")
            (copy / record.LOCK).write_bytes(b"")
            copy.rename(world.where.domains / "f00d")
            (live.logs / ".report").touch()
            return live

    async def second() -> None:
        async with world:
            assert world.names == []
            assert world.files(world.where.domains) == []
            assert world.files(world.where.state / "domains") == ["web/console.log"]
            assert world.told().count("gone") == 1

    run(first)
    run(second)


def test_a_process_that_hangs_is_adopted_and_killed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "STOP_S", 0.05)

    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            os.kill(live.pid or 0, signal.SIGSTOP)

    async def second() -> None:
        async with world:
            live = world.live()
            assert live.linked
            await world.call("destroy", domain="web")
            outcome = await world.call("outcome", uuid=live.uuid)
            assert (outcome["reason"], outcome["status"]) == ("destroyed", "")
            assert standins(world.at) == []

    run(first)
    run(second)


def test_a_process_that_hangs_holds_up_nobody(world: World) -> None:
    """Not even when there have been more xends than it can have connections that it has not seen."""

    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            os.kill(live.pid or 0, signal.SIGSTOP)

    async def another() -> bool:
        async with world:
            await asyncio.wait_for(world.call("list"), 1)
            linked = world.live().linked
            if not linked:
                await world.call("destroy", domain="web")
                assert standins(world.at) == []
            return linked

    run(first)
    xends = 0
    while run(another):
        xends += 1
    assert xends >= 8


def test_a_process_that_nobody_has_written_down_is_found(world: World) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="mute"))
            (live.folder / record.LOCK).write_bytes(b"")

    async def second() -> None:
        async with world:
            assert [world.live().pid] == standins(world.at)

    run(first)
    run(second)


def test_a_record_that_cannot_be_read_is_left_alone(world: World) -> None:
    folder = world.where.domains / "12"
    folder.mkdir()
    (folder / record.RECORD).write_text('{"config": 3}')

    async def work() -> None:
        async with world:
            assert world.names == []
            await world.create(config(world.at))

    run(work)
    assert folder.exists()


def test_links_that_are_dropped_are_made_again(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            live.disconnect()
            await world.until(lambda: live.linked)
            add(live, {"kind": "paused"})
            await world.until(lambda: live.condition.state == "paused")

    run(work)


def test_entries_that_make_no_sense_do_no_harm(world: World) -> None:
    huge = "9" * 400
    nonsense: list[dict[str, object]] = [
        {"kind": []},
        {"kind": "running", "boot": huge, "cpu_base": 0},
        {"kind": "running", "boot": 1, "cpu_base": float("nan")},
        {"kind": "ended", "reason": "../../x", "action": "destroy"},
        {"kind": "ended", "reason": "crash", "action": [], "time": 1},
        {"kind": "note", "text": 3},
        {"kind": "note", "text": "x", "time": float("inf")},
        {"kind": "note", "text": "x", "n": 1 << 60},
        {"kind": "unheard-of"},
    ]

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, *nonsense, {"kind": "paused"})
            await world.until(lambda: live.condition.state == "paused")
            assert world.told() == ["booted", "paused"]
            assert live.condition.notes == []

    run(work)


def test_a_long_journal_is_emptied(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "JOURNAL_BYTES", 200)

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            for number in range(20):
                add(live, {"kind": "note", "text": f"{number:030}"})
            await world.until(lambda: len(live.condition.notes) == 20 and live.journal.size < 200)
            assert world.told() == ["booted"] + ["note"] * 20
            assert live.condition.notes[-1] == f"{19:030}"

    run(work)


def test_what_an_earlier_xend_was_writing_is_gone(world: World) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            live.record.parts.append(str(world.at / "x.part"))
            live.save()
            (world.at / "x.part").touch()

    async def second() -> None:
        async with world:
            await world.until(lambda: world.live().linked)
            assert not (world.at / "x.part").exists()

    run(first)
    run(second)


def test_xend_ends_quietly_with_all_that_goes_on(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            await world.call("create", {"config": config(world.at, "late", "slow").to_mapping()})
            await world.until(lambda: "late" in world.names)

    run(work)
    assert len(standins(world.at)) == 2, "a domain that is being built does not end with xend"
    assert caplog.records == []


def test_a_bury_that_cannot_be_written_down_is_made_up_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))

            def full(*_: object) -> None:
                raise OSError(28, "No space left on device")

            monkeypatch.setattr(world.services.outcomes, "put", full)
            await world.call("destroy", domain="web")
            assert world.names == []
            assert live.folder.exists()

    async def second() -> None:
        async with world:
            await within(world.live().gone.wait())
            assert world.told() == ["booted", "ended", "leaving", "gone"]

    run(first)
    run(second)
