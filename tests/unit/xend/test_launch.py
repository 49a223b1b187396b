"""A domain process is started with all that it needs, or nothing is left of the attempt."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import Direct, World, config, open_files, run
from xenion.api.errors import ApiError
from xenion.domain.devices import DeviceOrder
from xenion.domain.order import in_memory
from xenion.xend import launch, logs, record
from xenion.xend.boot_files import BootFiles
from xenion.xend.live import Live
from xenion.xend.record import Record
from xenion.xend.xenstored import Connections

UUID = "00000000-0000-4000-8000-00000000f00d"


@pytest.fixture
def store() -> Iterator[Connections]:
    pairs = [socket.socketpair() for _ in range(2)]
    yield pairs[0][0], pairs[1][0]
    for one, other in pairs:
        one.close()
        other.close()


def made(world: World) -> Record:
    return Record(UUID, 5, "web", "web", config(world.at, uuid=UUID))


def test_started(world: World, store: Connections) -> None:
    image = world.at / "image"
    image.touch()
    with image.open("rb") as file:
        devices = [DeviceOrder("vbd", 51712, {"type": "file"}, {"vdev": "xvda"}, (file.fileno(),))]
        boot = BootFiles(made(world).config)
        before = descriptors()
        folder, child = launch.spawn(world.where, made(world), boot, devices, store, paused=False)
        assert descriptors() == before, "boot files, devices and store stay the caller's"
        boot.close()
    with child, ExitStack() as end:
        end.callback(child.kill)
        assert folder == world.where.domains / UUID
        assert record.lock(folder) is None
        assert os.getsid(child.pid) == child.pid
        assert Record.read(folder) == made(world)
        for name in (record.CONTROL, record.CONSOLE, record.JOURNAL, record.RECORD, record.LOCK):
            assert (folder / name).stat().st_mode & 0o777 == 0o600
        assert folder.stat().st_mode & 0o777 == 0o700
        live = Live(world.where, Record.read(folder), folder)
        while not live.journal.size:  # it says so when it listens
            assert child.poll() is None
        with Direct(live) as direct:
            (device,) = direct.ask("devices")["devices"]
            assert device["config"] == {"vdev": "xvda"}
        assert str(image) in open_files(child.pid)
        sockets = {os.readlink(f"/proc/self/fd/{connection.fileno()}") for connection in store}  # noqa: PTH115
        assert sockets <= set(open_files(child.pid))
    lock = record.lock(folder)
    assert lock is not None
    os.close(lock)


@pytest.mark.parametrize("arriving", ["", "0a"])
def test_what_comes_from_another_host_is_told_so(
    world: World, store: Connections, monkeypatch: pytest.MonkeyPatch, arriving: str
) -> None:
    orders = []

    def document(data: bytes) -> int:
        orders.append(json.loads(data))
        return in_memory(data)

    monkeypatch.setattr(launch, "in_memory", document)
    coming = replace(made(world), arriving=arriving)
    boot = BootFiles(coming.config)
    _, child = launch.spawn(world.where, coming, boot, [], store, paused=False)
    boot.close()
    with child, ExitStack() as end:
        end.callback(child.kill)
        assert [order["arriving"] for order in orders] == [bool(arriving)]


@pytest.mark.parametrize("name", ["logs", "Popen", "record.lock", "in_memory", "record.finish", "bind"])
def test_what_fails_leaves_nothing(
    world: World, store: Connections, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    boot = BootFiles(made(world).config)
    before = descriptors()

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    target = {
        "logs": (logs, "private_folder"),
        "Popen": (subprocess, "Popen"),
        "record.lock": (record, "lock"),
        "in_memory": (launch, "in_memory"),
        "record.finish": (record, "finish"),
        "bind": (launch, "bind"),
    }[name]
    monkeypatch.setattr(*target, fail)
    with pytest.raises(ApiError, match="No space left") as caught:
        launch.spawn(world.where, made(world), boot, [], store, paused=False)
    assert caught.value.code == "failed"
    assert list(world.where.domains.iterdir()) == []
    assert [name for name in world.files(world.where.state) if "console.log" not in name] == []
    assert descriptors() == before
    boot.close()


def test_a_process_that_ends_at_once(world: World) -> None:
    async def work() -> None:
        async with world:
            error = await world.refusal(
                world.task("create", {"config": config(world.at, behaviour="die").to_mapping()})
            )
            assert error.code == "failed"
            assert f"see {world.where.logs('web')}/process.log" in error.message
            (outcome,) = [path.stem for path in (world.where.run / "outcomes").iterdir()]
            assert (await world.call("outcome", uuid=outcome))["status"] == "exit status 3"

    run(work)
