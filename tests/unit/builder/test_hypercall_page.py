import pytest

from xenion.abi.xen import Hypercall
from xenion.builder.hypercall_page import hypercall_page

capstone = pytest.importorskip("capstone")


def listing(number: int) -> list[str]:
    stub = hypercall_page()[32 * number : 32 * number + 32]
    return [
        f"{i.mnemonic} {i.op_str}".strip()
        for i in capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64).disasm(stub, 0)
    ]


def test_a_stub_saves_what_syscall_destroys() -> None:
    assert len(hypercall_page()) == 4096
    for number in (0, Hypercall.sched_op, 127):
        load = f"mov eax, {number:#x}" if number > 9 else f"mov eax, {number}"
        assert listing(number)[:7] == ["push rcx", "push r11", load, "syscall", "pop r11", "pop rcx", "ret"]
        assert set(listing(number)[7:]) == {"int3"}


def test_iret_does_not_return() -> None:
    assert listing(Hypercall.iret)[:5] == ["push rcx", "push r11", "push rax", "mov eax, 0x17", "syscall"]
    assert set(listing(Hypercall.iret)[5:]) == {"int3"}
