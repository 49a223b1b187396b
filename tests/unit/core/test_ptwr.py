"""The emulation of a kernel's direct writes to its L1 tables: every encoding, its length, what it does."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.encode import ALU, BITS, NEVER_LOCKED, REGISTER_FORMS, Instruction
from tests.unit.core.profiles import examples
from tests.unit.core.scripted import SANITIZE, Core
from tests.unit.core.world import (
    CODE,
    CODE_PAGE,
    NX,
    PAGE,
    RAX,
    RBX,
    RDI,
    RSP,
    RW,
    SPARE,
    WRITABLE_TYPE,
    P,
    World,
    entry,
    page_address,
)
from xenion.abi.xen import MMUEXT_PIN_L1_TABLE

TABLE, OTHER_TABLE, DATA = SPARE, SPARE + 1, SPARE + 2
WRITE_TO_PRESENT = 3
DIRECTION = 0x400
MEMORY_OPERAND = 3
"""capstone.x86.X86_OP_MEM."""
INDEX = 77
SUPPORTED = {*ALU, *BITS, *REGISTER_FORMS, "mov", "not", "stosb", "stosw", "stosd", "stosq"}
GOOD_ENTRIES = (0, 0x66, entry(DATA), entry(DATA, 0x25), entry(DATA) | NX, entry(OTHER_TABLE, 0x25))

words = st.one_of(
    st.sampled_from(GOOD_ENTRIES), st.integers(0, 2**64 - 1), st.integers(0, 2**63 - 1).map(lambda n: n * 2)
)
old_words = st.one_of(st.sampled_from(GOOD_ENTRIES), st.integers(0, 2**63 - 1).map(lambda n: n * 2))


@pytest.fixture(scope="module")
def kernel(core: Core) -> Iterator[World]:
    """A kernel with a pinned L1 table that it maps read-only."""
    with World(core, read_only=[TABLE]) as world:
        for table in (TABLE, OTHER_TABLE):
            assert world.mmuext(MMUEXT_PIN_L1_TABLE, table) == 0
        yield world


@pytest.fixture(scope="module")
def disassembler() -> Any:
    """Capstone; None under a sanitizer, where its library cannot be loaded (it asks for RTLD_DEEPBIND)."""
    if os.environ.get(SANITIZE):
        return None
    import capstone

    capstone_64 = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
    capstone_64.detail = True
    return capstone_64


@st.composite
def operands(draw: st.DrawFn) -> tuple[int, bytes]:
    """ModR/M without its register, and what follows it: any memory operand."""
    mod, rm = draw(st.integers(0, 2)), draw(st.integers(0, 7))
    tail = b""
    displacement = (0, 1, 4)[mod]
    if rm == 4:
        sib = draw(st.integers(0, 255))
        tail = bytes([sib])
        if mod == 0 and sib & 7 == 5:
            displacement = 4
    elif mod == 0 and rm == 5:
        displacement = 4
    return mod << 6 | rm, tail + draw(st.binary(min_size=displacement, max_size=displacement))


@st.composite
def instructions(draw: st.DrawFn) -> Instruction:
    name = draw(st.sampled_from([*ALU, *BITS, *REGISTER_FORMS, "mov", "not", "stos"]))
    size = draw(st.sampled_from([2, 4, 8] if name in BITS else [1, 2, 4, 8]))
    by_register = name in ("xchg", "cmpxchg", "xadd") or (name not in ("not", "stos") and draw(st.booleans()))
    mod_rm, tail = draw(operands()) if name != "stos" else (0, b"")
    return Instruction(
        name=name,
        size=size,
        register=draw(st.integers(0, 15)) if by_register else None,
        immediate=draw(st.integers(0, 2**32 - 1)),
        lock=name not in NEVER_LOCKED and draw(st.booleans()),
        rex=draw(st.sampled_from([0, 0x40, 1, 2, 3])),
        segment=draw(st.booleans()),
        mod_rm=mod_rm,
        tail=tail,
        short=draw(st.booleans()),
    )


def acceptable(world: World, value: int) -> bool:
    """May this word stand in the table?"""
    frame = (value & 0x000FFFFFFFFFF000) >> 12
    if not value & P:
        return True
    if frame >= world.nr_frames or not world.references(frame):
        return False
    return not value & RW or world.type_of(frame)[0] in (0, WRITABLE_TYPE)


def place(world: World, code: bytes, *, at_end: bool) -> int:
    """Puts code into the kernel's code page, with nothing mapped behind it if it is at the end; its address."""
    offset = PAGE - len(code) if at_end else 128
    world.memory[CODE * PAGE + offset : CODE * PAGE + offset + len(code)] = code
    return page_address(CODE_PAGE) + offset


