import struct
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.abi import elfnote
from xenion.builder.elf import parse_elf
from xenion.builder.errors import KernelImageError
from xenion.builder.notes import Addresses, XenNotes, check_virtual_range, parse_notes, resolve

if TYPE_CHECKING:
    from tests.unit.builder.conftest import TinyKernel, TinySection, TinySegment

BASE = 0xFFFFFFFF80000000
Notes = Callable[..., dict[int, bytes]]


def read(kernel: "TinyKernel") -> tuple[XenNotes, Addresses]:
    elf = parse_elf(kernel.elf())
    notes = parse_notes(elf)
    return notes, resolve(elf, notes)


def test_every_note_is_read(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> None:
    extra = make_notes(
        paddr_offset=0,
        hypercall_page=BASE + 0x101000,
        init_p2m=0x8000000000,
        hv_start_low=0xFFFF800000000000,
    )
    extra[elfnote.XEN_ELFNOTE_MOD_START_PFN] = b"\1\0\0\0"
    extra[elfnote.XEN_ELFNOTE_SUSPEND_CANCEL] = b"\1\0\0\0"
    extra[elfnote.XEN_ELFNOTE_SUPPORTED_FEATURES] = struct.pack("<I", 0x8801)
    extra[elfnote.XEN_ELFNOTE_PAE_MODE] = b"yes\0"
    extra[elfnote.XEN_ELFNOTE_BSD_SYMTAB] = b"yes\0"
    extra[elfnote.XEN_ELFNOTE_L1_MFN_VALID] = struct.pack("<QQ", 1, 1)
    extra[elfnote.XEN_ELFNOTE_PHYS32_ENTRY] = struct.pack("<I", 0x100000)
    extra[99] = b"unknown"
    notes, addresses = read(tiny_kernel(notes=extra))
    assert notes == XenNotes(
        entry=BASE + 0x100040,
        virt_base=BASE,
        paddr_offset=0,
        hypercall_page=BASE + 0x101000,
        init_p2m=0x8000000000,
        mod_start_pfn=True,
        hv_start_low=0xFFFF800000000000,
        guest_os="linux",
        guest_version="2.6",
        xen_version="xen-3.0",
        loader="generic",
        pae_mode="yes",
        features="!writable_page_tables|pae_pgdir_above_4gb",
        supported_features=0x8811,
        required_features=0x1,
        bsd_symtab=True,
        l1_mfn_valid=((1, 1),),
        suspend_cancel=True,
        phys32_entry=0x100000,
    )
    assert addresses == Addresses(
        entry=BASE + 0x100040,
        virt_base=BASE,
        paddr_offset=0,
        hypercall_page=BASE + 0x101000,
        init_p2m=0x8000000000,
        image_start=0x100000,
        image_end=0x10D000,
    )


def test_the_legacy_string(
    tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]", tiny_segment: "type[TinySegment]"
) -> None:
    text = (
        b"GUEST_OS=linux,GUEST_VER=2.6,XEN_VER=xen-3.0,VIRT_BASE=0xffffffff80000000,HYPERCALL_PAGE=0x101,"
        b"FEATURES=writable_page_tables|!pae_pgdir_above_4gb,LOADER=generic,BSD_SYMTAB,PAE=yes\0after=it"
    )
    kernel = tiny_kernel(
        notes={},
        sections=[tiny_section("__xen_guest", 1, text)],
        # As these kernels were linked: with virtual addresses for physical ones.
        segments=[tiny_segment(BASE + 0x100000, bytes(8192))],
        entry=BASE + 0x100000,
    )
    notes, addresses = read(kernel)
    assert (notes.guest_os, notes.guest_version, notes.pae_mode) == ("linux", "2.6", "yes")
    assert (notes.supported_features, notes.required_features, notes.bsd_symtab) == (0x11, 0x10, True)
    assert addresses.hypercall_page == BASE + 0x101000
    assert (addresses.entry, addresses.paddr_offset) == (BASE + 0x100000, BASE)
    assert (addresses.image_start, addresses.image_end) == (0x100000, 0x102000)


@pytest.mark.parametrize("value", ["0xzz", "", "-1", "0x10000000000000000"])
def test_a_legacy_number_that_is_none_is_refused(
    tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]", value: str
) -> None:
    text = f"GUEST_OS=linux,XEN_VER=xen-3.0,VIRT_BASE={value}\0".encode()
    kernel = tiny_kernel(notes={}, sections=[tiny_section("__xen_guest", 1, text)])
    with pytest.raises(KernelImageError, match=r"VIRT_BASE=.*which is no"):
        read(kernel)


def test_defaults_of_a_kernel_that_says_little(tiny_kernel: "type[TinyKernel]", make_notes: Notes) -> None:
    notes = make_notes()
    del notes[elfnote.XEN_ELFNOTE_ENTRY], notes[elfnote.XEN_ELFNOTE_VIRT_BASE]
    notes[elfnote.XEN_ELFNOTE_GUEST_OS] = b"Mini-OS\0"
    _, addresses = read(tiny_kernel(notes=notes, entry=0x100010))
    assert (addresses.virt_base, addresses.entry, addresses.paddr_offset) == (0, 0x100010, 0)


