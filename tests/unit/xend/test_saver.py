"""A domain is written into a file, and what is told of that: to end, to go on, and with what is on its disks."""

from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, helpers_of, run, within
from tests.unit.xend.saving_kit import (
    behave,
    creates,
    files,
    image,
    layers,
    note,
    parts,
    points,
    reads,
    words,
    writes,
)
from xenion.api.errors import ApiError
from xenion.domain.saved.state import HostDisk, HostState
from xenion.xend import savedfile, saver
from xenion.xend.live import Live
from xenion.xend.part import Part
from xenion.xend.savedfile import open_saved
from xenion.xend.sink import IntoFile
from xenion.xend.tasks import RunningTask


class Notes:
    """What is written down of checkpoints; `refuses` to be."""

    def __init__(self, *, refuses: bool = False) -> None:
        self.refuses = refuses
        self.found: list[tuple[str, int]] = []
        self.there: list[bool] = []
        """Whether the file had its name when it was noted."""

    def note(self, path: Path) -> Any:
        def noted(point: str, size: int) -> None:
            self.there.append(path.exists())
            if self.refuses:
                raise ApiError("failed", "it cannot be noted")
            self.found.append((point, size))

        return noted


async def fixes(world: World, live: Live, notes: Notes, *, ask: bool = False) -> RunningTask:
    """A task that has ended, of the file `here`."""
    path = world.at / "here"
    part = Part(live, path)

    async def work(task: RunningTask) -> dict[str, Any]:
        try:
            return await world.services.saver.fix(live, task, part, ask=ask, note=notes.note(path))
        finally:
            part.close()

    task = world.services.tasks.start("save", live.name, work)
    await within(task.over())
    return task


def test_memory_and_disks_of_one_moment(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disks = image(world), image(world, "qcow2", "xvdb"), image(world, "raw", "xvdc", writable=False)
            live = await creates(world, disks=disks)
            before, notes = descriptors(), Notes()
            for disk in disks[:2]:
                writes(live, disk, 1)
            task = await fixes(world, live, notes)
            path = world.at / "here"
            assert task.failure is None
            size = path.stat().st_size
            assert task.result == {"held_s": 0.25, "size": size, "remarks": ["it stood still"]}
            ((point, noted),) = notes.found
            assert (noted, notes.there) == (size, [True])
            with open_saved(path) as saved:
                host = saved.host
            frozen = [layers(world, disk).frozen(point)[1] for disk in disks[:2]]
            assert host == HostState(
                lasting=True,
                disks=[
                    HostDisk(disk.vdev, stamp.size, stamp.mtime_ns)
                    for disk, stamp in zip(disks, frozen, strict=False)
                ],
                point=point,
            )
            assert points(world, disks[0]) == points(world, disks[1]) == [point]
            assert (parts(world), live.record.parts) == ([], [])
            assert set(descriptors()) <= set(before)
            await world.call("destroy", domain="web")

    run(work)


def test_figures_are_told_and_that_it_rests_is_not(world: World, tools: None) -> None:
    """Which is xend's business. Told twice, it counts once."""

    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            task = await fixes(world, live, Notes())
            assert task.shown()["figures"] == {"rounds": 2}
            assert words(live).count("switched") == 1
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("ask", [True, False])
def test_whether_its_guest_is_asked(world: World, tools: None, ask: bool) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            await fixes(world, live, Notes(), ask=ask)
            (save,) = [request for request in asked(live) if request["do"] == "save"]
            assert save["ask"] is ask
            assert [one["vdev"] for one in save["disks"]] == ["xvda"]
            await world.call("destroy", domain="web")

    run(work)


def test_what_cannot_be_noted_has_no_file(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            writes(live, disk, 1)
            notes = Notes(refuses=True)
            task = await fixes(world, live, notes)
            assert task.failure is not None
            assert task.failure.message == "it cannot be noted"
            assert (notes.there, (world.at / "here").exists(), parts(world)) == ([True], False, [])
            assert points(world, disk) == []
            assert (note(world, disk).top, reads(live, disk)) == (files(world)[0], 1)
            await world.call("destroy", domain="web")

    run(work)


def test_its_memory_alone(world: World) -> None:
    """Its disks are left alone: the file fits as long as they are."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            path = world.at / "here"
            part = Part(live, path)
            task = RunningTask("save", "web")
            told = await world.services.saver.keep(live, task, IntoFile(part), ask=False)
            part.close()
            assert told == {"held_s": 0.0, "size": path.stat().st_size, "remarks": []}
            assert task.committed
            assert words(live) == ["save"]
            assert not asked(live)[0].get("switch")
            assert (layers(world, disk).read(), helpers_of(world.at)) == (None, [])
            with open_saved(path) as saved:
                now = Path(disk.target).stat()
                assert saved.host == HostState(
                    lasting=True, disks=[HostDisk("xvda", now.st_size, now.st_mtime_ns)]
                )

    run(work)


@pytest.mark.parametrize("said", [None, -1, float("inf"), float("nan"), "long", True, [1]])
def test_how_long_it_stood_still_may_be_nonsense(said: object) -> None:
    assert saver._seconds(said) == 0.0


@pytest.mark.parametrize("said", [0, 3, 0.5])
def test_how_long_it_stood_still(said: float) -> None:
    assert saver._seconds(said) == said


def test_one_after_the_other(world: World, tools: None) -> None:
    """The second one has its turn when the first one is done."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, "slow-save", disks=(disk,))
            first = await world.call("checkpoint", {"name": "one"}, domain="web")
            second = await world.call("checkpoint", {"name": "two"}, domain="web")
            await world.until(lambda: "save" in words(live))
            behave(live)
            assert words(live).count("save") == 1
            await world.call("cancel", task=first["id"])
            task = world.services.tasks.get(second["id"])
            await within(task.over())
            assert task.failure is None
            assert words(live).count("save") == 2
            await world.call("destroy", domain="web")

    run(work)


def test_a_file_that_has_its_name_is_not_cancelled(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            finish, cancelling = Part.finish, []

            def finished(part: Part) -> int:
                (task,) = world.services.tasks.all()[-1:]
                cancelling.append(world.call("cancel", task=task.id))
                return finish(part)

            monkeypatch.setattr(Part, "finish", finished)
            task = await fixes(world, live, Notes())
            shown = await cancelling[0]
            assert (task.failure, shown["state"]) == (None, "done")
            assert (world.at / "here").exists()
            await world.call("destroy", domain="web")

    run(work)


def test_one_that_has_stopped(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),))
            live.condition.state = "shutdown"
            task = await fixes(world, live, Notes())
            assert task.failure is not None
            assert (task.failure.code, words(live)) == ("wrong-state", [])
            assert (live.record.parts, parts(world), helpers_of(world.at)) == ([], [], [])

    run(work)


def test_a_host_that_cannot_be_told_ends_nothing(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise ApiError("refused", "it was changed since the checkpoint was made")

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            with monkeypatch.context() as patched:
                patched.setattr(savedfile, "fixed_state", changed)
                task = await fixes(world, live, Notes())
            assert task.failure is not None
            assert "was changed since" in task.failure.message
            assert "cancel-save" in words(live)
            assert (world.names, points(world, disk)) == (["web"], [])
            await world.call("destroy", domain="web")

    run(work)
