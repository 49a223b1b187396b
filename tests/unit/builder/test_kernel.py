import gzip
import shutil
import struct
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xenion.builder.errors import KernelImageError
from xenion.builder.kernel import load_kernel

if TYPE_CHECKING:
    from tests.unit.builder.conftest import TinyKernel, TinySegment

BASE = 0xFFFFFFFF80000000
SOURCE = """
    .macro note type, value:vararg
    .pushsection .notes, "a", @note
    .long 4, 2f-1f, \\type
    .asciz "Xen"
1:  \\value
2:  .balign 4
    .popsection
    .endm
    note 6, .asciz "linux"
    note 5, .asciz "xen-3.0"
    note 8, .asciz "generic"
    note 3, .quad 0xffffffff80000000
    note 1, .quad start
    .text
    .globl start, later
start:  mov $1, %eax
later:  hlt
    .data
    .quad 7
    .bss
    .skip 8192
"""
SCRIPT = """
ENTRY(start)
PHDRS { text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); notes PT_NOTE; }
SECTIONS {
  . = 0xffffffff80200000;
  .text : AT(0x200000) { *(.text) } :text
  .notes : AT(0x201000) { *(.notes) } :text :notes
  . = 0xffffffff80203000;
  .data : AT(0x203000) { *(.data) } :data
  .bss : AT(0x204000) { *(.bss) } :data
}
"""


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A kernel made by the real assembler and linker."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder: Path = tmp_path_factory.mktemp("kernel")
    (folder / "kernel.S").write_text(SOURCE)
    (folder / "kernel.lds").write_text(SCRIPT)
    command = (
        "gcc -nostdlib -static -no-pie -Wl,--build-id=none,-T,kernel.lds,-z,noexecstack -o kernel kernel.S"
    )
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    return (folder / "kernel").read_bytes()


def test_a_linked_kernel(linked: bytes) -> None:
    image = load_kernel(gzip.compress(linked))
    assert image.addresses.entry == BASE + 0x200000
    assert image.addresses.image_start == 0x200000
    assert image.addresses.image_end >= 0x206000
    assert image.symbols.lookup(BASE + 0x200005) == "later+0x0"
    assert image.executable_pages() == [range(0x200, 0x202)]
    assert image.minimum_mib == 4
    placed = dict(image.placed())
    assert bytes(placed[0x200000][:5]) == b"\xb8\x01\0\0\0"
    assert bytes(placed[0x203000][:8]) == struct.pack("<Q", 7)


def test_code_is_what_the_flags_say_and_the_hypercall_page(
    tiny_kernel: "type[TinyKernel]", make_notes: Callable[..., dict[int, bytes]]
) -> None:
    kernel = tiny_kernel(notes=make_notes(hypercall_page=BASE + 0x105000))
    assert load_kernel(kernel.elf()).executable_pages() == [range(0x100, 0x103), range(0x105, 0x106)]


def test_all_is_code_where_the_flags_do_not_cover_the_entry(tiny_kernel: "type[TinyKernel]") -> None:
    kernel = tiny_kernel()
    kernel.segments[0].flags = 6
    assert load_kernel(kernel.elf()).executable_pages() == [range(0x100, 0x10D)]


def test_the_paddr_offset_is_taken_off(
    tiny_kernel: "type[TinyKernel]",
    tiny_segment: "type[TinySegment]",
    make_notes: Callable[..., dict[int, bytes]],
) -> None:
    segments = [tiny_segment(BASE + 0x100000, b"code" * 40)]
    image = load_kernel(tiny_kernel(notes=make_notes(paddr_offset=BASE), segments=segments).elf())
    assert [(paddr, bytes(data)) for paddr, data in image.placed()] == [(0x100000, b"code" * 40)]
    assert image.executable_pages() == [range(0x100, 0x101)]


@settings(max_examples=200)
@given(edits=st.lists(st.tuples(st.integers(0, 1000), st.binary(min_size=1, max_size=8)), max_size=6))
def test_mutated_kernels_raise_nothing_else(linked: bytes, edits: list[tuple[int, bytes]]) -> None:
    """Edits fall on the headers, on the notes and on the section headers."""
    notes = linked.index(b"Xen\0") - 12
    data = bytearray(linked)
    for offset, value in edits:
        region = (0, notes, len(data) - 64 * 8)[offset % 3]
        place = region + offset // 3
        data[place : place + len(value)] = value
    with suppress(KernelImageError):
        image = load_kernel(bytes(data))
        assert image.minimum_mib > 0
        assert image.symbols.lookup(image.addresses.entry) != ""