@examples(500)
@given(
    instruction=instructions(),
    registers=st.lists(words, min_size=16, max_size=16),
    matching=st.booleans(),
    old=old_words,
    offset=st.integers(0, 7),
    flags=st.integers(0, 0xFFF).map(lambda f: f & 0xCD5 | 0x202),
    at_end=st.booleans(),
)
def test_what_an_instruction_does(
    kernel: World,
    instruction: Instruction,
    registers: list[int],
    matching: bool,
    old: int,
    offset: int,
    flags: int,
    at_end: bool,
) -> None:
    kernel.ready()
    vcpu, size = kernel.vcpu, instruction.size
    offset -= offset % size
    assert kernel.mmu_update((TABLE << 12 | INDEX << 3, old)) == 0
    shift, mask = 8 * offset, (1 << 8 * size) - 1
    part = old >> shift & mask
    if matching:
        registers[0] = registers[0] & ~mask | part
    registers[RSP] = vcpu.regs[RSP]
    code = instruction.encode()
    rip = place(kernel, code, at_end=at_end)
    expected = list(registers)
    if instruction.name == "stos":
        expected[RDI] = (expected[RDI] + (-size if flags & DIRECTION else size)) % 2**64
    value, new_flags, defined = instruction.run(expected, flags, part)
    stored = old & ~(mask << shift) | value << shift
    for n in range(16):
        vcpu.regs[n] = registers[n]
    kernel.script.flags, vcpu.rip = flags, rip
    kernel.lib.core_page_fault(vcpu, kernel.spare_address(TABLE) + INDEX * 8 + offset, WRITE_TO_PRESENT)
    skipped = instruction.name == "cmpxchg" and part != registers[0] & mask
    if not skipped and not acceptable(kernel, stored):
        assert kernel.faulted(14)
        assert kernel.word(TABLE, INDEX) == old
        return
    assert vcpu.rip == rip + len(code)
    assert kernel.word(TABLE, INDEX) == stored
    assert list(vcpu.regs[0:16]) == expected
    assert kernel.script.flags & defined == new_flags & defined


@examples(300)
@given(instruction=instructions())
def test_the_encoder_means_what_the_disassembler_reads(disassembler: Any, instruction: Instruction) -> None:
    """The tests' own encoder against an independent decoder."""
    if not disassembler:
        pytest.skip("no disassembler under a sanitizer")
    code = instruction.encode()
    (decoded,) = disassembler.disasm(code, 0)
    assert decoded.size == len(code)
    mnemonic = decoded.mnemonic.removeprefix("lock ")
    assert mnemonic.startswith("stos") if instruction.name == "stos" else mnemonic == instruction.name
    assert decoded.mnemonic.startswith("lock ") == instruction.lock


prefixes = st.lists(st.sampled_from([0xF0, 0x66, 0x3E, 0xF2, 0xF3, 0x67, 0x64, 0x2E]), max_size=3).map(bytes)
opcodes = st.one_of(
    st.integers(0, 255).map(lambda n: bytes([n])),
    st.integers(0, 255).map(lambda n: bytes([0x0F, n])),
    st.sampled_from(
        [b"\x89", b"\x87", b"\xc7", b"\x81", b"\x83", b"\xf7", b"\x0f\xba", b"\x0f\xc7", b"\xc4", b"\xc5"]
    ),
)


