"""What a domain's devices are on the host is opened all or not at all, and undone with the domain."""

import asyncio
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import World, config, helpers_of, run, within
from xenion.api.errors import ApiError
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.vif import Attachment, Vif
from xenion.xend import process, seed
from xenion.xend.devices import HELPERS_LOG
from xenion.xend.helpers import Helper
from xenion.xend.networks.plugging import Networks
from xenion.xend.record import RECORD

UUID = "00000000-0000-4000-8000-00000000000a"


def everything(world: World, **more: Any) -> dict[str, Any]:
    """Of each kind of device one."""
    made = {
        "disks": (world.disk("xvda"), world.disk("xvdb", overlay=True)),
        "vifs": (Vif(attachment=Attachment.ISOLATED, network="lan"),),
        "cloud_init": CloudInit(),
    }
    return {**made, **more}


def nothing_left(world: World) -> None:
    assert helpers_of(world.at) == []
    folder = world.where.helpers("")
    assert not folder.exists() or list(folder.iterdir()) == []
    left = [name for name in world.files(world.where.state / "domains") if not name.endswith("console.log")]
    assert left == []
    assert world.services.registry.coming_domids() == set()
    assert world.store.known == {live.domid: live.uuid for live in world.services.registry.live.values()}  # type: ignore[attr-defined]


