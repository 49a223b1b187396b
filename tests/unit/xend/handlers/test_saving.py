"""save, restore: a domain is in a file as a whole, or goes on; and comes back once, if nothing has changed."""

import asyncio
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, add, asked, config, end, folders, helpers_of, run, standins, within
from tests.unit.xend.saving_kit import (
    KINDS,
    UUID,
    at_point,
    content,
    creates,
    file,
    files,
    first_byte,
    image,
    kept,
    layers,
    parts,
    points,
    reads,
    words,
    writes,
)
from tests.unit.xend.standin import CONTENT
from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.state import HostDisk, HostState
from xenion.xend import launch, savedfile, saver, tasks
from xenion.xend.part import Part
from xenion.xend.savedfile import open_saved
from xenion.xend.tasks import RunningTask

# --- save


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


# --- restore


def test_restored_as_it_was(world: World) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9)
            result = await world.task("restore", {"path": str(path)})
            domain = result["domain"]
            assert (domain["name"], domain["domid"], domain["uuid"]) == ("web", 9, UUID)
            assert domain["state"] != "paused"
            assert asked(world.live())[0] == {"do": "goes-on", "at": 0, "size": path.stat().st_size}
            assert world.store.known == {9: UUID}  # type: ignore[attr-defined]
            assert path.is_file()

    run(work)


def test_restored_and_paused(world: World) -> None:
    async def work() -> None:
        async with world:
            result = await world.task("restore", {"path": str(file(world)), "paused": True})
            assert result["domain"]["state"] == "paused"

    run(work)


def test_there_and_back_again(world: World) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            live = await creates(world, disks=(disk,))
            path = str(world.at / "here")
            for _ in range(3):
                await world.task("save", {"path": path}, domain="web")
                assert live.gone.is_set()
                await world.task("restore", {"path": path})
                live = world.live()
                assert (live.domid, live.uuid, live.record.lasting) == (1, UUID, True)

    run(work)


def test_not_twice(world: World) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9)
            await world.task("restore", {"path": str(path)})
            before = descriptors()
            error = await world.refusal(world.task("restore", {"path": str(path)}))
            assert error.code == "already-exists"
            assert descriptors() == before
            assert world.names == ["web"]

    run(work)


def test_its_id_is_another_ones(world: World) -> None:
    """It gets the next one; its guest goes on believing in its own."""

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, "other"))
            path = file(world, domid=live.domid)
            domain = (await world.task("restore", {"path": str(path)}))["domain"]
            assert (live.domid, domain["domid"]) == (1, 2)
            assert world.names == ["other", "web"]
            assert world.store.known == {1: live.uuid, 2: UUID}  # type: ignore[attr-defined]

    run(work)


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_that_has_changed(world: World, force: bool) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            await creates(world, disks=(disk,))
            path = str(world.at / "here")
            await world.task("save", {"path": path}, domain="web")
            os.utime(disk.target, ns=(1, 1))
            before = descriptors()
            if force:
                await world.task("restore", {"path": path, "force": True})
                assert world.names == ["web"]
            else:
                error = await world.refusal(world.call("restore", {"path": path}))
                assert (error.code, "xvda has changed" in error.message) == ("refused", True)
                assert descriptors() == before

    run(work)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "text", "not whole", "relative"])
