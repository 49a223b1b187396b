"""Disks and interfaces of domains, as clients attach, detach, change and list them."""

import asyncio
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import Direct, World, asked, config, helpers_of, impatient, run
from xenion.api import types as t
from xenion.config.disk import Disk, Format
from xenion.config.vif import Attachment, Vif
from xenion.dom0.block import locks
from xenion.xend import told
from xenion.xend.live import Live

MAC = "00:16:3e:00:00:{:02}"
CD = {"cdrom": True, "writable": False}


@pytest.fixture(autouse=True)
def _nothing_left(tmp_path: Path, standins: None) -> Iterator[None]:
    """Whatever a test does: when no domain is there, no helper is."""
    yield

    async def end() -> None:
        async with World(tmp_path) as world:
            for live in list(world.services.registry.live.values()):
                await live.stop()

    run(end)
    assert helpers_of(tmp_path) == []
    folder = tmp_path / "run" / "helpers"
    assert not folder.exists() or list(folder.iterdir()) == []


def vif(number: int = 1, **more: Any) -> Vif:
    return Vif(**{"mac": MAC.format(number), "attachment": Attachment.ISOLATED, "network": "lan", **more})


def qcow2(world: World, vdev: str, **more: Any) -> Disk:
    """An overlay, which needs a storage daemon."""
    return world.disk(vdev, overlay=True, **more)


async def attach(world: World, disk: Disk, domain: str = "web") -> Any:
    return await world.call("attach_disk", {"disk": disk.to_mapping()}, domain=domain)


async def plug(world: World, vif: Vif) -> Any:
    return await world.call("attach_interface", {"vif": vif.to_mapping()}, domain="web")


async def listed(world: World, domain: str = "web") -> list[str]:
    return [disk["vdev"] for disk in (await world.call("disks", domain=domain))["disks"]]


def state_of(world: World, live: Live) -> tuple[Any, ...]:
    """All that an action which is refused leaves as it was."""
    on_disk = json.loads((live.folder / "record.json").read_text())
    with Direct(live) as direct:
        count = direct.ask("open")["open"]
    return (
        live.record.config,
        json.dumps([entry.to_mapping() for entry in live.record.devices]),
        on_disk["devices"],
        on_disk["config"],
        live.record.wants,
        helpers_of(world.at),
        len(descriptors()),
        count,
        [managed.config for managed in world.services.registry.managed],
    )


def is_free(path: str) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        locks.take(fd, writable=True)
    except locks.InUseError:
        return False
    finally:
        os.close(fd)
    return True


# --- disks


def test_attached_and_detached(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            before = state_of(world, live)
            disk = world.disk("xvdb")
            info = await attach(world, disk)
            assert info.keys() == t.DiskInfo.__annotations__.keys()
            assert (info["vdev"], info["target"], info["state"]) == ("xvdb", disk.target, "connected")
            assert (info["rd_req"], info["size_bytes"]) == (3, 512)
            assert await listed(world) == ["xvda", "xvdb"]
            (request,) = [request for request in asked(live) if request["do"] == "attach"]
            assert request["fds"] == [disk.target]
            assert not is_free(disk.target)
            assert len(descriptors()) == before[6], "it is the process that has it open"
            for word in ("xvdb", "51728"):
                await world.call("detach_disk", domain="web", vdev=word)
                assert is_free(disk.target)
                assert await listed(world) == ["xvda"]
                if word == "xvdb":
                    await attach(world, disk)
            await world.settled()
            assert state_of(world, live) == before

    run(work)


def test_with_a_helper(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(qcow2(world, "xvda"),)))
            before = state_of(world, live)
            assert before[5] == ["a helper of " + live.uuid]
            await attach(world, qcow2(world, "xvdb"))
            assert len(helpers_of(world.at)) == 2
            await world.call("detach_disk", domain="web", vdev="xvdb")
            await world.settled()
            assert state_of(world, live) == before
            assert (live.logs / "disks" / "xvdb.qcow2").exists(), "it can be attached again"
            await world.call("destroy", domain="web")
            assert not (live.logs / "disks").exists()
            assert helpers_of(world.at) == []

    run(work)


