"""A kernel's ELF file: the segments to load, the notes, and the symbols for crash reports.

Follows the ELF-64 object file format as Xen's libelf reads it. pyelftools describes the structures; where
they lie is checked here before they are handed to it, since its own navigation trusts the file's offsets and
counts.
"""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from xenion.builder.errors import KernelImageError

if TYPE_CHECKING:
    from elftools.construct import Construct
    from elftools.construct.lib.container import Container

PF_X, PF_W, PF_R = 1, 2, 4

_EHDR_SIZE, _PHDR_SIZE, _SHDR_SIZE = 64, 56, 64
_MAX_PHDRS = 64
_MAX_SHDRS = 4096
_MAX_NOTES = 1024
_MAX_NOTE_DESC = 4096
_MAX_NAME = 512
_NHDR = struct.Struct("<III")  # Elf64_Nhdr: namesz, descsz, type
_SYMBOL = struct.Struct("<IBBHQQ")  # Elf64_Sym: name, info, other, shndx, value, size
_STT_SECTION, _STT_FILE = 3, 4
_SYMBOL_REACH = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A PT_LOAD header: ``data`` goes to ``paddr``, and zeros from its end up to ``memsz`` bytes."""

    vaddr: int
    paddr: int
    data: memoryview
    memsz: int
    flags: int

    @property
    def end(self) -> int:
        return self.paddr + self.memsz


@dataclass(frozen=True)
class Note:
    """An ELF note of the owner "Xen": its type (XEN_ELFNOTE_*) and its descriptor."""

    type: int
    desc: bytes


class Symbols:
    """Addresses to names, from an ELF symbol table. It is sorted at the first look-up, not before."""

    def __init__(self, table: bytes = b"", names: bytes = b"") -> None:
        self._table = table
        self._names = names

    def lookup(self, address: int) -> str | None:
        """Name an address as ``name+0x12``; None where no symbol is near below it."""
        values, names = self._sorted
        position = bisect_right(values, address) - 1
        if position < 0 or address - values[position] >= _SYMBOL_REACH:
            return None
        start = names[position]
        name = self._names[start : start + _MAX_NAME].split(b"\0", 1)[0].decode("ascii", "replace")
        return f"{name}+{address - values[position]:#x}"

    @cached_property
    def _sorted(self) -> tuple[list[int], list[int]]:
        """The values in order, and where in the string table the name of each starts."""
        whole = len(self._table) // _SYMBOL.size * _SYMBOL.size
        pairs = sorted(
            (value, name)
            for name, info, _, shndx, value, _ in _SYMBOL.iter_unpack(self._table[:whole])
            if shndx and 0 < name < len(self._names) and info & 0xF not in (_STT_SECTION, _STT_FILE)
        )
        return [value for value, _ in pairs], [name for _, name in pairs]


@dataclass(frozen=True)
class ElfFile:
    """A 64-bit x86 executable. Segments are in order of ``paddr``, never empty, and do not overlap."""

    entry: int
    segments: tuple[Segment, ...]
    notes: tuple[Note, ...]
    """Xen's notes: those of the PT_NOTE segments, or if these have none, those of the SHT_NOTE sections."""
    xen_guest: bytes | None
    """The legacy ``__xen_guest`` section."""
    symbols: Symbols

    @property
    def start(self) -> int:
        """The lowest p_paddr."""
        return self.segments[0].paddr

    @property
    def end(self) -> int:
        """The end of the highest segment, from its p_paddr and p_memsz."""
        return self.segments[-1].end


def parse_elf(data: bytes) -> ElfFile:
    """Parse an ELF file, or raise KernelImageError with a sentence that says what is wrong with it."""
    return _Parser(data).parse()


