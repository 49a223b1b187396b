"""Headers and notes, byte by byte."""

import struct

from xenion.abi.elf import PT_LOAD, PT_NOTE, Elf64Ehdr, Elf64Phdr, Elf64Shdr
from xenion.domain.dump.elf import (
    Section,
    core_header,
    note,
    program_headers,
    section_headers,
    string_table,
)
from xenion.domain.dump.ranges import Range


def test_a_note_is_padded_behind_name_and_descriptor() -> None:
    assert note(b"CORE\0", 1, b"12345") == struct.pack("<III8s8s", 5, 5, 1, b"CORE", b"12345")
    assert note(b"Xen\0", 9, b"") == struct.pack("<III4s", 4, 0, 9, b"Xen")


def test_core_header() -> None:
    header = Elf64Ehdr.from_buffer_copy(core_header(1 << 33, 3, 7, 1))
    assert bytes(header.e_ident) == b"\x7fELF\x02\x01\x01" + bytes(9)
    assert (header.e_type, header.e_machine, header.e_phoff, header.e_shoff) == (4, 62, 1 << 33, 64)
    assert (header.e_phnum, header.e_phentsize, header.e_shnum, header.e_shentsize) == (3, 56, 7, 64)


def test_sections_find_their_names() -> None:
    sections = [Section(".one", 1, 10, 20), Section(".two", 3, 30, 40, 8, 4)]
    names, table = string_table([s.name for s in sections]), section_headers(sections)
    first, one, two = (Elf64Shdr.from_buffer_copy(table, at) for at in (0, 64, 128))
    assert bytes(first) == bytes(64)
    assert names[one.sh_name :].startswith(b".one\0")
    assert names[two.sh_name :] == b".two\0"
    assert (two.sh_type, two.sh_offset, two.sh_size, two.sh_addralign, two.sh_entsize) == (3, 30, 40, 8, 4)


def test_program_headers() -> None:
    table = program_headers(100, 20, [Range(0xFFFF888000000000, 3, 2)])
    notes, load = (Elf64Phdr.from_buffer_copy(table, at) for at in (0, 56))
    assert (notes.p_type, notes.p_offset, notes.p_filesz) == (PT_NOTE, 100, 20)
    assert (load.p_type, load.p_offset, load.p_vaddr) == (PT_LOAD, 0x3000, 0xFFFF888000000000)
    assert (load.p_filesz, load.p_memsz) == (0x2000, 0x2000)