def test_an_overlay_of_a_domain_that_lasts_stays(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            uuid = "00000000-0000-4000-8000-00000000000a"
            made = config(world.at, disks=(qcow2(world, "xvda"),), uuid=uuid)
            live = await world.create(made)
            await world.call("destroy", domain="web")
            assert world.files(live.logs / "disks") == ["xvda.json", "xvda.qcow2"]
            await world.create(made)

    run(work)


@pytest.mark.parametrize("kind", ["raw", "overlay", "vif"])
def test_refused_by_the_process_everything_is_as_before(world: World, tools: None, kind: str) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at, behaviour="no-attach", disks=(world.disk("xvda"),))
            await world.call("define", {"config": made.to_mapping()})
            await world.task("start", domain="web")
            live = world.live()
            disk = world.disk("xvdb", overlay=kind == "overlay")
            (world.where.logs("web") / "helpers.log").touch()
            for _ in range(2):
                before = state_of(world, live)
                error = await world.refusal(plug(world, vif()) if kind == "vif" else attach(world, disk))
                assert error.code == "wrong-state"
                assert "is not wanted" in error.message
                assert state_of(world, live) == before
                assert is_free(disk.target)

    run(work)


@pytest.mark.parametrize("target", ["missing", "folder"])
def test_refused_by_the_host(world: World, target: str) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await attach(world, world.disk("xvdb"))
            await world.call("detach_disk", domain="web", vdev="xvdb")
            await world.settled()
            before = state_of(world, live)
            (world.at / "folder").mkdir()
            error = await world.refusal(attach(world, Disk(target=str(world.at / target), vdev="xvdb")))
            assert error.code == "refused"
            assert state_of(world, live) == before

    run(work)


def test_names_and_images_that_are_taken(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at, disks=(world.disk("xvda"),)))
            await world.create(config(world.at, "other"))
            error = await world.refusal(attach(world, world.disk("xvda", "else.img")))
            assert (error.code, error.message) == (
                "already-exists", "web has a disk xvda: choose another name",
            )  # fmt: skip
            error = await world.refusal(attach(world, world.disk("xvda"), "other"))
            assert "is in use by the domain web: detach it there first" in error.message
            for name in ("a", ""):
                error = await world.refusal(
                    world.call("attach_disk", {"disk": {"vdev": name, "target": "/x"}}, domain="web")
                )
                assert error.code == "bad-configuration"

    run(work)


def test_devices_of_domains_that_cannot_have_them(world: World) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at, "idle", disks=(world.disk("xvda"),), vifs=(vif(),))
            await world.call("define", {"config": made.to_mapping()})
            error = await world.refusal(attach(world, world.disk("xvdb"), "idle"))
            assert error.message == "idle is not running: `xm start idle` starts it"
            (disk,) = (await world.call("disks", domain="idle"))["disks"]
            assert (disk["state"], disk["size_bytes"]) == ("unknown", 0)
            (interface,) = (await world.call("interfaces", domain="idle"))["interfaces"]
            assert (interface["devid"], interface["state"]) == (0, "unknown")
            error = await world.refusal(world.call("disks", domain="0"))
            assert error.code == "wrong-state"
            live = await world.create(config(world.at))
            for vdev in ("xvdb", "x" * 9000):
                error = await world.refusal(world.call("detach_disk", domain="web", vdev=vdev))
                assert error.code == "no-such-device"
            error = await world.refusal(world.call("detach_interface", domain="web", device="0"))
            assert error.message == "web has no interface 0"
            with Direct(live) as direct:
                direct.ask("add", entries=[{"kind": "preserved", "action": "preserve"}])
                ended = {"reason": "crash", "action": "preserve", "report": False, "core": False}
                direct.ask("add", entries=[{"kind": "ended", "cpu_seconds": 1, **ended}])
            await world.until(lambda: live.condition.state == "crashed")
            error = await world.refusal(attach(world, world.disk("xvdb")))
            assert "web has stopped" in error.message

    run(work)


def test_held_by_the_guest(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="held", disks=(world.disk("xvda"),)))
            await world.settled()
            before = state_of(world, live)
            error = await world.refusal(world.call("detach_disk", domain="web", vdev="xvda"))
            assert "the guest does not let go of it" in error.message
            assert state_of(world, live) == before
            await world.call("detach_disk", None, {"force": True}, domain="web", vdev="xvda")
            assert await listed(world) == []

    run(work)


def test_let_go_of_later_the_definition_follows(world: World) -> None:
    """The client has long gone."""

    async def work() -> None:
        async with world:
            made = config(world.at, behaviour="held", disks=(world.disk("xvda"),))
            await world.call("define", {"config": made.to_mapping()})
            await world.task("start", domain="web")
            live = world.live()
            with Direct(live) as direct:
                direct.ask("detach", kind="vbd", devid=51712, force=True)
            await world.until(lambda: not live.record.devices)
            await world.settled()
            (managed,) = world.services.registry.managed
            assert managed.config.disks == ()
            assert await listed(world) == []

    run(work)


