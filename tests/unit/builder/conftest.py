"""Tiny kernels, made byte by byte so that tests can also make them wrong."""

import struct
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from xenion.abi import elfnote

VIRT_BASE = 0xFFFFFFFF80000000
START = 0x100000


@dataclass
class TinySegment:
    paddr: int
    data: bytes
    memsz: int = 0
    flags: int = 5
    vaddr: int = 0


@dataclass
class TinySection:
    name: str
    type: int
    data: bytes
    link: int = 0


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def linux_notes(**numbers: int) -> dict[int, bytes]:
    """The notes of a Linux kernel; ``init_p2m=0x8000000000`` and the like add or change numeric ones."""
    notes = {
        elfnote.XEN_ELFNOTE_GUEST_OS: string("linux"),
        elfnote.XEN_ELFNOTE_GUEST_VERSION: string("2.6"),
        elfnote.XEN_ELFNOTE_XEN_VERSION: string("xen-3.0"),
        elfnote.XEN_ELFNOTE_LOADER: string("generic"),
        elfnote.XEN_ELFNOTE_VIRT_BASE: struct.pack("<Q", VIRT_BASE),
        elfnote.XEN_ELFNOTE_ENTRY: struct.pack("<Q", VIRT_BASE + START + 0x40),
        elfnote.XEN_ELFNOTE_FEATURES: string("!writable_page_tables|pae_pgdir_above_4gb"),
    }
    for name, value in numbers.items():
        notes[getattr(elfnote, f"XEN_ELFNOTE_{name.upper()}")] = struct.pack("<Q", value)
    return notes


@dataclass
class TinyKernel:
    """A 64-bit ELF kernel of two segments; every field may be changed before `elf` puts it together."""

    notes: dict[int, bytes] = field(default_factory=linux_notes)
    segments: list[TinySegment] = field(
        default_factory=lambda: [
            TinySegment(START, bytes(range(256)) * 40, flags=5),
            TinySegment(START + 0x4000, b"data" * 2000, memsz=0x9000, flags=6),
        ]
    )
    sections: list[TinySection] = field(default_factory=list)
    entry: int = START
    machine: int = 62
    type: int = 2
    ident: bytes = b"\x7fELF\x02\x01\x01"
    notes_in_section: bool = False

    def note_bytes(self) -> bytes:
        out = b""
        for type_, desc in self.notes.items():
            padded = desc + bytes(-len(desc) % 4)
            out += struct.pack("<III", 4, len(desc), type_) + b"Xen\0" + padded
        return out

    def elf(self) -> bytes:
        notes = self.note_bytes()
        headers = [(1, s.flags, s.vaddr, s.paddr, s.data, max(s.memsz, len(s.data))) for s in self.segments]
        if not self.notes_in_section:
            headers.append((4, 4, 0, 0, notes, len(notes)))
        position = 64 + 56 * len(headers)
        table = body = b""
        for type_, flags, vaddr, paddr, data, memsz in headers:
            offset = position + len(body)
            table += struct.pack("<IIQQQQQQ", type_, flags, offset, vaddr, paddr, len(data), memsz, 4)
            body += data
        sections = [TinySection("", 0, b""), *self.sections]
        if self.notes_in_section:
            sections.append(TinySection(".notes", 7, notes))
        shoff, section_bytes = self._sections(sections, position + len(body))
        header = self.ident.ljust(16, b"\0") + struct.pack(
            "<HHIQQQIHHHHHH",
            self.type,
            self.machine,
            1,
            self.entry,
            64,
            shoff,
            0,
            64,
            56,
            len(headers),
            64,
            len(sections) + 1,
            len(sections),
        )
        return header + table + body + section_bytes

    @staticmethod
    def _sections(sections: Sequence[TinySection], position: int) -> tuple[int, bytes]:
        names, body, table = b"\0", b"", b""
        sections = [*sections, TinySection(".shstrtab", 3, b"")]
        for section in sections:
            start = len(names)
            names += string(section.name)
            data = names if section.name == ".shstrtab" else section.data
            table += struct.pack(
                "<IIQQQQIIQQ",
                start,
                section.type,
                0,
                0,
                position + len(body),
                len(data),
                section.link,
                0,
                4,
                24,
            )
            body += data
        return position + len(body), body + table


