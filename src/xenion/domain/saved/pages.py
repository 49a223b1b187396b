"""The pages of a domain's memory on their way into a file and back."""

from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from operator import itemgetter

import zstandard

from xenion.domain.saved.format import COUNT, PIECE_PAGES, SavedFileError, SaveError
from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.memory_file import frames_there
from xenion.vmm.runs import Run, frames_of

LEVEL = 1
"""zstd's: the guest waits for it."""
ZERO = bytes(PAGE_SIZE)
PIECE_BYTES = COUNT.size + PIECE_PAGES * (8 + PAGE_SIZE)


def pieces(pages: Iterable[tuple[int, bytes]]) -> Iterator[tuple[bytes, Sequence[int]]]:
    """What goes into the PAGS sections, and the frames of each."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    rest = iter(pages)
    while part := list(islice(rest, PIECE_PAGES)):
        frames = array("Q", [mfn for mfn, _ in part])
        yield (
            compressor.compress(b"".join([COUNT.pack(len(part)), frames, *[page for _, page in part]])),
            frames,
        )


def filled(memory: MachineMemory, pages: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Those with something in them. The hypervisor's are all there: those of a new domain are not zero."""
    for mfn, page in pages:
        if mfn < memory.first_mfn or page != ZERO:
            yield mfn, page


def present(memory: MachineMemory, runs: Iterable[Run]) -> Iterator[tuple[int, bytes]]:
    """Pages that the host has memory for, and the hypervisor's. SaveError."""
    for run in runs:
        ours = run[0] < memory.first_mfn
        for mfn in frames_of([run] if ours else _there(memory, run)):
            yield mfn, bytes(memory.page(mfn))


def whole(memory: MachineMemory, runs: Iterable[Run]) -> Iterator[tuple[int, bytes]]:
    """As `present`, and the others as zeros."""
    for first, count in runs:
        at = first
        for mfn, page in present(memory, [(first, count)]):
            yield from ((hole, ZERO) for hole in range(at, mfn))
            yield mfn, page
            at = mfn + 1
        yield from ((hole, ZERO) for hole in range(at, first + count))


def _there(memory: MachineMemory, run: Run) -> Iterator[Run]:
    try:
        yield from frames_there(memory, *run)
    except OSError as error:
        raise SaveError(f"the domain's memory cannot be read ({error.strerror})") from error


def resident(memory: MachineMemory, runs: Iterable[Run]) -> list[Run]:
    """Runs of the frames among these that the host has memory for. SaveError."""
    return [part for run in runs for part in _there(memory, run)]


def unpack(data: bytes, memory: MachineMemory, allowed: Sequence[Run]) -> int:
    """Puts a section's pages into their frames, which must be in the runs `allowed`, in order and apart from each
    other; how many. SavedFileError."""
    try:
        if zstandard.frame_content_size(data) > PIECE_BYTES:
            raise SavedFileError("it is damaged")
        whole = zstandard.ZstdDecompressor().decompress(data, max_output_size=PIECE_BYTES)
    except zstandard.ZstdError as error:
        raise SavedFileError("it is damaged") from error
    count = COUNT.unpack_from(whole)[0] if len(whole) >= COUNT.size else 0
    start = COUNT.size + 8 * count
    if not 0 < count <= PIECE_PAGES or len(whole) != start + count * PAGE_SIZE:
        raise SavedFileError("it is damaged")
    pages = memoryview(whole)
    frames = pages[COUNT.size : start].cast("Q").tolist()
    for number, size in _together(frames):
        first, at = frames[number], start + number * PAGE_SIZE
        below = bisect_right(allowed, first, key=itemgetter(0))
        if not below or first + size > sum(allowed[below - 1]):
            raise SavedFileError("it is damaged: it has pages that are none of the domain's")
        memory.bytes[first * PAGE_SIZE : (first + size) * PAGE_SIZE] = pages[at : at + size * PAGE_SIZE]
    return count


def _together(frames: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(index, count) of frames one behind the other."""
    start = 0
    for index in range(1, len(frames) + 1):
        if index == len(frames) or frames[index] != frames[index - 1] + 1:
            yield start, index - start
            start = index
