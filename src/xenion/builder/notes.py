"""What a kernel tells the domain builder about itself: Xen's ELF notes, or the older ``__xen_guest`` string.

Follows public/elfnote.h and public/features.h, and libelf for defaults and for what makes an image unusable.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field

from xenion.abi import elfnote, features
from xenion.abi.arch_x86_64 import HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START
from xenion.builder.elf import ElfFile, Note
from xenion.builder.errors import KernelImageError
from xenion.builder.pagetables import PAGE_SIZE

MAX_PADDR = 1 << 32
"""Where an image must end: no PV kernel is linked above 4 GiB of pseudo-physical memory."""

_MAX_TEXT = 1024
_CANONICAL_LOW_END = 1 << 47
_ADDRESS_END = 1 << 64
_FEATURES = {
    name: getattr(features, f"XENFEAT_{name}")
    for name in (
        "writable_page_tables",
        "writable_descriptor_tables",
        "auto_translated_physmap",
        "supervisor_mode_kernel",
        "pae_pgdir_above_4gb",
        "hvm_callback_vector",
        "dom0",
    )
}
_NEVER_IN_A_PV_GUEST = ("auto_translated_physmap", "supervisor_mode_kernel", "hvm_callback_vector", "dom0")


@dataclass(frozen=True)
class XenNotes:
    """Xen's notes, named as in elfnote.h. None, or empty, is an absent note; addresses are virtual."""

    entry: int | None = None
    virt_base: int | None = None
    paddr_offset: int | None = None
    hypercall_page: int | None = None
    init_p2m: int | None = None
    mod_start_pfn: bool = False
    hv_start_low: int | None = None
    guest_os: str = ""
    guest_version: str = ""
    xen_version: str = ""
    loader: str = ""
    pae_mode: str = ""
    features: str = ""
    """The FEATURES string as it stands; the masks below are what it and SUPPORTED_FEATURES mean."""
    supported_features: int = 0
    required_features: int = 0
    bsd_symtab: bool = False
    """Recognised only: the symbol table is not loaded into the domain."""
    l1_mfn_valid: tuple[tuple[int, int], ...] = ()
    """Pairs of mask and value."""
    suspend_cancel: bool = False
    phys32_entry: int | None = None
    legacy: bool = field(default=False, repr=False)
    """The values come from a ``__xen_guest`` section, whose defaults differ."""


@dataclass(frozen=True)
class Addresses:
    """Where the kernel wants to be, all defaults applied. ``virt_base`` maps pseudo-physical address 0."""

    entry: int
    virt_base: int
    paddr_offset: int
    """What a segment's p_paddr exceeds its pseudo-physical address by."""
    hypercall_page: int | None
    init_p2m: int | None
    """Where the p2m list is to be mapped; None where it goes into the initial mapping."""
    image_start: int
    """Pseudo-physical, in bytes; so is the next."""
    image_end: int


def parse_notes(elf: ElfFile) -> XenNotes:
    """Collect the kernel's notes; raise KernelImageError where it is no 64-bit PV kernel for Xen."""
    if elf.notes:
        notes = _from_notes(elf.notes)
    elif elf.xen_guest is not None:
        notes = _from_xen_guest(elf.xen_guest)
    else:
        raise KernelImageError(
            "the kernel has no Xen notes, so it cannot run as a PV domain: give one built with CONFIG_XEN_PV"
        )
    _check_guest(notes)
    _check_features(notes)
    return notes


def resolve(elf: ElfFile, notes: XenNotes) -> Addresses:
    """Apply libelf's defaults to the addresses and check that they make sense; KernelImageError where not."""
    if notes.paddr_offset is not None and notes.virt_base is None:
        raise KernelImageError("the kernel's notes give PADDR_OFFSET but no VIRT_BASE: it cannot be placed")
    virt_base = notes.virt_base or 0
    offset = notes.paddr_offset
    if offset is None:
        offset = virt_base if notes.legacy else 0
    addresses = Addresses(
        entry=elf.entry if notes.entry is None else notes.entry,
        virt_base=virt_base,
        paddr_offset=offset,
        hypercall_page=notes.hypercall_page,
        init_p2m=_usable_p2m(notes.init_p2m, virt_base),
        image_start=elf.start - offset,
        image_end=elf.end - offset,
    )
    _check_addresses(addresses)
    return addresses