def bzimage(payload: bytes, *, version: int = 0x020F, setup_sects: int = 4) -> bytes:
    """Wrap a compressed payload, with its size trailer if it has one, as Linux's boot protocol says."""
    head = bytearray(512 * (setup_sects + 1))
    head[0x1F1] = setup_sects
    head[0x1FE:0x200] = b"\x55\xaa"
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x206, version)
    struct.pack_into("<II", head, 0x248, 100, len(payload))
    return bytes(head) + bytes(100) + payload + b"after"


class FakeSpace:
    """A domain's memory over a bytearray; frame numbers are far from page numbers, and run backwards."""

    def __init__(self, nr_pages: int) -> None:
        self.nr_pages = nr_pages
        self.shared_info_mfn = 0x1234
        self.memory = bytearray(nr_pages * 4096)
        self.top = nr_pages + 0x4000

    def mfn_range(self, start: int, count: int) -> "array[int]":
        assert 0 <= start <= start + count <= self.nr_pages
        return array("Q", range(self.top - start, self.top - start - count, -1))

    def pfn(self, mfn: int) -> int:
        assert 0 <= self.top - mfn < self.nr_pages, "a frame of another domain"
        return self.top - mfn

    def write(self, paddr: int, data: bytes | memoryview) -> None:
        assert 0 <= paddr <= paddr + len(data) <= len(self.memory)
        assert not any(self.memory[paddr : paddr + len(data)]), "written twice"
        self.memory[paddr : paddr + len(data)] = data

    def write_words(self, paddr: int, words: "array[int] | Sequence[int]") -> None:
        self.write(paddr, struct.pack(f"<{len(words)}Q", *words))

    def word(self, paddr: int) -> int:
        return int.from_bytes(self.memory[paddr : paddr + 8], "little")

    def walk(self, cr3_pfn: int, vaddr: int) -> int | None:
        """The leaf entry for an address, found as hardware would."""
        table = cr3_pfn
        for shift in (39, 30, 21, 12):
            entry = self.word(table * 4096 + (vaddr >> shift & 511) * 8)
            if not entry & 1:
                return None
            if shift > 12:
                assert entry & ~0x000FFFFFFFFFF000 == 0x63
                table = self.pfn(entry >> 12 & (1 << 40) - 1)
        return entry

    def mapped(self, cr3_pfn: int) -> dict[int, int]:
        """Every mapped page's virtual address and leaf entry."""
        found: dict[int, int] = {}

        def visit(table: int, level: int, base: int) -> None:
            for slot in range(512):
                entry = self.word(table * 4096 + slot * 8)
                vaddr = base + (slot << 12 + 9 * (level - 1))
                if entry & 1 and level == 1:
                    found[vaddr | (0xFFFF << 48 if vaddr >> 47 else 0)] = entry
                elif entry & 1:
                    visit(self.pfn(entry >> 12 & (1 << 40) - 1), level - 1, vaddr)

        visit(cr3_pfn, 4, 0)
        return found


@pytest.fixture(scope="session")
def tiny_kernel() -> type[TinyKernel]:
    return TinyKernel


@pytest.fixture(scope="session")
def tiny_segment() -> type[TinySegment]:
    return TinySegment


@pytest.fixture(scope="session")
def tiny_section() -> type[TinySection]:
    return TinySection


@pytest.fixture(scope="session")
def make_bzimage() -> Callable[..., bytes]:
    return bzimage


@pytest.fixture(scope="session")
def make_notes() -> Callable[..., dict[int, bytes]]:
    return linux_notes


@pytest.fixture(scope="session")
def fake_space() -> type[FakeSpace]:
    return FakeSpace
