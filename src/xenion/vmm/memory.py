"""A domain's machine memory: one memfd, the hypervisor's own frames first, then the domain's.

The machine address space is the domain's own. Frame numbers never equal pseudo-physical ones: the p2m is the guest's,
the machine-to-physical table (M2P) lies read-only in the hypervisor's hole, at Xen's fixed address if the processor
can have it there.
"""

import mmap
import os
from array import array
from collections.abc import Sequence
from typing import Any

from xenion.abi.arch_x86_64 import XEN_LEGACY_MAX_VCPUS
from xenion.core import ffi

PAGE_SIZE = 4096
AREAS_L3_ENTRY = 256
"""Of the hole: 128 KiB a vCPU, its GDT in the first half, its LDT in the second."""

GRANT_FRAMES = 64
GRANT_STATUS_FRAMES = 8
"""Version 2's status words, a 16-bit one for each entry; the frames are behind the table's."""

MAX_VCPUS = 64
VCPU_INFO_SIZE = 64
_PRESENT, _WRITE, _USER, _AD, _NX = 1, 2, 4, 0x60, 1 << 63
_TABLE = _PRESENT | _WRITE | _AD
_READ_ONLY = _PRESENT | _AD | _NX
_RESERVED_DESCRIPTORS = {
    0xE008: 0x00AF9B000000FFFF,
    0xE010: 0x00CF93000000FFFF,
    0xE020: 0x00CFFB000000FFFF,
    0xE028: 0x00CFF3000000FFFF,
    0xE030: 0x00AFFB000000FFFF,
}


class MachineMemory:
    """The memory of a domain of at most `nr_pages` pages; frame numbers (mfn) count from the start of the memfd."""

    def __init__(self, nr_pages: int, *, hole_slot: int = 256, ring_3_kernel: bool = False) -> None:
        """`hole_slot`: the L4 slot of the hole. Where the guest's kernel is in ring 3, what it reads there has the user
        bit, and its applications' tables have a hole of their own.
        """
        self.nr_pages = nr_pages
        self.m2p_address = 0xFFFF << 48 | hole_slot << 39
        self.areas_address = self.m2p_address | AREAS_L3_ENTRY << 30
        self._user = _USER if ring_3_kernel else 0
        self._next = 1  # frame 0 stays unused: a zero address never means anything
        m2p_pages = -(-(nr_pages + 4096 + nr_pages // 256) * 8 // PAGE_SIZE)
        self.m2p_mfn = self._reserve(m2p_pages)
        self.m2p_pages = m2p_pages
        self._m2p_l1 = self._reserve(-(-m2p_pages // 512))
        self._m2p_l2, self._areas_l2, self.hole_l3, self.user_hole_l3 = (self._reserve(1) for _ in range(4))
        self.areas_l1 = self._reserve(MAX_VCPUS * 32 // 512)
        self.zero_mfn, self.reserved_gdt_mfn, self.shared_info_mfn = (self._reserve(1) for _ in range(3))
        self.spare_info_mfn = self._reserve(1)
        self.grant_mfn = self._reserve(GRANT_FRAMES + GRANT_STATUS_FRAMES)
        self.first_mfn = self._next
        self.nr_frames = self.first_mfn + nr_pages
        self.fd = os.memfd_create("xenion-guest", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, self.nr_frames * PAGE_SIZE)
        self._map = mmap.mmap(self.fd, self.nr_frames * PAGE_SIZE)
        self.bytes = memoryview(self._map)
        self.words = self.bytes.cast("Q")
        self.address: Any = ffi.from_buffer("uint8_t[]", self._map)
        self.mapped_at = int(ffi.cast("uintptr_t", self.address))
        self._build_hole()

    def _reserve(self, count: int) -> int:
        first = self._next
        self._next += count
        return first

    def _build_hole(self) -> None:
        w, user = self.words, self._user
        for i in range(self.m2p_pages):
            w[self._m2p_l1 * 512 + i] = (self.m2p_mfn + i) << 12 | _READ_ONLY | user
        for i in range(-(-self.m2p_pages // 512)):
            w[self._m2p_l2 * 512 + i] = (self._m2p_l1 + i) << 12 | _TABLE | user
        for i in range(MAX_VCPUS * 32 // 512):
            w[self._areas_l2 * 512 + i] = (self.areas_l1 + i) << 12 | _TABLE
        w[self.hole_l3 * 512] = self._m2p_l2 << 12 | _TABLE | user
        for l3 in (self.hole_l3, self.user_hole_l3):
            w[l3 * 512 + AREAS_L3_ENTRY] = self._areas_l2 << 12 | _TABLE
        for selector, descriptor in _RESERVED_DESCRIPTORS.items():
            w[self.reserved_gdt_mfn * 512 + (selector - 0xE000) // 8] = descriptor

    @property
    def hole_entry(self) -> int:
        """The hole's L4 entry in the kernel's tables, and in all where applications have none of their own."""
        return self.hole_l3 << 12 | _TABLE | self._user

    @property
    def user_hole_entry(self) -> int:
        """The hole's L4 entry in applications' own tables."""
        return self.user_hole_l3 << 12 | _TABLE | self._user

    def first_vcpu_info(self, vcpu: int) -> int:
        """The machine address of a vCPU's vcpu_info until the guest registers another: the shared info has room for
        the first ones, the rest have theirs where the guest does not see them."""
        if vcpu < XEN_LEGACY_MAX_VCPUS:
            return self.shared_info_mfn * PAGE_SIZE + vcpu * VCPU_INFO_SIZE
        return self.spare_info_mfn * PAGE_SIZE + (vcpu - XEN_LEGACY_MAX_VCPUS) * VCPU_INFO_SIZE

    def page(self, mfn: int) -> memoryview:
        return self.bytes[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE]

    def forget(self, runs: Sequence[tuple[int, int]]) -> None:
        """Gives frames back to the host; they are zero then. OSError."""
        for first, count in runs:
            self._map.madvise(mmap.MADV_REMOVE, first * PAGE_SIZE, count * PAGE_SIZE)

    def close(self) -> None:
        """Gives the memory back to the host at once, whatever views of it are still about."""
        os.ftruncate(self.fd, 0)
        os.close(self.fd)


class BuildSpace:
    """What the builder sees: the new domain's pseudo-physical memory, `nr_pages` of it."""

    def __init__(self, memory: MachineMemory, nr_pages: int) -> None:
        self._memory = memory
        self.nr_pages = nr_pages
        self.shared_info_mfn = memory.shared_info_mfn

    def mfn(self, pfn: int) -> int:
        return pfn + self._memory.first_mfn

    def mfn_range(self, start: int, count: int) -> "array[int]":
        first = self.mfn(start)
        return array("Q", range(first, first + count))

    def _offset(self, paddr: int, size: int) -> int:
        if paddr < 0 or paddr + size > self.nr_pages * PAGE_SIZE:
            raise ValueError(f"pseudo-physical range {paddr:#x}+{size:#x} is outside the domain")
        return self._memory.first_mfn * PAGE_SIZE + paddr

    def write(self, paddr: int, data: bytes | memoryview) -> None:
        at = self._offset(paddr, len(data))
        self._memory.bytes[at : at + len(data)] = data

    def write_words(self, paddr: int, words: "array[int] | Sequence[int]") -> None:
        packed = words if isinstance(words, array) else array("Q", words)
        self.write(paddr, memoryview(packed).cast("B"))