def test_managed_domains_keep_what_they_have(world: World) -> None:
    async def work() -> None:
        async with world:
            made = config(world.at, disks=(world.disk("xvda"),))
            await world.call("define", {"config": made.to_mapping()})
            await world.task("start", domain="web")
            await attach(world, world.disk("xvdb"))
            await plug(world, Vif(attachment=Attachment.ISOLATED, network="lan"))
            await world.call("configure_disk", {"limit_bytes": 5 << 20}, domain="web", vdev="xvdb")
            await world.call("configure_interface", {"rate_bytes": 1000}, domain="web", device="0")
            await world.call("destroy", domain="web")
            assert await listed(world) == ["xvda", "xvdb"]
            await world.task("start", domain="web")
            (managed,) = world.services.registry.managed
            assert managed.config.disks[1].limit_bytes == 5 << 20
            assert managed.config.vifs[0].rate_bytes == 1000
            assert managed.config.vifs[0].mac
            await world.call("detach_disk", domain="web", vdev="xvda")
            await world.call("detach_interface", domain="web", device=managed.config.vifs[0].mac)
            (managed,) = world.services.registry.managed
            assert [disk.vdev for disk in managed.config.disks] == ["xvdb"]
            assert managed.config.vifs == ()

    run(work)


def test_limits(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, disks=(world.disk("xvda"),)))
            info = await world.call("configure_disk", {"limit_bytes": 4096}, domain="web", vdev="xvda")
            assert (info["limit_bytes"], info["limit_requests"]) == (4096, 0)
            info = await world.call("configure_disk", {"limit_requests": 7}, domain="web", vdev="xvda")
            assert (info["limit_bytes"], info["limit_requests"]) == (4096, 7)
            changes = [request["changes"] for request in asked(live) if request["do"] == "configure-device"]
            assert changes == [{"limits": [4096, 0]}, {"limits": [4096, 7]}]

    run(work)


def test_changes_at_the_same_time_are_all_kept(world: World) -> None:
    async def work() -> None:
        async with world:
            names = [f"xvd{letter}" for letter in "abcdef"]
            live = await world.create(config(world.at, disks=tuple(map(world.disk, names[:3]))))
            limits = [
                world.call("configure_disk", {"limit_bytes": 4096 + n}, domain="web", vdev=name)
                for n, name in enumerate(names[:3])
            ]
            attached = [attach(world, world.disk(name)) for name in names[3:]]
            plugged = [plug(world, vif(n)) for n in range(3)]
            await asyncio.gather(
                *limits, *attached, *plugged, world.call("rename", {"name": "new"}, domain="web")
            )
            assert live.record.config.name == "new"
            assert sorted(disk.vdev for disk in live.record.config.disks) == names
            assert [disk.limit_bytes for disk in live.record.config.disks[:3]] == [4096, 4097, 4098]
            found = (await world.call("interfaces", domain="new"))["interfaces"]
            assert sorted(one["devid"] for one in found) == [0, 1, 2]
            assert len(live.record.devices) == 9

    run(work)


def test_a_change_that_the_process_refuses(world: World) -> None:
    async def work() -> None:
        async with world:
            cd = world.disk("xvdc", "a.iso", **CD)
            live = await world.create(
                config(world.at, behaviour="no-change", disks=(world.disk("xvda"), cd), vifs=(vif(),))
            )
            world.disk("xvdd", "b.iso", **CD)
            (live.logs / "helpers.log").touch()
            await world.refusal(world.call("configure_disk", {"target": ""}, domain="web", vdev="xvdc"))
            before = state_of(world, live)
            for what in ({"limit_bytes": 4096}, {"target": str(world.at / "b.iso")}, {"target": ""}):
                vdev = "xvdc" if "target" in what else "xvda"
                await world.refusal(world.call("configure_disk", what, domain="web", vdev=vdev))
                assert state_of(world, live) == before
            await world.refusal(
                world.call("configure_interface", {"rate_bytes": 9}, domain="web", device="0")
            )
            assert state_of(world, live) == before

    run(work)


