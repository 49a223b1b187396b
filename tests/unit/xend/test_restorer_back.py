"""A domain goes back to a checkpoint: its disks do, too, or all is as it was."""

import asyncio
import os
import subprocess
from pathlib import Path

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, add, config, helpers_of, run, within
from tests.unit.xend.saving_kit import (
    KINDS,
    UUID,
    content,
    creates,
    files,
    image,
    kept,
    kept_twice,
    layers,
    now,
    reads,
    writes,
)
from tests.unit.xend.standin import CONTENT
from xenion.api.errors import ApiError
from xenion.xend import launch
from xenion.xend.savedfile import open_saved
from xenion.xend.tasks import RunningTask


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