def test_files_that_are_none(world: World, kind: str) -> None:
    async def work() -> None:
        async with world:
            path = world.at / "x"
            if kind == "folder":
                path.mkdir()
            elif kind == "pipe":
                os.mkfifo(path)
            elif kind == "text":
                path.write_text("x" * 1000)
            elif kind == "not whole":
                content(path, config(world.at))
            before = descriptors()
            given = "x" if kind == "relative" else str(path)
            error = await world.refusal(world.call("restore", {"path": given}))
            assert error.code == ("bad-request" if kind == "relative" else "refused")
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize(
    ("name", "value"), [("memory_mib", -1), ("name", "a/b"), ("nonsense", 1), ("uuid", "x")]
)
def test_a_configuration_that_cannot_be_used(world: World, name: str, value: object) -> None:
    """What was saved may have been tampered with."""

    async def work() -> None:
        async with world:
            path = file(world, **{name: value})
            before = descriptors()
            error = await world.refusal(world.call("restore", {"path": str(path)}))
            assert (error.code, "configuration cannot be used" in error.message) == ("refused", True)
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize("behaviour", ["refuse", "die"])
def test_one_that_does_not_come_back(world: World, behaviour: str) -> None:
    async def work() -> None:
        async with world:
            path = file(world, domid=9, cmdline=behaviour)
            before = descriptors()
            await world.refusal(world.task("restore", {"path": str(path)}))
            await world.until(lambda: not world.names)
            assert set(descriptors()) <= set(before)
            assert world.services.registry.is_free(9)
            content(path, config(world.at), domid=9)
            assert path.is_file()

    run(work)


def test_cancelled_while_it_waits_for_its_turn(world: World) -> None:
    async def work() -> None:
        async with world:
            world.services.starter._turns._value = 0
            before = descriptors()
            begun = await world.call("restore", {"path": str(file(world))})
            await world.call("cancel", task=begun["id"])
            assert world.services.tasks.get(begun["id"]).state == "cancelled"
            assert (world.names, descriptors()) == ([], before)

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


# --- restore: a checkpoint


async def kept_twice(world: World, *disks: Disk, behaviour: str = "") -> tuple[str, str]:
    """The paths of two checkpoints, at 1 and 2, of a domain that is over, and was 3."""
    live = await creates(world, disks=disks)
    if behaviour:
        content(world.at / CONTENT, config(world.at, behaviour=behaviour, disks=disks))
    for number in (1, 2):
        for disk in disks:
            writes(live, disk, number)
        path = str(world.at / f"n{number}")
        await world.task("save", {"path": path, "keep": True}, domain="web")
    for disk in disks:
        writes(live, disk, 3)
    await world.call("destroy", domain="web")
    return str(world.at / "n1"), str(world.at / "n2")


def now(world: World, *disks: Disk) -> list[int]:
    """What a guest would find on disks that nobody has open."""
    found = []
    for disk in disks:
        made = layers(world, disk)
        note = made.read()
        name = note.top if note else ""
        found.append(first_byte(made.path(name), made.format(name)))
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_back_to_a_checkpoint(world: World, tools: None, kind: str) -> None:
    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, "raw", "xvdb")
            paths = await kept_twice(world, *disks)
            before = len(descriptors())
            for number in (1, 2, 1):
                path = paths[number - 1]
                error = await world.refusal(world.call("restore", {"path": path}))
                assert error.code == "refused"
                assert error.message.startswith(
                    f"{path}: the disk xvda was written to after the checkpoint: --back takes it back"
                )
                told = await world.task("restore", {"path": path, "back": True})
                live = world.live()
                assert (told["domain"]["uuid"], live.uuid) == (UUID, UUID)
                assert [reads(live, disk) for disk in disks] == [number, number]
                for disk in disks:
                    writes(live, disk, 9)
                await world.call("destroy", domain="web")
            assert len(files(world)) == 2 * 2, "what nobody goes back to is gone"
            assert len(descriptors()) <= before

    run(work)


