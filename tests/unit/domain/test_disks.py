"""Disks as a domain's process has them: what xend hands over is opened, changed, and closed once."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.dom0.block.front import Front
from tests.unit.dom0.fake_guest import FakeGuest
from xenion.dom0.block import locks
from xenion.dom0.block.nbd_handshake import NbdInfo
from xenion.dom0.loop import Loop
from xenion.domain.devices import DeviceError, DeviceOrder
from xenion.domain.disks import DiskResource

SECTORS = 64
INFO = NbdInfo(size=SECTORS * 512, flags=1, min_block=1, max_block=1 << 20)
VDEV = {"vdev": "xvda"}


def description(kind: str = "file", **values: Any) -> dict[str, Any]:
    about = {
        "writable": True,
        "cdrom": False,
        "sector_bytes": 512,
        "discard": True,
        "persistent_grants": False,
    }
    return {"type": kind, "limit_bytes": 0, "limit_requests": 0, **VDEV, **about, **values}


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = Loop()
        self.guest = FakeGuest(self.loop)
        self.lost: list[str] = []
        self.made: list[DiskResource] = []

    def image(self, name: str = "image", sectors: int = SECTORS) -> int:
        fd = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.truncate(fd, sectors * 512)
        return fd

    def disk(self, *fds: int, kind: str = "file", **values: Any) -> DiskResource:
        order = DeviceOrder("vbd", 51712, description(kind, **values), {}, fds)
        self.made.append(DiskResource(order, self.loop, self.lost.append))
        return self.made[-1]

    def until(self, what: Callable[[], bool]) -> None:
        for _ in range(1000):
            if what():
                return
            self.loop.turn(0.05)
        raise AssertionError("it does not come to that")

    def close(self) -> None:
        for disk in self.made:
            disk.close()
        for _ in range(5):
            self.loop.turn(0)
        self.loop.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    before = descriptors()
    made = Bench(tmp_path)
    yield made
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def test_what_people_are_told(bench: Bench) -> None:
    told = bench.disk(bench.image()).describe()
    assert (told["size_bytes"], told["sector_bytes"], told["rd_req"]) == (SECTORS * 512, 512, 0)


def test_one_boot_after_the_other_serves_the_same_image(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    for _ in range(3):
        backend = disk.backend(bench.guest, 51712)
        assert backend.frontend_nodes() == {"virtual-device": "51712", "device-type": "disk"}
        front = Front(bench.guest, bench.loop)
        assert backend.connect(front.nodes)["sectors"] == str(SECTORS)
        ended: list[int] = []
        backend.disconnect(lambda ended=ended: ended.append(1))  # type: ignore[misc]
        bench.until(lambda ended=ended: bool(ended))  # type: ignore[misc]
        assert bench.guest.mapped == []


def test_what_is_no_image_is_refused_by_the_disks_name(bench: Bench) -> None:
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(DeviceError, match="disk xvda: what was opened for it is no image: Illegal seek"):
        bench.disk(reader)


def test_a_server_that_does_not_fit_is_refused(bench: Bench) -> None:
    ends = socket.socketpair()
    about = asdict(INFO) | {"min_block": 4096}
    with pytest.raises(DeviceError, match="disk xvda: the NBD server serves blocks of 4096"):
        bench.disk(*(end.detach() for end in ends), kind="nbd", nbd=about)


def test_an_image_that_has_grown_is_told_to_the_front_end(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    backend, front = disk.backend(bench.guest, 51712), Front(bench.guest, bench.loop)
    changes: list[dict[str, str]] = []
    backend.changed = lambda nodes: changes.append(dict(nodes))
    backend.connect(front.nodes)
    os.truncate(bench.folder / "image", 2 * SECTORS * 512)
    assert disk.configure({"grown": True}, ()) == {}
    assert changes == [{"sectors": str(2 * SECTORS)}]
    assert disk.describe()["size_bytes"] == 2 * SECTORS * 512
    backend.disconnect(lambda: None)
    bench.until(lambda: bench.guest.mapped == [])


@pytest.mark.parametrize("offered", [False, True])
def test_persistent_grants_are_offered_to_whom_they_are_for(bench: Bench, offered: bool) -> None:
    backend = bench.disk(bench.image(), persistent_grants=offered).backend(bench.guest, 51712)
    assert backend.backend_nodes()["feature-persistent"] == str(int(offered))


def test_limits_change_while_it_runs_and_before_it_does(bench: Bench) -> None:
    disk = bench.disk(bench.image(), limit_requests=1)
    ended: list[int] = []
    for _ in range(50):
        disk._disk.flush(ended.append)
    assert disk.describe()["oo_req"] > 0
    disk.configure({"limits": [0, 0]}, ())
    bench.until(lambda: len(ended) == 50)


# --- left to another host


def taken_by_another(bench: Bench) -> int:
    fd = bench.image()
    try:
        locks.take(fd, writable=True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def test_another_host_may_have_it(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    disk.lock()
    with pytest.raises(locks.InUseError):
        taken_by_another(bench)
    disk.unlock()
    fd = taken_by_another(bench)
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"^another domain uses it$"):
            disk.lock()
    os.close(fd)
    disk.lock()
    with pytest.raises(locks.InUseError):
        taken_by_another(bench)


def test_what_is_only_read_is_never_left(bench: Bench) -> None:
    """Who reads it on the other host does not mind, and nobody is to write it meanwhile."""
    fd = bench.image()
    locks.take(fd, writable=False)
    disk = bench.disk(fd, writable=False)
    for step in (disk.unlock, disk.lock):
        step()
        with pytest.raises(locks.InUseError):
            taken_by_another(bench)
        other = bench.image()
        locks.take(other, writable=False)
        os.close(other)


def test_locks_that_cannot_be_had(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    disk = bench.disk(bench.image())
    monkeypatch.setattr("xenion.dom0.block.locks.fcntl.fcntl", broken)
    with pytest.raises(DeviceError, match=r"^it cannot be locked: Input/output error$"):
        disk.lock()
    disk.unlock()


def test_an_empty_drive_is_nobodys(bench: Bench) -> None:
    disk = bench.disk(kind="empty", cdrom=True, writable=False)
    disk.unlock()
    disk.lock()
    disk.announce()


def test_a_server_keeps_its_own_locks(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    disk = bench.disk(ours.detach(), kind="nbd", nbd=asdict(INFO))
    disk.unlock()
    disk.lock()
    theirs.close()


# --- media


def test_a_disc_is_changed(bench: Bench) -> None:
    disk = bench.disk(kind="empty", cdrom=True, writable=False)
    backend, front = disk.backend(bench.guest, 5632), Front(bench.guest, bench.loop)
    changes: list[dict[str, str]] = []
    backend.changed = lambda nodes: changes.append(dict(nodes))
    backend.connect(front.nodes)
    for sectors, kind in ((64, "file"), (128, "file"), (0, "empty")):
        fds = [bench.image(f"disc-{sectors}", sectors)] if sectors else []
        medium = description(kind, cdrom=True, writable=False)
        disk.configure({"medium": medium}, fds)
        assert disk.describe()["size_bytes"] == sectors * 512
        assert changes[-1] == {"sectors": str(sectors)}
    backend.disconnect(lambda: None)
    bench.until(lambda: bench.guest.mapped == [])


@pytest.mark.parametrize("booted", [False, True])
def test_a_disk_takes_no_other_medium(bench: Bench, booted: bool) -> None:
    disk = bench.disk(bench.image())
    if booted:
        disk.backend(bench.guest, 51712)
    with pytest.raises(DeviceError, match="only a CD-ROM drive"):
        disk.configure({"medium": description(cdrom=True)}, [bench.image("other", 8)])
    assert disk.describe()["size_bytes"] == SECTORS * 512


def test_a_medium_that_cannot_be_read_leaves_the_old_one(bench: Bench) -> None:
    disk = bench.disk(bench.image(), cdrom=True)
    reader, writer = os.pipe()
    os.close(writer)
    with pytest.raises(DeviceError, match="xvda"):
        disk.configure({"medium": description(cdrom=True)}, [reader])
    assert disk.describe()["size_bytes"] == SECTORS * 512


# --- servers


def test_a_server_that_goes_is_told_of_and_replaced(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    disk = bench.disk(ours.detach(), kind="nbd", nbd=asdict(INFO))
    theirs.close()
    bench.until(lambda: bool(bench.lost))
    assert len(bench.lost) == 1
    again, peer = socket.socketpair()
    disk.reconnect(description("nbd", nbd=asdict(INFO)), [again.detach()])
    views, errors = [memoryview(bytearray(512))], list[int]()
    disk._disk.readv(0, 512, views, errors.append)
    disk._disk.submit()
    assert peer.recv(100), "the new server is asked"
    peer.close()
    bench.until(lambda: len(bench.lost) == 2)
    disk._disk._give_up()  # type: ignore[attr-defined]
    assert errors == [errno.EIO]


def test_a_new_server_that_does_not_fit_is_refused(bench: Bench) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        disk = bench.disk(ours.detach(), kind="nbd", nbd=asdict(INFO))
        fds = [end.detach() for end in socket.socketpair()]
        about = asdict(INFO) | {"min_block": 4096}
        with pytest.raises(DeviceError, match="4096"):
            disk.reconnect(description("nbd", nbd=about), fds)


def test_a_file_has_no_server(bench: Bench) -> None:
    fds = [end.detach() for end in socket.socketpair()]
    with pytest.raises(DeviceError, match="no connection"):
        bench.disk(bench.image()).reconnect(description("nbd", nbd=asdict(INFO)), fds)
