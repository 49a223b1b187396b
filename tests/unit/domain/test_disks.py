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
from tests.unit.dom0.block.nbd_server import READ, PlayedServer
from tests.unit.dom0.fake_guest import FakeGuest
from xenion.abi.io.blkif import BlkifOp, BlkifRsp
from xenion.dom0.block import locks
from xenion.dom0.block.nbd_handshake import FLAG_READ_ONLY, NbdInfo
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
    assert told["served"] == 0


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


# --- gone on elsewhere


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def stand_by(bench: Bench, disk: DiskResource, name: str = "next", **values: Any) -> int:
    """An image that does so."""
    fd = bench.image(name, values.pop("sectors", SECTORS))
    disk.standby(description(**values), [fd])
    return fd


def played(disk: DiskResource, **about: Any) -> PlayedServer:
    """A server that stands by."""
    server = PlayedServer()
    disk.standby(description("nbd", nbd=asdict(INFO) | about), [server.client])
    return server


def reads(bench: Bench, disk: DiskResource) -> bytes:
    """The disk's first sector."""
    data, errors = bytearray(512), list[int]()
    disk._disk.readv(0, 512, [memoryview(data)], errors.append)
    disk._disk.submit()
    bench.until(lambda: bool(errors))
    assert errors == [0]
    return bytes(data)


def written(bench: Bench, name: str, data: bytes) -> None:
    fd = bench.image(name)
    os.pwrite(fd, data, 0)
    os.close(fd)


def test_without_anything_that_stands_by_it_goes_on_as_it_is(bench: Bench) -> None:
    fd = bench.image()
    disk = bench.disk(fd)
    before = disk._disk
    disk.switch()
    assert (disk._disk, is_open(fd)) == (before, True)


