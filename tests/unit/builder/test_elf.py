import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.abi import elfnote
from xenion.builder.elf import Note, Symbols, parse_elf
from xenion.builder.errors import KernelImageError

if TYPE_CHECKING:
    from tests.unit.builder.conftest import TinyKernel, TinySection, TinySegment


def symtab(*symbols: tuple[int, int, int, int]) -> bytes:
    return b"".join(struct.pack("<IBBHQQ", name, info, 0, shndx, v, 0) for name, info, shndx, v in symbols)


def test_segments_in_order_of_address(
    tiny_kernel: "type[TinyKernel]", tiny_segment: "type[TinySegment]"
) -> None:
    kernel = tiny_kernel()
    kernel.segments.reverse()
    kernel.segments.append(tiny_segment(0x900000, b"", memsz=0))
    elf = parse_elf(kernel.elf())
    assert [(s.paddr, s.memsz, s.flags, len(s.data)) for s in elf.segments] == [
        (0x100000, 10240, 5, 10240),
        (0x104000, 0x9000, 6, 8000),
    ]
    assert (elf.start, elf.end, elf.entry) == (0x100000, 0x10D000, 0x100000)
    assert bytes(elf.segments[1].data) == b"data" * 2000


@pytest.mark.parametrize("in_section", [False, True])
def test_notes_come_from_segments_or_else_from_sections(
    tiny_kernel: "type[TinyKernel]", in_section: bool
) -> None:
    kernel = tiny_kernel(notes_in_section=in_section)
    assert parse_elf(kernel.elf()).notes == tuple(Note(*pair) for pair in kernel.notes.items())


def test_notes_of_others_and_cut_ones_are_passed_over(
    tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]"
) -> None:
    kernel = tiny_kernel(notes={}, notes_in_section=True)
    data = struct.pack("<III4s4x", 4, 4, 5, b"GNU\0") + struct.pack("<III4s4s", 4, 3, 1, b"Xen\0", b"abc")
    data += struct.pack("<III4s4x", 5, 4, 5, b"Xeno") + struct.pack("<III4s", 4, 400, 1, b"Xen\0")
    kernel.sections = [tiny_section(".notes", 7, data)]
    assert parse_elf(kernel.elf()).notes == (Note(1, b"abc"),)


def test_the_legacy_section_is_found(
    tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]"
) -> None:
    assert parse_elf(tiny_kernel().elf()).xen_guest is None
    kernel = tiny_kernel(sections=[tiny_section("__xen_guest", 1, b"GUEST_OS=linux\0")])
    assert parse_elf(kernel.elf()).xen_guest == b"GUEST_OS=linux\0"


def test_symbols(tiny_kernel: "type[TinyKernel]", tiny_section: "type[TinySection]") -> None:
    names = b"\0start\0middle\0file.c\0"
    table = symtab((0, 0, 0, 0), (7, 2, 1, 0x2000), (1, 0x12, 1, 0x1000), (14, 4, 1, 0x1800))
    kernel = tiny_kernel(
        sections=[tiny_section(".symtab", 2, table, link=2), tiny_section(".strtab", 3, names)]
    )
    symbols = parse_elf(kernel.elf()).symbols
    assert symbols.lookup(0xFFF) is None
    assert symbols.lookup(0x1000) == "start+0x0"
    assert symbols.lookup(0x1FFF) == "start+0xfff"
    assert symbols.lookup(0x2012) == "middle+0x12"
    assert symbols.lookup(0x2000 + (1 << 20)) is None
    assert Symbols().lookup(0x1000) is None


@given(st.binary(max_size=200), st.binary(max_size=20), st.integers(0, (1 << 64) - 1))
def test_a_hostile_symbol_table_raises_nothing(table: bytes, names: bytes, address: int) -> None:
    symbols = Symbols(table, names)
    assert symbols.lookup(address) is None or "+0x" in str(symbols.lookup(address))


def test_refusals(tiny_kernel: "type[TinyKernel]", tiny_segment: "type[TinySegment]") -> None:
    cases = {
        "no ELF file": tiny_kernel(ident=b"\x7fELG\x02\x01\x01"),
        "32-bit": tiny_kernel(ident=b"\x7fELF\x01\x01\x01"),
        "little-endian": tiny_kernel(ident=b"\x7fELF\x02\x02\x01"),
        "another machine": tiny_kernel(machine=183),
        "not an executable": tiny_kernel(type=3),
        "nothing to load": tiny_kernel(segments=[]),
        "overlap": tiny_kernel(segments=[tiny_segment(0x1000, b"a" * 8), tiny_segment(0x1007, b"b")]),
        "64 of 56": tiny_kernel(segments=[tiny_segment(n << 12, b"a") for n in range(64)]),
    }
    for message, kernel in cases.items():
        with pytest.raises(KernelImageError, match=message):
            parse_elf(kernel.elf())


def test_headers_beyond_the_file_are_refused(tiny_kernel: "type[TinyKernel]") -> None:
    elf = bytearray(tiny_kernel().elf())
    for offset, message in (
        (64 + 8, "truncated or corrupt"),
        (64 + 32, "truncated|more bytes"),
        (32, "program"),
    ):
        broken = elf.copy()
        struct.pack_into("<Q", broken, offset, (1 << 64) - 1)
        with pytest.raises(KernelImageError, match=message):
            parse_elf(bytes(broken))


def test_a_broken_section_table_does_not_matter(tiny_kernel: "type[TinyKernel]") -> None:
    for offset, form, value in ((40, "<Q", 1 << 63), (58, "<H", 3), (60, "<H", 65535), (62, "<H", 65535)):
        elf = bytearray(tiny_kernel().elf())
        struct.pack_into(form, elf, offset, value)
        assert parse_elf(bytes(elf)).notes


@settings(max_examples=200)
@given(
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=5),
    tail=st.integers(0, 600),
)
def test_mutations_raise_nothing_else(
    tiny_kernel: "type[TinyKernel]",
    tiny_section: "type[TinySection]",
    edits: list[tuple[int, bytes]],
    tail: int,
) -> None:
    kernel = tiny_kernel(sections=[tiny_section(".symtab", 2, symtab((1, 2, 1, 5)), link=2)])
    elf = bytearray(kernel.elf())
    for offset, value in edits:
        place = offset if offset < 320 else len(elf) - 64 * 5 + offset - 320
        elf[place : place + len(value)] = value
    with suppress(KernelImageError):
        parse_elf(bytes(elf[: len(elf) - tail])).symbols.lookup(5)


def test_the_number_of_notes_is_bounded(tiny_kernel: "type[TinyKernel]") -> None:
    kernel = tiny_kernel(notes=dict.fromkeys(range(5000), b""))
    assert len(parse_elf(kernel.elf()).notes) == 1024
    assert elfnote.XEN_ELFNOTE_MAX < 1024
