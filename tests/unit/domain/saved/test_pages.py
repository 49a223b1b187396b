"""Pages in sections and back; and sections that somebody has had their hands on."""

import os
import struct
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.domain.saved.format import COUNT, MOST_BYTES, PAGES, PIECE_PAGES, SavedFileError, SaveError
from xenion.domain.saved.pages import ZERO, filled, pieces, present, resident, unpack, whole
from xenion.vmm.memory import PAGE_SIZE, MachineMemory

NR_PAGES = 600


@pytest.fixture(scope="module")
def shared() -> Iterator[MachineMemory]:
    memory = MachineMemory(NR_PAGES)
    yield memory
    memory.close()


@pytest.fixture
def memory(shared: MachineMemory) -> MachineMemory:
    empty(shared)
    return shared


@pytest.fixture
def other() -> Iterator[MachineMemory]:
    memory = MachineMemory(NR_PAGES)
    yield memory
    memory.close()


def empty(memory: MachineMemory) -> None:
    """Its own pages are as they were when it was new: the host has nothing for them."""
    first, size = memory.first_mfn * PAGE_SIZE, NR_PAGES * PAGE_SIZE
    os.truncate(memory.fd, first)
    os.truncate(memory.fd, first + size)


def own(memory: MachineMemory) -> list[tuple[int, int]]:
    return [(memory.first_mfn, NR_PAGES)]


def fill(memory: MachineMemory, *mfns: int) -> None:
    for mfn in mfns:
        memory.page(mfn)[mfn % 4000 : mfn % 4000 + 8] = struct.pack("<Q", mfn)


def packed(frames: list[int], pages: bytes | None = None, count: int | None = None) -> bytes:
    data = COUNT.pack(len(frames) if count is None else count) + struct.pack(f"<{len(frames)}Q", *frames)
    return data + (bytes([7]) * PAGE_SIZE * len(frames) if pages is None else pages)


def section(frames: list[int], pages: bytes | None = None, count: int | None = None) -> bytes:
    return compressed(packed(frames, pages, count))


def compressed(data: bytes, *, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=1, write_content_size=sized).compress(data)


def frames_in(data: bytes) -> list[int]:
    whole = zstandard.ZstdDecompressor().decompress(data)
    (count,) = COUNT.unpack_from(whole)
    return list(struct.unpack_from(f"<{count}Q", whole, COUNT.size))


def written(memory: MachineMemory, runs: list[tuple[int, int]]) -> list[int]:
    return [mfn for data, _ in packs(memory, runs) for mfn in frames_in(data)]


def packs(memory: MachineMemory, runs: list[tuple[int, int]]) -> Iterator[tuple[bytes, Sequence[int]]]:
    return pieces(filled(memory, present(memory, runs)))


# --- out


def test_pages_of_zeroes_are_not_written(memory: MachineMemory) -> None:
    first = memory.first_mfn
    fill(memory, first + 3, first + 9)
    memory.page(first + 5)[:] = bytes(PAGE_SIZE)  # touched, but zero
    assert written(memory, own(memory)) == [first + 3, first + 9]


def test_the_hypervisors_pages_are_always_written(memory: MachineMemory) -> None:
    """Those of a new domain have something in them already."""
    runs = [(memory.shared_info_mfn, 1), (memory.grant_mfn, 4)]
    assert written(memory, runs) == [memory.shared_info_mfn, *range(memory.grant_mfn, memory.grant_mfn + 4)]


def test_what_nobody_has_touched_stays_so(memory: MachineMemory) -> None:
    before = os.fstat(memory.fd).st_blocks
    assert written(memory, own(memory)) == []
    assert os.fstat(memory.fd).st_blocks == before


def test_only_what_was_asked_for(memory: MachineMemory) -> None:
    first = memory.first_mfn
    fill(memory, *range(first, first + 20))
    runs = [(first + 15, 2), (first, 1), (first + 5, 3), (first + 19, 1)]
    assert written(memory, runs) == [
        first + 15,
        first + 16,
        first,
        first + 5,
        first + 6,
        first + 7,
        first + 19,
    ]


def test_nothing_at_all(memory: MachineMemory) -> None:
    assert list(packs(memory, [])) == []


def test_holes_as_zeros(memory: MachineMemory) -> None:
    """Between, before and behind pages that there are, and they stay holes."""
    first = memory.first_mfn
    fill(memory, first + 2, first + 4)
    before = os.fstat(memory.fd).st_blocks
    found = dict(whole(memory, [(first, 6), (first + 10, 2)]))
    assert list(found) == [*range(first, first + 6), first + 10, first + 11]
    assert [mfn for mfn, page in found.items() if page != ZERO] == [first + 2, first + 4]
    assert os.fstat(memory.fd).st_blocks == before


