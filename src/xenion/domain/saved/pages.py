"""The pages of a domain's memory on their way into a file and back."""

from array import array
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter

import zstandard

from xenion.domain.memory_file import touched
from xenion.domain.saved.format import COUNT, PIECE_PAGES, SavedFileError, SaveError
from xenion.vmm.memory import PAGE_SIZE, MachineMemory

LEVEL = 1
"""zstd's: the guest waits for it."""
ZERO = bytes(PAGE_SIZE)
PIECE_BYTES = COUNT.size + PIECE_PAGES * (8 + PAGE_SIZE)


def pieces(
    memory: MachineMemory, runs: Sequence[tuple[int, int]], shown: Mapping[int, bytes]
) -> Iterator[tuple[bytes, int]]:
    """What goes into the PAGS sections, and how many pages each holds; `shown` instead of what some are. SaveError."""
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    frames, pages = array("Q"), bytearray()
    for mfn, page in _filled(memory, runs):
        frames.append(mfn)
        pages += shown.get(mfn, page)
        if len(frames) == PIECE_PAGES:
            yield compressor.compress(COUNT.pack(len(frames)) + frames.tobytes() + pages), len(frames)
            frames, pages = array("Q"), bytearray()
    if frames:
        yield compressor.compress(COUNT.pack(len(frames)) + frames.tobytes() + pages), len(frames)


def _filled(memory: MachineMemory, runs: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """Pages with something in them. The hypervisor's are all there: those of a new domain are not zero."""
    for first, count in runs:
        ours, start, stop = first < memory.first_mfn, first * PAGE_SIZE, (first + count) * PAGE_SIZE
        for low, high in [(start, stop)] if ours else _touched(memory.fd, start, stop):
            for at in range(low, high, PAGE_SIZE):
                page = bytes(memory.bytes[at : at + PAGE_SIZE])
                if ours or page != ZERO:
                    yield at // PAGE_SIZE, page


def _touched(fd: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    try:
        yield from touched(fd, start, stop)
    except OSError as error:
        raise SaveError(f"the domain's memory cannot be read ({error.strerror})") from error


def unpack(data: bytes, memory: MachineMemory, allowed: Sequence[tuple[int, int]]) -> int:
    """Puts a section's pages into their frames, which must be among the runs `allowed`, in order of frames; how many.
    SavedFileError."""
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
    frames = memoryview(whole)[COUNT.size : start].cast("Q")
    for number, mfn in enumerate(frames):
        below = bisect_right(allowed, mfn, key=itemgetter(0))
        if not below or mfn >= sum(allowed[below - 1]):
            raise SavedFileError("it is damaged: it has pages that are none of the domain's")
        at = start + number * PAGE_SIZE
        memory.bytes[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE] = memoryview(whole)[at : at + PAGE_SIZE]
    return count
