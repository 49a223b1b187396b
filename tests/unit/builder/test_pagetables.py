from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.builder.pagetables import CODE, DATA, READ_ONLY, Mapping, leaves, needed_tables, write_tables

if TYPE_CHECKING:
    from tests.unit.builder.conftest import FakeSpace

USER, GLOBAL = 1 << 2, 1 << 8


def test_flags_are_those_of_a_kernel_mapping() -> None:
    for flags in (CODE, DATA, READ_ONLY):
        assert not flags & (USER | GLOBAL)
    assert (CODE, DATA, READ_ONLY) == (0x63, 0x63 | 1 << 63, 0x21 | 1 << 63)


def test_tables_of_a_kernel_at_the_top() -> None:
    tables = needed_tables(0xFFFFFFFF80000000, 1024, ())
    top = 0xFFFFFFFF80000000 & (1 << 48) - 1
    assert tables == [(4, 0), (3, top >> 39), (2, top >> 30), (1, top >> 21), (1, (top >> 21) + 1)]


def test_tables_that_exist_are_not_made_again() -> None:
    present = needed_tables(0x40000000, 512, ())
    assert needed_tables(0x40000000, 512, present) == []
    assert needed_tables(0x40200000, 512, present) == [(1, 0x201)]


@given(
    page=st.integers(0, (1 << 36) - 3000),
    gap=st.integers(1, 600),
    first=st.integers(1, 1100),
    second=st.integers(1, 300),
)
def test_a_walk_finds_each_page_of_two_mappings_and_no_other(
    fake_space: "type[FakeSpace]", page: int, gap: int, first: int, second: int
) -> None:
    """The second lies so near that it shares tables of any level with the first."""
    space = fake_space(4096)
    second_page = page + first + gap if page + first + gap + second < 1 << 36 else page - gap - second
    one = needed_tables(page << 12, first, ())
    two = needed_tables(second_page << 12, second, one)
    mappings = [
        Mapping(page << 12, range(first), range(3000, 3000 + len(one))),
        Mapping(second_page << 12, range(1800, 1800 + second), range(3500, 3500 + len(two))),
    ]
    write_tables(
        space,
        [
            (m, leaves(space.mfn_range(m.pages.start, len(m.pages)), flags))
            for m, flags in zip(mappings, (CODE, DATA), strict=True)
        ],
    )
    expected = {}
    for mapping, flags in zip(mappings, (CODE, DATA), strict=True):
        for n, pfn in enumerate(mapping.pages):
            vaddr = mapping.vaddr + n * 4096
            expected[vaddr | (0xFFFF << 48 if vaddr >> 47 else 0)] = space.mfn_range(pfn, 1)[0] << 12 | flags
    assert space.mapped(3000) == expected


def test_a_wrong_number_of_table_pages_is_our_bug(fake_space: "type[FakeSpace]") -> None:
    space = fake_space(16)
    with pytest.raises(ValueError, match="zip"):
        write_tables(space, [(Mapping(0, range(1), range(8, 9)), leaves(space.mfn_range(0, 1), DATA))])