class _Parser:
    def __init__(self, data: bytes) -> None:
        from elftools.elf.structs import ELFStructs

        self._data = memoryview(data)
        self._notes_left = _MAX_NOTES
        self._structs = ELFStructs(little_endian=True, elfclass=64)
        _check_ident(data)
        self._structs.create_basic_structs()
        self._header = self._struct(self._structs.Elf_Ehdr, 0, _EHDR_SIZE, "header")
        _check_header(self._header)
        self._structs.create_advanced_structs(self._header.e_type, self._header.e_machine)

    def parse(self) -> ElfFile:
        headers = self._table(
            self._structs.Elf_Phdr, self._header.e_phoff, self._header.e_phnum, _PHDR_SIZE, "program"
        )
        segments = tuple(self._load(headers))
        sections = self._sections()
        notes = list(self._segment_notes(headers)) or list(self._section_notes(sections))
        return ElfFile(
            entry=self._header.e_entry,
            segments=segments,
            notes=tuple(notes),
            xen_guest=self._xen_guest(sections),
            symbols=self._symbols(sections),
        )

    def _load(self, headers: "list[Container]") -> list[Segment]:
        segments = sorted(
            (self._segment(h) for h in headers if h.p_type == "PT_LOAD" and h.p_memsz), key=lambda s: s.paddr
        )
        if not segments:
            raise KernelImageError("the kernel's ELF file has nothing to load: it has no PT_LOAD segment")
        for low, high in pairwise(segments):
            if high.paddr < low.end:
                raise KernelImageError(
                    f"the kernel's segments at physical {low.paddr:#x} and {high.paddr:#x} overlap: "
                    f"the file is corrupt"
                )
        return segments

    def _segment(self, header: "Container") -> Segment:
        where = f"the kernel's segment at physical {header.p_paddr:#x}"
        if header.p_filesz > header.p_memsz:
            raise KernelImageError(f"{where} has more bytes in the file than in memory: the file is corrupt")
        return Segment(
            vaddr=header.p_vaddr,
            paddr=header.p_paddr,
            data=self._bytes(header.p_offset, header.p_filesz, where),
            memsz=header.p_memsz,
            flags=header.p_flags,
        )

    def _sections(self) -> "list[Container]":
        """The section headers; none where the table is broken, since a kernel can do without."""
        try:
            return self._table(
                self._structs.Elf_Shdr, self._header.e_shoff, self._header.e_shnum, _SHDR_SIZE, "section"
            )
        except KernelImageError:
            return []

    def _section_bytes(self, section: "Container") -> memoryview | None:
        """A section's contents; None where the file has not got them."""
        if section.sh_type == "SHT_NOBITS":
            return None
        try:
            return self._bytes(section.sh_offset, section.sh_size, "a section")
        except KernelImageError:
            return None

    def _segment_notes(self, headers: "list[Container]") -> Iterator[Note]:
        for header in headers:
            if header.p_type == "PT_NOTE":
                yield from self._notes(
                    self._bytes(header.p_offset, header.p_filesz, "a note segment"), header.p_align
                )

    def _section_notes(self, sections: "list[Container]") -> Iterator[Note]:
        for section in sections:
            if section.sh_type == "SHT_NOTE" and (contents := self._section_bytes(section)) is not None:
                yield from self._notes(contents, section.sh_addralign)

    def _notes(self, contents: memoryview, alignment: int) -> Iterator[Note]:
        """Walk notes, yield Xen's; the first that does not fit ends the walk, as in libelf."""
        pad = 8 if alignment == 8 else 4
        position = 0
        while self._notes_left and position + _NHDR.size <= len(contents):
            self._notes_left -= 1
            name_size, desc_size, type_ = _NHDR.unpack_from(contents, position)
            name = position + _NHDR.size
            desc = _aligned(name + name_size, pad)
            position = _aligned(desc + desc_size, pad)
            if desc + desc_size > len(contents):
                return
            if bytes(contents[name : name + min(name_size, 5)]) == b"Xen\0" and desc_size <= _MAX_NOTE_DESC:
                yield Note(type_, bytes(contents[desc : desc + desc_size]))

    def _xen_guest(self, sections: "list[Container]") -> bytes | None:
        if self._header.e_shstrndx >= len(sections):
            return None
        names = self._section_bytes(sections[self._header.e_shstrndx])
        wanted = b"__xen_guest\0"
        for section in sections:
            start = section.sh_name
            if names is not None and bytes(names[start : start + len(wanted)]) == wanted:
                contents = self._section_bytes(section)
                return None if contents is None else bytes(contents[:65536])
        return None

    def _symbols(self, sections: "list[Container]") -> Symbols:
        for section in sections:
            if section.sh_type == "SHT_SYMTAB" and section.sh_link < len(sections):
                table, names = self._section_bytes(section), self._section_bytes(sections[section.sh_link])
                if table is not None and names is not None:
                    # Copies, so that the symbols do not keep the whole file in memory.
                    return Symbols(bytes(table), bytes(names))
        return Symbols()

    def _table(self, form: "Construct", offset: int, count: int, size: int, what: str) -> "list[Container]":
        declared = self._header.e_phentsize if what == "program" else self._header.e_shentsize
        most = _MAX_PHDRS if what == "program" else _MAX_SHDRS
        if count == 0:
            return []
        if declared != size or count > most:
            raise KernelImageError(
                f"the kernel's ELF file has {count} {what} headers of {declared} bytes, but at most {most} "
                f"of {size} are expected: it is corrupt"
            )
        return [self._struct(form, offset + n * size, size, f"{what} header") for n in range(count)]

    def _struct(self, form: "Construct", offset: int, size: int, what: str) -> "Container":
        from elftools.construct import ConstructError

        piece = bytes(self._bytes(offset, size, f"the {what}"))
        try:
            parsed: Container = form.parse(piece)
        # The bytes are all there, and every field is an integer or an enumeration that lets unknown values
        # pass: the library's own error is the only one that parsing can raise.
        except ConstructError as error:
            raise KernelImageError(f"the kernel's ELF {what} is corrupt: {error}") from error
        return parsed

    def _bytes(self, offset: int, size: int, what: str) -> memoryview:
        if offset + size > len(self._data):
            raise KernelImageError(
                f"{what} ends at byte {offset + size} of the kernel's ELF file, which has {len(self._data)}: "
                f"it is truncated or corrupt"
            )
        return self._data[offset : offset + size]


def _check_ident(data: bytes) -> None:
    if data[:4] != b"\x7fELF":
        raise KernelImageError("the kernel is no ELF file")
    if data[4:5] == b"\x01":
        raise KernelImageError("the kernel is a 32-bit ELF: only 64-bit PV kernels (x86-64) can be started")
    if data[4:6] != b"\x02\x01":
        raise KernelImageError(
            "the kernel's ELF file is neither 64-bit nor little-endian: it is not for x86-64"
        )


def _check_header(header: "Container") -> None:
    if header.e_machine != "EM_X86_64":
        raise KernelImageError(
            f"the kernel is built for another machine ({header.e_machine}): x86-64 is needed"
        )
    if header.e_type != "ET_EXEC":
        raise KernelImageError(
            f"the kernel's ELF file is not an executable but {header.e_type}: give the linked kernel"
        )


def _aligned(value: int, to: int) -> int:
    return (value + to - 1) & -to