def test_one_that_nothing_was_written_after(world: World, tools: None) -> None:
    """It goes on at once, as often as nothing is written."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            writes(live, disk, 1)
            path = str(world.at / "here")
            await world.task("save", {"path": path, "keep": True}, domain="web")
            had = files(world)
            for back in (False, True, False):
                await world.call("destroy", domain="web")
                await world.task("restore", {"path": path, "back": back})
                assert (reads(world.live(), disk), files(world)) == (1, had)
            writes(world.live(), disk, 2)
            await world.call("destroy", domain="web")
            assert "was written to" in (await world.refusal(world.call("restore", {"path": path}))).message

    run(work)


def test_one_whose_checkpoint_was_deleted(world: World, tools: None) -> None:
    """With force it goes on with its disks as they are: what is on them is its user's business."""

    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk)
            await world.call("delete_checkpoint", domain="web", checkpoint="n1")
            before = descriptors()
            for back in (True, False):
                error = await world.refusal(world.call("restore", {"path": path, "back": back}))
                assert "disk xvda: what it was then is not there any more" in error.message
            assert (now(world, disk), set(descriptors()) <= set(before)) == ([3], True)
            await world.task("restore", {"path": path, "force": True})
            assert reads(world.live(), disk) == 3
            await world.call("destroy", domain="web")

    run(work)


def test_back_with_force(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk)
            await world.task("restore", {"path": path, "back": True, "force": True})
            found = reads(world.live(), disk)
            await world.call("destroy", domain="web")
            assert found == 1

    run(work)


def test_an_image_that_was_changed(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk)
            os.utime(disk.target, ns=(1, 1))
            error = await world.refusal(world.call("restore", {"path": path, "back": True}))
            assert f"{disk.target} was changed since the checkpoint was made" in error.message

    run(work)


def test_another_disk_than_it_had(world: World, tools: None) -> None:
    """What was saved may have been tampered with."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            content(world.at / CONTENT, config(world.at))
            path = str(world.at / "here")
            await world.task("save", {"path": path, "keep": True}, domain="web")
            await world.call("destroy", domain="web")
            assert live.gone.is_set()
            error = await world.refusal(world.call("restore", {"path": path, "back": True}))
            assert error.message == f"{path}: the domain has no disk xvda that a checkpoint keeps"

    run(work)


def test_steps_are_told(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk)
            steps: list[str] = []
            with monkeypatch.context() as patched:
                patched.setattr(RunningTask, "step", lambda task, text, progress=None: steps.append(text))
                await world.task("restore", {"path": path, "back": True})
            assert steps == [
                "waiting for its turn",
                "taking its disks back",
                "opening its disks and interfaces",
                "loading its memory",
            ]
            await world.call("destroy", domain="web")

    run(work)


def no_kernel(*_: object, **__: object) -> None:
    raise ApiError("failed", "there is no process for it")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("how", ["refuse", "die", "not opened", "not spawned"])
def test_one_that_does_not_go_back(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch, kind: str, how: str
) -> None:
    """Its disks are as they were."""

    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, "raw", "xvdb")
            path, other = await kept_twice(world, *disks, behaviour=how if " " not in how else "slow")
            had, before = files(world), len(descriptors())
            with monkeypatch.context() as patched:
                if how == "not opened":
                    patched.setattr(world.services.devices, "open_all", no_kernel)
                elif how == "not spawned":
                    patched.setattr(launch, "spawn", no_kernel)
                await world.refusal(world.task("restore", {"path": path, "back": True}))
            await world.until(lambda: not world.names)
            assert now(world, *disks) == [3, 3]
            assert (files(world), helpers_of(world.at)) == (had, [])
            assert len(descriptors()) <= before
            assert len(kept(world)) == 2
            content(world.at / CONTENT, config(world.at, disks=disks))
            open_saved(Path(other)).close()
            live = await creates(world, disks=disks)
            assert [reads(live, disk) for disk in disks] == [3, 3]
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("when", ["turn", "building"])
def test_cancelled_on_its_way_back(world: World, tools: None, when: str) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk, behaviour="slow")
            had = files(world)
            if when == "turn":
                world.services.starter._turns._value = 0
            begun = await world.call("restore", {"path": path, "back": True})
            if when == "building":
                await world.until(lambda: "web" in world.names and world.live().linked)
                assert now(world, disk) == [1]
            assert (await world.call("cancel", task=begun["id"]))["state"] == "cancelled"
            assert (world.names, now(world, disk), files(world)) == ([], [3], had)
            assert helpers_of(world.at) == []

    run(work)


def test_deleted_on_its_way_back(world: World, tools: None) -> None:
    """Whoever deletes a checkpoint waits: what it goes back from may still be needed."""

    async def work() -> None:
        async with world:
            disk = image(world)
            path, _ = await kept_twice(world, disk, behaviour="slow")
            begun = await world.call("restore", {"path": path, "back": True})
            await world.until(lambda: "web" in world.names and world.live().linked)
            deleting = asyncio.ensure_future(world.call("delete_checkpoint", domain="web", checkpoint="n2"))
            await world.call("cancel", task=begun["id"])
            await deleting
            assert now(world, disk) == [3]
            assert [one.name for one in kept(world)] == ["n1"]

    run(work)


def test_written_to_while_it_waits_for_its_turn(world: World, tools: None) -> None:
    """Without --back nothing is lost: it was written to by the domain that another restore has made meanwhile."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            path = str(world.at / "here")
            await world.task("save", {"path": path, "keep": True}, domain="web")
            await world.call("destroy", domain="web")
            turns = world.services.starter._turns
            turns._value = 0
            begun = await world.call("restore", {"path": path})
            made = layers(world, disk)
            assert made.is_at(kept(world)[0].point)
            top = made.path(made.known().top)
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -q -P 5 0 512", top], check=True)
            turns._value = 1
            turns.release()
            task = world.services.tasks.get(begun["id"])
            await within(task.over())
            if task.failure is None:
                await world.call("destroy", domain="web")
            assert live.gone.is_set()
            assert now(world, disk) == [5]

    run(work)


