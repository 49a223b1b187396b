"""Where a guest kernel's virtual memory is in the core file: a walk through its page tables.

The tables are the guest's, and it may be changing them: each is copied once, every frame number is looked up
before it is followed, and the work has a limit, since tables that share tables describe memory without end.
"""

import heapq
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from xenion.vmm.memory import PAGE_SIZE, MachineMemory

MAX_RANGES = 60_000
"""Program headers are counted in 16 bits, the last values of which mean something else."""

WORK, WORK_PER_FRAME = 1 << 20, 4
"""Entries looked at: each frame mapped four times, and as many again for a small guest's scattered areas."""

MAX_ALIASES = 8
"""Mappings of one page. Linux maps a page of "no frame" all over its p2m, a quarter of a million times."""

KERNEL_SLOTS = range(272, 512)
"""Of the L4: the upper half less the hypervisor's own part."""

_SIGN = 0xFFFF << 48
_PRESENT, _LARGE = 1, 0x80
_FRAME = (1 << 52) - PAGE_SIZE
_TABLE = struct.Struct("<512Q")
_L4_SHIFT, _L2_SHIFT = 39, 21


@dataclass(frozen=True, slots=True)
class Range:
    """`pages` pages from the virtual `address` on are in the file from page `file_page` on."""

    address: int
    file_page: int
    pages: int


@dataclass(frozen=True, slots=True)
class KernelMemory:
    """`ranges` by address. `repeats`: mappings beyond the first MAX_ALIASES of their page. `left_out` ranges
    of `left_out_pages` pages, the smallest, had no room. Not `complete`: the walk came to its limit."""

    ranges: Sequence[Range]
    repeats: int
    left_out: int
    left_out_pages: int
    complete: bool


def kernel_memory(memory: MachineMemory, root: int, file_pages: Sequence[int]) -> KernelMemory:
    """What the L4 table in frame `root` maps. `file_pages`: each frame's page in the file, 0 for none."""
    walk = _Walk(memory, file_pages)
    largest: list[tuple[int, int, int]] = []
    found = found_pages = 0
    for address, file_page, pages in walk.runs(root):
        found, found_pages = found + 1, found_pages + pages
        if len(largest) < MAX_RANGES:
            heapq.heappush(largest, (pages, address, file_page))
        else:
            heapq.heappushpop(largest, (pages, address, file_page))
    ranges = sorted(
        (Range(address, page, pages) for pages, address, page in largest), key=lambda r: r.address
    )
    kept = sum(r.pages for r in ranges)
    return KernelMemory(ranges, walk.repeats, found - len(ranges), found_pages - kept, walk.left >= 0)


class _Walk:
    def __init__(self, memory: MachineMemory, file_pages: Sequence[int]) -> None:
        self._memory = memory
        self._file_pages = file_pages
        self._aliases = bytearray(len(file_pages))
        self.left = WORK + WORK_PER_FRAME * len(file_pages)
        self.repeats = 0

    def _entries(self, frame: int) -> Sequence[int]:
        """A table's copy; nothing if it is none of the domain's frames, or the work has come to its limit."""
        if frame >= len(self._file_pages) or not self._file_pages[frame]:
            return ()
        self.left -= 512
        return _TABLE.unpack(bytes(self._memory.page(frame))) if self.left >= 0 else ()

    def _lowest_tables(self, frame: int, address: int, shift: int, slots: range) -> Iterator[tuple[int, int]]:
        """(address, frame) of each L1 table below. Large pages are skipped: Xen lets a PV guest have none."""
        entries = self._entries(frame)
        for slot in slots if entries else ():
            entry = entries[slot]
            if entry & (_PRESENT | _LARGE) != _PRESENT:
                continue
            below, inner = address + (slot << shift), (entry & _FRAME) // PAGE_SIZE
            if shift == _L2_SHIFT:
                yield below, inner
            else:
                yield from self._lowest_tables(inner, below, shift - 9, range(512))

    def _pages(self, root: int) -> Iterator[tuple[int, int]]:
        """(address, page in the file) of all that is mapped and in the file, less the repeats."""
        file_pages, frames, aliases = self._file_pages, len(self._file_pages), self._aliases
        for start, table in self._lowest_tables(root, _SIGN, _L4_SHIFT, KERNEL_SLOTS):
            for slot, entry in enumerate(self._entries(table)):
                frame = (entry & _FRAME) // PAGE_SIZE
                if not entry & _PRESENT or frame >= frames or not file_pages[frame]:
                    continue
                if aliases[frame] < MAX_ALIASES:
                    aliases[frame] += 1
                    yield start + slot * PAGE_SIZE, file_pages[frame]
                else:
                    self.repeats += 1

    def runs(self, root: int) -> Iterator[tuple[int, int, int]]:
        """(address, page in the file, pages): together in both."""
        start = first = pages = 0
        for address, page in self._pages(root):
            if page == first + pages and address == start + pages * PAGE_SIZE:
                pages += 1
                continue
            if pages:
                yield start, first, pages
            start, first, pages = address, page, 1
        if pages:
            yield start, first, pages
