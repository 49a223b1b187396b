"""The domain's pages: which they are, in what order they are in the core file, and how they get there."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from xenion.abi.dumpcore import XC_CORE_INVALID_PFN
from xenion.core import lib
from xenion.domain.dump.output import DumpError, Output
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.memory_file import frames_there
from xenion.vmm.runs import Run

PIECE_PAGES = 256
"""Copied, looked at and written at a time: other threads have their turn in between."""

P2M_PIECE = 1 << 16
PFN_LIMIT = 1 << 40
"""The M2P is as the guest wrote it; no address has room for a larger number."""

_ZERO_PAGE = bytes(PAGE_SIZE)


class UnreadableError(DumpError):
    """The domain's memory is not there any more."""

    def __init__(self, error: OSError) -> None:
        super().__init__(
            f"the domain's memory cannot be read ({error.strerror}): dump a domain before it ends"
        )


@dataclass(frozen=True, slots=True)
class OwnedPages:
    """Both in the file's order, by pfn; last come pages with none, whose pfn is XC_CORE_INVALID_PFN."""

    mfns: "array[int]"
    pfns: "array[int]"

    @property
    def size(self) -> int:
        return len(self.mfns) * PAGE_SIZE


def owned_pages(domain: Domain) -> OwnedPages:
    """As they are now; the guest may give some back, or get others, while its dump is written."""
    memory, owns, state = domain.memory, lib.core_owns_frame, domain.state
    m2p = array("Q", memory.words[memory.m2p_mfn * 512 : memory.m2p_mfn * 512 + memory.nr_frames].tobytes())
    owned = [mfn for mfn in range(memory.first_mfn, memory.nr_frames) if owns(state, mfn)]
    mfns = array("Q", sorted(owned, key=m2p.__getitem__))
    pfns = array("Q", (m2p[mfn] if m2p[mfn] < PFN_LIMIT else XC_CORE_INVALID_PFN for mfn in mfns))
    return OwnedPages(mfns, pfns)


def write_p2m(output: Output, offset: int, pages: OwnedPages) -> None:
    """An array of struct xen_dumpcore_p2m."""
    for start in range(0, len(pages.mfns), P2M_PIECE):
        pfns, mfns = pages.pfns[start : start + P2M_PIECE], pages.mfns[start : start + P2M_PIECE]
        entries = array("Q", bytes(16 * len(pfns)))
        entries[0::2], entries[1::2] = pfns, mfns
        output.write(offset + 16 * start, entries.tobytes())


def write_pages(output: Output, offset: int, pages: OwnedPages, memory: MachineMemory) -> Iterator[int]:
    """Yields, now and then, how many bytes are done. Zeroes are not written: the file has a hole there."""
    for start, stop in _pieces(pages.mfns):
        origin = pages.mfns[start]
        for mfn, count in _there(memory, (origin, stop - start)):
            copy = bytes(memory.bytes[mfn * PAGE_SIZE : (mfn + count) * PAGE_SIZE])
            at = offset + (start + mfn - origin) * PAGE_SIZE
            for first, last in _not_zero(copy):
                output.write(at + first, memoryview(copy)[first:last])
        if start // PIECE_PAGES != stop // PIECE_PAGES or stop == len(pages.mfns):
            yield stop * PAGE_SIZE


def _pieces(mfns: "array[int]") -> Iterator[tuple[int, int]]:
    """(first, end) of what is together in memory, in the order of the file."""
    start = 0
    while start < len(mfns):
        stop, limit = start + 1, min(start + PIECE_PAGES, len(mfns))
        while stop < limit and mfns[stop] == mfns[stop - 1] + 1:
            stop += 1
        yield start, stop
        start = stop


def _there(memory: MachineMemory, run: Run) -> Iterator[Run]:
    try:
        yield from frames_there(memory, *run)
    except OSError as error:
        raise UnreadableError(error) from error


def _not_zero(data: bytes) -> Iterator[tuple[int, int]]:
    """(first, end) of each run of pages with something in them."""
    first = None
    for at in range(0, len(data), PAGE_SIZE):
        if data[at : at + PAGE_SIZE] == _ZERO_PAGE:
            if first is not None:
                yield first, at
            first = None
        elif first is None:
            first = at
    if first is not None:
        yield first, len(data)