def check_virtual_range(start: int, size: int, what: str) -> None:
    """Refuse a range that is not canonical, that wraps, or that meets the hypervisor's own addresses."""
    end = start + size
    low, high = end <= _CANONICAL_LOW_END, start >= HYPERVISOR_VIRT_END and end <= _ADDRESS_END
    if not (low or high):
        raise KernelImageError(
            f"the kernel wants {what} at virtual {start:#x} to {end:#x}, which no guest may use: "
            f"its notes are wrong"
        )


def _usable_p2m(init_p2m: int | None, virt_base: int) -> int | None:
    """Xen's toolstack ignores an INIT_P2M that is unaligned or not below VIRT_BASE."""
    if init_p2m is None or init_p2m >= virt_base or init_p2m % PAGE_SIZE:
        return None
    return init_p2m


def _check_addresses(addresses: Addresses) -> None:
    start, end = addresses.image_start, addresses.image_end
    if start < 0 or end > MAX_PADDR:
        raise KernelImageError(
            f"the kernel's segments lie at pseudo-physical {start:#x} to {end:#x}, outside 0 to "
            f"{MAX_PADDR:#x}: its addresses or PADDR_OFFSET are wrong"
        )
    if addresses.virt_base % PAGE_SIZE:
        raise KernelImageError(f"the kernel's VIRT_BASE, {addresses.virt_base:#x}, is not aligned to a page")
    check_virtual_range(addresses.virt_base, end, "its image")
    if not start <= addresses.entry - addresses.virt_base < end:
        raise KernelImageError(f"the kernel's entry point, {addresses.entry:#x}, lies outside its image")
    page = addresses.hypercall_page
    if page is not None and (page % PAGE_SIZE or not start <= page - addresses.virt_base <= end - PAGE_SIZE):
        raise KernelImageError(f"the kernel's hypercall page, {page:#x}, is not a whole page of its image")


def _check_guest(notes: XenNotes) -> None:
    linux = notes.guest_os.startswith("linux")
    no_pv_entry = notes.entry is None and notes.virt_base is None
    if no_pv_entry and notes.phys32_entry is not None and notes.hypercall_page is None:
        raise KernelImageError(
            "the kernel can only start as a PVH domain (PHYS32_ENTRY): give one built with CONFIG_XEN_PV"
        )
    if linux and no_pv_entry:
        raise KernelImageError(
            "the kernel has Xen notes but no PV entry point: give one built with CONFIG_XEN_PV"
        )
    if not linux and not notes.loader.startswith("generic"):
        raise KernelImageError(
            f"the kernel's notes name the loader {notes.loader[:40]!r} and the system "
            f"{notes.guest_os[:40]!r}, but only 'generic' or 'linux' can be loaded"
        )
    if not notes.xen_version.startswith("xen-3.0"):
        raise KernelImageError(
            f"the kernel is for the interface {notes.xen_version[:40]!r}: only 'xen-3.0' exists here"
        )
    if notes.hv_start_low is not None and notes.hv_start_low > HYPERVISOR_VIRT_START:
        raise KernelImageError(
            f"the kernel wants the hypervisor at {notes.hv_start_low:#x} or above, but it is at "
            f"{HYPERVISOR_VIRT_START:#x}"
        )


def _check_features(notes: XenNotes) -> None:
    for name in _NEVER_IN_A_PV_GUEST:
        if notes.required_features >> _FEATURES[name] & 1:
            raise KernelImageError(
                f"the kernel requires the feature {name}, which no PV guest domain has: give another kernel"
            )


