"""What all disks share: limits, draining, closing, counters."""

import errno

import pytest

from tests.unit.dom0.block.manual_disk import ManualDisk
from xenion.dom0.block import disk as disk_module
from xenion.dom0.block.disk import EmptyDrive
from xenion.dom0.block.limits import Limiter
from xenion.dom0.loop import Loop

PAGE = memoryview(bytearray(4096))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The limiter's time, which passes only when the test says."""
    now = [0.0]
    monkeypatch.setattr(disk_module, "Limiter", lambda b, r: Limiter(b, r, lambda: now[0]))
    return now


def test_operations_begin_at_once_without_a_limit(loop: Loop) -> None:
    disk = ManualDisk(loop)
    seen: list[int] = []
    disk.readv(0, 4096, [PAGE], seen.append)
    disk.writev(0, 4096, [PAGE], seen.append, fua=True)
    disk.flush(seen.append)
    disk.discard(0, 4096, seen.append)
    assert len(disk.pending) == 4
    disk.finish(0)
    disk.finish(0, errno.ENOSPC)
    disk.finish_all()
    assert seen == [0, errno.ENOSPC, 0, 0]
    assert disk.counters.as_dict() == {
        "ds_err": 0, "ds_req": 1, "f_err": 0, "f_req": 1, "oo_req": 0,
        "rd_err": 0, "rd_req": 1, "rd_sect": 8, "wr_err": 1, "wr_req": 1, "wr_sect": 8,
    }  # fmt: skip


def test_what_a_limit_holds_back_begins_later_in_order(loop: Loop, clock: list[float]) -> None:
    disk = ManualDisk(loop)
    disk.set_limits(40960, 0)
    for number in range(5):
        disk.readv(number * 4096, 4096, [PAGE], lambda _: None)
    disk.flush(lambda _: None)
    assert [offset for _, offset, *_ in disk.pending] == [0, 4096]
    assert disk.counters.oo_req == 4
    assert not disk.idle
    clock[0] = 0.1
    while len(disk.pending) < 3:
        loop.turn(loop._time_left())
    assert [offset for _, offset, *_ in disk.pending] == [0, 4096, 8192]
    clock[0] = 60.0
    while len(disk.pending) < 6:
        loop.turn(loop._time_left())
        clock[0] += 1
    assert [offset for _, offset, *_ in disk.pending] == [0, 4096, 8192, 12288, 16384, 0]


def test_limits_change_while_requests_wait(loop: Loop, clock: list[float]) -> None:
    disk = ManualDisk(loop)
    disk.set_limits(0, 0.01)
    for _ in range(4):
        disk.readv(0, 4096, [PAGE], lambda _: None)
    assert len(disk.pending) == 1
    disk.set_limits(0, 20)
    assert len(disk.pending) == 4
    disk.set_limits(1, 0)
    for _ in range(3):
        disk.readv(0, 4096, [PAGE], lambda _: None)
    assert len(disk.pending) == 5
    disk.set_limits(0, 0)
    assert len(disk.pending) == 7
    disk.readv(0, 4096, [PAGE], lambda _: None)
    assert len(disk.pending) == 8


def test_who_hurries_pays_later(loop: Loop, clock: list[float]) -> None:
    disk = ManualDisk(loop)
    disk.set_limits(0, 1)
    for _ in range(10):
        disk.flush(lambda _: None)
    disk.hurry()
    assert len(disk.pending) == 10
    clock[0] = 9.0
    disk.flush(lambda _: None)
    assert len(disk.pending) == 10
    clock[0] = 10.0
    disk.set_limits(0, 0)
    assert len(disk.pending) == 11


def test_drain(loop: Loop, clock: list[float]) -> None:
    disk = ManualDisk(loop)
    seen: list[str] = []
    disk.drain(lambda: seen.append("idle"))
    assert seen == ["idle"]
    disk.set_limits(0, 0.01)
    disk.flush(lambda _: seen.append("first"))
    disk.flush(lambda _: seen.append("second"))
    disk.drain(lambda: seen.append("drained"))
    disk.finish_all()
    assert seen == ["idle", "first"]
    disk.hurry()
    disk.finish_all()
    assert seen == ["idle", "first", "second", "drained"]


def test_size_is_whole_sectors(loop: Loop) -> None:
    disk = ManualDisk(loop, 4096 + 1, sector_bytes=512)
    assert (disk.size, disk.physical_sector_bytes) == (4608, 512)
    disk.data += bytes(4095)
    assert disk.resize() == disk.size == 8192
    assert disk.physical_sector_bytes == 4096
    assert ManualDisk(loop, 4097, sector_bytes=4096).size == 8192


def test_a_cdrom_is_never_written(loop: Loop) -> None:
    disk = ManualDisk(loop, cdrom=True, writable=True)
    assert (disk.writable, disk.discard_bytes) == (False, 0)


def test_an_empty_drive(loop: Loop) -> None:
    drive = EmptyDrive(loop)
    seen: list[int] = []
    drive.readv(0, 4096, [PAGE], seen.append)
    drive.writev(0, 4096, [PAGE], seen.append)
    drive.flush(seen.append)
    drive.discard(0, 4096, seen.append)
    assert seen == [errno.ENOMEDIUM, errno.ENOMEDIUM, 0, errno.EOPNOTSUPP]
    assert (drive.resize(), drive.idle) == (0, True)
    drive.close()
