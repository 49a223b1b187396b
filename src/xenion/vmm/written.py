"""Which pages of a domain's memory have been written since somebody looked last: by the guest, by the core, by back
ends, by the host when it reads into them. All of them use this process's one mapping.

There are two ways to know. Neither makes the host find memory for a page that has none.

- Write protection, by the host's MMU. userfaultfd protects pages asynchronously: the first write to one takes its
  protection away, and nobody has to serve a fault. PAGEMAP_SCAN finds those without and protects them again, in one
  step. It takes Linux 6.7, and no rights.
- Digests, elsewhere, and with XENION_WRITE_WATCH=digests in the environment: 64 bits a page (core/src/digests.c), made
  anew at each look. A page that was written but is the same again is not reported, so `took` has to hear what was
  copied: that may be what the page was only for a moment.

What is reported is to be copied as it is then, a page that has become a hole meanwhile as zeros. A page whose memory is
given back to the host (MADV_REMOVE) need not be reported: who copies looks for holes itself, when nobody writes any
more. One that is only read after that is no hole then, and is not reported either, for a protection outlives its page;
unless whoever gave it back had written zeros into it first.
"""

import ctypes
import fcntl
import mmap
import os
import struct
from array import array
from collections.abc import Iterator
from typing import Any, Protocol

from xenion.core import ffi, lib
from xenion.vmm.memory import PAGE_SIZE, MachineMemory
from xenion.vmm.memory_file import frames_there
from xenion.vmm.runs import Run, joined

SWITCH = "XENION_WRITE_WATCH"
ROOM = 4096
"""Runs that one look at the memory finds at most; there may be several."""

_SYS_USERFAULTFD = 323
_UFFD_USER_MODE_ONLY = 1
_UFFD_API = 0xAA
_WP_HUGETLBFS_SHMEM, _WP_UNPOPULATED, _WP_ASYNC = 1 << 12, 1 << 13, 1 << 15
_MODE_REGISTER_WP, _MODE_WP = 2, 1
_PM_SCAN_WP_MATCHING, _PM_SCAN_CHECK_WPASYNC = 1, 2
_PAGE_IS_WRITTEN = 2
_IOC_READ, _IOC_WRITE = 2, 1

_API = struct.Struct("3Q")
"""userfaultfd.h: `struct uffdio_api`; below, `struct uffdio_register`, `uffdio_range` and `uffdio_writeprotect`."""
_REGISTER, _RANGE, _WRITEPROTECT = struct.Struct("4Q"), struct.Struct("2Q"), struct.Struct("3Q")
_SCAN = struct.Struct("12Q")
"""linux/fs.h: `struct pm_scan_arg`. What it finds are `struct page_region`, three words each."""
_REGION_WORDS = 3


def _request(direction: int, kind: int, number: int, argument: struct.Struct) -> int:
    """asm-generic/ioctl.h: `_IOC`."""
    return direction << 30 | argument.size << 16 | kind << 8 | number


UFFDIO_API = _request(_IOC_READ | _IOC_WRITE, _UFFD_API, 0x3F, _API)
UFFDIO_REGISTER = _request(_IOC_READ | _IOC_WRITE, _UFFD_API, 0, _REGISTER)
UFFDIO_UNREGISTER = _request(_IOC_READ, _UFFD_API, 1, _RANGE)
UFFDIO_WRITEPROTECT = _request(_IOC_READ | _IOC_WRITE, _UFFD_API, 6, _WRITEPROTECT)
PAGEMAP_SCAN = _request(_IOC_READ | _IOC_WRITE, ord("f"), 16, _SCAN)

Pages = bytes | bytearray | memoryview


class Written(Protocol):
    """What becomes of one domain's memory. One thread at a time, any."""

    def start(self) -> None:
        """From now on: nothing has been written. Again is fine. OSError."""

    def collect(self) -> list[Run]:
        """What has been written since the start or the last `collect`, in order and apart from each other; what is
        written meanwhile is reported now or next time. OSError: what it was is lost, start again."""

    def took(self, first: int, pages: Pages) -> None:
        """Frames were copied so: those that are otherwise at the next `collect` have been written."""

    def stop(self) -> None:
        """The memory is as any other from now on. Again is fine. OSError."""