def test_what_stands_by_is_not_used_before_it_is_wanted(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    server = played(disk)
    assert reads(bench, disk) == bytes(512)
    assert (server.requests(), disk.describe()["served"]) == ([], 0)
    server.close()
    for _ in range(5):
        bench.loop.turn(0)
    assert bench.lost == [], "nobody watches it yet"


def test_a_guest_that_is_held_goes_on_at_a_server(bench: Bench) -> None:
    """The back end is the same one."""
    fd = bench.image()
    disk = bench.disk(fd)
    backend, front = disk.backend(bench.guest, 51712), Front(bench.guest, bench.loop)
    nodes = backend.connect(front.nodes)
    ref = bench.guest.grant(1, 0)
    assert front.do(front.request(BlkifOp.READ, 1, 0, [(ref, 0, 0)])) == [(1, BlkifOp.READ, BlkifRsp.OKAY)]
    server, held = played(disk), list[int]()
    backend.disconnect(lambda: held.append(1))
    bench.until(lambda: bool(held))
    disk.switch()
    assert not is_open(fd)
    front = Front(bench.guest, bench.loop)
    assert backend.connect(front.nodes) == nodes
    front.send(front.request(BlkifOp.READ, 2, 8, [(ref, 0, 0)]))
    bench.loop.turn(10)
    asked = server.only()
    assert (asked.code, asked.offset, asked.length) == (READ, 4096, 512)
    server.reply(asked, b"above" + bytes(507))
    assert front.wait(1) == [(2, BlkifOp.READ, BlkifRsp.OKAY)]
    assert bench.guest.frames[0][:5] == b"above"
    told = disk.describe()
    assert (told["served"], told["rd_req"], told["rd_sect"]) == (1, 2, 2)
    backend.disconnect(lambda: None)
    bench.until(lambda: bench.guest.mapped == [])
    server.close()


def test_the_next_boot_has_it_too(bench: Bench) -> None:
    written(bench, "next", b"next")
    disk = bench.disk(bench.image())
    disk.backend(bench.guest, 51712)
    disk.forget()
    stand_by(bench, disk)
    disk.switch()
    assert disk.backend(bench.guest, 51712).disk is disk._disk
    assert reads(bench, disk)[:4] == b"next"


def test_a_server_that_goes_later_is_told_of_and_replaced(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    server = played(disk)
    disk.switch()
    server.close()
    bench.until(lambda: bool(bench.lost))
    again = PlayedServer()
    disk.reconnect(description("nbd", nbd=asdict(INFO)), [again.client])
    disk._disk.flush(lambda error: None)
    disk._disk.readv(0, 512, [memoryview(bytearray(512))], lambda error: None)
    disk._disk.submit()
    assert again.only().code == READ
    again.close()


def test_only_the_last_one_stands_by(bench: Bench) -> None:
    for name in ("first", "second", "third"):
        written(bench, name, name.encode())
    disk = bench.disk(bench.image())
    first, second = stand_by(bench, disk, "first"), stand_by(bench, disk, "second")
    assert (is_open(first), is_open(second)) == (False, True)
    third = stand_by(bench, disk, "third")
    assert (is_open(second), is_open(third)) == (False, True)
    disk.switch()
    assert reads(bench, disk)[:5] == b"third"
    before = disk._disk
    disk.switch()
    assert disk._disk is before, "it stood by for one switch"


def test_what_stands_by_goes_with_the_disk(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    fds = [end.detach() for end in socket.socketpair()]
    disk.standby(description("nbd", nbd=asdict(INFO)), fds)
    disk.close()
    assert not any(map(is_open, fds))


def test_one_place_after_the_other(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    before = len(descriptors())
    for name in ("1", "2", "3"):
        stand_by(bench, disk, name)
        disk.switch()
        assert len(descriptors()) == before


@pytest.mark.parametrize(
    "values",
    [{"sectors": SECTORS + 8}, {"sectors": SECTORS - 8}, {"sectors": 0}, {"sector_bytes": 4096}],
)
def test_what_has_another_size_is_refused(bench: Bench, values: dict[str, Any]) -> None:
    """The guest goes on where it was."""
    written(bench, "image", b"as before")
    old = bench.image()
    disk = bench.disk(old)
    backend, told = disk.backend(bench.guest, 51712), disk.describe()
    new = stand_by(bench, disk, **values)
    with pytest.raises(
        DeviceError, match=r"^disk xvda: what stands by for it has another size, or is only read$"
    ):
        disk.switch()
    assert (is_open(old), is_open(new), disk.describe()) == (True, False, told)
    assert backend.disk is disk._disk
    assert reads(bench, disk)[:9] == b"as before"


def test_what_is_no_image_is_refused(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    reader, writer = os.pipe()
    os.close(writer)
    disk.standby(description(), [reader])
    with pytest.raises(DeviceError, match="disk xvda: what was opened for it is no image"):
        disk.switch()
    assert not is_open(reader)
    assert reads(bench, disk) == bytes(512)


def test_a_server_that_does_not_fit_is_refused_then(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    server = played(disk, min_block=4096)
    with pytest.raises(DeviceError, match="disk xvda: the NBD server serves blocks of 4096"):
        disk.switch()
    assert disk.describe()["served"] == 0
    server.close()


def test_after_a_refusal_another_one_may_stand_by(bench: Bench) -> None:
    written(bench, "next", b"next")
    disk = bench.disk(bench.image())
    stand_by(bench, disk, "small", sectors=8)
    with pytest.raises(DeviceError):
        disk.switch()
    stand_by(bench, disk)
    disk.switch()
    assert reads(bench, disk)[:4] == b"next"


def test_what_the_old_one_has_begun_ends_there(bench: Bench) -> None:
    """It is closed afterwards, and what failed there is counted."""
    old = bench.image()
    disk = bench.disk(old)
    ended: list[int] = []
    disk._disk.flush(ended.append)
    disk._disk.writev(0, 512, [memoryview(b"o" * 512)], ended.append, fua=True)
    stand_by(bench, disk)
    disk.switch()
    assert is_open(old)
    assert reads(bench, disk) == bytes(512)
    bench.until(lambda: len(ended) == 2)
    assert (ended, is_open(old)) == ([0, 0], False)
    assert (bench.folder / "image").read_bytes()[:1] == b"o"
    told = disk.describe()
    assert (told["f_req"], told["wr_req"], told["rd_req"]) == (1, 1, 1)


def test_limits_hold_there_too(bench: Bench) -> None:
    disk = bench.disk(bench.image(), limit_requests=1)
    stand_by(bench, disk, limit_requests=1)
    disk.switch()
    ended: list[int] = []
    for _ in range(50):
        disk._disk.flush(ended.append)
    assert disk.describe()["oo_req"] > 0
    disk.configure({"limits": [0, 0]}, ())
    bench.until(lambda: len(ended) == 50)


def test_it_can_be_grown_and_locked_there(bench: Bench) -> None:
    disk = bench.disk(bench.image())
    locks.take(stand_by(bench, disk), writable=True)
    disk.switch()
    os.truncate(bench.folder / "next", 2 * SECTORS * 512)
    disk.configure({"grown": True}, ())
    assert disk.describe()["size_bytes"] == 2 * SECTORS * 512
    fd = taken_by_another(bench)
    os.close(fd)
    disk.unlock()
    other = os.open(bench.folder / "next", os.O_RDWR)
    locks.take(other, writable=True)
    with pytest.raises(DeviceError, match=r"^another domain uses it$"):
        disk.lock()
    os.close(other)


def test_what_is_below_stays_locked_until_the_disk_goes(bench: Bench) -> None:
    disk = bench.disk(bench.image("top"))
    for name in ("image", "layer"):
        fd = bench.image(name)
        locks.take(fd, writable=False)
        assert disk.configure({"below": True}, [fd]) == {}
    with pytest.raises(locks.InUseError):
        taken_by_another(bench)
    stand_by(bench, disk)
    disk.switch()
    with pytest.raises(locks.InUseError):
        taken_by_another(bench)
    disk.close()
    os.close(taken_by_another(bench))


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


def test_what_may_only_be_read_is_refused(bench: Bench) -> None:
    """Of a disk that the guest writes. It stays so until something else stands by."""
    disk = bench.disk(bench.image())
    server = played(disk, flags=1 | FLAG_READ_ONLY)
    for _ in range(2):
        with pytest.raises(DeviceError, match="or is only read"):
            disk.switch()
    server.close()
    assert disk.describe()["served"] == 0
    stand_by(bench, disk)
    disk.switch()