def test_xend_ends_while_one_is_on_its_way_back(world: World, tools: None) -> None:
    """The domain goes on, on the disks that it was started with."""
    disk = image(world)

    async def first_one() -> None:
        async with world:
            path, _ = await kept_twice(world, disk, behaviour="slow")
            await world.call("restore", {"path": path, "back": True})
            await world.until(lambda: "web" in world.names and world.live().linked)

    async def second() -> None:
        async with world:
            live = world.live()
            add(live, {"kind": "running", "boot": 1, "cpu_base": 0})
            await world.settled()
            assert reads(live, disk) == 1
            writes(live, disk, 7)
            await world.call("destroy", domain="web")
            assert now(world, disk) == [7]

    run(first_one)
    run(second)


@pytest.mark.parametrize("name", ["web", "other"])
def test_renamed_since(world: World, tools: None, name: str) -> None:
    """What was kept has moved with it: it goes on by the name that it has now."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            writes(live, disk, 1)
            path = str(world.at / "here")
            await world.task("save", {"path": path, "keep": True}, domain="web")
            await world.call("rename", {"name": "other"}, domain="web")
            await world.call("destroy", domain="other")
            body = {"path": path, "name": name, "back": True}
            if name == "web":
                error = await world.refusal(world.task("restore", body))
                assert error.code == "refused"
            else:
                await world.task("restore", body)
                assert reads(world.live("other"), disk) == 1
                await world.call("destroy", domain="other")

    run(work)


@pytest.mark.parametrize(
    "when",
    [
        "turn",
        "opening",
    ],
)
def test_xend_ends_before_one_is_there(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Its disks are as they were: nothing goes on with those that it was taken back to."""
    disk = image(world)

    async def first_one() -> None:
        async with world:
            path, _ = await kept_twice(world, disk)
            reached = asyncio.Event()

            async def opens(*_: object) -> None:
                reached.set()
                await asyncio.Event().wait()

            if when == "turn":
                world.services.starter._turns._value = 0
            else:
                monkeypatch.setattr(world.services.devices, "open_all", opens)
            begun = await world.call("restore", {"path": path, "back": True})
            if when == "opening":
                await within(reached.wait())
            assert world.services.tasks.get(begun["id"]).state == "running"

    async def second() -> None:
        async with world:
            await world.settled()
            assert world.names == []
            assert now(world, disk) == [3]

    run(first_one)
    run(second)
