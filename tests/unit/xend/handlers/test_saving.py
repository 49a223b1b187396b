"""save: a domain is in a file as a whole, or goes on."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, end, folders, helpers_of, run, standins, within
from tests.unit.xend.saving_kit import (
    KINDS,
    UUID,
    at_point,
    creates,
    file,
    files,
    image,
    kept,
    parts,
    points,
    words,
    writes,
)
from xenion.api.errors import ApiError
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.state import HostDisk, HostState
from xenion.xend import savedfile, saver, tasks
from xenion.xend.part import Part
from xenion.xend.savedfile import open_saved


def test_saved_and_over(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = world.at / "here"
            result = await world.task("save", {"path": str(path)}, domain="web")
            assert result == {"path": str(path), "size": result["size"], "remarks": []}
            assert path.stat().st_mode & 0o777 == 0o600
            assert live.gone.is_set()
            assert (world.names, standins(world.at), parts(world)) == ([], [], [])
            with open_saved(path) as saved:
                assert (saved.head.domid, saved.head.name) == (1, "web")
                assert saved.host == HostState(lasting=True, disks=[])

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_the_size_is_the_files(world: World, keep: bool) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            path = world.at / "here"
            result = await world.task("save", {"path": str(path), "keep": keep}, domain="web")
            assert result["size"] == path.stat().st_size

    run(work)


def test_saved_and_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = world.at / "here"
            for _ in range(2):
                told = await world.task("save", {"path": str(path), "keep": True}, domain="web")
                assert told["held_s"] >= 0
            assert words(live) == ["save", "save"]
            assert {request["keep"] for request in asked(live)} == {True}
            assert isinstance(asked(live)[0]["by"], str)
            assert (world.names, live.record.parts, parts(world)) == (["web"], [], [])
            open_saved(path).close()

    run(work)


def test_the_file_has_its_name_before_the_domain_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            seen = []
            finish = Part.finish

            def finished(part: Part) -> int:
                size = finish(part)
                seen.append(((world.at / "here").is_file(), words(live)))
                return size

            monkeypatch.setattr(Part, "finish", finished)
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            assert seen == [(True, ["save"])]

    run(work)


def test_progress_is_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            begun = await world.call("save", {"path": str(world.at / "here")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            seen = []
            monkeypatch.setattr(task, "step", lambda text, progress=None: seen.append(progress))
            await within(task.over())
            assert 0.5 in seen
            assert task.shown()["state"] == "done"

    run(work)


def test_what_it_has_written_is_noted(world: World) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            await creates(world, disks=(disk,))
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            now = Path(disk.target).stat()
            with open_saved(world.at / "here") as saved:
                assert saved.host.disks == [HostDisk("xvda", now.st_size, now.st_mtime_ns)]

    run(work)


@pytest.mark.parametrize("kind", KINDS)
def test_one_that_writes_to_a_disk_is_kept_with_what_is_there(world: World, tools: None, kind: str) -> None:
    """It is listed as a checkpoint, by the name of its file."""

    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, "raw", "xvdb", writable=False)
            live = await creates(world, disks=disks)
            writes(live, disks[0], 1)
            before, path = descriptors(), world.at / "here"
            told = await world.task("save", {"path": str(path), "keep": True}, domain="web")
            size = path.stat().st_size
            assert told == {"path": str(path), "held_s": 0.25, "size": size, "remarks": ["it stood still"]}
            writes(live, disks[0], 2)
            (one,) = kept(world)
            assert (one.name, one.path, one.size) == ("here", str(path), size)
            assert at_point(world, disks[0], one.point) == 1
            (save,) = [request for request in asked(live) if request["do"] == "save"]
            assert (save["keep"], save["switch"], save["ask"]) == (True, True, True)
            assert (live.record.parts, parts(world)) == ([], [])
            assert set(descriptors()) <= set(before)
            await world.call("destroy", domain="web")

    run(work)


def test_its_memory_alone(world: World) -> None:
    """The file fits as long as nothing is written to its disks; nobody knows of a checkpoint."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            path = world.at / "here"
            body = {"path": str(path), "keep": True, "memory_only": True}
            await world.task("save", body, domain="web")
            assert words(live) == ["save"]
            assert (kept(world), files(world), helpers_of(world.at)) == ([], [], [])
            now = Path(disk.target).stat()
            with open_saved(path) as saved:
                assert saved.host.disks == [HostDisk("xvda", now.st_size, now.st_mtime_ns)]
                assert saved.host.point == ""
            await world.call("destroy", domain="web")
            await world.task("restore", {"path": str(path)})
            writes(world.live(), disk, 1)
            os.utime(disk.target, ns=(1, 1))
            await world.call("destroy", domain="web")
            error = await world.refusal(world.call("restore", {"path": str(path)}))
            assert "xvda has changed" in error.message

    run(work)


