"""The parts of a memory file that the host has memory for."""

import mmap
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm import holes
from xenion.core import ffi
from xenion.vmm import memory_file
from xenion.vmm.memory import MachineMemory
from xenion.vmm.memory_file import frames_there, touched
from xenion.vmm.runs import frames_of

PAGE = 4096


def by_file(fd: int, start: int, stop: int) -> list[tuple[int, int]]:
    return list(holes.touched(fd, start, stop))


def parts(fd: int, start: int, stop: int) -> list[tuple[int, int]]:
    size = os.fstat(fd).st_size
    mapping = ffi.from_buffer("uint8_t[]", mmap.mmap(fd, size))
    return list(touched(fd, int(ffi.cast("uintptr_t", mapping)), start, min(stop, size)))


def memory_of(size: int, *pages: int) -> int:
    fd = os.memfd_create("memory")
    os.ftruncate(fd, size * PAGE)
    for page in pages:
        os.pwrite(fd, b"x", page * PAGE)
    return fd


@pytest.fixture
def memory() -> Iterator[int]:
    """Sixteen pages, of which 2, 3 and 9 were written."""
    fd = memory_of(16, 2, 3, 9)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 16, [(2, 4), (9, 10)]),
        (3, 9, [(3, 4)]),
        (4, 9, []),
        (10, 16, []),
        (9, 100, [(9, 10)]),
        (16, 20, []),
        (5, 5, []),
        (2, 3, [(2, 3)]),
    ],
)
def test_parts(memory: int, start: int, stop: int, expected: list[tuple[int, int]]) -> None:
    blocks = os.fstat(memory).st_blocks
    assert parts(memory, start * PAGE, stop * PAGE) == [(a * PAGE, b * PAGE) for a, b in expected]
    assert os.fstat(memory).st_blocks == blocks


@given(pages=st.sets(st.integers(0, 199)), start=st.integers(0, 200), stop=st.integers(0, 200))
def test_both_find_the_same(pages: set[int], start: int, stop: int) -> None:
    fd = memory_of(200, *pages)
    assert parts(fd, start * PAGE, stop * PAGE) == by_file(fd, start * PAGE, stop * PAGE)
    os.close(fd)


@given(written=st.sets(st.integers(0, 39)), first=st.integers(0, 40), count=st.integers(0, 40))
def test_frames_of_a_machine(written: set[int], first: int, count: int) -> None:
    count = min(count, 40 - first)
    with closing(MachineMemory(40)) as memory:
        for number in written:
            memory.page(memory.first_mfn + number)[0] = 1
        found = list(frames_of(frames_there(memory, memory.first_mfn + first, count)))
    assert found == [memory.first_mfn + n for n in sorted(written) if first <= n < first + count]


@pytest.mark.parametrize("count", [15, 16, 17, 300])
def test_long_parts(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(memory_file, "MANY_PAGES", 64)
    fd = memory_of(400, *range(7, 7 + count), 399)
    assert parts(fd, 0, 400 * PAGE) == [(7 * PAGE, (7 + count) * PAGE), (399 * PAGE, 400 * PAGE)]
    os.close(fd)


def test_what_the_host_has_swapped_out(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(memory_file, "_resident", lambda address, size: 0)
    assert parts(memory, 0, 16 * PAGE) == by_file(memory, 0, 16 * PAGE)


def test_what_is_given_back_between_two_looks(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    found = [3 * PAGE, 2 * PAGE]

    def data(fd: int, start: int, stop: int) -> int:
        return 2 * PAGE if start <= 2 * PAGE else stop

    monkeypatch.setattr(memory_file, "_data", data)
    monkeypatch.setattr(memory_file, "_hole", lambda fd, start, stop: found.pop())
    monkeypatch.setattr(memory_file, "_resident", lambda address, size: 0)
    assert parts(memory, 0, 16 * PAGE) == [(2 * PAGE, 3 * PAGE)]


def test_what_is_not_mapped(memory: int) -> None:
    with pytest.raises(OSError, match="mincore"):
        list(touched(memory, 1 << 46, 0, 16 * PAGE))


def test_what_is_no_file() -> None:
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="Illegal seek"):
        list(touched(reader, 0, 0, PAGE))
    os.close(reader)
    os.close(writer)