def test_opened_and_undone(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            before = len(descriptors())
            live = await world.create(config(world.at, **everything(world)))
            assert len(descriptors()) == before + 1, "the link"
            entries = [(*entry.key, entry.coming) for entry in live.record.devices]
            assert entries == [
                ("vbd", 51712, False), ("vbd", 51728, False), ("vbd", 1 << 28 | 25 << 8, False), ("vif", 0, False),
            ]  # fmt: skip
            assert len(helpers_of(world.at)) == 1
            for folder in (world.where.helpers(""), world.where.helpers(live.uuid)):
                assert folder.stat().st_mode & 0o777 == 0o700
            (live.logs / HELPERS_LOG).touch()
            await world.call("destroy", domain="web")
            nothing_left(world)
            assert len(descriptors()) <= before

    run(work)


@pytest.mark.parametrize("wrong", ["disk", "vif", "cloud-init", "process"])
def test_one_that_cannot_be_had_undoes_the_others(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    async def work() -> None:
        async with world:
            before, program = len(descriptors()), process.PROGRAM
            parts = everything(world)
            match wrong:
                case "disk":
                    missing = Disk(target=str(world.at / "missing"), vdev="xvdc")
                    parts["disks"] = (*parts["disks"], missing)
                case "vif":
                    none = Vif(attachment=Attachment.NETWORK, network="none")
                    parts["vifs"] = (*parts["vifs"], none)
                case "cloud-init":
                    parts["cloud_init"] = CloudInit(user_data=world.at / "missing")
                case "process":
                    monkeypatch.setattr(process, "PROGRAM", ("/missing",))
            made = config(world.at, **parts)
            error = await world.refusal(world.task("create", {"config": made.to_mapping()}))
            assert error.code in ("refused", "failed")
            assert "\n" not in error.message
            monkeypatch.setattr(process, "PROGRAM", program)
            nothing_left(world)
            assert len(descriptors()) == before
            await world.create(config(world.at, disks=(world.disk("xvda"),)))

    run(work)


def test_cancelled_while_they_are_opened(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        begun = asyncio.Event()

        async def slow(*_: object) -> None:
            begun.set()
            await asyncio.sleep(3600)

        async with world:
            before = len(descriptors())
            with monkeypatch.context() as patched:
                patched.setattr(Networks, "plug", slow)
                made = config(world.at, **everything(world))
                begin = await world.call("create", {"config": made.to_mapping()})
                await within(begun.wait())
                assert len(helpers_of(world.at)) == 1
                error = await world.refusal(world.task("create", {"config": config(world.at).to_mapping()}))
                assert error.message == 'a domain "web" is being started: give this one another name'
                await world.call("cancel", task=begin["id"])
                await within(world.services.tasks.get(begin["id"]).over())
            nothing_left(world)
            assert len(descriptors()) == before
            await world.create(config(world.at))

    run(work)


def test_cancelled_while_it_is_introduced(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            begun, really = asyncio.Event(), world.store.introduce

            async def slow(*given: Any) -> None:
                for connection in await really(*given):
                    connection.close()
                begun.set()
                await asyncio.sleep(3600)

            monkeypatch.setattr(world.store, "introduce", slow)
            begin = await world.call("create", {"config": config(world.at, **everything(world)).to_mapping()})
            await within(begun.wait())
            await world.call("cancel", task=begin["id"])
            await within(world.services.tasks.get(begin["id"]).over())
            nothing_left(world)

    run(work)


def test_a_definition_that_goes_while_it_is_started(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        begun, go_on, really = asyncio.Event(), asyncio.Event(), Networks.plug

        async def slow(*given: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await really(*given)

        async with world:
            monkeypatch.setattr(Networks, "plug", slow)
            made = config(world.at, uuid=UUID, vifs=(Vif(attachment=Attachment.ISOLATED, network="lan"),))
            for change in ("delete", "define"):
                begun.clear()
                go_on.clear()
                await world.call("define", {"config": made.to_mapping()})
                begin = await world.call("start", domain="web")
                await within(begun.wait())
                if change == "delete":
                    await world.call("delete", domain="web")
                else:
                    changed = {**made.to_mapping(), "memory_mib": 24}
                    await world.call("define", {"config": changed})
                go_on.set()
                task = world.services.tasks.get(begin["id"])
                await within(task.over())
                assert task.failure is not None
                assert task.failure.code == ("no-such-domain" if change == "delete" else "wrong-state")
                nothing_left(world)

    run(work)


def test_a_helper_that_cannot_be_ended_keeps_nothing_else(
    world: World, tools: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            disks = tuple(world.disk(name, overlay=True) for name in ("xvda", "xvdb", "xvdc"))
            live = await world.create(config(world.at, disks=disks))
            really, first = Helper.end, live.record.devices[0].helpers[0].pid

            async def end(self: Helper) -> None:
                if self.pid == first:
                    raise ApiError("failed", "it cannot be ended")
                await really(self)

            with monkeypatch.context() as patched:
                patched.setattr(Helper, "end", end)
                await world.call("destroy", domain="web")
            assert helpers_of(world.at) == [f"a helper of {live.uuid}"]
            assert world.store.known == {}  # type: ignore[attr-defined]
            assert not (live.logs / "disks").exists()

        async with world:
            await world.until(lambda: helpers_of(world.at) == [])

    run(work)


def test_what_a_killed_xend_has_left(world: World, tools: None) -> None:
    """Neither of a domain that is gone nor of one that never came is anything left; of one that runs all is."""

    async def first() -> None:
        async with world:
            await world.create(config(world.at, "gone", **everything(world)))
            other = everything(world, disks=(world.disk("xvdc", overlay=True),))
            await world.create(config(world.at, "web", **other))

    run(first)
    gone = next(
        path
        for path in world.where.domains.iterdir()
        if json.loads((path / RECORD).read_text())["name"] == "gone"
    )
    (pid,) = (json.loads((gone / RECORD).read_text())["pid"],)
    os.kill(pid, 9)
    shutil.rmtree(gone)

    async def second() -> None:
        async with world:
            live = world.live()
            await world.until(lambda: len(helpers_of(world.at)) == 1)
            await world.until(lambda: len(list(world.where.helpers("").iterdir())) == 1)
            assert helpers_of(world.at) == [f"a helper of {live.uuid}"]
            logs = world.where.logs("gone")
            assert [name for name in world.files(logs) if "disks" in name or seed.FOLDER in name] == []
            assert world.files(live.logs / "disks") == ["xvdc.json", "xvdc.qcow2"]
            assert (live.logs / seed.FOLDER / seed.SEED).exists()
            await world.until(lambda: world.store.known == {live.domid: live.uuid})  # type: ignore[attr-defined]
            await world.call("destroy", domain="web")

    run(second)


def test_a_domain_whose_record_is_unreadable_is_left_alone(world: World, tools: None) -> None:
    async def first() -> None:
        async with world:
            await world.create(config(world.at, **everything(world)))

    run(first)
    (folder,) = world.where.domains.iterdir()
    record = (folder / RECORD).read_text()
    (folder / RECORD).write_text("{}")

    async def second() -> None:
        async with world:
            assert world.names == []
            other = await world.create(config(world.at, "other"))
            await world.settled()
            assert helpers_of(world.at) == [f"a helper of {folder.name}"]
            assert (world.where.helpers(folder.name)).exists()
            assert "web/disks/xvdb.qcow2" in world.files(world.where.state / "domains")
            assert set(world.store.known.values()) == {folder.name, other.uuid}  # type: ignore[attr-defined]
            await world.call("destroy", domain="other")

    async def third() -> None:
        async with world:
            await world.call("destroy", domain="web")
            nothing_left(world)

    run(second)
    (folder / RECORD).write_text(record)
    run(third)


def test_an_image_that_two_want(world: World) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda")
            begun = [
                await world.call("create", {"config": config(world.at, name, disks=(disk,)).to_mapping()})
                for name in ("a", "b", "c")
            ]
            tasks = [world.services.tasks.get(one["id"]) for one in begun]
            for task in tasks:
                await within(task.over())
            failures = [task.failure.message for task in tasks if task.failure is not None]
            assert len(failures) == 2
            assert all(f"{disk.target} is in use by the domain " in failure for failure in failures)
            assert len(world.names) == 1

    run(work)


def test_files_are_private(world: World, tools: None, tmp_path: Path) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, **everything(world)))
            assert (live.logs / HELPERS_LOG).stat().st_mode & 0o777 == 0o600
            record = (live.folder / RECORD).stat()
            assert record.st_mode & 0o777 == 0o600
            await world.call("destroy", domain="web")

    run(work)