def test_another_disc(world: World) -> None:
    async def work() -> None:
        async with world:
            cd = world.disk("xvdc", "a.iso", **CD)
            live = await world.create(config(world.at, disks=(world.disk("xvda"), cd)))
            other = world.disk("xvdd", "b.iso", **CD)
            for target in (other.target, "", cd.target):
                info = await world.call("configure_disk", {"target": target}, domain="web", vdev="xvdc")
                assert info["target"] == target
                assert len(live.record.devices) == 2
                assert not any(entry.coming for entry in live.record.devices)
            requests = [request for request in asked(live) if request["do"] == "configure-device"]
            assert [request["fds"] for request in requests] == [[other.target], [], [cd.target]]
            assert [request["changes"]["medium"]["type"] for request in requests] == ["file", "empty", "file"]
            for target, code in (("relative", "bad-configuration"), (str(world.at / "no"), "refused")):
                change = world.call("configure_disk", {"target": target}, domain="web", vdev="xvdc")
                assert (await world.refusal(change)).code == code
            change = world.call("configure_disk", {"target": cd.target}, domain="web", vdev="xvda")
            assert "is no CD-ROM drive" in (await world.refusal(change)).message
            assert [disk.target for disk in live.record.config.disks][1] == cd.target

    run(work)


def test_larger(world: World, tools: None) -> None:
    async def work() -> None:
        async with world:
            raw, overlay = world.disk("xvda"), qcow2(world, "xvdb")
            live = await world.create(config(world.at, disks=(raw, overlay)))
            await world.call("configure_disk", {"resize_bytes": 2 << 20}, domain="web", vdev="xvda")
            assert Path(raw.target).stat().st_size == 2 << 20
            await world.call("configure_disk", {"resize_bytes": 3 << 20}, domain="web", vdev="xvdb")
            requests = [
                (request["do"], request.get("description", {}).get("size_bytes"), request.get("changes"))
                for request in asked(live)
                if request["do"] in ("configure-device", "reconnect-device")
            ]
            assert requests == [
                ("configure-device", None, {"grown": True}),
                ("reconnect-device", 3 << 20, None),
                ("configure-device", None, {"grown": True}),
            ]
            assert len(live.record.devices) == len(helpers_of(world.at)) + 1 == 2
            for size in (512, 3 << 20 | 1):
                change = world.call("configure_disk", {"resize_bytes": size}, domain="web", vdev="xvdb")
                assert (await world.refusal(change)).code == "refused"

    run(work)


# --- interfaces


def test_plugged_in_and_pulled_out(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, vifs=(vif(1),)))
            before = state_of(world, live)
            info = await plug(world, vif(2, rate_bytes=1000))
            assert info.keys() == t.InterfaceInfo.__annotations__.keys()
            assert (info["devid"], info["mac"], info["state"]) == (1, MAC.format(2), "connected")
            assert (info["tx_bytes"], info["description"], info["rate_bytes"]) == (5, "isolated lan", 1000)
            assert (await world.refusal(plug(world, vif(2)))).code == "bad-configuration"
            changed = await world.call("configure_interface", {"rate_bytes": 7}, domain="web", device="1")
            assert changed["rate_bytes"] == 7
            await world.call("detach_interface", domain="web", device=MAC.format(2).upper())
            await world.settled()
            assert state_of(world, live) == before
            assert (await plug(world, vif(3)))["devid"] == 1
            await world.call("detach_interface", domain="web", device="0")
            (left,) = (await world.call("interfaces", domain="web"))["interfaces"]
            assert (left["devid"], left["mac"]) == (1, MAC.format(3))
            assert (await plug(world, vif(4)))["devid"] == 0

    run(work)


def test_networks(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at, vifs=(vif(1), vif(2))))
            await world.create(config(world.at, "db", vifs=(vif(3), vif(4, network="other"))))
            found = (await world.call("networks"))["networks"]
            assert [(one["name"], one["kind"], one["domains"]) for one in found] == [
                ("lan", "isolated", ["web", "db"]), ("other", "isolated", ["db"]),
            ]  # fmt: skip
            assert all(one.keys() == t.NetworkInfo.__annotations__.keys() for one in found)

    run(work)


def captures(live: Live) -> list[dict[str, Any]]:
    return [request for request in asked(live) if request["do"] == "configure-device"]


def test_captured_to_a_file(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, vifs=(vif(),)))
            path = str(world.at / "new.pcap")
            before = len(descriptors())
            begun = await world.call("capture", {"path": path, "snaplen": 64}, domain="web", device="0")
            assert Path(path).stat().st_mode & 0o777 == 0o600
            assert len(descriptors()) == before
            (request,) = captures(live)
            assert request["fds"] == [path]
            assert request["changes"]["capture"] == {"id": int(begun["capture"]), "snap": 64}
            told = await world.call("stop_capture", domain="web", device="0", capture=begun["capture"])
            assert told == {"packets": 7, "dropped": 0}, "what makes no sense is no number"
            again = world.call("capture", {"path": path}, domain="web", device="0")
            error = await world.refusal(again)
            assert (error.code, error.message) == (
                "refused", f"{path}: it exists already: name a new file",
            )  # fmt: skip
            Path(path).unlink()
            Path(path).symlink_to(world.at / "elsewhere")
            await world.refusal(world.call("capture", {"path": path}, domain="web", device="0"))
            assert not (world.at / "elsewhere").exists()

    run(work)


