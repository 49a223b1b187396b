"""What can happen while a device is attached, detached or changed: the domain's end, a process that does not answer."""

import asyncio
import os
import signal
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import (
    Direct,
    World,
    asked,
    config,
    end,
    helpers_of,
    impatient,
    run,
    within,
)
from xenion.api.errors import ApiError
from xenion.config.vif import Attachment, Vif
from xenion.xend import attaching, live
from xenion.xend.disks import opening
from xenion.xend.entries import VBD


async def attach(world: World, vdev: str = "xvdb", **more: Any) -> Any:
    disk = world.disk(vdev, **more)
    return await world.call("attach_disk", {"disk": disk.to_mapping()}, domain="web")


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that does not come is not waited for."""
    impatient(monkeypatch, 0.1)


def test_destroyed_while_a_disk_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening is broken off; nothing of it comes to be in the folders of a domain that is gone."""

    async def work() -> None:
        begun, ended = asyncio.Event(), []

        async def slow(*_: object) -> None:
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                ended.append(1)

        async with world:
            made = await world.create(config(world.at))
            monkeypatch.setattr(opening, "open_disk", slow)
            attaching_it = asyncio.ensure_future(world.refusal(attach(world)))
            await within(begun.wait())
            await world.call("destroy", domain="web")
            error = await attaching_it
            assert (error.code, error.message) == ("wrong-state", "web has just ended")
            assert ended == [1]
            assert made.record.devices == []
            assert not world.where.helpers(made.uuid).exists()
            assert (await world.refusal(attach(world))).code == "no-such-domain"

    run(work)


def test_it_dies_before_it_answers(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, behaviour="deaf"))
            before = len(descriptors())
            attaching_it = asyncio.ensure_future(world.refusal(attach(world, overlay=True)))
            await world.until(lambda: any(request["do"] == "attach" for request in asked(made)))
            assert len(helpers_of(world.at)) == 1
            os.kill(made.pid or 0, signal.SIGKILL)
            assert "has just ended" in (await attaching_it).message
            await within(made.gone.wait())
            assert helpers_of(world.at) == []
            assert len(descriptors()) < before
            assert world.files(world.where.logs("web")) == ["console.log"]

    run(work)


def test_no_answer_and_it_has_not_got_it(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told so; the process is asked what it has, and the device is undone."""
    deaf(monkeypatch)

    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, behaviour="deaf"))
            error = await world.refusal(attach(world, overlay=True))
            assert (error.code, "does not answer" in error.message) == ("failed", True)
            await world.settled()
            assert made.record.devices == []
            assert made.record.config.disks == ()
            assert helpers_of(world.at) == []
            assert asked(made)[-1]["do"] == "devices"

    run(work)


def test_no_answer_but_it_has_got_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then it is attached, in the definition of a managed domain, too."""
    deaf(monkeypatch)

    async def work() -> None:
        async with world:
            await world.call("define", {"config": config(world.at).to_mapping()})
            await world.task("start", domain="web")
            made = world.live()
            assert made.pid
            os.kill(made.pid, signal.SIGSTOP)
            asking = asyncio.ensure_future(world.refusal(attach(world)))
            assert "does not answer" in (await asking).message
            os.kill(made.pid, signal.SIGCONT)
            await world.settled()
            assert [disk.vdev for disk in made.record.config.disks] == ["xvdb"]
            assert [entry.coming for entry in made.record.devices] == [False]
            (managed,) = world.services.registry.managed
            assert [disk.vdev for disk in managed.config.disks] == ["xvdb"]
            await world.call("detach_disk", domain="web", vdev="xvdb")

    monkeypatch.setattr("xenion.xend.supervisor.AGAIN_S", 0.02)
    run(work)


def test_while_it_is_built(world: World) -> None:
    async def work() -> None:
        async with world:
            begun = await world.call("create", {"config": config(world.at, behaviour="hang").to_mapping()})
            await world.until(lambda: "web" in world.names)
            error = await world.refusal(attach(world))
            assert error.message == "web is being built: try again in a moment"
            await world.call("destroy", domain="web")
            await within(world.services.tasks.get(begun["id"]).over())

    run(work)


def test_a_record_that_cannot_be_written(world: World, tools: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process is not even asked."""

    async def work() -> None:
        async with world:
            made = await world.create(config(world.at))
            really = live.Live.save

            def save(self: live.Live) -> None:
                if self.record.devices:
                    raise ApiError("failed", "no space")
                really(self)

            monkeypatch.setattr(live.Live, "save", save)
            assert (await world.refusal(attach(world, overlay=True))).message == "no space"
            assert made.record.devices == []
            assert helpers_of(world.at) == []
            assert not any(request["do"] == "attach" for request in asked(made))

    run(work)


def test_detached_twice_at_once(world: World) -> None:
    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, disks=(world.disk("xvda"), world.disk("xvdb"))))
            detaching = [world.call("detach_disk", domain="web", vdev="xvda") for _ in range(3)]
            done = await within(asyncio.gather(*detaching, return_exceptions=True))
            assert {} in done
            assert all(one == {} or one.code in ("wrong-state", "no-such-device") for one in done)
            await world.settled()
            assert [entry.devid for entry in made.record.devices] == [51728]

    run(work)


def test_a_device_that_comes_back_at_once(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            made = await world.create(config(world.at))
            for _ in range(5):
                await attach(world, overlay=True)
                await world.call("detach_disk", domain="web", vdev="xvdb")
            await attach(world, overlay=True)
            await world.settled()
            assert len(helpers_of(world.at)) == len(made.record.devices) == 1

    run(work)


def test_a_process_that_says_done_and_is_not(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has let go of nothing that its journal tells."""
    monkeypatch.setattr(attaching, "ANSWER_S", 0.05)

    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, disks=(world.disk("xvda"),)))

            async def ask(*_: object, **__: object) -> dict[str, Any]:
                return {}

            monkeypatch.setattr(made, "ask", ask)
            error = await world.refusal(world.call("detach_disk", domain="web", vdev="xvda"))
            assert error.code == "failed"
            assert "vbd 51712 of web is detached, but" in error.message

    run(work)


