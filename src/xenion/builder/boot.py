"""Kernel image and ramdisk -> a domain that is ready for its first instruction.

Follows public/xen.h: the start-of-day memory layout and ``struct start_info``.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from xenion.abi.xen import MAX_GUEST_CMDLINE, SIF_MOD_START_PFN, SIF_VIRT_P2M_4TOOLS, StartInfo
from xenion.builder.elf import Symbols
from xenion.builder.errors import DomainBuildError
from xenion.builder.hypercall_page import hypercall_page
from xenion.builder.kernel import KernelImage
from xenion.builder.layout import PAGES_PER_MIB, Layout, minimum_mib, plan
from xenion.builder.pagetables import CODE, DATA, PAGE_SIZE, READ_ONLY, leaves, write_tables

_MAGIC = b"xen-3.0-x86_64"
_P2M_CHUNK = 1 << 18
_SMALLEST_RAMDISK = 32


class GuestSpace(Protocol):
    """A new domain's memory, as the vmm lends it to the builder.

    Every page reads as zeros when `build` starts, and no page is typed yet.
    """

    @property
    def nr_pages(self) -> int:
        """The domain's pages, numbered from 0 (pseudo-physical)."""
        ...

    @property
    def shared_info_mfn(self) -> int: ...

    def mfn_range(self, start: int, count: int) -> "array[int]":
        """The frame numbers of ``count`` pseudo-physical pages from ``start``, as an ``array("Q")``."""
        ...

    def write(self, paddr: int, data: bytes | memoryview) -> None:
        """Write at a pseudo-physical address."""
        ...

    def write_words(self, paddr: int, words: "array[int] | Sequence[int]") -> None:
        """Write 64-bit little-endian words at a pseudo-physical address, a multiple of 8."""
        ...


@dataclass(frozen=True)
class BootState:
    """How the first vCPU starts: rip, rsp, rsi (``start_info_vaddr``), cr3; the rest is Xen's ABI's."""

    entry: int
    stack_pointer: int
    start_info_vaddr: int
    cr3_pfn: int
    """The L4 table."""
    page_table_pfns: range
    """The tables of the initial mapping, which maps them read-only."""
    p2m_table_pfns: range
    """The tables that INIT_P2M adds, which the guest finds mapped nowhere; empty without that note."""
    console_pfn: int
    xenstore_pfn: int
    virt_base: int
    symbols: Symbols

    @classmethod
    def of_rings(cls, console_pfn: int, xenstore_pfn: int) -> "BootState":
        """Of a guest that somebody else has built."""
        none = range(0)
        return cls(0, 0, 0, 0, none, none, console_pfn, xenstore_pfn, 0, Symbols())


def build(
    image: KernelImage,
    space: GuestSpace,
    *,
    ramdisk: bytes | None,
    cmdline: str,
    console_port: int,
    xenstore_port: int,
) -> BootState:
    """Write everything that a PV domain starts with into its memory.

    Nothing is written unless all of it fits. Raises DomainBuildError for a domain, ramdisk or command
    line that does not suit, KernelImageError for a kernel whose addresses cannot be had.
    """
    command_line = _command_line(cmdline)
    ramdisk_size = _ramdisk_size(ramdisk, space.nr_pages)
    layout = plan(image, ramdisk_size, space.nr_pages)
    if layout.nr_pages > space.nr_pages:
        raise DomainBuildError(
            f"the domain has {space.nr_pages / PAGES_PER_MIB:g} MiB of memory, but this kernel with its "
            f"ramdisk needs at least {minimum_mib(image, ramdisk_size)} MiB"
        )
    _write_kernel(image, space)
    if ramdisk is not None:
        space.write(layout.ramdisk.start * PAGE_SIZE, ramdisk)
    _write_p2m(layout, space)
    _write_page_tables(image, layout, space)
    info = _start_info(layout, space, ramdisk_size, image.notes.mod_start_pfn)
    info.cmd_line = command_line
    info.console.domU.evtchn = console_port
    info.store_evtchn = xenstore_port
    space.write(layout.start_info_pfn * PAGE_SIZE, bytes(info))
    return _boot_state(image, layout)


