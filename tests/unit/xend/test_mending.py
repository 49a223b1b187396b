"""Devices whose helpers die get others; what the guest lets go of is undone, whoever looks."""

import os
import shutil
import signal
import socket
from ctypes import CDLL
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import Direct, World, add, asked, config, helpers_of, run
from xenion.api.errors import ApiError
from xenion.config.disk import Disk
from xenion.config.vif import Attachment, Forward, Vif
from xenion.dom0.net import libslirp
from xenion.xend import mending, supervisor, told
from xenion.xend.entries import DeviceEntry
from xenion.xend.helpers import strays
from xenion.xend.live import Live

LOST_DISK = {"kind": "lost", "kind_of_device": "vbd", "devid": 51712}
LOST_VIF = {"kind": "lost", "kind_of_device": "vif", "devid": 0}


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has failed is tried again at once, and what is lost again waits for nothing."""
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.01)
    monkeypatch.setattr(mending, "AGAIN_S", 0.0)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Gets longer with each attempt to connect something again."""
    found: list[int] = []
    really = mending.Mending._not_too_often

    def counted(self: mending.Mending, live: Live, kind: str, devid: int) -> None:
        found.append(devid)
        really(self, live, kind, devid)

    monkeypatch.setattr(mending.Mending, "_not_too_often", counted)
    return found


def pids(live: Live, at: int = 0) -> list[int]:
    return [helper.pid for helper in live.record.devices[at].helpers]


def reconnects(live: Live) -> list[dict[str, Any]]:
    return [request for request in asked(live) if request["do"] == "reconnect-device"]


async def kill(world: World, live: Live, entry: dict[str, Any], at: int = 0) -> None:
    helper = live.record.devices[at].helpers[0]
    helper.process.kill()
    await world.until(lambda: not helper.alive)
    before = len(reconnects(live))
    add(live, entry)
    await world.until(lambda: len(reconnects(live)) > before)
    await world.settled()


def test_a_storage_daemon_that_dies(world: World, tools: None, soon: None) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda", overlay=True),)))
            before = len(descriptors())
            for number in range(1, 4):
                old = pids(live)
                await kill(world, live, LOST_DISK)
                assert pids(live) != old
                assert len(helpers_of(world.at)) == 1
                assert len(reconnects(live)) == number
                assert len(descriptors()) == before
            assert reconnects(live)[0]["description"]["type"] == "nbd"
            assert all(name.startswith("socket:") for name in reconnects(live)[0]["fds"])
            assert len(live.record.devices) == 1
            await world.call("destroy", domain="web")
            assert helpers_of(world.at) == []

    run(work)


def test_lost_while_no_xend_was_there(world: World, tools: None, soon: None) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda", overlay=True),)))
            os.kill(pids(live)[0], signal.SIGKILL)

    async def second() -> None:
        async with world:
            live = world.live()
            add(live, LOST_DISK)
            await world.until(lambda: len(reconnects(live)) == 1)
            await world.settled()
            assert len(helpers_of(world.at)) == 1
            await world.call("destroy", domain="web")

    run(first)
    run(second)


def test_an_image_that_is_away_for_a_while(
    world: World, tools: None, soon: None, attempts: list[int]
) -> None:
    async def work() -> None:
        async with world:
            disk = world.disk("xvda", overlay=True)
            live = await world.create(config(world.at, disks=(disk,)))
            away = disk.target + ".away"
            shutil.move(disk.target, away)
            helper = live.record.devices[0].helpers[0]
            helper.process.kill()
            await world.until(lambda: not helper.alive)
            add(live, LOST_DISK)
            await world.until(lambda: len(attempts) > 2)
            assert reconnects(live) == []
            shutil.move(away, disk.target)
            await world.until(lambda: len(reconnects(live)) == 1)
            await world.settled()
            assert len(live.record.devices) == len(helpers_of(world.at)) == 1
            await world.call("destroy", domain="web")

    run(work)


def test_one_that_is_lost_again_at_once_waits(
    world: World, tools: None, attempts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.01)

    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda", overlay=True),)))
            await kill(world, live, LOST_DISK)
            add(live, LOST_DISK)
            await world.until(lambda: len(attempts) > 4)
            assert len(reconnects(live)) == 1
            assert len(live.record.wants) == 1
            monkeypatch.setattr(mending, "AGAIN_S", 0.0)
            await world.until(lambda: len(reconnects(live)) == 2)
            await world.call("destroy", domain="web")

    run(work)


def test_the_user_networks_program_dies(world: World, soon: None) -> None:
    try:
        CDLL(libslirp.LIBRARY)
    except OSError:
        pytest.skip("libslirp is not here: install libslirp0")

    async def work() -> None:
        async with world:
            with_port = Forward(
                protocol="tcp", host_address="127.0.0.1", host_port=free_port(), guest_port=22
            )
            vif = Vif(forwards=(with_port,))
            live = await world.create(config(world.at, vifs=(vif,)))
            before = len(descriptors())
            for _ in range(2):
                old = pids(live)
                assert len(old) == 1
                await kill(world, live, LOST_VIF)
                assert pids(live) != old
                assert len(helpers_of(world.at)) == 1
                assert len(descriptors()) == before
            assert [len(request["fds"]) for request in reconnects(live)] == [1, 1]
            assert reconnects(live)[0]["description"]["peer"] == "slirp"
            assert list(live.record.config.vifs) == [live.record.devices[0].config]
            await world.call("destroy", domain="web")
            assert helpers_of(world.at) == []

    run(work)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_the_switch_dies(world: World, soon: None) -> None:
    async def work() -> None:
        async with world:
            vif = Vif(attachment=Attachment.ISOLATED, network="lan")
            live = await world.create(config(world.at, vifs=(vif,)))
            (switch,) = strays(world.where.run / "switch", ())
            switch.process.kill()
            await world.until(lambda: not switch.alive)
            add(live, LOST_VIF)
            await world.until(lambda: len(reconnects(live)) == 1)
            await world.settled()
            (other,) = strays(world.where.run / "switch", ())
            assert other != switch
            assert [entry.devid for entry in live.record.devices] == [0]
            await world.call("destroy", domain="web")

    run(work)


