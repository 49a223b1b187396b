"""Where everything lies in a test's guest: regions of pages at fixed addresses, and the page tables that map them.

Pseudo-physical pages are dealt out in the order of REGIONS, the tables last; so every address and frame is a constant
that the tests' assembly can name (`constants`).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass

PAGE = 4096
PRESENT, WRITE, USER, ACCESSED, DIRTY, NX = 1, 2, 4, 0x20, 0x40, 1 << 63
CODE = PRESENT | ACCESSED
DATA = PRESENT | WRITE | ACCESSED | DIRTY | NX
BOTH = PRESENT | WRITE | ACCESSED | DIRTY
TABLE = PRESENT | WRITE | USER | ACCESSED | DIRTY

KERNEL = 0xFFFFFFFF80000000
DIRECT = 0xFFFF888000000000
"""The kernel's mapping of all its pages by number: writable but for page tables, never executable."""
NR_PAGES = 160


@dataclass(frozen=True)
class Region:
    """Pages at `address`; `section` is what the linker places there, `of` the region whose pages it shows again."""

    name: str
    address: int
    pages: int
    flags: int
    section: str = ""
    of: str = ""


REGIONS = (
    Region("nucleus", KERNEL, 4, CODE, section=".nucleus"),
    Region("text", KERNEL + 0x10000, 8, CODE, section=".text"),
    Region("data", KERNEL + 0x20000, 16, DATA, section=".data"),
    Region("smc", KERNEL + 0x30000, 8, BOTH, section=".smc"),
    Region("stack", KERNEL + 0x40000, 4, DATA),
    Region("trap_stack", KERNEL + 0x48000, 4, DATA),
    Region("shared", KERNEL + 0x50000, 1, DATA | USER),
    Region("spare", KERNEL + 0x90000, 8, DATA),
    Region("shared_info", KERNEL + 0xA0000, 1, DATA, of="shared_info"),
    Region("user", 0x400000, 8, CODE | USER, section=".user"),
    Region("udata", 0x410000, 8, DATA | USER, section=".udata"),
    Region("usmc", 0x420000, 8, BOTH | USER, section=".usmc"),
    Region("ustack", 0x430000, 4, DATA | USER),
    Region("usmc_alias", 0x440000, 8, DATA | USER, of="usmc"),
    Region("user_alias", 0x450000, 8, DATA | USER, of="user"),
    Region("hidden", 0x460000, 1, DATA),
    Region("smc_alias", KERNEL + 0x60000, 8, BOTH, of="smc"),
    Region("text_alias", KERNEL + 0x70000, 8, CODE, of="smc"),
)
"""`shared_info` shows the hypervisor's page. `shared` is open to applications where the user table shows the kernel's
half; `hidden` lies low but is the kernel's."""

UNMAPPED = {"NOWHERE": KERNEL + 0x80000, "UNOWHERE": 0x480000}
TABLES = ("l4", "user_l4", "kernel_l3", "kernel_l2", "kernel_l1", "direct_l3", "direct_l2", "direct_l1",
          "user_l3", "user_l2", "user_l1")  # fmt: skip


def _pfns() -> dict[str, int]:
    numbers: dict[str, int] = {"shared_info": 0}  # not the domain's: `page_tables` is told where it is
    at = 1
    for region in REGIONS:
        numbers[region.name] = numbers[region.of] if region.of else at
        at += 0 if region.of else region.pages
    for name in TABLES:
        numbers[name] = at
        at += 1
    return numbers


PFNS = _pfns()
BY_NAME = {r.name: r for r in REGIONS}


@dataclass(frozen=True)
class Shape:
    """How the two halves meet. `shared`: the kernel's table shows the applications' half, so that no switch is needed;
    `open`: the applications' table shows the kernel's half."""

    shared: bool = True
    open: bool = False


ONE_TABLE = Shape()


def constants(first_mfn: int, hole: int) -> dict[str, int]:
    """Names for assembly: REGION (its address), REGION_MFN, REGION_DIRECT (its pages in DIRECT), TABLE_MFN; HOLE is
    where the hypervisor's begins, with the M2P.
    """
    names = dict(UNMAPPED) | {"DIRECT": DIRECT, "FIRST_MFN": first_mfn, "HOLE": hole}
    for region in REGIONS:
        names[region.name.upper()] = region.address
    for name, pfn in PFNS.items():
        names[f"{name.upper()}_MFN"] = first_mfn + pfn
        names[f"{name.upper()}_DIRECT"] = DIRECT + pfn * PAGE
    return names


def _leaves() -> Iterator[tuple[str, int, int, int]]:
    """(L1 table, index, pfn, flags) of every page."""
    for region in REGIONS:
        table = "kernel_l1" if region.address >= KERNEL else "user_l1"
        for i in range(region.pages):
            yield table, (region.address >> 12) + i & 511, PFNS[region.name] + i, region.flags
    tables = {PFNS[name] for name in TABLES}
    for pfn in range(NR_PAGES):
        yield "direct_l1", pfn, pfn, DATA & ~WRITE if pfn in tables else DATA


def page_tables(first_mfn: int, shared_info_mfn: int, shape: Shape) -> dict[int, array[int]]:
    """Contents of every table, by pseudo-physical page."""
    tables = {name: array("Q", bytes(PAGE)) for name in TABLES}
    for table, index, pfn, flags in _leaves():
        tables[table][index] = (first_mfn + pfn) << 12 | flags
    tables["kernel_l1"][(BY_NAME["shared_info"].address >> 12) & 511] = shared_info_mfn << 12 | DATA

    def link(upper: str, index: int, lower: str) -> None:
        tables[upper][index] = (first_mfn + PFNS[lower]) << 12 | TABLE

    link("kernel_l2", 0, "kernel_l1")
    link("kernel_l3", 510, "kernel_l2")
    link("direct_l2", 0, "direct_l1")
    link("direct_l3", 0, "direct_l2")
    link("user_l2", 2, "user_l1")
    link("user_l3", 0, "user_l2")
    link("l4", 511, "kernel_l3")
    link("l4", 273, "direct_l3")
    link("user_l4", 0, "user_l3")
    if shape.shared:
        link("l4", 0, "user_l3")
    if shape.open:
        link("user_l4", 511, "kernel_l3")
    return {PFNS[name]: words for name, words in tables.items()}


def locate(address: int) -> int:
    """The pseudo-physical address behind a virtual one; LookupError outside of all regions."""
    for region in REGIONS:
        if region.address <= address < region.address + region.pages * PAGE and PFNS[region.name]:
            return PFNS[region.name] * PAGE + address - region.address
    raise LookupError(f"{address:#x} is in no region")