def _from_notes(notes: Iterable[Note]) -> XenNotes:
    desc = {note.type: note.desc for note in notes}

    def number(type_: int) -> int | None:
        return _numeric(desc[type_]) if type_ in desc else None

    def text(type_: int) -> str:
        return _text(desc.get(type_, b""))

    feature_text = text(elfnote.XEN_ELFNOTE_FEATURES)
    supported, required = _parse_features(feature_text)
    return XenNotes(
        entry=number(elfnote.XEN_ELFNOTE_ENTRY),
        virt_base=number(elfnote.XEN_ELFNOTE_VIRT_BASE),
        paddr_offset=number(elfnote.XEN_ELFNOTE_PADDR_OFFSET),
        hypercall_page=number(elfnote.XEN_ELFNOTE_HYPERCALL_PAGE),
        init_p2m=number(elfnote.XEN_ELFNOTE_INIT_P2M),
        mod_start_pfn=bool(number(elfnote.XEN_ELFNOTE_MOD_START_PFN)),
        hv_start_low=number(elfnote.XEN_ELFNOTE_HV_START_LOW),
        guest_os=text(elfnote.XEN_ELFNOTE_GUEST_OS),
        guest_version=text(elfnote.XEN_ELFNOTE_GUEST_VERSION),
        xen_version=text(elfnote.XEN_ELFNOTE_XEN_VERSION),
        loader=text(elfnote.XEN_ELFNOTE_LOADER),
        pae_mode=text(elfnote.XEN_ELFNOTE_PAE_MODE),
        features=feature_text,
        supported_features=supported | _submap(desc.get(elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES, b"")),
        required_features=required,
        bsd_symtab=text(elfnote.XEN_ELFNOTE_BSD_SYMTAB) == "yes",
        l1_mfn_valid=_pairs(desc.get(elfnote.XEN_ELFNOTE_L1_MFN_VALID, b"")),
        suspend_cancel=bool(number(elfnote.XEN_ELFNOTE_SUSPEND_CANCEL)),
        phys32_entry=number(elfnote.XEN_ELFNOTE_PHYS32_ENTRY),
    )


def _numeric(desc: bytes) -> int:
    return int.from_bytes(desc, "little") if len(desc) in (1, 2, 4, 8) else 0


def _text(desc: bytes) -> str:
    return desc[:_MAX_TEXT].split(b"\0", 1)[0].decode("ascii", "backslashreplace")


def _submap(desc: bytes) -> int:
    """The first of the note's 32-bit words, the only one that has a meaning (XENFEAT_NR_SUBMAPS)."""
    return int.from_bytes(desc[:4], "little") if len(desc) % 4 == 0 else 0


def _pairs(desc: bytes) -> tuple[tuple[int, int], ...]:
    return tuple((mask, value) for mask, value in struct.iter_unpack("<QQ", desc[: len(desc) // 16 * 16]))


def _parse_features(text: str) -> tuple[int, int]:
    """The masks of supported and of required features; a name with ``!`` before it is both."""
    supported = required = 0
    for item in text.split("|"):
        name = item.removeprefix("!")
        if name in _FEATURES:
            supported |= 1 << _FEATURES[name]
            required |= 1 << _FEATURES[name] if item.startswith("!") else 0
        elif item.startswith("!"):
            raise KernelImageError(
                f"the kernel requires the unknown feature {name[:40]!r}: give another kernel"
            )
    return supported, required


def _from_xen_guest(section: bytes) -> XenNotes:
    """``NAME=VALUE,NAME=VALUE``; HYPERCALL_PAGE is a page number of the image here, not an address."""
    values: dict[str, str] = {}
    for item in _text(section).split(","):
        name, _, value = item.partition("=")
        values[name] = value
    virt_base = _guest_number(values, "VIRT_BASE")
    hypercall_page = _guest_number(values, "HYPERCALL_PAGE")
    supported, required = _parse_features(values.get("FEATURES", ""))
    return XenNotes(
        entry=_guest_number(values, "VIRT_ENTRY"),
        virt_base=virt_base,
        paddr_offset=_guest_number(values, "ELF_PADDR_OFFSET"),
        hypercall_page=None if hypercall_page is None else hypercall_page * PAGE_SIZE + (virt_base or 0),
        guest_os=values.get("GUEST_OS", ""),
        guest_version=values.get("GUEST_VER", ""),
        xen_version=values.get("XEN_VER", ""),
        loader=values.get("LOADER", ""),
        pae_mode=values.get("PAE", ""),
        features=values.get("FEATURES", ""),
        supported_features=supported,
        required_features=required,
        bsd_symtab="BSD_SYMTAB" in values,
        legacy=True,
    )


def _guest_number(values: dict[str, str], name: str) -> int | None:
    if name not in values:
        return None
    value = values[name]
    try:
        number = int(value, 0)
    except ValueError as error:
        raise KernelImageError(
            f"the kernel's __xen_guest section has {name}={value[:40]!r}, which is no number"
        ) from error
    if not 0 <= number < _ADDRESS_END:
        raise KernelImageError(
            f"the kernel's __xen_guest section has {name}={value[:40]}, which is no address"
        )
    return number