def test_captured_to_a_fifo(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, vifs=(vif(),)))
            path = str(world.at / "fifo")
            os.mkfifo(path)
            capture = {"path": path}
            error = await world.refusal(world.call("capture", capture, domain="web", device="0"))
            assert error.message == f"{path}: nobody reads it"
            reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            await world.call("capture", capture, domain="web", device="0")
            os.close(reader)
            (request,) = captures(live)
            assert (request["fds"], request["changes"]["capture"]["snap"]) == ([path], 262144)

    run(work)


def test_a_capture_that_cannot_be_leaves_no_file(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, behaviour="no-change", vifs=(vif(),)))
            before = len(descriptors())
            path = world.at / "new.pcap"
            await world.refusal(world.call("capture", {"path": str(path)}, domain="web", device="0"))
            assert not path.exists()
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(world.at / "s"))
            for wrong in (
                "relative",
                "/a\0b",
                "/\udcff\ud800",
                str(world.at),
                str(world.at / "s"),
                "/no/such",
            ):
                error = await world.refusal(world.call("capture", {"path": wrong}, domain="web", device="0"))
                assert error.code in ("bad-request", "refused")
                error.message.encode()
            for number in ("x", "-1", "9" * 5000, "٣" * 17):
                stop = world.call("stop_capture", domain="web", device="0", capture=number)
                assert (await world.refusal(stop)).code == "bad-request"
            assert len(descriptors()) == before
            assert len(captures(live)) == 1

    run(work)


def test_numbers_of_captures_are_no_earlier_xends(world: World) -> None:
    numbers = []

    async def first() -> None:
        async with world:
            await world.create(config(world.at, vifs=(vif(),)))
            for name in ("a", "b"):
                capture = {"path": str(world.at / name)}
                numbers.append((await world.call("capture", capture, domain="web", device="0"))["capture"])

    async def second() -> None:
        async with world:
            await world.settled()
            capture = {"path": str(world.at / "c")}
            numbers.append((await world.call("capture", capture, domain="web", device="0"))["capture"])

    run(first)
    run(second)
    assert len(set(numbers)) == 3


# --- processes that are not what they should be


def test_a_process_that_talks_nonsense(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(
                config(world.at, behaviour="nonsense", disks=(world.disk("xvda"),), vifs=(vif(),))
            )
            (disk,) = (await world.call("disks", domain="web"))["disks"]
            assert (disk["state"], disk["rd_req"], disk["wr_bytes"]) == ("unknown", 0, 0)
            (interface,) = (await world.call("interfaces", domain="web"))["interfaces"]
            assert (interface["rx_bytes"], interface["tx_bytes"]) == (0, 0)
            assert interface["description"] == "isolated lan"
            assert (await attach(world, world.disk("xvdb")))["state"] == "unknown"
            assert (await plug(world, vif(2)))["mac"] == MAC.format(2)
            _, web = (await world.call("list", None, {"traffic": True}))["domains"]
            assert web["traffic"]["vbds"] == 1

    run(work)


def test_one_that_answers_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told, "ANSWER_S", 0.05)
    impatient(monkeypatch, 0.05)

    async def work() -> None:
        async with world:
            await world.create(config(world.at, behaviour="mute", vifs=(vif(),)))
            before = len(descriptors())
            capture = {"path": str(world.at / "new.pcap")}
            for work in (
                attach(world, world.disk("xvdb")),
                world.call("capture", capture, domain="web", device="0"),
                world.call("configure_interface", {"rate_bytes": 1}, domain="web", device="0"),
            ):
                error = await world.refusal(work)
                assert (error.code, error.message) == (
                    "failed", "the process of web does not answer: `xm destroy` ends it",
                )  # fmt: skip
            assert len(descriptors()) == before

    run(work)


def test_formats_of_discs(world: World) -> None:
    """A disc is raw, or an NBD server's; the drive's first one may have been anything."""

    async def work() -> None:
        async with world:
            cd = replace(world.disk("xvdc", "a.iso", **CD), format=Format.RAW)
            live = await world.create(config(world.at, disks=(cd,)))
            url = "nbd://127.0.0.1:1/x"
            change = world.call("configure_disk", {"target": url}, domain="web", vdev="xvdc")
            assert "127.0.0.1:1 cannot be reached" in (await world.refusal(change)).message
            assert live.record.config.disks == (cd,)
            assert len(live.record.devices) == 1

    run(work)