class WriteWatch:
    """What the host has for it, opened before the process gives up its rights."""

    def __init__(self, fds: tuple[int, int] | None) -> None:
        """userfaultfd and pagemap; None: digests."""
        self._fds = fds

    @classmethod
    def open(cls) -> "WriteWatch":
        """Never fails."""
        if os.environ.get(SWITCH) == "digests":
            return cls(None)
        opened: list[int] = []
        try:
            opened.append(_userfaultfd())
            features = _WP_ASYNC | _WP_UNPOPULATED | _WP_HUGETLBFS_SHMEM
            fcntl.ioctl(opened[0], UFFDIO_API, _API.pack(_UFFD_API, features, 0))
            opened.append(os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC))
            _scan(opened[1], 0, 0, array("Q"))
        except OSError:
            for fd in opened:
                os.close(fd)
            return cls(None)
        return cls((opened[0], opened[1]))

    @property
    def method(self) -> str:
        return "write protection" if self._fds else "digests"

    @property
    def ioctls(self) -> tuple[int, ...]:
        """The requests that it will make."""
        if not self._fds:
            return ()
        return UFFDIO_REGISTER, UFFDIO_UNREGISTER, UFFDIO_WRITEPROTECT, PAGEMAP_SCAN

    def watch(self, memory: MachineMemory) -> Written:
        return _Protected(memory, *self._fds) if self._fds else _Digested(memory)

    def close(self) -> None:
        """When all that it watched has been stopped. Again is fine."""
        for fd in self._fds or ():
            os.close(fd)
        self._fds = None


def _userfaultfd() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_SYS_USERFAULTFD, os.O_CLOEXEC | _UFFD_USER_MODE_ONLY))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return fd


def _scan(pagemap: int, start: int, end: int, found: "array[int]") -> tuple[int, int]:
    """Written pages between two addresses, protected again: how many regions, and how far it came."""
    address, words = found.buffer_info()
    flags, room = _PM_SCAN_WP_MATCHING | _PM_SCAN_CHECK_WPASYNC, words // _REGION_WORDS
    mask = _PAGE_IS_WRITTEN
    argument = bytearray(_SCAN.pack(_SCAN.size, flags, start, end, 0, address, room, 0, 0, mask, 0, mask))
    count = fcntl.ioctl(pagemap, PAGEMAP_SCAN, argument)
    return count, _SCAN.unpack(argument)[4]


def _there(memory: MachineMemory) -> Iterator[Run]:
    """What the host has memory for."""
    return frames_there(memory, 0, memory.nr_frames)


class _Protected:
    """A hole is not protected, so a page is written when it is there for the first time. It is looked for before it is
    looked at: what is a hole by then stays without protection."""

    def __init__(self, memory: MachineMemory, userfaultfd: int, pagemap: int) -> None:
        self._memory, self._userfaultfd, self._pagemap = memory, userfaultfd, pagemap
        self._base = memory.mapped_at
        self._size = memory.nr_frames * PAGE_SIZE
        self._found = array("Q", bytes(8 * _REGION_WORDS * ROOM))
        self._started = False

    def start(self) -> None:
        register = _REGISTER.pack(self._base, self._size, _MODE_REGISTER_WP, 0)
        fcntl.ioctl(self._userfaultfd, UFFDIO_REGISTER, register)
        self._started = True
        for first, count in _there(self._memory):
            protect = _WRITEPROTECT.pack(self._base + first * PAGE_SIZE, count * PAGE_SIZE, _MODE_WP)
            fcntl.ioctl(self._userfaultfd, UFFDIO_WRITEPROTECT, protect)

    def collect(self) -> list[Run]:
        return joined(self._written())

    def _written(self) -> Iterator[Run]:
        base, found = self._base, self._found
        for first, count in _there(self._memory):
            at, end = base + first * PAGE_SIZE, base + (first + count) * PAGE_SIZE
            while at < end:
                regions, at = _scan(self._pagemap, at, end, found)
                for i in range(0, regions * _REGION_WORDS, _REGION_WORDS):
                    yield (found[i] - base) // PAGE_SIZE, (found[i + 1] - found[i]) // PAGE_SIZE

    def took(self, first: int, pages: Pages) -> None:
        """Whatever was written since the look is reported next time."""

    def stop(self) -> None:
        if self._started:
            fcntl.ioctl(self._userfaultfd, UFFDIO_UNREGISTER, _RANGE.pack(self._base, self._size))
            self._started = False


class _Digested:
    def __init__(self, memory: MachineMemory) -> None:
        self._memory = memory
        self._digests: Any = None
        """Of each frame."""

    def start(self) -> None:
        table = mmap.mmap(-1, 8 * self._memory.nr_frames, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._digests = ffi.from_buffer("uint64_t[]", table)
        for first, count in _there(self._memory):
            pages = self._memory.address + first * PAGE_SIZE
            lib.core_digest_pages(pages, count, self._digests[first : first + count])

    def collect(self) -> list[Run]:
        return joined(self._written())

    def _written(self) -> Iterator[Run]:
        at, runs = ffi.new("uint64_t *"), ffi.new("uint64_t[]", 2 * ROOM)
        for first, count in _there(self._memory):
            at[0], end = first, first + count
            while at[0] < end:
                found = lib.core_changed_pages(self._memory.address, self._digests, at, end, runs, ROOM)
                words = ffi.unpack(runs, 2 * found)
                yield from zip(words[::2], words[1::2], strict=True)

    def took(self, first: int, pages: Pages) -> None:
        count = len(pages) // PAGE_SIZE
        lib.core_digest_pages(
            ffi.from_buffer("uint8_t[]", pages), count, self._digests[first : first + count]
        )

    def stop(self) -> None:
        self._digests = None