@pytest.mark.parametrize(
    ("address", "used"),
    [(0x8000000000, 0x8000000000), (0x8000000800, None), (BASE, None), (BASE + 4096, None)],
)
def test_a_p2m_address_that_is_unaligned_or_not_below_the_kernel_is_ignored(
    tiny_kernel: "type[TinyKernel]", make_notes: Notes, address: int, used: int | None
) -> None:
    _, addresses = read(tiny_kernel(notes=make_notes(init_p2m=address)))
    assert addresses.init_p2m == used


REFUSED: dict[str, tuple[dict[str, int], dict[int, bytes | None]]] = {
    "outside its image": ({"entry": BASE + 0x200000}, {}),
    "no PV entry point": ({}, {elfnote.XEN_ELFNOTE_ENTRY: None, elfnote.XEN_ELFNOTE_VIRT_BASE: None}),
    "PVH domain": (
        {"phys32_entry": 0x100000},
        {elfnote.XEN_ELFNOTE_ENTRY: None, elfnote.XEN_ELFNOTE_VIRT_BASE: None},
    ),
    "no VIRT_BASE": ({"paddr_offset": 0}, {elfnote.XEN_ELFNOTE_VIRT_BASE: None}),
    "the loader 'grub'": (
        {},
        {elfnote.XEN_ELFNOTE_LOADER: b"grub\0", elfnote.XEN_ELFNOTE_GUEST_OS: b"other\0"},
    ),
    "interface 'xen-4'": ({}, {elfnote.XEN_ELFNOTE_XEN_VERSION: b"xen-4"}),
    "interface ''": ({}, {elfnote.XEN_ELFNOTE_XEN_VERSION: None}),
    "the hypervisor at": ({"hv_start_low": 0xFFFF900000000000}, {}),
    "feature dom0": ({}, {elfnote.XEN_ELFNOTE_FEATURES: b"!dom0"}),
    "feature auto_translated": ({}, {elfnote.XEN_ELFNOTE_FEATURES: b"x|!auto_translated_physmap"}),
    "unknown feature 'soup'": ({}, {elfnote.XEN_ELFNOTE_FEATURES: b"!soup"}),
    "which no guest may use": ({"virt_base": 0xFFFF800000000000, "entry": 0xFFFF800000100000}, {}),
    "not aligned": ({"virt_base": BASE + 0x10}, {}),
    "outside 0 to": ({"paddr_offset": BASE}, {}),
    "hypercall page": ({"hypercall_page": BASE + 0x10D000}, {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals(tiny_kernel: "type[TinyKernel]", make_notes: Notes, message: str) -> None:
    numbers, changes = REFUSED[message]
    notes = make_notes(**numbers)
    for type_, desc in changes.items():
        if desc is None:
            del notes[type_]
        else:
            notes[type_] = desc
    with pytest.raises(KernelImageError, match=message):
        read(tiny_kernel(notes=notes))


def test_a_kernel_without_notes_is_refused(tiny_kernel: "type[TinyKernel]") -> None:
    with pytest.raises(KernelImageError, match="CONFIG_XEN_PV"):
        read(tiny_kernel(notes={}))


@pytest.mark.parametrize(
    ("start", "size", "good"),
    [
        (0, 1 << 47, True),
        (0, (1 << 47) + 1, False),
        (0xFFFF880000000000, 0x780000000000, True),
        (0xFFFF87FFFFFFF000, 0x1000, False),
        (0xFFFFFFFFFFFFF000, 0x1001, False),
    ],
)
def test_virtual_ranges(start: int, size: int, good: bool) -> None:
    if good:
        check_virtual_range(start, size, "it")
    else:
        with pytest.raises(KernelImageError, match="wants it at"):
            check_virtual_range(start, size, "it")


@settings(max_examples=200)
@given(st.dictionaries(st.integers(0, 20), st.binary(max_size=24), max_size=12))
def test_any_notes_raise_nothing_else(
    tiny_kernel: "type[TinyKernel]", make_notes: Notes, changes: dict[int, bytes]
) -> None:
    with suppress(KernelImageError):
        _, addresses = read(tiny_kernel(notes=make_notes() | changes))
        assert addresses.image_start <= addresses.entry - addresses.virt_base < addresses.image_end


@settings(max_examples=100)
@given(st.binary(max_size=80))
def test_any_legacy_string_raises_nothing_else(
    tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]", text: bytes
) -> None:
    start = b"GUEST_OS=linux,XEN_VER=xen-3.0,VIRT_BASE=0,"
    kernel = tiny_kernel(notes={}, sections=[tiny_section("__xen_guest", 1, start + text)])
    with suppress(KernelImageError):
        read(kernel)