def _command_line(cmdline: str) -> bytes:
    encoded = cmdline.encode(errors="surrogateescape")
    if len(encoded) >= MAX_GUEST_CMDLINE or b"\0" in encoded:
        raise DomainBuildError(
            f"the kernel command line takes {len(encoded)} bytes, but Xen's ABI has room for "
            f"{MAX_GUEST_CMDLINE - 1} without a NUL: shorten it"
        )
    return encoded


def _ramdisk_size(ramdisk: bytes | None, nr_pages: int) -> int:
    if ramdisk is None:
        return 0
    size = len(ramdisk)
    if size < _SMALLEST_RAMDISK or ramdisk.count(0) == size:
        raise DomainBuildError(
            f"the ramdisk is empty or cut short, {size} bytes without an archive in them: make it anew"
        )
    if size > nr_pages * PAGE_SIZE:
        raise DomainBuildError(
            f"the ramdisk has {size} bytes, more than the whole domain's {nr_pages * PAGE_SIZE}: "
            f"give the domain more memory"
        )
    return size


def _write_kernel(image: KernelImage, space: GuestSpace) -> None:
    for paddr, data in image.placed():
        space.write(paddr, data)
    if image.addresses.hypercall_page is not None:
        space.write(image.addresses.hypercall_page - image.addresses.virt_base, hypercall_page())


def _write_p2m(layout: Layout, space: GuestSpace) -> None:
    """Millions of entries for a large domain: whole arrays are moved, a few MiB at a time."""
    paddr = layout.p2m.pages.start * PAGE_SIZE
    for start in range(0, space.nr_pages, _P2M_CHUNK):
        count = min(_P2M_CHUNK, space.nr_pages - start)
        space.write_words(paddr + start * 8, space.mfn_range(start, count))


def _write_page_tables(image: KernelImage, layout: Layout, space: GuestSpace) -> None:
    boot = layout.boot
    mfns = space.mfn_range(boot.pages.start, len(boot.pages))
    entries = leaves(mfns, DATA)
    for code in image.executable_pages():
        entries[code.start : code.stop] = leaves(mfns[code.start : code.stop], CODE)
    tables = boot.tables
    entries[tables.start : tables.stop] = leaves(mfns[tables.start : tables.stop], READ_ONLY)
    mappings = [(boot, entries)]
    if layout.p2m_is_apart:
        p2m = layout.p2m
        mappings.append((p2m, leaves(space.mfn_range(p2m.pages.start, len(p2m.pages)), DATA)))
    write_tables(space, mappings)


def _start_info(layout: Layout, space: GuestSpace, ramdisk_size: int, mod_start_pfn: bool) -> StartInfo:
    """All of start_info but for what the caller of `build` chose."""
    boot, p2m = layout.boot, layout.p2m
    info = StartInfo()
    info.magic = _MAGIC
    info.nr_pages = space.nr_pages
    info.shared_info = space.shared_info_mfn * PAGE_SIZE
    info.flags = SIF_VIRT_P2M_4TOOLS
    (info.store_mfn,) = space.mfn_range(layout.xenstore_pfn, 1)
    (info.console.domU.mfn,) = space.mfn_range(layout.console_pfn, 1)
    info.pt_base = boot.vaddr + boot.tables.start * PAGE_SIZE
    info.nr_pt_frames = len(boot.tables)
    info.mfn_list = p2m.vaddr
    if layout.p2m_is_apart:
        info.first_p2m_pfn = p2m.pages.start
        info.nr_p2m_frames = len(p2m.pages) + len(p2m.tables)
    if ramdisk_size:
        info.mod_len = ramdisk_size
        info.mod_start = boot.vaddr + layout.ramdisk.start * PAGE_SIZE
        if mod_start_pfn:
            info.flags |= SIF_MOD_START_PFN
            info.mod_start = layout.ramdisk.start
    return info


def _boot_state(image: KernelImage, layout: Layout) -> BootState:
    boot = layout.boot
    return BootState(
        entry=image.addresses.entry,
        stack_pointer=boot.vaddr + (layout.stack_pfn + 1) * PAGE_SIZE,
        start_info_vaddr=boot.vaddr + layout.start_info_pfn * PAGE_SIZE,
        cr3_pfn=boot.tables.start,
        page_table_pfns=boot.tables,
        p2m_table_pfns=layout.p2m.tables,
        console_pfn=layout.console_pfn,
        xenstore_pfn=layout.xenstore_pfn,
        virt_base=boot.vaddr,
        symbols=image.symbols,
    )
