"""As test_kill_points, for devices: no helper, no overlay and no half device is left, whenever xend is killed."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.processes import test_kill_points
from tests.processes.killing import Scenario
from tests.processes.test_kill_points import kill_at_each_step, nothing
from tests.unit.xend.kit import Direct, World, add, asked, config, helpers_of
from xenion.config.cloud_init import CloudInit
from xenion.config.disk import Disk
from xenion.config.domain import DomainConfig
from xenion.config.vif import Attachment, Vif
from xenion.xend.live import Live

Check = Callable[[World], Awaitable[None]]


def vif(number: int) -> Vif:
    return Vif(mac=f"00:16:3e:00:00:{number:02}", attachment=Attachment.ISOLATED, network="lan")


def with_devices(world: World) -> DomainConfig:
    overlay = world.disk("xvdb", overlay=True)
    return config(world.at, disks=(world.disk("xvda"), overlay), vifs=(vif(0),), cloud_init=CloudInit())


def reconnects(live: Live) -> list[Any]:
    return [request for request in asked(live) if request["do"] == "reconnect-device"]


def devices(live: Live) -> set[tuple[str, int]]:
    """Those that its process has."""
    with Direct(live) as direct:
        return {(one["kind"], one["devid"]) for one in direct.ask("devices")["devices"]}


def whole(world: World) -> None:
    """Record, configuration, process and helpers agree; nothing of anybody else is there."""
    lives = list(world.services.registry.live.values())
    for live in lives:
        entries = [entry.key for entry in live.record.devices]
        assert len(set(entries)) == len(entries)
        assert set(entries) == devices(live)
        assert not any(entry.coming for entry in live.record.devices)
        disks = {("vbd", disk.devid) for disk in live.record.config.disks}
        assert disks | {("vbd", 1 << 28 | 25 << 8)} >= {key for key in entries if key[0] == "vbd"} >= disks
        assert sum(kind == "vif" for kind, _ in entries) == len(live.record.config.vifs)
        for managed in world.services.registry.managed:
            assert managed.config.disks == live.record.config.disks
    known = [helper.pid for live in lives for entry in live.record.devices for helper in entry.helpers]
    assert len(helpers_of(world.at)) == len(known)
    folder = world.where.helpers("")
    assert (
        {path.name for path in folder.iterdir()} <= {live.uuid for live in lives} if folder.exists() else True
    )
    if not lives and not list(world.services.registry.managed):  # whose overlays stay
        left = [
            name for name in world.files(world.where.state / "domains") if "/disks/" in name or ".iso" in name
        ]
        assert left == []
    assert world.store.known == {live.domid: live.uuid for live in lives}  # type: ignore[attr-defined]


async def swept(world: World) -> None:
    """What adoption begins has ended."""
    await world.settled()
    await world.until(lambda: _agrees(world))


def _agrees(world: World) -> bool:
    try:
        whole(world)
    except (AssertionError, OSError):  # a process that is just ending answers nobody
        return False
    return True


def each_step(at: Path, before: Scenario, scenario: Scenario, check: Check | None = None) -> int:
    async def look(world: World) -> None:
        await swept(world)
        if check is not None:
            await check(world)
            await swept(world)

    return kill_at_each_step(at, before, scenario, look)


@pytest.fixture(autouse=True)
def _everything_goes(monkeypatch: pytest.MonkeyPatch, standins: None, tools: None) -> None:
    leave_nothing = test_kill_points.leave_nothing

    async def leave(world: World) -> None:
        await leave_nothing(world)
        whole(world)

    monkeypatch.setattr(test_kill_points, "leave_nothing", leave)


async def one(world: World) -> None:
    await world.create(with_devices(world))


async def managed(world: World) -> None:
    await world.call("define", {"config": with_devices(world).to_mapping()})
    await world.task("start", domain="web")


def test_create(tmp_path: Path) -> None:
    async def check(world: World) -> None:
        assert world.names in ([], ["web"])
        if not world.names:
            await one(world)

    assert each_step(tmp_path, nothing, one, check) > 30


@pytest.mark.parametrize("before", [one, managed])
def test_attach(tmp_path: Path, before: Scenario) -> None:
    async def attach(world: World) -> None:
        disk = world.disk("xvdc", overlay=True)
        await world.call("attach_disk", {"disk": disk.to_mapping()}, domain="web")
        await world.call("attach_interface", {"vif": vif(1).to_mapping()}, domain="web")

    async def check(world: World) -> None:
        live = world.live()
        names = [disk.vdev for disk in live.record.config.disks]
        assert names in (["xvda", "xvdb"], ["xvda", "xvdb", "xvdc"])
        if "xvdc" not in names:
            await attach(world)
        elif len(live.record.config.vifs) == 1:
            await world.call("attach_interface", {"vif": vif(1).to_mapping()}, domain="web")

    assert each_step(tmp_path, before, attach, check) > 10


@pytest.mark.parametrize("before", [one, managed])
def test_detach(tmp_path: Path, before: Scenario) -> None:
    async def detach(world: World) -> None:
        await world.call("detach_disk", domain="web", vdev="xvdb")
        await world.call("detach_interface", domain="web", device="0")

    async def check(world: World) -> None:
        live = world.live()
        if len(live.record.config.disks) == 2:
            await world.call("detach_disk", domain="web", vdev="xvdb")
        if live.record.config.vifs:
            await world.call("detach_interface", domain="web", device="0")
        disk = world.disk("xvdb", overlay=True)
        await world.call("attach_disk", {"disk": disk.to_mapping()}, domain="web")

    assert each_step(tmp_path, before, detach, check) > 8


def test_another_disc(tmp_path: Path) -> None:
    def cd(world: World, name: str) -> Disk:
        return world.disk("xvdc", name, cdrom=True, writable=False)

    async def inserted(world: World) -> None:
        cd(world, "new.iso")
        await world.create(config(world.at, disks=(cd(world, "old.iso"),)))

    async def change(world: World) -> None:
        await world.call("configure_disk", {"target": str(world.at / "new.iso")}, domain="web", vdev="xvdc")

    async def check(world: World) -> None:
        live = world.live()
        (entry,), (disk,) = live.record.devices, live.record.config.disks
        assert entry.config == disk
        told = [request for request in asked(live) if request["do"] == "configure-device"]
        assert ([[str(world.at / "old.iso")], *(one["fds"] for one in told)])[-1] == [disk.target]

    assert each_step(tmp_path, inserted, change, check) > 3


def test_larger(tmp_path: Path) -> None:
    async def grow(world: World) -> None:
        await world.call("configure_disk", {"resize_bytes": 2 << 20}, domain="web", vdev="xvdb")

    async def check(world: World) -> None:
        live, before = world.live(), len(reconnects(world.live()))
        add(live, {"kind": "lost", "kind_of_device": "vbd", "devid": 51728})
        await world.until(lambda: len(reconnects(live)) > before)
        await world.settled()

    assert each_step(tmp_path, one, grow, check) > 3


def test_a_helper_that_died(tmp_path: Path) -> None:
    async def lose(world: World) -> None:
        live = world.live()
        helper = live.record.devices[1].helpers[0]
        helper.process.kill()
        await world.until(lambda: not helper.alive)
        add(live, {"kind": "lost", "kind_of_device": "vbd", "devid": 51728})
        await world.until(lambda: live.record.devices[-1].helpers != [helper])
        await world.settled()

    async def check(world: World) -> None:
        helpers = [one for entry in world.live().record.devices for one in entry.helpers]
        assert len(helpers) == 1

    assert each_step(tmp_path, one, lose, check) > 5


def test_destroy(tmp_path: Path) -> None:
    async def destroy(world: World) -> None:
        await world.call("destroy", domain="web")

    assert each_step(tmp_path, one, destroy) > 10
