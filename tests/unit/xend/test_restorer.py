"""A domain comes back from its file once, if nothing has changed."""

import os

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, asked, config, run
from tests.unit.xend.saving_kit import (
    UUID,
    content,
    creates,
    file,
)


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