def test_one_that_ends_is_no_checkpoint(world: World, tools: None) -> None:
    """`memory_only` is of those that go on."""

    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            await world.task("save", {"path": str(world.at / "here"), "memory_only": True}, domain="web")
            assert live.gone.is_set()
            assert (kept(world), files(world)) == ([], [])

    run(work)


@pytest.mark.parametrize("times", [2, 3])
def test_a_file_that_is_replaced_needs_what_was_kept_for_it_no_more(
    world: World, tools: None, times: int
) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            path = world.at / "here"
            for number in range(times):
                writes(live, disk, number)
                await world.task("save", {"path": str(path), "keep": True}, domain="web")
            writes(live, disk, 9)
            (one,) = kept(world)
            assert (one.name, points(world, disk)) == ("here", [one.point])
            assert at_point(world, disk, one.point) == times - 1
            with open_saved(path) as saved:
                assert saved.host.point == one.point
            await world.call("destroy", domain="web")

    run(work)


def test_a_file_that_is_replaced_by_another_name(world: World, tools: None) -> None:
    """That of an open file, as of standard output: it leads to the old one, which has no name afterwards."""

    async def work() -> None:
        async with world:
            disk = image(world)
            await creates(world, disks=(disk,))
            path = world.at / "here"
            await world.task("save", {"path": str(path), "keep": True}, domain="web")
            with path.open("rb") as file:
                name = f"/proc/{os.getpid()}/fd/{file.fileno()}"
                await world.task("save", {"path": name, "keep": True, "memory_only": True}, domain="web")
            found = kept(world), points(world, disk)
            await world.call("destroy", domain="web")
            assert found == ([], [])

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_a_file_that_no_checkpoint_has_replaced(world: World, tools: None, keep: bool) -> None:
    """It is not listed any more: what is there has another memory, and no disks."""

    async def work() -> None:
        async with world:
            disk = image(world)
            await creates(world, disks=(disk,))
            path = str(world.at / "here")
            await world.task("save", {"path": path, "keep": True}, domain="web")
            await world.task("save", {"path": path, "keep": keep, "memory_only": True}, domain="web")
            found = kept(world), points(world, disk)
            if keep:
                await world.call("destroy", domain="web")
            assert found == ([], [])

    run(work)


def test_checkpoints_that_make_no_sense(world: World) -> None:
    """Are in nobody's way who only wants to save it."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            folder = live.logs / "checkpoints"
            folder.mkdir()
            (folder / "x.json").write_text("x")
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            assert live.gone.is_set()

    run(work)


def test_checkpoints_that_make_no_sense_leave_nothing_behind(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            folder = live.logs / "checkpoints"
            folder.mkdir()
            (folder / "x.json").write_text("x")
            before = descriptors()
            error = await world.refusal(
                world.call("save", {"path": str(world.at / "here"), "keep": True}, domain="web")
            )
            assert "x.json: it is damaged" in error.message
            assert (words(live), live.record.parts, parts(world)) == ([], [], [])
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize("keep", [True, False])
def test_over_a_file_that_xend_looks_after(world: World, tools: None, keep: bool) -> None:
    """What is saved is there afterwards, wherever its user wants it; that it was a checkpoint is over."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            path = Path((await world.task("checkpoint", {"name": "one"}, domain="web"))["path"])
            body = {"path": str(path), "keep": keep, "memory_only": True}
            told = await world.task("save", body, domain="web")
            if keep:
                await world.call("destroy", domain="web")
            assert live.gone.is_set()
            assert (kept(world), points(world, disk)) == ([], [])
            assert path.stat().st_size == told["size"]
            open_saved(path).close()

    run(work)