@examples(1500)
@given(
    start=prefixes,
    rex=st.sampled_from([b"", b"", b"\x48", b"\x4f", b"\x41", b"\x66"]),
    opcode=opcodes,
    tail=st.binary(max_size=11),
    offset=st.sampled_from([0, 0, 0, 4, 2, 1, 3]),
    at_end=st.booleans(),
)
def test_only_known_instructions_are_done(
    kernel: World,
    disassembler: Any,
    start: bytes,
    rex: bytes,
    opcode: bytes,
    tail: bytes,
    offset: int,
    at_end: bool,
) -> None:
    """Whatever the bytes: if it was done, a disassembler reads the same length and a write to memory of that kind."""
    kernel.ready()
    code = (start + rex + opcode + tail)[:15]
    rip = place(kernel, code if at_end else code.ljust(15, b"\x90"), at_end=at_end)
    assert kernel.mmu_update((TABLE << 12 | INDEX << 3, 0)) == 0
    kernel.vcpu.rip = rip
    for n in range(16):
        if n != RSP:
            kernel.vcpu.regs[n] = 2 * n
    kernel.lib.core_page_fault(
        kernel.vcpu, kernel.spare_address(TABLE) + INDEX * 8 + offset, WRITE_TO_PRESENT
    )
    if kernel.faulted(14):
        assert kernel.word(TABLE, INDEX) == 0
        return
    if not disassembler:
        return
    decoded = next(disassembler.disasm(code if at_end else code.ljust(15, b"\x90"), 0), None)
    assert decoded is not None, f"{code.hex()} is no instruction"
    assert kernel.vcpu.rip - rip == decoded.size, f"{code.hex()} {decoded.mnemonic} {decoded.op_str}"
    assert decoded.mnemonic.removeprefix("lock ").removeprefix("notrack ") in SUPPORTED
    assert decoded.operands[0].type == MEMORY_OPERAND
    assert offset % decoded.operands[0].size == 0


@pytest.mark.parametrize(("equal", "rax"), [(True, 0xAAAAAAAA00000066), (False, 0x66)])
def test_cmpxchg_of_32_bits_clears_the_upper_half_when_it_loads(kernel: World, equal: bool, rax: int) -> None:
    kernel.ready()
    assert kernel.mmu_update((TABLE << 12, 0x66)) == 0
    kernel.vcpu.regs[RAX], kernel.vcpu.regs[RBX] = 0xAAAAAAAA00000066 + (not equal), 0x88
    kernel.vcpu.rip = place(kernel, bytes.fromhex("f0 0f b1 18"), at_end=True)
    kernel.lib.core_page_fault(kernel.vcpu, kernel.spare_address(TABLE), WRITE_TO_PRESENT)
    assert kernel.word(TABLE, 0) == (0x88 if equal else 0x66)
    assert kernel.vcpu.regs[RAX] == rax


@pytest.mark.parametrize(
    "code",
    [
        "11 18",  # adc
        "19 18",  # sbb
        "f0 89 18",  # a locked mov is no instruction
        "0f ab c3",  # a register operand
        "0f ba 20 01",  # bt
        "f3 48 ab",  # rep stos
        "67 89 18",
        "64 89 18",
        "0f c7 08",  # cmpxchg8b
        "0f 11 00",  # movups
        "c7 40",  # cut off by the end of the mapping
        "89 80 00 00",
        "66",
        "f0",
        "48",
        "0f",
    ],
)
def test_refused(kernel: World, code: str) -> None:
    kernel.ready()
    kernel.vcpu.rip = place(kernel, bytes.fromhex(code), at_end=True)
    kernel.lib.core_page_fault(kernel.vcpu, kernel.spare_address(TABLE), WRITE_TO_PRESENT)
    assert kernel.faulted(14)


def test_only_l1_tables_mapped_read_only(kernel: World) -> None:
    """A fault elsewhere is the kernel's own."""
    kernel.ready()
    rip = place(kernel, b"\x48\x89\x18", at_end=False)
    for address in (page_address(0), page_address(9), 0, 1 << 47, 2**64 - 8, 0xFFFF800000000000):
        kernel.ready()
        kernel.vcpu.rip = rip
        kernel.lib.core_page_fault(kernel.vcpu, address, WRITE_TO_PRESENT)
        assert kernel.faulted(14)


def test_applications_never_write_tables(kernel: World) -> None:
    kernel.ready()
    kernel.vcpu.rip = place(kernel, b"\x48\x89\x18", at_end=False)
    kernel.vcpu.kernel_mode, kernel.vcpu.loaded_cr3 = 0, kernel.vcpu.user_cr3
    kernel.lib.core_page_fault(kernel.vcpu, kernel.spare_address(TABLE), 7)
    assert kernel.faulted(14)