def test_a_plug_that_fails_keeps_the_interface(
    world: World, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            vif = Vif(attachment=Attachment.ISOLATED, network="lan")
            live = await world.create(config(world.at, vifs=(vif,)))
            failures: list[int] = []

            async def plug(*_: object) -> None:
                failures.append(1)
                raise ApiError("failed", "not now")

            with monkeypatch.context() as patched:
                patched.setattr(world.services.networks, "plug", plug)
                add(live, LOST_VIF)
                await world.until(lambda: len(failures) > 2)
                (listed,) = (await world.call("interfaces", domain="web"))["interfaces"]
                assert listed["devid"] == 0
            await world.until(lambda: len(reconnects(live)) == 1)
            await world.settled()
            assert [entry.devid for entry in live.record.devices] == [0]

    run(work)


@pytest.mark.parametrize("entry", [{**LOST_DISK, "devid": 7}, {**LOST_VIF, "devid": 7}])
def test_a_loss_of_what_is_not_there(world: World, entry: dict[str, Any]) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            add(live, entry, {**entry, "kind": "detached"})
            await world.until(lambda: live.condition.n == 3)
            await world.settled()
            assert reconnects(live) == []
            assert len(live.record.devices) == len(live.record.config.disks) == 1

    run(work)


def test_a_loss_that_growing_has_made_is_mended_by_it(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda", overlay=True),)))
            async with world.services.attaching.turn(live):
                add(live, LOST_DISK)
                await world.until(lambda: bool(live.record.wants))
                device = await world.services.attaching._devices.reopen_disk(
                    live.record, live.record.config.disks[0]
                )
                await world.services.attaching.reconnect(live, device)
                assert live.record.wants == []
            await world.settled()
            assert len(reconnects(live)) == 1
            await world.call("destroy", domain="web")

    run(work)


# --- what a killed xend has left half done


def half_done(disk: Disk) -> DeviceEntry:
    """The entry of what was handed over, and then xend was killed."""
    return DeviceEntry(disk.devid, disk, coming=True)


@pytest.mark.parametrize("has", [False, True])
def test_half_attached(world: World, has: bool) -> None:
    async def first() -> None:
        async with world:
            made = config(world.at, disks=(world.disk("xvda"),))
            await world.call("define", {"config": made.to_mapping()})
            await world.task("start", domain="web")
            live = world.live()
            live.record.devices.append(half_done(world.disk("xvdb")))
            live.save()
            if has:
                with Direct(live) as direct:
                    direct.ask("attach", kind="vbd", devid=51728, config={}, description={})

    async def second() -> None:
        async with world:
            live = world.live()
            await world.settled()
            assert [disk.vdev for disk in live.record.config.disks] == (["xvda", "xvdb"] if has else ["xvda"])
            assert [entry.coming for entry in live.record.devices] == [False] * (1 + has)
            (managed,) = world.services.registry.managed
            assert managed.config.disks == live.record.config.disks
            await world.call("destroy", domain="web")

    run(first)
    run(second)


@pytest.mark.parametrize("missing", ["", "new", "both"])
def test_half_changed(world: World, missing: str) -> None:
    """The disc is put in again; one that is gone meanwhile is not waited for."""
    old, new = (world.disk("xvda", name, cdrom=True, writable=False) for name in ("old.iso", "new.iso"))

    async def first() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(old,)))
            live.record.devices.append(half_done(new))
            live.save()
            if missing:
                Path(new.target).unlink()
            if missing == "both":
                Path(old.target).unlink()

    async def second() -> None:
        async with world:
            live = world.live()
            await world.settled()
            disk = {"": new, "new": old, "both": replace(old, target="")}[missing]
            assert live.record.config.disks == (disk,)
            (entry,) = live.record.devices
            assert (entry.coming, entry.config) == (False, disk)
            told = [request["changes"] for request in asked(live) if "changes" in request]
            assert [change["medium"]["type"] for change in told] == ["empty" if missing == "both" else "file"]
            await world.call("destroy", domain="web")

    run(first)
    run(second)


def test_a_process_that_does_not_tell_is_asked_again(
    world: World, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            live.record.devices.append(half_done(world.disk("xvdb")))
            live.save()

    async def second() -> None:
        failures: list[int] = []

        async def devices(*_: object) -> None:
            failures.append(1)
            raise ApiError("failed", "not now")

        async with world:
            with monkeypatch.context() as patched:
                patched.setattr(told, "devices", devices)
                await world.until(lambda: len(failures) > 2)
                assert len(world.live().record.devices) == 1
            await world.settled()
            assert world.live().record.devices == []

    run(first)
    run(second)


def test_devices_of_one_that_has_stopped_are_not_asked_for(world: World) -> None:
    """The process has none any more; the configuration, which a successor gets, has them all."""

    async def first() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            add(
                live,
                {"kind": "ended", "reason": "crash", "action": "preserve", "report": False, "core": False},
                {"kind": "preserved", "action": "preserve"},
            )
            await world.until(lambda: live.condition.state == "crashed")
            await world.settled()
            assert live.record.devices == []

    async def second() -> None:
        async with world:
            await world.settled()
            live = world.live()
            assert [disk.vdev for disk in live.record.config.disks] == ["xvda"]
            assert not any(request["do"] == "devices" for request in asked(live))

    run(first)
    run(second)