def test_the_domain_ends_while_a_detach_waits(world: World) -> None:
    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, behaviour="mute", disks=(world.disk("xvda"),)))
            detaching = asyncio.ensure_future(
                world.refusal(world.call("detach_disk", domain="web", vdev="xvda"))
            )
            await asyncio.sleep(0)
            end(made)
            assert "has just ended" in (await detaching).message

    run(work)


def test_a_change_that_xend_made_and_one_of_the_guests(world: World) -> None:
    """A device that goes while another one is being attached is not brought back."""

    async def work() -> None:
        async with world:
            made = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            with Direct(made) as direct:
                direct.ask("detach", kind=VBD, devid=51712, force=True)
                await attach(world)
            await world.settled()
            assert [disk.vdev for disk in made.record.config.disks] == ["xvdb"]
            assert [entry.devid for entry in made.record.devices] == [51728]

    run(work)


def test_renamed_while_its_image_is_opened(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        begun, go_on, really = asyncio.Event(), asyncio.Event(), opening.open_disk

        async def slow(*given: Any) -> Any:
            begun.set()
            await go_on.wait()
            return await really(*given)

        async with world:
            made = await world.create(config(world.at))
            monkeypatch.setattr(opening, "open_disk", slow)
            attaching_it = asyncio.ensure_future(attach(world))
            await within(begun.wait())
            await world.call("rename", {"name": "new"}, domain="web")
            go_on.set()
            assert (await attaching_it)["vdev"] == "xvdb"
            assert [disk.vdev for disk in made.record.config.disks] == ["xvdb"]
            assert made.record.config.name == "new"

    run(work)


def test_a_mac_of_its_own(world: World) -> None:
    async def work() -> None:
        async with world:
            made = await world.create(config(world.at))
            vif = Vif(attachment=Attachment.ISOLATED, network="lan").to_mapping()
            macs = []
            for _ in range(3):
                macs.append((await world.call("attach_interface", {"vif": vif}, domain="web"))["mac"])
            await world.call("detach_interface", domain="web", device="1")
            macs.append((await world.call("attach_interface", {"vif": vif}, domain="web"))["mac"])
            assert all(mac.startswith("00:16:3e:") for mac in macs)
            assert len({macs[0], macs[2], macs[3]}) == 3
            assert len(made.record.devices) == 3

    run(work)
