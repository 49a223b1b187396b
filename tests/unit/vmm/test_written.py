"""What is found to have been written, by write protection and by digests."""

import os
import random
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.vmm.holes import touched
from tests.write_watches import METHODS, is_protected, open_watch
from xenion.vmm import written
from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.runs import Run, frames_of
from xenion.vmm.written import PAGEMAP_SCAN, SWITCH, UFFDIO_REGISTER, WriteWatch, Written

PAGES = 64
WRITING_SECONDS = 0.5


@pytest.fixture(params=METHODS)
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteWatch]:
    opened = open_watch(request.param, monkeypatch)
    yield opened
    opened.close()


@pytest.fixture
def memory() -> Iterator[MachineMemory]:
    """Of its pages the first half is there."""
    made = MachineMemory(PAGES)
    for n in range(PAGES // 2):
        put(made, n, 1)
    yield made
    made.close()


@pytest.fixture
def look(watch: WriteWatch, memory: MachineMemory) -> Iterator[Written]:
    """Started."""
    made = watch.watch(memory)
    made.start()
    yield made
    made.stop()


def put(memory: MachineMemory, n: int, value: int) -> None:
    memory.bytes[(memory.first_mfn + n) * PAGE_SIZE + n % PAGE_SIZE] = value


def page(memory: MachineMemory, n: int) -> memoryview:
    return memory.page(memory.first_mfn + n)


def punch(memory: MachineMemory, n: int) -> None:
    memory.forget([(memory.first_mfn + n, 1)])


def read(memory: MachineMemory, n: int) -> bytes:
    return bytes(page(memory, n))


def numbers(memory: MachineMemory, runs: Iterable[Run]) -> list[int]:
    return [mfn - memory.first_mfn for mfn in frames_of(runs)]


def there(memory: MachineMemory) -> Iterator[Run]:
    for low, high in touched(memory.fd, 0, memory.nr_frames * PAGE_SIZE):
        yield low // PAGE_SIZE, (high - low) // PAGE_SIZE


def host_pages(memory: MachineMemory) -> int:
    return os.fstat(memory.fd).st_blocks * 512 // PAGE_SIZE


# --- what is written


def test_nothing(memory: MachineMemory, look: Written) -> None:
    assert look.collect() == []
    assert look.collect() == []


def test_pages_once_each(memory: MachineMemory, look: Written) -> None:
    for n in (3, 9, 40):
        put(memory, n, 2)
    assert numbers(memory, look.collect()) == [3, 9, 40]
    assert look.collect() == []
    put(memory, 9, 3)
    assert numbers(memory, look.collect()) == [9]


def test_frames_of_the_hypervisor(memory: MachineMemory, look: Written) -> None:
    memory.words[memory.m2p_mfn * 512 + 7] = 5
    memory.words[memory.shared_info_mfn * 512] = 5
    assert look.collect() == [(memory.m2p_mfn, 1), (memory.shared_info_mfn, 1)]


def test_runs_are_joined(memory: MachineMemory, look: Written) -> None:
    """Whether their pages were there before or not."""
    for n in (*range(5, 12), 20, *range(30, 35)):
        put(memory, n, 2)
    first = memory.first_mfn
    assert look.collect() == [(first + 5, 7), (first + 20, 1), (first + 30, 5)]


def test_the_last_frame(memory: MachineMemory, look: Written) -> None:
    put(memory, PAGES - 1, 2)
    assert look.collect() == [(memory.nr_frames - 1, 1)]
    put(memory, PAGES - 1, 3)
    assert look.collect() == [(memory.nr_frames - 1, 1)]


def test_what_the_host_reads_into_it(memory: MachineMemory, look: Written, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"\x5a" * 3 * PAGE_SIZE)
    fd = os.open(tmp_path / "disk", os.O_RDONLY)
    assert os.preadv(fd, [page(memory, 4), page(memory, 30), page(memory, 50)], 0) == 3 * PAGE_SIZE
    os.close(fd)
    assert numbers(memory, look.collect()) == [4, 30, 50]


def test_what_was_only_looked_at(memory: MachineMemory, look: Written) -> None:
    for n in range(PAGES // 2):
        read(memory, n)
    assert look.collect() == []


# --- what the host has no memory for


def test_holes_stay_holes(memory: MachineMemory, watch: WriteWatch) -> None:
    before = host_pages(memory)
    look = watch.watch(memory)
    look.start()
    look.collect()
    assert host_pages(memory) == before
    put(memory, 45, 2)
    assert numbers(memory, look.collect()) == [45]
    assert look.collect() == []
    look.stop()
    assert host_pages(memory) == before + 1


def test_memory_that_was_given_back(memory: MachineMemory, look: Written) -> None:
    punch(memory, 3)
    assert look.collect() == []
    punch(memory, 4)
    put(memory, 4, 7)
    assert numbers(memory, look.collect()) == [4]
    put(memory, 3, 7)
    assert numbers(memory, look.collect()) == [3]
    put(memory, 5, 7)
    punch(memory, 5)
    before = host_pages(memory)
    assert look.collect() == []
    assert host_pages(memory) == before
    put(memory, 5, 8)
    assert numbers(memory, look.collect()) == [5]


@pytest.mark.parametrize("between", [False, True])
def test_what_was_zeroed_given_back_and_read(memory: MachineMemory, look: Written, between: bool) -> None:
    """It is not the page that it was, though no hole."""
    page(memory, 3)[:] = bytes(PAGE_SIZE)
    found = numbers(memory, look.collect()) if between else []
    punch(memory, 3)
    assert read(memory, 3) == bytes(PAGE_SIZE)
    assert 3 in found + numbers(memory, look.collect())


# --- copies


def test_a_copy_of_what_was_there_for_a_moment(memory: MachineMemory, look: Written) -> None:
    """A lock that was held, say, when it was copied."""
    for before in (1, 2):
        put(memory, 3, 9)
        look.took(memory.first_mfn + 3, read(memory, 3))
        put(memory, 3, before)
        assert numbers(memory, look.collect()) == [3]
        put(memory, 3, 2)
        look.collect()


def test_copies_of_several_pages(memory: MachineMemory, look: Written) -> None:
    put(memory, 3, 2)
    put(memory, 5, 2)
    found = look.collect()
    first = memory.first_mfn + 3
    for copy in (read(memory, 3), bytearray(read(memory, 3)), memoryview(read(memory, 3))):
        look.took(first, copy)
    look.took(first, bytes(memory.bytes[first * PAGE_SIZE : (first + 3) * PAGE_SIZE]))
    assert numbers(memory, found) == [3, 5]
    assert look.collect() == []


def test_copies_of_no_frame(memory: MachineMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "digests")
    look = WriteWatch.open().watch(memory)
    look.start()
    with pytest.raises(IndexError):
        look.took(memory.nr_frames - 1, bytes(2 * PAGE_SIZE))


# --- starting and stopping


def test_stopped_memory_is_as_any_other(memory: MachineMemory, watch: WriteWatch, look: Written) -> None:
    put(memory, 1, 2)
    assert is_protected() == (watch.method == "write protection")
    look.stop()
    look.stop()
    assert not is_protected()
    for n in range(PAGES):
        put(memory, n, 4)
    assert [memory.bytes[(memory.first_mfn + n) * PAGE_SIZE + n] for n in range(PAGES)] == [4] * PAGES


def test_started_again(memory: MachineMemory, look: Written) -> None:
    put(memory, 1, 2)
    look.start()
    assert look.collect() == []
    put(memory, 2, 2)
    look.stop()
    put(memory, 3, 2)
    punch(memory, 4)
    look.start()
    assert look.collect() == []
    put(memory, 4, 2)
    put(memory, 5, 2)
    assert numbers(memory, look.collect()) == [4, 5]


def test_several_memories(memory: MachineMemory, watch: WriteWatch) -> None:
    """A reboot has a new one."""
    other = MachineMemory(PAGES)
    looks = [watch.watch(memory), watch.watch(other)]
    for look in looks:
        look.start()
    put(memory, 1, 2)
    put(other, 2, 2)
    assert numbers(memory, looks[0].collect()) == [1]
    looks[0].stop()
    put(other, 3, 2)
    assert numbers(other, looks[1].collect()) == [2, 3]
    looks[1].stop()
    other.close()


def test_stopped_after_its_memory_was_closed(watch: WriteWatch) -> None:
    memory = MachineMemory(PAGES)
    look = watch.watch(memory)
    look.start()
    memory.close()
    look.stop()


def test_memory_that_is_gone(watch: WriteWatch) -> None:
    memory = MachineMemory(PAGES)
    memory.close()
    look = watch.watch(memory)
    with pytest.raises(OSError, match="Bad file descriptor"):
        look.start()
    look.stop()


# --- many at once


def test_more_runs_than_one_look_finds(watch: WriteWatch) -> None:
    pages = 2 * (2 * written.ROOM + 100)
    memory = MachineMemory(pages)
    for n in range(pages):
        put(memory, n, 1)
    look = watch.watch(memory)
    look.start()
    for n in range(0, pages, 2):
        put(memory, n, 2)
    assert look.collect() == [(memory.first_mfn + n, 1) for n in range(0, pages, 2)]
    assert look.collect() == []
    look.stop()
    memory.close()


@pytest.mark.parametrize("room", [1, 2, 3])
def test_little_room(
    memory: MachineMemory, watch: WriteWatch, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(written, "ROOM", room)
    look = watch.watch(memory)
    look.start()
    changed = [0, 1, 2, 5, 7, 8, 11, 31, 33, 34, 63]
    for n in changed:
        put(memory, n, 2)
    assert numbers(memory, look.collect()) == changed
    assert look.collect() == []
    look.stop()


def test_nothing_written_meanwhile_is_lost(memory: MachineMemory, look: Written) -> None:
    """What is copied after each look, and after the last one when nobody writes, is what there is."""
    copies: dict[int, bytes] = {}
    ended = threading.Event()

    def copy(pages: Iterable[int]) -> None:
        for n in pages:
            copies[n] = read(memory, n)
            look.took(memory.first_mfn + n, copies[n])

    def write() -> None:
        dice = random.Random(1)
        while not ended.is_set():
            put(memory, dice.randrange(PAGES), dice.randrange(256))

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    copy(range(PAGES))
    until = time.monotonic() + WRITING_SECONDS
    while time.monotonic() < until:
        copy(numbers(memory, look.collect()))
    ended.set()
    for writer in writers:
        writer.join()
    copy(numbers(memory, look.collect()))
    assert copies == {n: read(memory, n) for n in range(PAGES)}
    assert look.collect() == []


WRITES = st.tuples(st.just("write"), st.integers(0, PAGES - 1), st.integers(0, 255))
STEPS = st.lists(
    st.one_of(
        WRITES,
        WRITES,
        st.tuples(st.just("read"), st.integers(0, PAGES - 1), st.just(0)),
        st.tuples(st.just("give back"), st.integers(0, PAGES - 1), st.just(0)),
        st.tuples(st.just("copy"), st.just(0), st.just(0)),
        st.tuples(st.just("start"), st.just(0), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_steps(watch: WriteWatch, steps: list[tuple[str, int, int]]) -> None:
    """Whoever copies what is reported, and the holes in the end, has the memory as it is; and nothing is reported that
    was not used."""
    memory = MachineMemory(PAGES)
    look = watch.watch(memory)
    copies: dict[int, bytes] = {}
    used: set[int] = set()

    def copy(pages: Iterable[int]) -> None:
        for n in pages:
            copies[n] = os.pread(memory.fd, PAGE_SIZE, (memory.first_mfn + n) * PAGE_SIZE)
            look.took(memory.first_mfn + n, copies[n])

    def start() -> None:
        look.start()
        used.clear()
        copy(range(PAGES))

    def collect() -> None:
        found = numbers(memory, look.collect())
        assert found == sorted(set(found))
        assert used.issuperset(found)
        used.clear()
        copy(found)

    try:
        start()
        for step, n, value in steps:
            if step in ("write", "read", "give back"):
                used.add(n)
            if step == "write":
                put(memory, n, value)
            elif step == "read":
                read(memory, n)
            elif step == "give back":
                page(memory, n)[:] = bytes(PAGE_SIZE)
                punch(memory, n)
            elif step == "copy":
                collect()
            else:
                start()
        collect()
        assert look.collect() == []
        holes = set(range(PAGES)) - set(numbers(memory, there(memory)))
        assert all(n in holes or copies[n] == read(memory, n) for n in range(PAGES))
    finally:
        look.stop()
        memory.close()


# --- what there is to watch with


def test_requests(watch: WriteWatch) -> None:
    if watch.method == "digests":
        assert watch.ioctls == ()
    else:
        assert len(watch.ioctls) == 4
        assert {UFFDIO_REGISTER, PAGEMAP_SCAN} < set(watch.ioctls)


def test_numbers_of_the_headers() -> None:
    assert [UFFDIO_REGISTER, written.UFFDIO_UNREGISTER] == [0xC020AA00, 0x8010AA01]
    assert [written.UFFDIO_WRITEPROTECT, PAGEMAP_SCAN] == [0xC018AA06, 0xC0606610]


def test_closed_twice(watch: WriteWatch) -> None:
    watch.close()
    watch.close()


@pytest.mark.parametrize("missing", ["userfaultfd", "its mode", "pagemap"])
def test_a_host_that_has_not_all_of_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """It leaves nothing open."""
    monkeypatch.delenv(SWITCH, raising=False)
    if missing == "userfaultfd":
        monkeypatch.setattr(written, "_SYS_USERFAULTFD", 100_000)
    elif missing == "its mode":
        monkeypatch.setattr(written, "_WP_ASYNC", 1 << 60)
    else:
        monkeypatch.setattr(written, "PAGEMAP_SCAN", 0xC0606611)
    before = set(Path("/proc/self/fd").iterdir())
    opened = WriteWatch.open()
    assert (opened.method, opened.ioctls) == ("digests", ())
    assert set(Path("/proc/self/fd").iterdir()) == before
