"""What the stand-ins stand in for: the same with real domain processes and kernels of a few instructions."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.system import build
from tests.unit.xend.kit import World, config, helpers_of, run, within
from xenion.config.cloud_init import CloudInit
from xenion.config.domain import Action, DomainConfig
from xenion.config.vif import Attachment, Vif
from xenion.xend import process
from xenion.xend.entries import VBD
from xenion.xend.helpers import Helper
from xenion.xend.live import Live
from xenion.xend.xenstored import Xenstored


@pytest.fixture
def real(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """With a real xenstored, too."""
    if build.compiler() is None:
        pytest.skip("no C compiler to build tiny kernels with: install gcc, or name one in CC")
    monkeypatch.setattr(process, "PROGRAM", (sys.executable, "-m", "xenion.domain"))
    world.make_store = Xenstored
    yield world
    stopped = Xenstored(world.where)
    run(stopped.stop)
    assert not stopped.runs


def guest(end: str, words: str = "", **more: Any) -> DomainConfig:
    return DomainConfig(name="web", kernel=build.tiny_kernel(end, words), memory_mib=16, **more)


def test_a_life(real: World) -> None:
    async def first() -> None:
        async with real:
            live = await real.create(guest("wait", "hello\n"))
            await real.call("pause", domain="web")
            await real.until(lambda: live.shown()["state"] == "paused")  # its journal may tell a moment later
            await real.call("unpause", domain="web")
            changed = replace(live.record.config, memory_mib=24)
            await real.call("configure", {"config": changed.to_mapping()}, domain="web")
            await real.call("rename", {"name": "new"}, domain="web")
            await real.settled()
            result = await real.task("dump", {"path": str(real.at / "core")}, domain="new")
            assert result["size"] > 16 << 20
            assert (real.at / "core").read_bytes()[:4] == b"\x7fELF"

    async def second() -> None:
        async with real:
            live = real.live("new")
            assert live.record.config.memory_mib == 24
            assert real.told(live.uuid) == ["booted", "paused", "unpaused"]
            await real.call("destroy", domain="new")
            assert real.told(live.uuid) == ["booted", "paused", "unpaused", "ended", "leaving", "gone"]
            assert real.files(real.where.state / "domains") == ["new/console.log"]
            assert (live.logs / "console.log").read_bytes() == b"hello\n"

    run(first)
    run(second)


@pytest.mark.parametrize(
    ("end", "reason", "report"),
    [("poweroff", "poweroff", False), ("crash", "crash", True), ("reboot", "reboot", False)],
)
def test_ends(real: World, end: str, reason: str, report: bool) -> None:
    async def work() -> None:
        async with real:
            result = await real.task("create", {"config": guest(end).to_mapping()})
            outcome = await real.call("outcome", {}, {"wait": 20}, uuid=result["domain"]["uuid"])
            while real.names:
                await within(real.live().gone.wait())
            assert (outcome["over"], outcome["reason"], outcome["status"]) == (True, reason, "")
            assert bool(outcome["report"]) == report
            if report:
                assert "crash" in Path(outcome["report"]).read_text()
            assert (outcome["notes"] != []) == (end == "reboot"), "it would go on for ever"

    run(work)


def test_a_core_of_a_crash(real: World) -> None:
    async def work() -> None:
        async with real:
            made = guest("crash", on_crash=Action.COREDUMP_DESTROY)
            result = await real.task("create", {"config": made.to_mapping()})
            outcome = await real.call("outcome", {}, {"wait": 20}, uuid=result["domain"]["uuid"])
            assert Path(outcome["core"]).read_bytes()[:4] == b"\x7fELF"
            while real.names:
                await within(real.live().gone.wait())
            assert sorted(name.partition("-")[0] for name in real.files(real.where.logs("web"))) == [
                "console.log", "core", "crash",
            ]  # fmt: skip

    run(work)


def test_what_is_no_kernel(real: World) -> None:
    async def work() -> None:
        async with real:
            error = await real.refusal(real.task("create", {"config": config(real.at).to_mapping()}))
            assert error.code == "refused"
            assert error.message.startswith(f"{real.at}/kernel: ")
            assert real.names == []

    run(work)


def test_killed(real: World) -> None:
    async def work() -> None:
        async with real:
            live = await real.create(guest("spin"))
            os.kill(live.pid or 0, signal.SIGKILL)
            outcome = await real.call("outcome", {}, {"wait": 20}, uuid=live.uuid)
            assert (outcome["reason"], outcome["status"]) == ("died", "SIGKILL")

    run(work)


def test_destroyed_while_it_hangs(real: World) -> None:
    async def work() -> None:
        async with real:
            live = await real.create(guest("spin"))
            os.kill(live.pid or 0, signal.SIGSTOP)
            await real.call("destroy", domain="web")
            assert (await real.call("outcome", uuid=live.uuid))["reason"] == "destroyed"

    run(work)


async def devices(real: World) -> list[tuple[str, str]]:
    disks = (await real.call("disks", domain="web"))["disks"]
    vifs = (await real.call("interfaces", domain="web"))["interfaces"]
    return [*((disk["vdev"], disk["state"]) for disk in disks), *((vif["mac"], vif["state"]) for vif in vifs)]


def helper_of(live: Live) -> Helper:
    """The storage daemon of xvdb."""
    entry = live.record.entry_of(VBD, 51728)
    assert entry is not None
    return entry.helpers[0]


def test_devices(real: World, tools: None) -> None:
    """Of a guest that does not use them, over the ends of storage daemon, store and xend."""
    lan: Any = {"attachment": Attachment.ISOLATED, "network": "lan"}
    macs = [f"00:16:3e:00:00:0{number}" for number in range(2)]

    async def first() -> None:
        async with real:
            made = guest(
                "wait",
                disks=(real.disk("xvda"), real.disk("xvdb", overlay=True)),
                vifs=(Vif(mac=macs[0], **lan),),
                cloud_init=CloudInit(),
            )
            live = await real.create(made)
            await real.call("attach_disk", {"disk": real.disk("xvdc").to_mapping()}, domain="web")
            vif = Vif(mac=macs[1], **lan).to_mapping()
            await real.call("attach_interface", {"vif": vif}, domain="web")
            every = ["xvda", "xvdb", "xvdc", "xvdz", *macs]
            assert sorted(await devices(real)) == sorted((name, "initwait") for name in every)
            await real.call("detach_disk", domain="web", vdev="xvda")
            await real.call("configure_disk", {"resize_bytes": 2 << 20}, domain="web", vdev="xvdb")
            await real.call("configure_disk", {"limit_bytes": 1 << 20}, domain="web", vdev="xvdc")
            sizes = {
                disk["vdev"]: disk["size_bytes"] for disk in (await real.call("disks", domain="web"))["disks"]
            }
            assert (sizes["xvdb"], sizes["xvdc"]) == (2 << 20, 1 << 20)
            helper = helper_of(live)
            helper.process.kill()
            await real.until(lambda: helper_of(live) != helper)
            await real.settled()
            store = real.store._process()
            assert store is not None
            store.kill()
            while await real.store.connected() != {1}:
                await real.settled()
            await real.call("detach_interface", domain="web", device="0")

    async def second() -> None:
        async with real:
            await real.settled()
            left = ["xvdb", "xvdc", "xvdz", macs[1]]
            assert sorted(await devices(real)) == sorted((name, "initwait") for name in left)
            assert await real.store.connected() == {1}
            await real.call("detach_disk", domain="web", vdev="xvdc")
            await real.call("destroy", domain="web")
            assert helpers_of(real.at) == []
            assert real.files(real.where.state / "domains") == ["web/console.log"]

    run(first)
    run(second)
