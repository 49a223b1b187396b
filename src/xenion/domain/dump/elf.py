"""The parts of an ELF64 core file: headers and notes."""

from collections.abc import Sequence
from ctypes import sizeof
from dataclasses import dataclass

from xenion.abi.elf import (
    ELF_IDENT,
    EM_X86_64,
    ET_CORE,
    EV_CURRENT,
    PF_R,
    PT_LOAD,
    PT_NOTE,
    Elf64Ehdr,
    Elf64Nhdr,
    Elf64Phdr,
    Elf64Shdr,
)
from xenion.domain.dump.ranges import Range
from xenion.vmm.memory import PAGE_SIZE

EHDR_SIZE, SHDR_SIZE = sizeof(Elf64Ehdr), sizeof(Elf64Shdr)


@dataclass(frozen=True, slots=True)
class Section:
    """`offset` and `size` in bytes; `entry_size` is that of the table's entries, or 0."""

    name: str
    type: int
    offset: int
    size: int
    align: int = 1
    entry_size: int = 0


def note(name: bytes, kind: int, descriptor: bytes) -> bytes:
    """`name` with its NUL."""
    header = Elf64Nhdr(n_namesz=len(name), n_descsz=len(descriptor), n_type=kind)
    return bytes(header) + _padded(name) + _padded(descriptor)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def string_table(names: Sequence[str]) -> bytes:
    return b"\0" + b"".join(name.encode() + b"\0" for name in names)


def core_header(phoff: int, phnum: int, shnum: int, names_section: int) -> bytes:
    """The section headers are right behind it."""
    header = Elf64Ehdr(
        e_type=ET_CORE,
        e_machine=EM_X86_64,
        e_version=EV_CURRENT,
        e_phoff=phoff,
        e_shoff=EHDR_SIZE,
        e_ehsize=EHDR_SIZE,
        e_phentsize=sizeof(Elf64Phdr),
        e_phnum=phnum,
        e_shentsize=SHDR_SIZE,
        e_shnum=shnum,
        e_shstrndx=names_section,
    )
    header.e_ident[:] = list(ELF_IDENT)
    return bytes(header)


def section_headers(sections: Sequence[Section]) -> bytes:
    """Behind the null section that a table starts with."""
    table, name = bytes(SHDR_SIZE), 1
    for section in sections:
        table += bytes(
            Elf64Shdr(
                sh_name=name,
                sh_type=section.type,
                sh_offset=section.offset,
                sh_size=section.size,
                sh_addralign=section.align,
                sh_entsize=section.entry_size,
            )
        )
        name += len(section.name) + 1
    return table


def program_headers(note_offset: int, note_size: int, ranges: Sequence[Range]) -> bytes:
    """The registers, then the memory."""
    notes = Elf64Phdr(p_type=PT_NOTE, p_offset=note_offset, p_filesz=note_size, p_align=4)
    return bytes(notes) + b"".join(bytes(_load(r)) for r in ranges)


def _load(mapped: Range) -> Elf64Phdr:
    """No physical address: a range is together in virtual memory and in the file only."""
    size = mapped.pages * PAGE_SIZE
    return Elf64Phdr(
        p_type=PT_LOAD,
        p_flags=PF_R,
        p_offset=mapped.file_page * PAGE_SIZE,
        p_vaddr=mapped.address,
        p_filesz=size,
        p_memsz=size,
        p_align=PAGE_SIZE,
    )
