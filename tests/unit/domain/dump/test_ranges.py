"""The walk through a guest kernel's page tables, sound ones and any others."""

from array import array
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.domain.dump.guest import small_domain
from tests.unit.vmm.kernel import PAGES
from xenion.domain.dump import ranges
from xenion.domain.dump.ranges import MAX_ALIASES, KernelMemory, Range, kernel_memory
from xenion.vmm.memory import MachineMemory

PRESENT, LARGE = 1, 0x80
DIRECT_MAP = 0xFFFF888000000000
L4, L3, L2, L1 = range(4)
DATA = 16
"""The first page that is no table in these tests; all are frames from the start of the domain's."""


class Tables:
    def __init__(self, memory: MachineMemory) -> None:
        self.memory = memory
        self.file_pages = array("Q", bytes(8 * memory.nr_frames))
        for page in range(PAGES):
            self.file_pages[memory.first_mfn + page] = self.file_page(page)

    @staticmethod
    def file_page(page: int) -> int:
        return 3 + page

    def point(self, table: int, slot: int, page: int, flags: int = PRESENT) -> None:
        self.put(table, slot, self.memory.first_mfn + page << 12 | flags)

    def put(self, table: int, slot: int, entry: int) -> None:
        self.memory.words[(self.memory.first_mfn + table) * 512 + slot] = entry

    def chain(self, address: int) -> None:
        """L4 to L1, for the 2 MiB around an address."""
        for table, shift in ((L4, 39), (L3, 30), (L2, 21)):
            self.point(table, address >> shift & 511, table + 1)

    def walk(self) -> KernelMemory:
        return kernel_memory(self.memory, self.memory.first_mfn + L4, self.file_pages)


@pytest.fixture
def tables() -> Iterator[Tables]:
    with small_domain() as domain:
        yield Tables(domain.memory)


def test_a_run_is_one_range(tables: Tables) -> None:
    tables.chain(DIRECT_MAP)
    for slot in range(10):
        tables.point(L1, slot, DATA + slot)
    expected = [Range(DIRECT_MAP, tables.file_page(DATA), 10)]
    assert tables.walk() == KernelMemory(expected, repeats=0, left_out=0, left_out_pages=0, complete=True)


def test_a_run_goes_on_in_the_next_table(tables: Tables) -> None:
    tables.chain(DIRECT_MAP)
    tables.point(L2, 1, 4)
    tables.point(L1, 511, DATA)
    tables.point(4, 0, DATA + 1)
    assert list(tables.walk().ranges) == [Range(DIRECT_MAP + (511 << 12), tables.file_page(DATA), 2)]


@pytest.mark.parametrize("second", [(1, DATA + 2), (2, DATA + 1), (1, DATA)])
def test_a_gap_in_either_ends_a_range(tables: Tables, second: tuple[int, int]) -> None:
    tables.chain(DIRECT_MAP)
    tables.point(L1, 0, DATA)
    slot, page = second
    tables.point(L1, slot, page)
    assert list(tables.walk().ranges) == [
        Range(DIRECT_MAP, tables.file_page(DATA), 1),
        Range(DIRECT_MAP + (slot << 12), tables.file_page(page), 1),
    ]


@pytest.mark.parametrize("slot", [0, 255, 256, 271])
def test_only_the_kernels_part_is_walked(tables: Tables, slot: int) -> None:
    tables.chain(slot << 39)
    tables.point(L1, 0, DATA)
    assert not tables.walk().ranges


def test_the_highest_page_is_walked(tables: Tables) -> None:
    tables.chain(0xFFFFFFFFFFFFF000)
    tables.point(L1, 511, DATA)
    assert list(tables.walk().ranges) == [Range(0xFFFFFFFFFFFFF000, tables.file_page(DATA), 1)]


