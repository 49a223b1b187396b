"""Emulated instructions: decoding whatever bytes there are, and what each of them changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm.kernel import FIRST_FREE, PAGES, Kernel
from xenion.processor import CpuidLeaf
from xenion.vmm import privileged
from xenion.vmm.memory import PAGE_SIZE

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
GP, UD = 13, 6
PREFIXES = b"\x66\xf2\xf3\x2e\x36\x3e\x26\x64\x65"
CODE = FIRST_FREE + 2


def run(kernel: Kernel, code: str, vector: int = GP, **registers: int) -> bool:
    """At the end of the last mapped page, so that nothing can be read behind the instruction."""
    data, state = bytes.fromhex(code), kernel.vcpu.state
    for name, value in registers.items():
        state.regs[globals()[name.upper()]] = value
    state.rip = kernel.put(data, PAGES - 1, PAGE_SIZE - len(data))
    return privileged.emulate(kernel.vcpu, vector, 0)


def advanced(kernel: Kernel) -> int:
    """How far the instruction pointer is from the end of the mapped pages."""
    return int(kernel.vcpu.state.rip) - kernel.address(PAGES)


@given(
    st.lists(st.sampled_from(list(PREFIXES)), max_size=14),
    st.integers(0, 15),
    st.booleans(),
    st.binary(max_size=6),
)
def test_decode(prefixes: list[int], rex: int, has_rex: bool, rest: bytes) -> None:
    rest = rest if rest and rest[0] not in PREFIXES and rest[0] & 0xF0 != 0x40 else b"\x90" + rest
    code = bytes(prefixes) + (bytes([0x40 | rex]) if has_rex else b"") + rest
    decoded = privileged._decode(code)
    assert decoded.opcode == rest
    assert decoded.prefixes == len(prefixes) + has_rex
    assert decoded.rex == (0x40 | rex if has_rex else 0)
    assert decoded.operand_size == (2 if 0x66 in prefixes else 4)
    assert decoded.repeat == bool({0xF2, 0xF3} & set(prefixes))
    assert decoded.length(len(rest)) == len(code)


@given(st.binary(max_size=15))
def test_decode_takes_any_bytes(code: bytes) -> None:
    decoded = privileged._decode(code)
    assert code[decoded.prefixes :] == decoded.opcode


@pytest.mark.parametrize(
    ("vendor", "known"), [(b"GenuntelineI", {0x1A0: 0x801801}), (b"AuthcAMDenti", {0xC0010015: 1 << 24})]
)
def test_registers_of_one_vendor(kernel: Kernel, vendor: bytes, known: dict[int, int]) -> None:
    """Without fast strings on Intel's, Linux clears ERMS and leaves FSRM: its memmove never ends then."""
    names = [int.from_bytes(vendor[at : at + 4], "little") for at in (0, 4, 8)]
    kernel.domain.cpuid = (CpuidLeaf(0, None, 7, names[0], names[1], names[2]),)
    for msr in (0x1A0, 0xC0010015):
        done = run(kernel, "0f32", rcx=msr)
        assert done == (msr in known)
        if done:
            regs = kernel.vcpu.state.regs
            assert regs[RDX] << 32 | regs[RAX] == known[msr]


@pytest.mark.parametrize(
    ("code", "result"),
    [
        ("e571", 0xFFFFFFFF),
        ("e471", 0x11FF),
        ("66ed", 0x1111FFFF),
        ("ed", 0xFFFFFFFF),
        ("66e571", 0x1111FFFF),
    ],
)
def test_ports_read_as_ones(kernel: Kernel, code: str, result: int) -> None:
    kernel.vcpu.state.iopl = 1 << 12
    assert run(kernel, code, rax=0x11111111, rdx=0x3F8)
    assert advanced(kernel) == 0
    expected = result if result >> 16 else 0x11111100 | result & 0xFF
    assert kernel.vcpu.state.regs[RAX] == expected


def test_ports_are_closed_below_the_iopl(kernel: Kernel) -> None:
    assert not run(kernel, "ed", rdx=0x3F8)
    kernel.vcpu.state.iopl, kernel.vcpu.state.kernel_mode = 2 << 12, 0
    assert not run(kernel, "ed", rdx=0x3F8)


@pytest.mark.parametrize(("value", "kept"), [(0x80050033, 0), (0x8005003B, 1)])
def test_cr0_keeps_ts_alone(kernel: Kernel, value: int, kept: int) -> None:
    assert run(kernel, "0f22c0", rax=value)
    assert kernel.vcpu.state.task_switched == kept
    assert run(kernel, "0f20c3")
    assert kernel.vcpu.state.regs[RBX] == value


