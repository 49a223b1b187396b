"""The initial page tables: which tables a mapping needs, and their contents.

Entries are those of a PV kernel's own mappings: no user bit, which the core adds where a processor needs it,
and never the global bit, which Xen keeps for itself.
"""

from array import array
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xenion.builder.boot import GuestSpace

PAGE_SIZE = 4096
ENTRIES = 512

PAGE_PRESENT = 1 << 0
PAGE_RW = 1 << 1
PAGE_ACCESSED = 1 << 5
PAGE_DIRTY = 1 << 6
PAGE_NX = 1 << 63

TABLE = PAGE_PRESENT | PAGE_RW | PAGE_ACCESSED | PAGE_DIRTY
"""Flags of an entry that points to a table."""
CODE = TABLE
DATA = TABLE | PAGE_NX
READ_ONLY = PAGE_PRESENT | PAGE_ACCESSED | PAGE_NX

_LEVELS = 4
_VADDR_MASK = (1 << 48) - 1

Table = tuple[int, int]
"""A table of level 1 (leaves) to 4 (the root), and which one of its level, counted from virtual address 0."""


@dataclass(frozen=True)
class Mapping:
    """Consecutive pages of the domain at a virtual address, and the pages of the tables that it adds."""

    vaddr: int
    pages: range
    tables: range


def needed_tables(vaddr: int, nr_pages: int, present: Collection[Table]) -> list[Table]:
    """The tables that map ``nr_pages`` from ``vaddr``, the root first, without those already present."""
    first = (vaddr & _VADDR_MASK) // PAGE_SIZE
    last = first + nr_pages - 1
    return [
        (level, index)
        for level in range(_LEVELS, 0, -1)
        for index in range(first >> 9 * level, (last >> 9 * level) + 1)
        if (level, index) not in present
    ]


def leaves(mfns: Sequence[int], flags: int) -> "array[int]":
    """Page-table entries for frames. The initial mapping is short enough for a loop, unlike the p2m list."""
    return array("Q", [mfn << 12 | flags for mfn in mfns])


def write_tables(space: "GuestSpace", mappings: Sequence[tuple[Mapping, "array[int]"]]) -> None:
    """Write the tables of mappings that share a root; each comes with its leaf entries, one a page."""
    pfns = _assign([mapping for mapping, _ in mappings])
    contents = {table: array("Q", bytes(PAGE_SIZE)) for table in pfns}
    for (level, index), pfn in pfns.items():
        if level < _LEVELS:
            (mfn,) = space.mfn_range(pfn, 1)
            contents[level + 1, index >> 9][index % ENTRIES] = mfn << 12 | TABLE
    for mapping, entries in mappings:
        for index, slot, part in _by_table(mapping.vaddr, entries):
            contents[1, index][slot : slot + len(part)] = part
    for table, pfn in pfns.items():
        space.write_words(pfn * PAGE_SIZE, contents[table])


def _assign(mappings: Sequence[Mapping]) -> dict[Table, int]:
    pfns: dict[Table, int] = {}
    for mapping in mappings:
        tables = needed_tables(mapping.vaddr, len(mapping.pages), pfns)
        pfns.update(zip(tables, mapping.tables, strict=True))
    return pfns


def _by_table(vaddr: int, entries: "array[int]") -> Iterator[tuple[int, int, "array[int]"]]:
    """Cut leaf entries at the borders of their tables: a table's index, the first slot, the entries."""
    page = (vaddr & _VADDR_MASK) // PAGE_SIZE
    done = 0
    while done < len(entries):
        index, slot = divmod(page + done, ENTRIES)
        part = entries[done : done + ENTRIES - slot]
        yield index, slot, part
        done += len(part)
