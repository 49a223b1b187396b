"""dump: the core appears whole or not at all."""

import asyncio
import os

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, config, end, run, within
from xenion.xend import tasks


def test_dumped(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            path = world.at / "here.core"
            result = await world.task("dump", {"path": str(path), "live": True}, domain="web")
            assert result == {"path": str(path), "size": 4, "remarks": ["it is a stand-in"]}
            assert path.read_bytes() == b"core"
            assert path.stat().st_mode & 0o777 == 0o600
            assert asked(live)[-1]["live"] is True
            assert live.record.parts == []
            result = await world.task("dump", {}, domain="web")
            assert result["path"].startswith(f"{world.where.dumps}/2")
            assert result["path"].endswith("-web.1.core")

    run(work)


def test_progress_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            begun = await world.call("dump", {"path": str(world.at / "c")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            seen = []
            monkeypatch.setattr(task, "step", lambda text, progress: seen.append(progress))
            await within(task.over())
            assert seen[-1] == 0.5
            assert task.shown()["state"] == "done"

    run(work)


def test_a_link_stays_one_and_a_pipe_stays_alone(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            link, pipe = world.at / "link", world.at / "pipe"
            link.symlink_to(world.at / "target")
            os.mkfifo(pipe)
            await world.task("dump", {"path": str(link)}, domain="web")
            assert link.is_symlink()
            assert (world.at / "target").is_file()
            error = await world.refusal(world.call("dump", {"path": str(pipe)}, domain="web"))
            assert "no ordinary file" in error.message
            assert pipe.is_fifo()

    run(work)


def test_destroyed_afterwards(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.task("dump", {"path": str(world.at / "c"), "crash": True}, domain="web")
            assert live.gone.is_set()

    run(work)


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("relative", "bad-request", "absolute"),
        ("/x\0y", "bad-request", "absolute"),
        ("/", "bad-request", "absolute"),
        ("/tmp/..", "bad-request", "absolute"),
        ("/tmp", "refused", "Is a directory"),
        ("/dev/null", "refused", "no ordinary file"),
        ("/dev/stdin/", "refused", ""),
        ("/missing/x", "refused", "No such file"),
        ("/dev/null/x", "refused", "Not a directory"),
        ("/tmp/" + "x" * 300, "refused", "name too long"),
        ("/tmp/\ud800", "refused", ""),
    ],
)
def test_paths_that_cannot_be(world: World, path: str, code: str, says: str) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            before = descriptors()
            error = await world.refusal(world.call("dump", {"path": path}, domain="web"))
            assert error.code == code
            assert says in error.message
            assert descriptors() == before
            assert live.record.parts == []

    run(work)


@pytest.mark.parametrize("how", ["refused", "cancelled", "killed"])
def test_what_is_not_whole_is_gone(world: World, how: str) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(
                config(world.at, behaviour="no-dump" if how == "refused" else "slow-dump")
            )
            (world.at / "c").write_bytes(b"before")
            begun = await world.call("dump", {"path": str(world.at / "c")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            if how != "refused":
                await world.until(lambda: bool(list(world.at.glob("c.*.part"))) and len(asked(live)) == 1)
            if how == "cancelled":
                await world.call("cancel", task=begun["id"])
                assert asked(live)[-1]["do"] == "cancel-dump"
            elif how == "killed":
                end(live)
            await within(task.over())
            assert task.state == ("cancelled" if how == "cancelled" else "failed")
            assert (world.at / "c").read_bytes() == b"before"
            assert list(world.at.glob("c.*")) == []
            assert how == "killed" or live.record.parts == []

    run(work)


def test_a_dump_that_is_refused_does_not_end_another(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="no-dump"))
            await world.refusal(world.task("dump", {}, domain="web"))
            assert [request["do"] for request in asked(live)] == ["dump"]

    run(work)


def test_too_many_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            before = descriptors()
            monkeypatch.setattr(tasks, "MOST_RUNNING", 0)
            error = await world.refusal(world.call("dump", {"path": str(world.at / "c")}, domain="web"))
            assert error.code == "too-many"
            assert list(world.at.glob("c*")) == []
            assert descriptors() == before

    run(work)


def test_the_end_of_xend_leaves_nothing(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="slow-dump"))
            await world.call("dump", {"path": str(world.at / "c")}, domain="web")
            await world.until(lambda: len(asked(live)) == 1)
            await asyncio.sleep(0)

    run(work)
    assert list(world.at.glob("c.*")) == []