def test_one_that_only_reads_may_be_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world, disks=(world.disk("xvdb", writable=False),))
            await world.task("save", {"path": str(world.at / "here"), "keep": True}, domain="web")
            assert world.names == ["web"]

    run(work)


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("relative", "bad-request"),
        ("/", "bad-request"),
        ("/x\0y", "bad-request"),
        ("/tmp", "refused"),
        ("/dev/null", "refused"),
        ("/missing/x", "refused"),
    ],
)
def test_paths_that_cannot_be(world: World, path: str, code: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            before = descriptors()
            error = await world.refusal(world.call("save", {"path": path}, domain="web"))
            assert error.code == code
            assert descriptors() == before
            assert (words(live), live.record.parts) == ([], [])

    run(work)


@pytest.mark.parametrize("how", ["refused", "cancelled", "killed"])
def test_what_is_not_whole_is_gone(world: World, how: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "no-save" if how == "refused" else "slow-save")
            (world.at / "here").write_bytes(b"before")
            begun = await world.call("save", {"path": str(world.at / "here")}, domain="web")
            task = world.services.tasks.get(begun["id"])
            if how != "refused":
                await world.until(lambda: bool(parts(world)) and len(asked(live)) == 1)
            if how == "cancelled":
                await world.call("cancel", task=begun["id"])
                assert words(live) == ["save", "cancel-save"]
            elif how == "killed":
                end(live)
            await within(task.over())
            assert task.state == ("cancelled" if how == "cancelled" else "failed")
            assert (world.at / "here").read_bytes() == b"before"
            assert parts(world) == []
            assert how == "killed" or (live.record.parts, world.names) == ([], ["web"])
            assert how != "refused" or words(live) == ["save"]

    run(work)


def no_room(*_: object) -> None:
    raise SaveError("there is no room")


def no_disk(*_: object) -> None:
    raise FileNotFoundError(2, "No such file or directory", "/x.img")


def no_name(part: Part) -> int:
    raise ApiError("refused", "here: Is a directory")


def bug(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("at", "name", "does", "says"),
    [
        (savedfile, "append_host", no_room, "there is no room; it goes on"),
        (savedfile, "host_state", no_disk, "it goes on"),
        (Part, "finish", no_name, "Is a directory"),
        (savedfile, "append_host", bug, "bug of xend's"),
    ],
)
def test_a_file_that_cannot_be_finished(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    at: object,
    name: str,
    does: Callable[..., Any],
    says: str,
) -> None:
    """The domain is told to go on, and not to end."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            monkeypatch.setattr(at, name, does)
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert says in error.message
            assert words(live) == ["save", "cancel-save"]
            assert (world.names, live.record.parts) == (["web"], [])
            assert (parts(world), (world.at / "here").exists()) == ([], False)

    run(work)


def test_one_that_has_gone_on_meanwhile_is_told_of(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "lost")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert "it has gone on" in error.message
            assert (world.names, live.record.parts, parts(world)) == (["web"], [], [])

    run(work)


def test_of_one_that_has_gone_on_there_is_no_file(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world, "lost")
            await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert not (world.at / "here").exists()

    run(work)


def test_of_one_that_dies_over_the_answer_the_file_stays(world: World) -> None:
    """It may have ended as it was asked to: the file is all that is left of it then."""

    async def work() -> None:
        async with world:
            await creates(world, "dies")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert error.message.startswith("the file is whole and stays, but web has just ended")
            open_saved(world.at / "here").close()

    run(work)


def test_one_that_does_not_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world, "stays")
            error = await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert "does not end" in error.message
            open_saved(world.at / "here").close()

    monkeypatch.setattr(saver, "ENDING_S", 0.01)
    run(work)


def test_too_many_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            path = file(world, domid=9)
            before = descriptors()
            monkeypatch.setattr(tasks, "MOST_RUNNING", 0)
            error = await world.refusal(world.call("save", {"path": str(world.at / "h")}, domain="web"))
            assert error.code == "too-many"
            assert (parts(world), live.record.parts) == ([], [])
            await world.call("destroy", domain="web")
            assert live.gone.is_set()
            error = await world.refusal(world.call("restore", {"path": str(path)}))
            assert error.code == "too-many"
            assert len(descriptors()) <= len(before)

    run(work)


def test_the_end_of_xend_leaves_nothing(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, "slow-save")
            await world.call("save", {"path": str(world.at / "here")}, domain="web")
            await world.until(lambda: len(asked(live)) == 1)

    run(work)
    assert (parts(world), (world.at / "here").exists()) == ([], False)


def overlay_note(world: World) -> Path:
    """As an overlay that does not last has it."""
    folder = folders(world.at).logs("web") / "disks"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "xvda.qcow2").touch()
    note = folder / "xvda.json"
    note.write_text(f'{{"uuid": "{UUID}", "lasting": false, "base": "/x", "base_bytes": 1, "base_time": 1}}')
    return note


def test_overlays_outlive_what_is_saved(world: World) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            note = overlay_note(world)
            await world.task("save", {"path": str(world.at / "here")}, domain="web")
            assert note.with_suffix(".qcow2").exists()

    run(work)


def test_overlays_of_one_that_goes_on_are_as_they_were(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            note = overlay_note(world)
            before = note.read_text()
            monkeypatch.setattr(savedfile, "append_host", no_room)
            await world.refusal(world.task("save", {"path": str(world.at / "here")}, domain="web"))
            assert '"lasting": false' in before
            assert '"lasting": false' in note.read_text()

    run(work)
