"""Digests of pages: what they tell apart, and the runs of pages that have changed."""

import itertools
import random
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core

PAGE = 4096
WORDS = PAGE // 8
FRAMES = 24
MASK = (1 << 64) - 1


def digests(core: Core, pages: bytes) -> list[int]:
    count = len(pages) // PAGE
    table = core.ffi.new("uint64_t[]", count + 1)
    table[count] = MASK
    core.lib.core_digest_pages(core.ffi.from_buffer("uint8_t[]", pages), count, table)
    assert table[count] == MASK, "it wrote past the end"
    return list(table)[:count]


def some_page(seed: int) -> bytes:
    return random.Random(seed).randbytes(PAGE)


class Memory:
    """Some frames, and the table of their digests."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.bytes = bytearray(FRAMES * PAGE)
        self.memory: Any = core.ffi.from_buffer("uint8_t[]", self.bytes)
        self.table: Any = core.ffi.new("uint64_t[]", digests(core, bytes(self.bytes)))

    def changed(self, first: int = 0, end: int = FRAMES, room: int = FRAMES) -> list[tuple[int, int]]:
        """Fetched ROOM at a time."""
        at = self.core.ffi.new("uint64_t *", first)
        runs = self.core.ffi.new("uint64_t[]", 2 * room + 1)
        runs[2 * room] = MASK
        found = []
        while at[0] < end:
            count = self.core.lib.core_changed_pages(self.memory, self.table, at, end, runs, room)
            assert count <= room
            found += [(runs[2 * i], runs[2 * i + 1]) for i in range(count)]
        assert at[0] == max(first, end)
        assert runs[2 * room] == MASK, "it wrote past the end"
        return found


# --- one page


def test_no_page(core: Core) -> None:
    assert digests(core, b"") == []


def test_each_page_has_its_own(core: Core) -> None:
    pages = [some_page(1), bytes(PAGE), some_page(2), some_page(1)]
    first, none, second, again = digests(core, b"".join(pages))
    assert first == again
    assert len({0, first, none, second}) == 4


def test_every_bit_counts(core: Core) -> None:
    """Of a page of zeros, and of another one."""
    for page in (bytes(PAGE), some_page(3)):
        number = int.from_bytes(page, "little")
        bits = range(0, 8 * PAGE, 7)
        changed = b"".join((number ^ 1 << bit).to_bytes(PAGE, "little") for bit in bits)
        found = digests(core, page + changed)
        assert len(set(found)) == len(bits) + 1


def test_places_count(core: Core) -> None:
    """The same word anywhere, and the same words in another order."""
    words = [struct.pack("<Q", value) for value in (1, MASK, 0x9E3779B97F4A7C15)]
    pages = [bytes(8 * at) + word + bytes(PAGE - 8 - 8 * at) for word in words for at in range(WORDS)]
    page = some_page(4)
    for a, b in itertools.combinations(range(0, 64, 8), 2):
        moved = bytearray(page)
        moved[a : a + 8], moved[b : b + 8] = page[b : b + 8], page[a : a + 8]
        pages.append(bytes(moved))
    assert len(set(digests(core, b"".join(pages)))) == len(pages)


def test_a_page_at_any_address(core: Core) -> None:
    page = some_page(5)
    for offset in range(9):
        buffer = core.ffi.from_buffer("uint8_t[]", bytes(offset) + page)
        table = core.ffi.new("uint64_t[1]")
        core.lib.core_digest_pages(buffer + offset, 1, table)
        assert list(table) == digests(core, page)


# --- what has changed


def test_changes_are_told_once(core: Core) -> None:
    memory = Memory(core)
    assert memory.changed() == []
    for mfn in (0, 3, 4, 5, FRAMES - 1):
        memory.bytes[mfn * PAGE + mfn] = 1
    assert memory.changed() == [(0, 1), (3, 3), (FRAMES - 1, 1)]
    assert memory.changed() == []
    assert list(memory.table) == digests(core, bytes(memory.bytes))


def test_no_frames(core: Core) -> None:
    memory = Memory(core)
    memory.bytes[:] = b"x" * len(memory.bytes)
    assert memory.changed(7, 7) == []
    assert memory.changed(7, 3) == []
    assert memory.changed(7, 9) == [(7, 2)]


@examples(150)
@given(
    steps=st.lists(
        st.tuples(
            st.sets(st.integers(0, FRAMES - 1)), st.integers(0, FRAMES), st.integers(0, FRAMES), st.integers(1, 4)
        ),
        max_size=6,
    )
)  # fmt: skip
def test_any_changes(core: Core, steps: list[tuple[set[int], int, int, int]]) -> None:
    """Frames change, some are looked at, with little room for what is found."""
    memory, pending = Memory(core), set[int]()
    for round_, (frames, first, end, room) in enumerate(steps, 1):
        for mfn in frames:
            memory.bytes[mfn * PAGE + 8 * mfn] = round_
        pending |= frames
        found = [
            mfn for start, count in memory.changed(first, end, room) for mfn in range(start, start + count)
        ]
        assert found == sorted(mfn for mfn in pending if first <= mfn < end)
        pending.difference_update(found)
