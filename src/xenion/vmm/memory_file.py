"""A domain's memory as the host keeps it: which parts of it there are."""

import ctypes
import errno
import os
from collections.abc import Iterator

from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.runs import Run

FEW_PAGES, MANY_PAGES = 16, 1 << 14
"""Looked at by one call of mincore: where most of them are holes, and where few are."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def frames_there(memory: MachineMemory, first: int, count: int) -> Iterator[Run]:
    """Of these frames those that the host has memory for, in order; two runs may be next to each other. OSError."""
    for low, high in touched(memory.fd, memory.mapped_at, first * PAGE_SIZE, (first + count) * PAGE_SIZE):
        yield low // PAGE_SIZE, (high - low) // PAGE_SIZE


def touched(fd: int, address: int, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The parts that the host has memory for, of a file that is mapped at `address`; one may come in several pieces.
    Reading the others would make the host find some. OSError.

    To ask the file for the end of a part takes the host longer the farther away the next hole is, be it beyond `stop`.
    """
    while (start := _data(fd, start, stop)) < stop:
        end = start + _resident(address + start, stop - start)
        if end == start:  # swapped out, or given back meanwhile
            end = _hole(fd, start, stop)
        if end > start:
            yield start, end
        start = end


def _data(fd: int, start: int, stop: int) -> int:
    """Where the first part begins, or something not below `stop`."""
    if start >= stop:
        return stop
    try:
        return os.lseek(fd, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nothing from here to the end
            return stop
        raise


def _hole(fd: int, start: int, stop: int) -> int:
    return min(os.lseek(fd, start, os.SEEK_HOLE), stop)


def _resident(address: int, size: int) -> int:
    """How many bytes from there on are in the host's memory."""
    done, most = 0, FEW_PAGES * PAGE_SIZE
    while done < size:
        piece = min(most, size - done)
        there = bytearray(piece // PAGE_SIZE)
        if _libc.mincore(address + done, piece, (ctypes.c_char * len(there)).from_buffer(there)):
            raise OSError(ctypes.get_errno(), "mincore")
        missing = there.find(0)
        if missing >= 0:
            return done + missing * PAGE_SIZE
        done, most = done + piece, min(2 * most, MANY_PAGES * PAGE_SIZE)
    return size
