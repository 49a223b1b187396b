"""checkpoint, checkpoints, delete_checkpoint, merge_checkpoints: over the API's handlers, with real layers."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, config, end, helpers_of, names, run, within
from tests.unit.xend.saving_kit import (
    KINDS,
    UUID,
    at_point,
    behave,
    content,
    creates,
    files,
    first_byte,
    image,
    kept,
    killed,
    layers,
    parts,
    points,
    reads,
    state,
    words,
    writes,
)
from tests.unit.xend.standin import CONTENT
from xenion.api.errors import ApiError
from xenion.config.disk import Disk, Format
from xenion.config.domain import DomainConfig
from xenion.domain.saved.state import HostState
from xenion.xend import tasks
from xenion.xend.checkpoints import Coming
from xenion.xend.disks import qemu_img
from xenion.xend.live import Live
from xenion.xend.record import Record
from xenion.xend.savedfile import open_saved
from xenion.xend.tasks import RunningTask


async def checkpoint(world: World, name: str = "one", **body: Any) -> dict[str, Any]:
    found: dict[str, Any] = await world.task("checkpoint", {"name": name, **body}, domain="web")
    return found


async def listed(world: World, domain: str = "web") -> list[str]:
    return [one["name"] for one in (await world.call("checkpoints", domain=domain))["checkpoints"]]


async def back_to(world: World, name: str) -> Live:
    (one,) = [
        one for one in (await world.call("checkpoints", domain="web"))["checkpoints"] if one["name"] == name
    ]
    await world.task("restore", {"path": one["path"], "back": True})
    return world.live()


# --- made and listed


@pytest.mark.parametrize("kind", ["", *KINDS])
def test_made_and_listed(world: World, tools: None, kind: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world, kind),) if kind else ())
            before = descriptors()
            told = await checkpoint(world)
            path = state(world) / "checkpoints" / "one.saved"
            size = path.stat().st_size
            assert told == {
                "name": "one",
                "path": str(path),
                "held_s": 0.25 if kind else 0.0,
                "size": size,
                "remarks": ["it stood still"] if kind else [],
            }
            answer = await world.call("checkpoints", domain="web")
            (one,) = answer["checkpoints"]
            assert answer["domain"] == "web"
            assert one == {
                "name": "one",
                "path": str(path),
                "created_at": one["created_at"],
                "size": size,
                "disks": bool(kind),
                "there": True,
            }
            assert path.stat().st_mode & 0o777 == 0o600
            assert (world.names, live.record.parts) == (["web"], [])
            assert set(descriptors()) <= set(before)
            if not kind:
                assert words(live) == ["save"]
                with open_saved(path) as saved:
                    assert saved.host == HostState(lasting=True, disks=[])
            await checkpoint(world, "two")
            assert await listed(world) == ["one", "two"]
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("suspend", [None, True, False])
@pytest.mark.parametrize("with_disk", [True, False])
def test_its_guest_is_asked_if_it_is_to_be(
    world: World, tools: None, suspend: bool | None, with_disk: bool
) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, disks=(image(world),) if with_disk else ())
            await checkpoint(world, "one", **({} if suspend is None else {"suspend": suspend}))
            (save,) = [request for request in asked(live) if request["do"] == "save"]
            assert save["ask"] is bool(suspend)
            assert (save["keep"], save.get("switch", False)) == (True, with_disk)
            await world.call("destroy", domain="web")

    run(work)


def test_the_time_of_day_is_its_name(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            told = await world.task("checkpoint", {}, domain="web")
            assert await listed(world) == [told["name"]]
            assert told["name"][:2] == "20"

    run(work)


@pytest.mark.parametrize(
    ("name", "code"), [("one", "already-exists"), ("../x", "bad-request"), ("x" * 65, "bad-request")]
)
def test_names_that_cannot_be(world: World, name: str, code: str) -> None:
    """Told before anything is done."""

    async def work() -> None:
        async with world:
            live = await creates(world)
            await checkpoint(world)
            before, asked_before = descriptors(), words(live)
            error = await world.refusal(world.call("checkpoint", {"name": name}, domain="web"))
            assert error.code == code
            assert (words(live), live.record.parts) == (asked_before, [])
            assert set(descriptors()) <= set(before)
            assert await listed(world) == ["one"]

    run(work)


def test_two_of_one_name_at_once(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            await creates(world, disks=(image(world),))
            begun = [await begin(world) for _ in range(2)]
            over = [world.services.tasks.get(one["id"]) for one in begun if one is not None]
            for task in over:
                await within(task.over())
            assert [task.failure for task in over] == [None]
            await world.call("destroy", domain="web")

    async def begin(world: World) -> Any:
        try:
            return await world.call("checkpoint", {"name": "one"}, domain="web")
        except ApiError:
            return None

    run(work)


@pytest.mark.parametrize("how", ["no-save", "slow-save", "too many"])
def test_a_name_is_free_again_when_it_has_failed(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, how, disks=(image(world),))
            if how == "too many":
                with monkeypatch.context() as patched:
                    patched.setattr(tasks, "MOST_RUNNING", 0)
                    await world.refusal(world.call("checkpoint", {"name": "one"}, domain="web"))
            else:
                begun = await world.call("checkpoint", {"name": "one"}, domain="web")
                if how == "slow-save":
                    await world.until(lambda: "save" in words(live))
                    error = await world.refusal(world.call("checkpoint", {"name": "one"}, domain="web"))
                    assert error.code == "already-exists"
                    await world.call("cancel", task=begun["id"])
                await within(world.services.tasks.get(begun["id"]).over())
            behave(live)
            await checkpoint(world)
            await world.call("destroy", domain="web")

    run(work)


def test_too_many_tasks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world)
            before = descriptors()
            with monkeypatch.context() as patched:
                patched.setattr(tasks, "MOST_RUNNING", 0)
                error = await world.refusal(world.call("checkpoint", {}, domain="web"))
                assert error.code == "too-many"
            assert (live.record.parts, world.files(state(world) / "checkpoints")) == ([], [])
            assert set(descriptors()) <= set(before)

    run(work)


@pytest.mark.parametrize("how", ["no-save", "slow-save"])
def test_of_one_without_disks_that_is_not_saved(world: World, how: str) -> None:
    async def work() -> None:
        async with world:
            live = await creates(world, how)
            begun = await world.call("checkpoint", {}, domain="web")
            if how == "slow-save":
                await world.until(lambda: words(live) == ["save"])
                await world.call("cancel", task=begun["id"])
            await within(world.services.tasks.get(begun["id"]).over())
            assert (await listed(world), live.record.parts, world.names) == ([], [], ["web"])
            assert world.files(state(world) / "checkpoints") == []

    run(work)


# --- whose


@pytest.mark.parametrize("word", ["nobody", "..", "../web", ".", "", "web/..", "*", "w*", "7"])
@pytest.mark.parametrize("action", ["checkpoint", "checkpoints", "delete_checkpoint", "merge_checkpoints"])
def test_of_nobody(world: World, word: str, action: str) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            await checkpoint(world)
            await world.call("destroy", domain="web")
            error = await world.refusal(world.call(action, {}, domain=word, checkpoint="one"))
            assert error.code == "no-such-domain"
            assert await listed(world) == ["one"]

    run(work)


@pytest.mark.parametrize("managed", [True, False])
def test_of_one_that_is_over(world: World, tools: None, managed: bool) -> None:
    """Its checkpoints are still there, and it goes back to them."""

    async def work() -> None:
        async with world:
            disk = image(world, "overlay")
            made = config(world.at, disks=(disk,))
            if managed:
                mapping = {**made.to_mapping(), "uuid": UUID}
                await world.call("define", {"config": mapping})
            live = await creates_or_starts(world, made, managed)
            writes(live, disk, 1)
            await checkpoint(world)
            writes(live, disk, 2)
            await world.call("destroy", domain="web")
            assert await listed(world) == ["one"]
            if managed:
                assert await listed(world, UUID) == ["one"]
            error = await world.refusal(world.call("checkpoint", {}, domain="web"))
            assert error.code == ("wrong-state" if managed else "no-such-domain")
            live = await back_to(world, "one")
            assert (reads(live, disk), live.record.managed) == (1, managed)
            assert await listed(world, str(live.domid)) == ["one"]
            await world.call("destroy", domain="web")
            await world.call("delete_checkpoint", domain="web", checkpoint="one")
            assert (await listed(world), points(world, disk)) == ([], [])

    run(work)


async def creates_or_starts(world: World, made: DomainConfig, managed: bool) -> Live:
    if not managed:
        return await creates(world, disks=made.disks)
    content(world.at / CONTENT, made)
    await world.task("start", domain="web")
    return world.live()


def test_one_that_does_not_last_keeps_its_overlay(world: World, tools: None) -> None:
    """As long as a checkpoint needs it; another domain of that name does not get it."""

    async def work() -> None:
        async with world:
            disk = image(world, "overlay")
            await creates(world)
            await world.call("destroy", domain="web")
            live = await world.create(config(world.at, disks=(disk,)))
            uuid = live.uuid
            writes(live, disk, 1)
            await checkpoint(world)
            await world.call("destroy", domain="web")
            (one,) = kept(world)
            assert at_point(world, disk, one.point) == 1
            error = await world.refusal(
                world.task("create", {"config": config(world.at, disks=(disk,)).to_mapping()})
            )
            assert f"checkpoints of another domain, {uuid}" in error.message
            await world.call("delete_checkpoint", domain="web", checkpoint="one")
            live = await world.create(config(world.at, disks=(disk,)))
            assert reads(live, disk) == 0
            await world.call("destroy", domain="web")

    run(work)


# --- deleted


@pytest.mark.parametrize("runs", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_deleted(world: World, tools: None, runs: bool, kind: str) -> None:
    """The others are what they were."""

    async def work() -> None:
        async with world:
            disk = image(world, kind)
            live = await creates(world, disks=(disk,))
            for number in (1, 2, 3):
                writes(live, disk, number)
                await checkpoint(world, f"n{number}")
            writes(live, disk, 4)
            if not runs:
                await world.call("destroy", domain="web")
            assert await world.call("delete_checkpoint", domain="web", checkpoint="n2") == {}
            assert await listed(world) == ["n1", "n3"]
            folder = state(world) / "checkpoints"
            assert names(folder) == ["n1.json", "n1.saved", "n3.json", "n3.saved"]
            assert [at_point(world, disk, one.point) for one in kept(world)] == [1, 3]
            error = await world.refusal(world.call("delete_checkpoint", domain="web", checkpoint="n2"))
            assert (error.code, error.message) == ("no-such-checkpoint", 'web has no checkpoint "n2"')
            if runs:
                assert reads(live, disk) == 4
                await world.call("destroy", domain="web")
            live = await back_to(world, "n1")
            assert reads(live, disk) == 1
            await world.call("destroy", domain="web")
            for name in ("n1", "n3"):
                await world.call("delete_checkpoint", domain="web", checkpoint=name)
            assert len(files(world)) == 1, "what its guest has now"

    run(work)


@pytest.mark.parametrize("name", ["../one", "one.json", "", "*", "one/"])
def test_what_is_not_there_is_not_deleted(world: World, name: str) -> None:
    async def work() -> None:
        async with world:
            await creates(world)
            await checkpoint(world)
            error = await world.refusal(world.call("delete_checkpoint", domain="web", checkpoint=name))
            assert error.code == "no-such-checkpoint"
            assert names(state(world) / "checkpoints") == ["one.json", "one.saved"]

    run(work)


def test_deleted_while_another_one_is_made(world: World, tools: None) -> None:
    """It waits, for both are about the same layers."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            await checkpoint(world)
            behave(live, "slow-save")
            begun = await world.call("checkpoint", {"name": "two"}, domain="web")
            await world.until(lambda: words(live).count("save") == 2)
            deleting = asyncio.ensure_future(world.call("delete_checkpoint", domain="web", checkpoint="one"))
            await world.call("checkpoints", domain="web")
            assert await listed(world) == ["one"]
            await world.call("cancel", task=begun["id"])
            await deleting
            assert (await listed(world), points(world, disk)) == ([], [])
            await world.call("destroy", domain="web")

    run(work)


