"""Where everything lies that a domain starts with, worked out before a byte is written.

Follows the start-of-day memory layout of public/xen.h and the order of Xen's toolstack: kernel, ramdisk, p2m
list, start_info, xenstore ring, console ring, page tables, stack, at least 512 KiB of padding up to a border
of 4 MiB. A ramdisk that may be unmapped (MOD_START_PFN) and a p2m list with an address of its own (INIT_P2M)
come after that.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xenion.builder.errors import DomainBuildError
from xenion.builder.notes import check_virtual_range
from xenion.builder.pagetables import PAGE_SIZE, Mapping, needed_tables

if TYPE_CHECKING:
    from xenion.builder.kernel import KernelImage

PADDING = 512 << 10
ALIGNMENT = 4 << 20
PAGES_PER_MIB = (1 << 20) // PAGE_SIZE
P2M_ENTRY = 8


@dataclass(frozen=True)
class Layout:
    """Where things lie, in pseudo-physical page numbers."""

    boot: Mapping
    """The initial mapping, from page 0 at the kernel's VIRT_BASE."""
    p2m: Mapping
    """The p2m list. It brings tables of its own only where INIT_P2M moves it out of ``boot``."""
    ramdisk: range
    start_info_pfn: int
    xenstore_pfn: int
    console_pfn: int
    stack_pfn: int
    nr_pages: int
    """Pages from 0 to the end of the last thing placed, which the domain must have."""

    @property
    def p2m_is_apart(self) -> bool:
        return len(self.p2m.tables) > 0


def minimum_pages(image: "KernelImage", ramdisk_size: int, nr_pages: int) -> int:
    """Pages that building a domain of ``nr_pages`` with a ramdisk of so many bytes takes up, without a check.

    The p2m list grows with the domain: 2 MiB for each GiB.
    """
    return plan(image, ramdisk_size, nr_pages).nr_pages


def minimum_mib(image: "KernelImage", ramdisk_size: int) -> int:
    """The least domain, in MiB, that `build` accepts for a kernel and a ramdisk."""
    mib = 1
    while (needed := -(-minimum_pages(image, ramdisk_size, mib * PAGES_PER_MIB) // PAGES_PER_MIB)) > mib:
        mib = needed
    return mib


def plan(image: "KernelImage", ramdisk_size: int, nr_pages: int) -> Layout:
    """Lay out a domain of ``nr_pages`` pages. That the layout fits into them is the caller's to check.

    Raises KernelImageError where the kernel's addresses cannot hold it, DomainBuildError where the p2m list
    gets in its own kernel's way.
    """
    addresses = image.addresses
    pages = _Pages(_pages(addresses.image_end))
    p2m_size = _pages(nr_pages * P2M_ENTRY)
    ramdisk = p2m = range(0)
    if not image.notes.mod_start_pfn:
        ramdisk = pages.take(_pages(ramdisk_size))
    if addresses.init_p2m is None:
        p2m = pages.take(p2m_size)
    (start_info,), (xenstore,), (console,) = pages.take(1), pages.take(1), pages.take(1)
    boot = _boot_mapping(addresses.virt_base, pages.next)
    pages.take(len(boot.tables))
    (stack,) = pages.take(1)
    pages.next = boot.pages.stop
    if image.notes.mod_start_pfn:
        ramdisk = pages.take(_pages(ramdisk_size))
    if addresses.init_p2m is None:
        p2m_mapping = Mapping(addresses.virt_base + p2m.start * PAGE_SIZE, p2m, range(0))
    else:
        p2m_mapping = _p2m_mapping(addresses.init_p2m, pages.take(p2m_size), boot)
        pages.take(len(p2m_mapping.tables))
    return Layout(boot, p2m_mapping, ramdisk, start_info, xenstore, console, stack, pages.next)


class _Pages:
    """Pages handed out one after the other."""

    def __init__(self, first: int) -> None:
        self.next = first

    def take(self, count: int) -> range:
        taken = range(self.next, self.next + count)
        self.next = taken.stop
        return taken


def _pages(size: int) -> int:
    return -(-size // PAGE_SIZE)


def _boot_mapping(virt_base: int, used: int) -> Mapping:
    """The mapping from page 0, and its tables, which follow ``used`` pages and must lie in what they map."""
    count = 0
    while True:
        end = virt_base + (used + count + 1) * PAGE_SIZE + PADDING
        end = (end + ALIGNMENT - 1) & -ALIGNMENT
        mapped = (end - virt_base) // PAGE_SIZE
        needed = len(needed_tables(virt_base, mapped, ()))
        if needed <= count:
            break
        count = needed
    check_virtual_range(virt_base, mapped * PAGE_SIZE, "its initial mapping")
    return Mapping(virt_base, range(mapped), range(used, used + needed))


def _p2m_mapping(vaddr: int, pages: range, boot: Mapping) -> Mapping:
    check_virtual_range(vaddr, len(pages) * PAGE_SIZE, "its p2m list")
    if vaddr + len(pages) * PAGE_SIZE > boot.vaddr:
        raise DomainBuildError(
            f"the p2m list of a domain this large, at {vaddr:#x}, reaches into the kernel at "
            f"{boot.vaddr:#x}: give the domain less memory"
        )
    present = needed_tables(boot.vaddr, len(boot.pages), ())
    tables = needed_tables(vaddr, len(pages), frozenset(present))
    return Mapping(vaddr, pages, range(pages.stop, pages.stop + len(tables)))