def test_what_is_not_there_is_not_followed(tables: Tables) -> None:
    tables.chain(DIRECT_MAP)
    nr_frames, own = tables.memory.nr_frames, tables.memory.first_mfn
    entries = [
        own + DATA << 12,  # not present
        nr_frames << 12 | PRESENT,
        (1 << 52) - 4096 | PRESENT,
        (1 << 64) - 1,
        tables.memory.m2p_mfn << 12 | PRESENT,  # the hypervisor's
    ]
    for slot, entry in enumerate(entries):
        tables.put(L1, slot, entry)
        tables.put(L2, 10 + slot, entry)
        tables.put(L4, 300 + slot, entry)
    assert not tables.walk().ranges


@pytest.mark.parametrize("table", [L2, L3])
def test_large_pages_are_skipped(tables: Tables, table: int) -> None:
    tables.chain(DIRECT_MAP)
    tables.point(L1, 0, DATA)
    tables.point(table, 0, table + 1, PRESENT | LARGE)
    assert not tables.walk().ranges


def test_a_page_that_is_everywhere_is_seen_a_few_times(tables: Tables) -> None:
    tables.chain(DIRECT_MAP)
    for slot in range(100):
        tables.point(L1, slot, DATA)
    found = tables.walk()
    assert len(found.ranges) == MAX_ALIASES
    assert found.repeats == 100 - MAX_ALIASES


def test_the_smallest_ranges_have_no_room(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_RANGES", 2)
    tables.chain(DIRECT_MAP)
    slot = 0
    for pages in (1, 3, 2, 1):
        for page in range(pages):
            tables.point(L1, slot + page, DATA + page)
        slot += pages + 1
    found = tables.walk()
    assert [r.pages for r in found.ranges] == [3, 2]
    assert (found.left_out, found.left_out_pages, found.complete) == (2, 2, True)


def test_tables_that_share_tables_come_to_an_end(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """All slots of a level lead to one table: 240 * 512**3 pages, if anybody counted."""
    monkeypatch.setattr(ranges, "WORK", 1 << 16)
    for slot in range(272, 512):
        tables.point(L4, slot, L3)
    for slot in range(512):
        tables.point(L3, slot, L2)
        tables.point(L2, slot, L1)
        tables.point(L1, slot, DATA)
    found = tables.walk()
    assert not found.complete
    assert len(found.ranges) == MAX_ALIASES


def test_a_table_that_is_its_own(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "WORK", 1 << 16)
    for slot in range(512):
        tables.point(L4, slot, L4)
    assert not tables.walk().complete


@pytest.mark.parametrize("root", [0, 1 << 40, (1 << 52) - 1])
def test_a_root_that_is_no_frame_of_the_domains(tables: Tables, root: int) -> None:
    assert not kernel_memory(tables.memory, root, tables.file_pages).ranges


entries = st.one_of(
    st.integers(0, (1 << 64) - 1),
    st.builds(lambda page, flags: page << 12 | flags, st.integers(0, 200), st.integers(0, 0xFFF)),
    st.builds(lambda page: page << 12 | PRESENT, st.integers(0, 200)),
)


@settings(max_examples=60)
@given(
    garbage=st.lists(st.tuples(st.integers(0, PAGES - 1), st.integers(0, 511), entries), max_size=300),
    root=st.integers(0, PAGES - 1),
)
def test_garbage_leads_nowhere_else(garbage: list[tuple[int, int, int]], root: int) -> None:
    with small_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "WORK", 1 << 16)
        tables = Tables(domain.memory)
        for slot in range(272, 512):
            tables.point(root, slot, slot % PAGES)
        for table, slot, entry in garbage:
            tables.put(table, slot, entry)
        found = kernel_memory(domain.memory, domain.memory.first_mfn + root, tables.file_pages)
    end = 0
    for one in found.ranges:
        assert end <= one.address
        assert 0xFFFF880000000000 <= one.address < 1 << 64
        assert tables.file_page(0) <= one.file_page
        assert one.file_page + one.pages <= tables.file_page(PAGES)
        end = one.address + one.pages * 4096