@settings(max_examples=30)
@given(
    some=st.sets(st.integers(0, NR_PAGES - 1), max_size=40),
    cut=st.lists(st.tuples(st.integers(0, NR_PAGES - 1), st.integers(1, 300)), max_size=5),
)
def test_any_holes(shared: MachineMemory, some: set[int], cut: list[tuple[int, int]]) -> None:
    empty(shared)
    first = shared.first_mfn
    fill(shared, *(first + pfn for pfn in some))
    runs = [(first + start, min(count, NR_PAGES - start)) for start, count in cut]
    found = list(whole(shared, runs))
    assert [mfn for mfn, _ in found] == [mfn for start, count in runs for mfn in range(start, start + count)]
    assert all((page == ZERO) == (mfn - first not in some) for mfn, page in found)
    there = {mfn for start, count in resident(shared, runs) for mfn in range(start, start + count)}
    assert there == {mfn for mfn, page in found if page != ZERO}


def test_what_is_resident(memory: MachineMemory) -> None:
    """Though it be zero; and of the hypervisor's what there is."""
    first = memory.first_mfn
    memory.page(first + 5)[:] = ZERO
    fill(memory, first + 6, first + 9)
    assert resident(memory, own(memory)) == [(first + 5, 2), (first + 9, 1)]
    assert resident(memory, [(first + 6, 1), (first + 8, 100)]) == [(first + 6, 1), (first + 9, 1)]
    assert resident(memory, []) == []


@pytest.mark.parametrize("count", [1, PIECE_PAGES - 1, PIECE_PAGES, PIECE_PAGES + 1, 2 * PIECE_PAGES])
def test_many_pages_are_several_pieces(memory: MachineMemory, count: int) -> None:
    fill(memory, *range(memory.first_mfn, memory.first_mfn + count))
    found = [len(frames) for _, frames in packs(memory, own(memory))]
    full, rest = divmod(count, PIECE_PAGES)
    assert found == [PIECE_PAGES] * full + [rest] * (rest > 0)


def test_pages_that_cannot_be_made_smaller_fit(memory: MachineMemory, other: MachineMemory) -> None:
    first = memory.first_mfn
    memory.bytes[first * PAGE_SIZE : (first + PIECE_PAGES) * PAGE_SIZE] = os.urandom(PIECE_PAGES * PAGE_SIZE)
    ((data, frames),) = packs(memory, own(memory))
    assert (len(frames), len(data) <= MOST_BYTES[PAGES]) == (PIECE_PAGES, True)
    assert unpack(data, other, own(other)) == PIECE_PAGES
    assert bytes(other.bytes[first * PAGE_SIZE :]) == bytes(memory.bytes[first * PAGE_SIZE :])


def test_memory_that_cannot_be_read(memory: MachineMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "fd", -1)
    with pytest.raises(SaveError, match=r"^the domain's memory cannot be read \(Bad file descriptor\)$"):
        list(packs(memory, own(memory)))
    with pytest.raises(SaveError, match="cannot be read"):
        resident(memory, own(memory))
    monkeypatch.undo()


@settings(max_examples=30)
@given(
    some=st.sets(st.integers(0, NR_PAGES - 1), max_size=40),
    zeroed=st.sets(st.integers(0, NR_PAGES - 1), max_size=10),
    cut=st.lists(st.tuples(st.integers(0, NR_PAGES - 1), st.integers(1, 300)), max_size=5),
)
def test_any_pages(
    shared: MachineMemory, some: set[int], zeroed: set[int], cut: list[tuple[int, int]]
) -> None:
    first = shared.first_mfn
    empty(shared)
    for pfn in zeroed:
        shared.page(first + pfn)[:] = bytes(PAGE_SIZE)
    fill(shared, *(first + pfn for pfn in some))
    runs = [(first + start, min(count, NR_PAGES - start)) for start, count in cut]
    wanted = {mfn for start, count in runs for mfn in range(start, start + count)}
    assert set(written(shared, runs)) == wanted & {first + pfn for pfn in some}


# --- in


def test_they_come_where_they_were(memory: MachineMemory) -> None:
    first = memory.first_mfn
    pages = bytes([1]) * PAGE_SIZE + bytes([2]) * PAGE_SIZE
    assert unpack(section([first + 7, first], pages), memory, own(memory)) == 2
    assert bytes(memory.page(first + 7)) == pages[:PAGE_SIZE]
    assert bytes(memory.page(first)) == pages[PAGE_SIZE:]
    assert bytes(memory.page(first + 1)) == bytes(PAGE_SIZE)


