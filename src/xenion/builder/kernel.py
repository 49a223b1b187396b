"""A kernel, ready to be placed into a domain: its ELF file, its notes, and where it wants to be."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module

from xenion.builder.elf import PF_X, ElfFile, Symbols, parse_elf
from xenion.builder.layout import minimum_mib
from xenion.builder.notes import Addresses, XenNotes, parse_notes, resolve
from xenion.builder.pagetables import PAGE_SIZE
from xenion.builder.payload import extract_elf

_READERS = (
    "bz2",
    "lzma",
    "lz4.block",
    "lzallright",
    "zstandard",
    "elftools.construct",
    "elftools.elf.structs",
)
"""What the modules that read a kernel import when they need it."""


@dataclass(frozen=True)
class KernelImage:
    """A checked 64-bit PV kernel. It belongs to no domain and may start any number of them."""

    elf: ElfFile
    notes: XenNotes
    addresses: Addresses

    @property
    def symbols(self) -> Symbols:
        return self.elf.symbols

    @property
    def minimum_mib(self) -> int:
        """The least domain, in MiB, that the builder can place this kernel into without a ramdisk.

        It covers the image with the zeroed memory behind it, start_info, rings, page tables, stack, the
        padding that Xen's ABI promises and the p2m list; not what the kernel goes on to allocate.
        """
        return minimum_mib(self, 0)

    def placed(self) -> Iterator[tuple[int, memoryview]]:
        """The pseudo-physical address and the contents of each segment that has any."""
        for segment in self.elf.segments:
            if segment.data:
                yield segment.paddr - self.addresses.paddr_offset, segment.data

    def executable_pages(self) -> list[range]:
        """The pseudo-physical pages that hold code.

        These are the pages of the segments with PF_X and the hypercall page. An image whose flags do not even
        cover its entry point was linked for a loader that ignores them, as Xen's does: all of it is code.
        """
        entry = self.addresses.entry - self.addresses.virt_base
        offset = self.addresses.paddr_offset
        code = [
            (segment.paddr - offset, segment.end - offset)
            for segment in self.elf.segments
            if segment.flags & PF_X
        ]
        if not any(start <= entry < end for start, end in code):
            code = [(self.addresses.image_start, self.addresses.image_end)]
        if self.addresses.hypercall_page is not None:
            page = self.addresses.hypercall_page - self.addresses.virt_base
            code.append((page, page + PAGE_SIZE))
        return [range(start // PAGE_SIZE, -(-end // PAGE_SIZE)) for start, end in code]


def load_readers() -> None:
    """All that `load_kernel` may import, for a process that will be able to load nothing when it reads its first
    kernel."""
    for name in _READERS:
        import_module(name)


def load_kernel(data: bytes) -> KernelImage:
    """Decompress and parse a kernel file: a bzImage, or an ELF that may be compressed.

    Raises KernelImageError, in one sentence for people, for anything that cannot start as a 64-bit PV domain.
    """
    elf = parse_elf(extract_elf(data))
    notes = parse_notes(elf)
    return KernelImage(elf, notes, resolve(elf, notes))
