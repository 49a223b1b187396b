"""A guest kernel without code: page tables that map its pages at BASE, and the calls it could make."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import LittleEndianStructure
from typing import TypeVar

from xenion.core import ffi, lib
from xenion.processor import GENERAL, Registers
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

S = TypeVar("S", bound=LittleEndianStructure)
PAGES = 64
BASE = 0xFFFFFFFF80000000
TABLE, LEAF = 0x67, 0x63
L4, L3, L2, L1 = range(4)
FIRST_FREE = 4
"""Page frame numbers; all but the tables are mapped writable."""
LOWER = 1 << 64
REGISTERS = Registers(
    general={name: 0x100 + number for number, name in enumerate(GENERAL)},
    rip=0xFFFFFFFF81000010,
    rflags=0x246,
    cr2=0,
    cr3=0,
    selectors={"cs": 0xE033, "ss": 0xE02B, "ds": 1, "es": 2, "fs": 3, "gs": 4},
    bases={"cs": 0, "ss": 0, "ds": 0, "es": 0, "fs": 0x5000, "gs": 0x6000},
)
"""Of a vCPU, each another number."""


class Kernel:
    def __init__(self, domain: Domain, output: list[bytes]) -> None:
        self.domain, self.output = domain, output
        space = domain.space
        shifts = {L4: 39, L3: 30, L2: 21}
        for table, shift in shifts.items():
            self._entry(table, BASE >> shift & 511, space.mfn(table + 1) << 12 | TABLE)
        for pfn in range(FIRST_FREE, PAGES):
            self._entry(L1, pfn, space.mfn(pfn) << 12 | LEAF)
        assert lib.core_boot_table(domain.state.vcpus, space.mfn(L4)) == 0
        self.vcpu: Vcpu = domain.vcpus[0]
        self.vcpu.state.kernel_mode = 1

    def _entry(self, table: int, index: int, value: int) -> None:
        self.domain.space.write(table * PAGE_SIZE + index * 8, struct.pack("<Q", value))

    @staticmethod
    def address(pfn: int = FIRST_FREE, offset: int = 0) -> int:
        return BASE + pfn * PAGE_SIZE + offset

    def mfn(self, pfn: int) -> int:
        return self.domain.space.mfn(pfn)

    def put(self, data: bytes | LittleEndianStructure, pfn: int = FIRST_FREE, offset: int = 0) -> int:
        """Puts an argument into a page; its address."""
        self.domain.space.write(pfn * PAGE_SIZE + offset, bytes(data))
        return self.address(pfn, offset)

    def get(self, kind: type[S], pfn: int = FIRST_FREE, offset: int = 0) -> S:
        return kind.from_buffer_copy(self.vcpu.read(self.address(pfn, offset), 4096 - offset))

    def call(self, number: int, *args: int) -> int:
        """As the core passes a hypercall on: a negative error, or the result."""
        passed = [*args, *[0] * (6 - len(args))]
        self.args = ffi.new("uint64_t[6]", passed)
        self.vcpu.state.call_args = self.args
        return self.domain._cold_call(self.vcpu.state, number, passed)


@contextmanager
def built(*, nr_vcpus: int = 1, most_pages: int = 0) -> Iterator[Kernel]:
    """The kernel of a domain that was built but never ran."""
    notify_fd = os.eventfd(0, os.EFD_NONBLOCK)
    output: list[bytes] = []
    domain = Domain(
        SoftwareProcessor(),
        domid=7,
        nr_pages=PAGES,
        most_pages=most_pages,
        handle=bytes(range(16)),
        notify_fd=notify_fd,
        console_output=output.append,
        nr_vcpus=nr_vcpus,
    )
    yield Kernel(domain, output)
    domain.close()
    os.close(notify_fd)
