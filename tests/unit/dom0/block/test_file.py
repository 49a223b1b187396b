"""Raw images in real files."""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xenion.dom0.block import locks
from xenion.dom0.block.disk import Disk
from xenion.dom0.block.file import FileDisk
from xenion.dom0.block.locks import InUseError
from xenion.dom0.loop import Loop

SIZE = 1 << 20
Make = Callable[..., FileDisk]


def views_of(*sizes: int) -> list[memoryview]:
    return [memoryview(bytearray(size)) for size in sizes]


def wait(loop: Loop, seen: list[int], count: int = 1) -> list[int]:
    while len(seen) < count:
        loop.turn(10)
    return seen


def read(loop: Loop, disk: Disk, offset: int, length: int) -> bytes:
    views = views_of(length // 2, length - length // 2)
    seen: list[int] = []
    disk.readv(offset, length, views, seen.append)
    assert wait(loop, seen) == [0]
    return b"".join(views)


def write(loop: Loop, disk: Disk, offset: int, data: bytes, *, fua: bool = False) -> None:
    half = len(data) // 3
    seen: list[int] = []
    disk.writev(offset, len(data), [memoryview(data[:half]), memoryview(data[half:])], seen.append, fua=fua)
    assert wait(loop, seen) == [0]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(random.Random(1).randbytes(SIZE))
    return path


@pytest.fixture
def make(loop: Loop, image: Path) -> Iterator[Make]:
    made: list[FileDisk] = []

    def make(*, flags: int = os.O_RDWR, **options: object) -> FileDisk:
        made.append(FileDisk(os.open(image, flags), loop, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for disk in made:
        disk.close()


# --- locks


def other(image: Path, *, writable: bool = True) -> int:
    """Another opening, locked."""
    fd = os.open(image, os.O_RDWR)
    try:
        locks.take(fd, writable=writable)
    except BaseException:
        os.close(fd)
        raise
    return fd


@pytest.mark.parametrize("writable", [True, False])
def test_locked_and_unlocked_again_and_again(make: Make, image: Path, writable: bool) -> None:
    disk = make(flags=os.O_RDWR if writable else os.O_RDONLY, writable=writable)
    for _ in range(3):
        disk.lock()
        with pytest.raises(InUseError):
            other(image)
        disk.unlock()
        os.close(other(image))


def test_unlocked_twice_locked_twice(make: Make, image: Path) -> None:
    disk = make()
    disk.lock()
    disk.lock()
    disk.unlock()
    disk.unlock()
    os.close(other(image))


@pytest.mark.parametrize(("writable", "theirs"), [(True, True), (True, False), (False, True)])
def test_who_has_it_meanwhile_keeps_it(make: Make, image: Path, writable: bool, theirs: bool) -> None:
    disk = make(writable=writable)
    disk.lock()
    disk.unlock()
    fd = other(image, writable=theirs)
    for _ in range(2):
        with pytest.raises(InUseError):
            disk.lock()
    os.close(fd)
    disk.lock()
    with pytest.raises(InUseError):
        other(image)


def test_two_that_only_read_it(make: Make, image: Path) -> None:
    disk = make(writable=False)
    fd = other(image, writable=False)
    disk.lock()
    os.close(fd)


def test_a_file_system_without_locks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody was kept away before, either."""

    def none(*arguments: object) -> bytes:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("xenion.dom0.block.locks.fcntl.fcntl", none)
    disk = make()
    disk.unlock()
    disk.lock()


def test_locks_that_cannot_be_had(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("xenion.dom0.block.locks.fcntl.fcntl", broken)
    with pytest.raises(OSError, match="Input/output error"):
        make().lock()


# --- where they are done


def test_small_writes_go_to_threads_while_the_host_makes_them_wait(
    loop: Loop, image: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make()
    disk._try_write = False
    clock, threads = [100.0], []

    def slow(fd: int, views: list[memoryview], offset: int) -> int:
        clock[0] += 0.5
        threads.append(threading.current_thread() is threading.main_thread())
        return real(fd, views, offset)

    real = os.pwritev
    monkeypatch.setattr("xenion.dom0.block.file.time.monotonic", lambda: clock[0])
    monkeypatch.setattr("xenion.dom0.block.file.os.pwritev", slow)
    for _ in range(2):
        write(loop, disk, 512, b"a" * 512)
    clock[0] += 2
    write(loop, disk, 1024, b"b" * 512)
    assert threads == [True, False, True]
    assert image.read_bytes()[512:1536] == b"a" * 512 + b"b" * 512


def test_what_is_cached_in_part(loop: Loop, image: Path, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read and written where it belongs."""
    real_read, real_write = os.preadv, os.pwritev

    def some(views: list[memoryview], flags: int) -> list[memoryview]:
        return [views[0][: len(views[0]) // 2]] if flags & os.RWF_NOWAIT else views

    monkeypatch.setattr(
        "xenion.dom0.block.file.os.preadv", lambda fd, v, at, flags=0: real_read(fd, some(v, flags), at, 0)
    )
    monkeypatch.setattr(
        "xenion.dom0.block.file.os.pwritev", lambda fd, v, at, flags=0: real_write(fd, some(v, flags), at, 0)
    )
    disk, before = make(), image.read_bytes()
    assert read(loop, disk, 8192, 65536) == before[8192 : 8192 + 65536]
    write(loop, disk, 4096, bytes(range(256)) * 64)
    assert image.read_bytes() == before[:4096] + bytes(range(256)) * 64 + before[4096 + 16384 :]


@pytest.mark.parametrize("at_once", [True, False])
def test_data_goes_both_ways(loop: Loop, image: Path, make: Make, at_once: bool) -> None:
    disk = make()
    disk._try_read = disk._try_write = at_once
    model = bytearray(image.read_bytes())
    dice = random.Random(2)
    for _ in range(200):
        offset = dice.randrange(SIZE // 512) * 512
        length = min(dice.choice([512, 4096, 65536]), SIZE - offset)
        if dice.random() < 0.5:
            data = dice.randbytes(length)
            write(loop, disk, offset, data, fua=dice.random() < 0.1)
            model[offset : offset + length] = data
        else:
            assert read(loop, disk, offset, length) == model[offset : offset + length]
    seen: list[int] = []
    disk.flush(seen.append)
    assert wait(loop, seen) == [0]
    assert image.read_bytes() == model


def test_what_is_cached_is_read_at_once(loop: Loop, image: Path, make: Make) -> None:
    disk = make()
    image.read_bytes()
    seen: list[int] = []
    views = views_of(4096)
    disk.readv(4096, 4096, views, seen.append)
    if not disk._try_read:
        wait(loop, seen)
        pytest.skip("the file system of the temporary folder knows no RWF_NOWAIT")
    assert seen == [0]
    assert disk.idle


def test_what_is_not_cached_does_not_hold_up_the_loop(
    loop: Loop, image: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it is there at once, as with a file that is half in the cache; the rest comes from a thread."""
    disk = make()
    truly = os.preadv
    threads: list[int] = []

    def preadv(fd: int, views: list[memoryview], offset: int, flags: int = 0) -> int:
        threads.append(threading.get_ident())
        if flags:
            return truly(fd, [views[0][:1000]], offset)
        return truly(fd, [views[0][:1500]], offset)

    monkeypatch.setattr(os, "preadv", preadv)
    views = views_of(4096, 4096)
    seen: list[int] = []
    disk.readv(512, 8192, views, seen.append)
    assert seen == []
    assert not disk.idle
    assert wait(loop, seen) == [0]
    monkeypatch.undo()
    assert b"".join(views) == image.read_bytes()[512 : 512 + 8192]
    assert threads[0] == threading.get_ident()
    assert threading.get_ident() not in threads[1:]


@pytest.mark.parametrize(
    ("length", "sector_bytes", "size"), [(1000, 512, 1024), (1000, 4096, 4096), (0, 512, 0)]
)
def test_a_file_that_ends_within_a_sector(
    loop: Loop, image: Path, make: Make, length: int, sector_bytes: int, size: int
) -> None:
    image.write_bytes(b"q" * length)
    disk = make(sector_bytes=sector_bytes)
    assert disk.size == size
    if size:
        assert read(loop, disk, 0, size) == b"q" * length + bytes(size - length)
        write(loop, disk, size - 512, b"z" * 512)
        assert read(loop, disk, size - 512, 512) == b"z" * 512
        assert image.stat().st_size == size


def test_a_file_that_somebody_cut_is_an_error_not_zeros(loop: Loop, image: Path, make: Make) -> None:
    disk = make()
    os.truncate(image, SIZE // 2)
    seen: list[int] = []
    disk.readv(SIZE // 2 - 512, 1024, views_of(1024), seen.append)
    assert wait(loop, seen) == [errno.EIO]
    assert disk.counters.rd_err == 1
    assert disk.resize() == SIZE // 2


def test_errors_are_the_kernels(loop: Loop, image: Path, make: Make) -> None:
    disk = make(flags=os.O_RDONLY)
    seen: list[int] = []
    disk.writev(0, 512, views_of(512), seen.append)
    assert wait(loop, seen) == [errno.EBADF]
    disk = make(flags=os.O_WRONLY)
    disk.readv(0, 512, views_of(512), seen.append)
    assert wait(loop, seen, 2)[1] == errno.EBADF
    assert (disk.counters.rd_err, disk.counters.rd_req) == (1, 1)


def test_a_full_device(loop: Loop) -> None:
    disk = FileDisk(os.open("/dev/full", os.O_RDWR), loop)
    seen: list[int] = []
    disk.writev(0, 512, views_of(512), seen.append)
    assert wait(loop, seen) == [errno.ENOSPC]
    disk.close()


def test_a_failed_flush_is_told_to_all_who_waited(
    loop: Loop, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = make()
    gate = threading.Event()
    calls: list[int] = []

    def fdatasync(fd: int) -> None:
        calls.append(fd)
        assert gate.wait(60)
        if len(calls) == 1:
            raise OSError(errno.EIO, "write-back failed")

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    seen: list[int] = []
    for _ in range(3):
        disk.flush(seen.append)
    gate.set()
    assert wait(loop, seen, 3) == [errno.EIO] * 3
    assert disk.counters.f_err == 3
    disk.flush(seen.append)
    assert wait(loop, seen, 4)[3] == 0
    assert len(calls) == 2


def test_flushes_that_come_meanwhile_are_one(loop: Loop, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = make()
    gate = threading.Event()
    calls: list[int] = []

    def fdatasync(fd: int) -> None:
        calls.append(fd)
        assert gate.wait(60)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    seen: list[int] = []
    for _ in range(10):
        disk.flush(seen.append)
    gate.set()
    assert wait(loop, seen, 10) == [0] * 10
    assert len(calls) == 2  # not one: the first had begun before the others came


def test_discard_makes_holes(loop: Loop, image: Path, make: Make) -> None:
    disk = make()
    if not disk.discard_bytes:
        pytest.skip("the file system of the temporary folder cannot make holes")
    assert disk.discard_bytes >= 4096
    before = image.stat().st_blocks
    seen: list[int] = []
    disk.discard(65536, SIZE // 2, seen.append)
    assert wait(loop, seen) == [0]
    assert read(loop, disk, 65536, 4096) == bytes(4096)
    assert image.stat().st_size == SIZE
    assert image.stat().st_blocks < before


def test_discard_is_offered_only_where_it_works(loop: Loop, make: Make) -> None:
    assert make(discard=False).discard_bytes == 0
    assert make(writable=False).discard_bytes == 0
    assert make(cdrom=True).discard_bytes == 0
    disk = make(discard=False)
    seen: list[int] = []
    disk.discard(0, 4096, seen.append)
    assert seen == [errno.EOPNOTSUPP]
    null = FileDisk(os.open("/dev/null", os.O_RDWR), loop)
    assert null.discard_bytes == 0
    null.close()


def test_resize(loop: Loop, image: Path, make: Make) -> None:
    disk = make()
    assert disk.size == SIZE
    os.truncate(image, 2 * SIZE)
    assert disk.resize() == disk.size == 2 * SIZE
    assert read(loop, disk, 2 * SIZE - 512, 512) == bytes(512)


def test_close_waits_for_what_runs_and_leaves_nothing(loop: Loop, image: Path) -> None:
    before = threading.active_count()
    fd = os.open(image, os.O_RDWR)
    disk = FileDisk(fd, loop)
    disk._try_read = False
    seen: list[int] = []
    for number in range(20):
        disk.readv(number * 4096, 4096, views_of(4096), seen.append)
    disk.set_limits(0, 0.001)
    disk.flush(seen.append)
    disk.flush(seen.append)
    disk.close()
    disk.close()
    wait(loop, seen, 22)
    assert seen == [0] * 22
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    assert threading.active_count() == before
    operations: list[Callable[[], None]] = [
        lambda: disk.readv(0, 512, views_of(512), seen.append),
        lambda: disk.writev(0, 512, views_of(512), seen.append),
        lambda: disk.flush(seen.append),
        lambda: disk.discard(0, 512, seen.append),
    ]
    for operation in operations:
        seen.clear()
        operation()
        assert seen == [errno.EIO]


BLOCKS = st.integers(0, 31)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(BLOCKS, st.integers(1, 8), st.booleans()), max_size=40, unique_by=lambda o: o[0] // 4)
)
def test_operations_side_by_side(tmp_path: Path, loop: Loop, operations: list[tuple[int, int, bool]]) -> None:
    """They do not lie over each other, so all must come out as if one came after the other."""
    path = tmp_path / "blocks"
    original = random.Random(3).randbytes(32 * 4096)
    path.write_bytes(original)
    disk = FileDisk(os.open(path, os.O_RDWR), loop, threads=3)
    disk._try_read = False
    model = bytearray(original)
    seen: list[int] = []
    reads = []
    for block, pages, is_write in operations:
        offset = block // 4 * 4 * 4096
        length = min(pages, 4) * 4096
        views = views_of(*[4096] * (length // 4096))
        if is_write:
            for view in views:
                view[:] = bytes([block]) * 4096
            model[offset : offset + length] = bytes([block]) * length
            disk.writev(offset, length, views, seen.append)
        else:
            disk.readv(offset, length, views, seen.append)
            reads.append((offset, length, views))
    wait(loop, seen, len(operations))
    assert seen == [0] * len(operations)
    for offset, length, views in reads:
        assert b"".join(views) == original[offset : offset + length]
    assert path.read_bytes() == model
    disk.close()
