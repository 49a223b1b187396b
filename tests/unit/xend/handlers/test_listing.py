"""info, list, domain, vcpus, console, outcome."""

import asyncio
import os

import pytest

from tests.unit.xend.kit import World, add, asked, config, ended, run, within
from xenion.api import types as t
from xenion.config.vif import Attachment, Vif
from xenion.xend.handlers import listing


def test_the_host_comes_first(world: World) -> None:
    async def work() -> None:
        async with world:
            for name in ("b", "a"):
                await world.call("define", {"config": config(world.at, name).to_mapping()})
            await world.create(config(world.at, "z"))
            await world.create(config(world.at, "y"))
            await world.task("start", domain="b")
            listed = (await world.call("list"))["domains"]
            assert [(d["name"], d["domid"]) for d in listed] == [
                ("Domain-0", 0), ("z", 1), ("y", 2), ("b", 3), ("a", None),
            ]  # fmt: skip
            assert all(d.keys() == t.Domain.__required_keys__ for d in listed)
            host = listed[0]
            assert host["vcpus"] == os.cpu_count()
            assert host["memory_mib"] > 100
            assert host["cpu_seconds"] > 0
            assert host["uptime_seconds"] > 0
            for word in ("0", "Domain-0"):
                assert (await world.call("domain", domain=word))["name"] == "Domain-0"

    run(work)


def test_info(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            info = await world.call("info")
            assert info.keys() == t.Info.__annotations__.keys()
            assert (info["xend_pid"], info["domains"]) == (os.getpid(), 2)
            assert info["xend_socket"] == str(world.where.socket)
            assert 0 < info["free_memory_mib"] < info["total_memory_mib"]

    run(work)


def test_vcpus(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            vcpu, other = (await world.call("vcpus", domain="web"))["vcpus"]
            assert vcpu.keys() == t.Vcpu.__annotations__.keys()
            assert (vcpu["name"], vcpu["domid"], vcpu["state"]) == ("web", 1, "blocked")
            assert (vcpu["cpu_seconds"], other["cpu_seconds"]) == (1.5, 0)
            assert vcpu["cpu"] in range(os.cpu_count() or 1)
            assert (other["vcpu"], other["cpu"], other["state"]) == (1, None, "offline")
            await world.call("pause", domain="web")
            states = [vcpu["state"] for vcpu in (await world.call("vcpus", domain="web"))["vcpus"]]
            assert states == ["paused", "offline"]
            add(live, ended("crash", "preserve"))
            await world.until(lambda: live.condition.state == "crashed")
            assert len((await world.call("vcpus", domain="0"))["vcpus"]) == os.cpu_count()
            assert (await world.call("console", domain="web")) == live.folder / "console.sock"
            assert (await world.refusal(world.call("console", domain="0"))).code == "wrong-state"

    run(work)


def test_outcomes_are_waited_for(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            early = await world.call("outcome", {}, {"wait": 0.01}, uuid=live.uuid)
            assert early.keys() == t.Outcome.__annotations__.keys()
            assert (early["over"], early["reason"]) == (False, "")
            waiting = asyncio.ensure_future(world.call("outcome", {}, {"wait": 20}, uuid=live.uuid))
            await asyncio.sleep(0)
            await world.call("destroy", domain="web")
            outcome = await within(waiting)
            assert (outcome["over"], outcome["reason"]) == (True, "destroyed")
            assert outcome == await world.call("outcome", {}, {"wait": 20}, uuid=live.uuid)
            assert (await world.refusal(world.call("outcome", uuid="x"))).code == "no-such-domain"

    run(work)


def test_notes_are_in_the_outcome(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            add(live, {"kind": "note", "text": "a word"})
            await world.call("destroy", domain="web")
            assert (await world.call("outcome", uuid=live.uuid))["notes"] == ["a word"]

    run(work)


def test_traffic_only_for_who_asks(world: World) -> None:
    async def work() -> None:
        async with world:
            disks = (world.disk("xvda"), world.disk("xvdb"))
            vif = Vif(attachment=Attachment.ISOLATED, network="lan")
            live = await world.create(config(world.at, disks=disks, vifs=(vif,)))
            idle = await world.create(config(world.at, "idle"))
            assert all("traffic" not in domain for domain in (await world.call("list"))["domains"])
            assert asked(live) == []
            host, web, other = (await world.call("list", {}, {"traffic": True}))["domains"]
            assert "traffic" not in host
            assert web["traffic"] == {
                "vbds": 2, "vbd_rd": 6, "vbd_wr": 8, "nets": 1, "net_tx_bytes": 5, "net_rx_bytes": 6,
            }  # fmt: skip
            assert set(other["traffic"].values()) == {0}
            assert asked(idle) == [], "it has no device"

    run(work)


def test_a_process_that_hangs_does_not_keep_the_list(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "TRAFFIC_S", 0.01)

    async def work() -> None:
        async with world:
            await world.create(config(world.at, behaviour="mute", disks=(world.disk("xvda"),)))
            _, web = (await world.call("list", {}, {"traffic": True}))["domains"]
            assert "traffic" not in web

    run(work)