def test_one_that_a_killed_xend_has_not_noted(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = image(world)

    async def first_one() -> None:
        async with world:
            await creates(world, disks=(disk,))
            with killed(monkeypatch, Coming, "add"):
                await world.refusal(world.task("checkpoint", {"name": "one"}, domain="web"))

    async def second() -> None:
        async with world:
            await world.settled()
            await checkpoint(world, "two")
            await world.call("destroy", domain="web")
            await world.call("delete_checkpoint", domain="web", checkpoint="two")
            await world.task("merge_checkpoints", domain="web")
            assert (await listed(world), files(world)) == ([], [])

    run(first_one)
    run(second)


# --- merged


async def apart(world: World, kind: str = "raw") -> Disk:
    """A domain that is over, whose disk is apart for nothing twice, and is 3 now."""
    disk = image(world, kind)
    live = await creates(world, disks=(disk,))
    for number in (1, 2, 3):
        writes(live, disk, number)
        if number < 3:
            await checkpoint(world, f"n{number}")
    await world.call("destroy", domain="web")
    for number in (1, 2):
        await world.call("delete_checkpoint", domain="web", checkpoint=f"n{number}")
    return disk


class Slow:
    """A qemu-img that goes on when it is told to; `reached` when it is there."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on, self.does = asyncio.Event(), asyncio.Event(), qemu_img.run
        monkeypatch.setattr(qemu_img, "run", self.run)

    async def run(self, *of: Any, **more: Any) -> None:
        self.reached.set()
        await self.go_on.wait()
        await self.does(*of, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_merged(world: World, tools: None, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    async def work() -> None:
        async with world:
            disk = await apart(world, kind)
            gone, steps, folder = files(world), [], state(world) / "layers"
            with monkeypatch.context() as patched:
                patched.setattr(RunningTask, "step", lambda task, text: steps.append(text))
                assert await world.task("merge_checkpoints", domain="web") == {"merged": 2}
            assert steps == [f"putting {folder / name} into what is below it" for name in gone]
            assert names(folder) == []
            made = layers(world, disk)
            assert first_byte(made.image, made.format("")) == 3
            assert await world.task("merge_checkpoints", domain="web") == {"merged": 0}
            live = await creates(world, disks=(disk,))
            assert reads(live, disk) == 3
            assert len(helpers_of(world.at)) == (kind != "raw")
            await world.call("destroy", domain="web")

    run(work)


def test_merged_between_checkpoints(world: World, tools: None) -> None:
    """They are what they were."""

    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            for number in (1, 2, 3):
                writes(live, disk, number)
                await checkpoint(world, f"n{number}")
            writes(live, disk, 4)
            await world.call("destroy", domain="web")
            await world.call("delete_checkpoint", domain="web", checkpoint="n2")
            assert await world.task("merge_checkpoints", domain="web") == {"merged": 1}
            assert [at_point(world, disk, one.point) for one in kept(world)] == [1, 3]
            assert reads(await creates(world, disks=(disk,)), disk) == 4
            await world.call("destroy", domain="web")
            for number in (3, 1):
                assert reads(await back_to(world, f"n{number}"), disk) == number
                await world.call("destroy", domain="web")

    run(work)


def test_not_while_it_runs(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = await apart(world)
            live = await creates(world, disks=(disk,))
            for word in ("web", UUID, str(live.domid)):
                error = await world.refusal(world.call("merge_checkpoints", domain=word))
                assert error.code == "wrong-state"
                assert error.message.startswith("web runs on what would be merged: ")
            assert len(files(world)) == 2
            await world.call("destroy", domain="web")

    run(work)


@pytest.mark.parametrize("managed", [True, False])
def test_not_while_it_is_started(world: World, tools: None, managed: bool) -> None:
    async def work() -> None:
        async with world:
            disk = await apart(world)
            made = DomainConfig.from_mapping({**config(world.at, disks=(disk,)).to_mapping(), "uuid": UUID})
            if managed:
                await world.call("define", {"config": made.to_mapping()})
            with world.services.registry.coming(Record(UUID, 9, "web", "web", made, managed)):
                error = await world.refusal(world.task("merge_checkpoints", domain="web"))
                assert error.code in ("wrong-state", "already-exists")
            assert len(files(world)) == 2
            assert await world.task("merge_checkpoints", domain="web") == {"merged": 2}

    run(work)


@pytest.mark.parametrize("managed", [True, False])
def test_it_is_not_started_meanwhile(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch, managed: bool
) -> None:
    """Nor merged twice at once."""

    async def work() -> None:
        async with world:
            disk = await apart(world)
            made = {**config(world.at, disks=(disk,)).to_mapping(), "uuid": UUID}
            if managed:
                await world.call("define", {"config": made})
            with monkeypatch.context() as patched:
                slow = Slow(patched)
                begun = await world.call("merge_checkpoints", domain="web")
                await within(slow.reached.wait())
                start = (
                    world.task("start", domain="web") if managed else world.task("create", {"config": made})
                )
                error = await world.refusal(start)
                assert error.code == "wrong-state"
                assert error.message == "the disks of web are being merged: try again when that is done"
                again = await world.call("merge_checkpoints", domain="web")
                slow.go_on.set()
                for one, merged in ((begun, 2), (again, 0)):
                    task = world.services.tasks.get(one["id"])
                    await within(task.over())
                    assert task.result == {"merged": merged}
            live = await creates(world, disks=(disk,)) if not managed else None
            if live is None:
                await world.task("start", domain="web")
                live = world.live()
            assert reads(live, disk) == 3
            await world.call("destroy", domain="web")

    run(work)


def test_deleted_while_it_is_merged(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            disk = image(world)
            live = await creates(world, disks=(disk,))
            for number in (1, 2, 3):
                writes(live, disk, number)
                await checkpoint(world, f"n{number}")
            await world.call("destroy", domain="web")
            await world.call("delete_checkpoint", domain="web", checkpoint="n1")
            with monkeypatch.context() as patched:
                slow = Slow(patched)
                begun = await world.call("merge_checkpoints", domain="web")
                await within(slow.reached.wait())
                deleting = asyncio.ensure_future(
                    world.call("delete_checkpoint", domain="web", checkpoint="n2")
                )
                slow.go_on.set()
                await within(world.services.tasks.get(begun["id"]).over())
                await deleting
            (one,) = kept(world)
            assert (points(world, disk), at_point(world, disk, one.point)) == ([one.point], 3)
            await world.task("merge_checkpoints", domain="web")
            assert (at_point(world, disk, one.point), len(files(world))) == (3, 1)

    run(work)


def test_renamed_while_it_is_merged(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it is refused: what is on its disks is there afterwards."""

    async def work() -> None:
        async with world:
            disk = await apart(world)
            made = {**config(world.at, disks=(disk,)).to_mapping(), "uuid": UUID}
            await world.call("define", {"config": made})
            name = "web"
            with monkeypatch.context() as patched:
                slow = Slow(patched)
                begun = await world.call("merge_checkpoints", domain="web")
                await within(slow.reached.wait())
                with suppress(ApiError):
                    await world.call("rename", {"name": "other"}, domain="web")
                    name = "other"
                slow.go_on.set()
                await within(world.services.tasks.get(begun["id"]).over())
            await world.task("start", domain=name)
            assert reads(world.live(name), disk) == 3
            await world.call("destroy", domain=name)

    run(work)


@pytest.mark.parametrize("kind", KINDS)
def test_broken_off(world: World, tools: None, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The next one goes on."""

    async def work() -> None:
        async with world:
            disk = await apart(world, kind)
            with monkeypatch.context() as patched:
                slow = Slow(patched)
                begun = await world.call("merge_checkpoints", domain="web")
                await within(slow.reached.wait())
                assert (await world.call("cancel", task=begun["id"]))["state"] == "cancelled"
            live = await creates(world, disks=(disk,))
            assert reads(live, disk) == 3
            await world.call("destroy", domain="web")
            await world.task("merge_checkpoints", domain="web")
            made = layers(world, disk)
            assert (files(world), first_byte(made.image, made.format(""))) == ([], 3)

    run(work)


def test_a_disk_that_cannot_be_merged(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = await apart(world)
            Path(disk.target).rename(f"{disk.target}.away")
            error = await world.refusal(world.task("merge_checkpoints", domain="web"))
            assert error.message.startswith("disk xvda: ")
            Path(f"{disk.target}.away").rename(disk.target)
            assert await world.task("merge_checkpoints", domain="web") == {"merged": 2}
            assert first_byte(Path(disk.target), Format.RAW) == 3

    run(work)


def test_another_domain_does_not_write_what_is_kept(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            disk = await apart(world)
            other = config(world.at, "other", disks=(disk,)).to_mapping()
            error = await world.refusal(world.task("create", {"config": other}))
            assert "is kept as it is for checkpoints of web" in error.message
            await world.task("merge_checkpoints", domain="web")
            live = await world.create(config(world.at, "other", disks=(disk,)))
            assert reads(live, disk) == 3
            await world.call("destroy", domain="other")

    run(work)


# --- back to them


@pytest.mark.parametrize("kind", KINDS)
def test_to_each_of_them_over_and_over(world: World, tools: None, kind: str) -> None:
    async def work() -> None:
        async with world:
            disks = image(world, kind), image(world, "raw", "xvdb")
            live = await creates(world, disks=disks)
            for number in (1, 2):
                for disk in disks:
                    writes(live, disk, number)
                await checkpoint(world, f"n{number}")
            for number in (1, 2, 1, 1, 2):
                for disk in disks:
                    writes(live, disk, 9)
                end(live)
                await within(live.gone.wait())
                live = await back_to(world, f"n{number}")
                assert [reads(live, disk) for disk in disks] == [number, number]
            await checkpoint(world, "n3")
            await world.call("destroy", domain="web")
            assert helpers_of(world.at) == []
            assert [at_point(world, disks[0], one.point) for one in kept(world)] == [1, 2, 2]
            assert len(files(world)) == 2 * 3, "nothing is left of what it went back from"
            assert parts(world) == []

    run(work)