def test_cr0_refuses_what_xen_does(kernel: Kernel) -> None:
    assert not run(kernel, "0f22c0", rax=0)
    assert not run(kernel, "0f22c0", rax=0x80050032)


def test_cr2_is_virtual(kernel: Kernel) -> None:
    kernel.vcpu.state.regs[8] = 0x1234567890
    assert run(kernel, "410f22d0")
    assert kernel.domain.fault_address(kernel.vcpu) == 0x1234567890


def test_cr3_takes_only_good_tables(kernel: Kernel) -> None:
    before = kernel.vcpu.state.cr3
    for bad in (0, kernel.mfn(1) << 12, kernel.mfn(FIRST_FREE + 3) << 12, 1 << 60):
        assert not run(kernel, "0f22d8", rax=bad)
    assert kernel.vcpu.state.cr3 == before
    assert run(kernel, "0f22d8", rax=before)


@pytest.mark.parametrize("code", ["0f20cb", "440f20c0", "0f22cb", "0f2003"])
def test_other_control_registers_fault(kernel: Kernel, code: str) -> None:
    assert not run(kernel, code)


@pytest.mark.parametrize("msr", [0xC0000100, 0xC0000101, 0xC0000102])
def test_bases(kernel: Kernel, msr: int) -> None:
    base = 0xFFFF888012345678
    assert run(kernel, "0f30", rcx=msr, rax=base & 0xFFFFFFFF, rdx=base >> 32)
    assert run(kernel, "0f32", rcx=msr)
    regs = kernel.vcpu.state.regs
    assert regs[RDX] << 32 | regs[RAX] == base
    assert not run(kernel, "0f30", rcx=msr, rax=0, rdx=0x80000000)


@pytest.mark.parametrize("msr", [0, 0x40000000, 0xC0000081, 0xFFFFFFFF])
def test_other_msrs_fault(kernel: Kernel, msr: int) -> None:
    assert not run(kernel, "0f32", rcx=msr)
    assert not run(kernel, "0f30", rcx=msr)


def test_applications_get_nothing_but_ports(kernel: Kernel) -> None:
    lower = kernel.domain.state
    lower.vcpus[0].user_cr3, lower.vcpus[0].kernel_mode = lower.vcpus[0].cr3, 0
    for code in ("0f32", "0f20c0", "0f06", "0f09"):
        assert not run(kernel, code, rcx=0x277)


def test_forced_cpuid(kernel: Kernel) -> None:
    assert run(kernel, "0f0b78656e0fa2", UD, rax=0x40000000)
    assert kernel.vcpu.state.regs[RBX] == int.from_bytes(b"XenV", "little")
    assert advanced(kernel) == 0
    assert not run(kernel, "0f0b78656e0fa3", UD)
    assert not run(kernel, "0f0b", UD)


@pytest.mark.parametrize("first", [0x0F, *privileged.ONE_BYTE])
def test_any_tail_of_an_opcode(kernel: Kernel, first: int) -> None:
    """Instructions that are cut off, and every second byte: a bool, never an exception."""
    kernel.vcpu.state.iopl = 3 << 12
    tails = ["", *(f"{n:02x}" for n in range(0, 256, 5)), *(f"{n:02x}c0" for n in range(256)), "22d8", "3000"]
    for tail in tails:
        assert run(kernel, f"{first:02x}{tail}", rcx=1, rdx=0x3F8, rdi=kernel.address(CODE)) in (True, False)


@pytest.mark.parametrize("vector", [UD, GP])
def test_code_that_cannot_be_read(kernel: Kernel, vector: int) -> None:
    for rip in (0, 1 << 47, 2**64 - 1, kernel.address(PAGES), 0xFFFF800000000000):
        kernel.vcpu.state.rip = rip
        assert not privileged.emulate(kernel.vcpu, vector, 0)


def test_string_ports_at_the_edges(kernel: Kernel) -> None:
    kernel.vcpu.state.iopl = 3 << 12
    for rdi in (0, 2**64 - 1, 2**64 - 4, 1 << 47, kernel.address(PAGES) - 2):
        assert run(kernel, "f36d", rcx=2**64 - 1, rdi=rdi, rdx=1) is False
    assert run(kernel, "f36c", rcx=0, rdi=0, rdx=1)
    assert run(kernel, "6c", rdi=kernel.address(CODE), rdx=1)
    assert kernel.vcpu.read(kernel.address(CODE), 2) == b"\xff\0"