def untouched(memory: MachineMemory, data: bytes, why: str = "it is damaged") -> None:
    before = bytes(memory.bytes)
    with pytest.raises(SavedFileError, match=f"^{why}"):
        unpack(data, memory, own(memory))
    assert bytes(memory.bytes) == before


@pytest.mark.parametrize(
    "mfn", [0, 1, -1, -2, NR_PAGES, 1 << 31, 1 << 40, (1 << 52) - 1, (1 << 63) - 1, (1 << 64) - 700]
)
def test_pages_that_are_none_of_the_domains(memory: MachineMemory, mfn: int) -> None:
    at = memory.first_mfn + mfn if mfn < 0 or mfn >= NR_PAGES else mfn
    untouched(memory, section([at]), "it is damaged: it has pages that are none of the domain's$")


@pytest.mark.parametrize("runs", [[], [(-1, 0)], [(100, 0)], [(500, 5), (510, 5)]])
def test_frames_between_those_that_are_allowed(memory: MachineMemory, runs: list[tuple[int, int]]) -> None:
    allowed = [(memory.first_mfn + first, count) for first, count in runs]
    with pytest.raises(SavedFileError, match="none of the domain's"):
        unpack(section([memory.first_mfn + 507]), memory, allowed)


@pytest.mark.parametrize("count", [0, 1, 3, PIECE_PAGES, PIECE_PAGES + 1, 1 << 31, (1 << 32) - 1])
def test_a_wrong_count(memory: MachineMemory, count: int) -> None:
    first = memory.first_mfn
    untouched(memory, section([first, first + 1], count=count))


def test_more_pages_than_there_may_be(memory: MachineMemory) -> None:
    first = memory.first_mfn
    untouched(memory, section(list(range(first, first + PIECE_PAGES + 1))))


@pytest.mark.parametrize("size", [0, 1, PAGE_SIZE - 1, PAGE_SIZE + 1, 2 * PAGE_SIZE])
def test_pages_that_are_cut_off_or_too_many(memory: MachineMemory, size: int) -> None:
    untouched(memory, section([memory.first_mfn], bytes(size)))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 11])
def test_hardly_anything(memory: MachineMemory, size: int) -> None:
    untouched(memory, compressed((b"\1" + bytes(10))[:size]))


@pytest.mark.parametrize("data", [b"", b"\0", b"(\xb5/\xfd", bytes(100), b"\x50\x2a\x4d\x18\0\0\0\0"])
def test_what_zstd_does_not_know(memory: MachineMemory, data: bytes) -> None:
    untouched(memory, data)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("extra", [1, 16 << 20, 64 << 20])
def test_a_bomb_takes_no_memory(memory: MachineMemory, extra: int, *, sized: bool) -> None:
    """64 MiB are two kilobytes of it."""
    bomb = compressed(
        packed(list(range(memory.first_mfn, memory.first_mfn + PIECE_PAGES))) + bytes(extra), sized=sized
    )
    assert len(bomb) < MOST_BYTES[PAGES]
    tracemalloc.start()
    try:
        with pytest.raises(SavedFileError, match=r"^it is damaged$"):
            unpack(bomb, memory, own(memory))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("size", [1 << 24, 1 << 40, 1 << 62, (1 << 64) - 3])
def test_a_frame_that_says_to_be_large(memory: MachineMemory, size: int) -> None:
    """And has nothing in it: its header is a magic number, a descriptor and this size, then comes an empty block."""
    untouched(memory, b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", size) + b"\x01\0\0")


@settings(max_examples=100)
@given(st.binary(max_size=100))
def test_any_bytes(shared: MachineMemory, data: bytes) -> None:
    for candidate in (data, compressed(data)):
        with pytest.raises(SavedFileError):
            unpack(candidate, shared, own(shared))


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), min_size=1, max_size=4))
def test_any_changes(shared: MachineMemory, changes: list[tuple[int, int]]) -> None:
    """Of what zstd reads; it may be another domain's memory by then, but never anybody else's."""
    first = shared.first_mfn
    hypervisors = bytes(shared.bytes[: first * PAGE_SIZE])
    data = bytearray(section([first, first + 1], bytes(range(256)) * 32))
    for at, value in changes:
        data[at % len(data)] = value
    with suppress(SavedFileError):
        assert 0 < unpack(bytes(data), shared, own(shared)) <= PIECE_PAGES
    assert bytes(shared.bytes[: first * PAGE_SIZE]) == hypervisors
