"""The trace flag: a #DB after every instruction, with its address, and no trace of it in the handler."""

from __future__ import annotations

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import INTERRUPTS, SYSCALL, TRACE

STEPPER = """
    .text
    stepper: push %rax              /* notes where it stopped and goes on */
        push %rdx
        mov count, %rax
        mov 32(%rsp), %rdx
        mov %rdx, places(,%rax,8)
        incq count
        pushf
        pop %rdx
        or %rdx, flags
        pop %rdx
        pop %rax
        HIRET
    .data
    .balign 8
    count: .quad 0
    flags: .quad 0
    places: .skip 800
"""


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
def test_every_instruction_stops(run: Run, user: bool) -> None:
    source = f"""{STEPPER}
    {".section .user" if user else ".text"}
    start: nop
    i1: mov $3, %ecx
    i2: xor %eax, %eax
    i3: inc %eax
    i4: loop i3
    i5: push %rax
    i6: pop %rbx
    i7: jmp i8
        ud2
    i8: mov $3, %ebx
    i9: int3
    """
    out = run(source, user=user, rflags=2 | TRACE, handlers={1: "stepper"})
    assert out.done
    expected = ["i1", "i2", "i3", *["i4", "i3"] * 2, "i4", "i5", "i6", "i7", "i8", "i9"]
    assert out.words("places", out.u64("count")) == [out.label(n) for n in expected]
    assert out.u64("flags") & TRACE == 0


def test_the_flag_set_by_popf(run: Run) -> None:
    """The instruction after the one that sets it is the first to stop."""
    source = f"""{STEPPER}
    .section .user
    start: pushf
        orq $0x100, (%rsp)
        popf
    i0: nop
    i1: nop
    i2: pushf
    i3: andq $~0x100, (%rsp)
    i4: popf
    i5: nop
        int3
    """
    out = run(source, user=True, handlers={1: "stepper"})
    assert out.done
    assert out.words("places", out.u64("count")) == [out.label(f"i{n}") for n in (1, 2, 3, 4, 5)]


def test_string_instructions_stop_after_each_step(run: Run) -> None:
    source = f"""{STEPPER}
    .section .user
    start: mov $UDATA, %rdi
        mov $4, %ecx
        pushf
        orq $0x100, (%rsp)
        popf
    i0: rep stosb
    i1: pushf
    i2: andq $~0x100, (%rsp)
    i3: popf
        int3
    """
    out = run(source, user=True, handlers={1: "stepper"})
    assert out.done
    places = out.words("places", out.u64("count"))
    assert places == [*[out.label(n) for n in ("i0", "i0", "i0", "i1", "i2", "i3")], places[-1]]
    assert out["rcx"] == 0


def test_a_fault_comes_before_the_step(run: Run) -> None:
    out = run(
        ".section .user\nstart: fault: mov UNOWHERE, %eax; int3", user=True, rflags=2 | TRACE | INTERRUPTS
    )
    assert out.end.fault == (14, 4)
    assert out.end.rflags & TRACE


def test_a_traced_syscall_is_a_syscall(run: Run) -> None:
    """It clears the flag on its way in; the frame keeps it."""
    out = run(".section .user\nstart: syscall; after: int3", user=True, rflags=2 | TRACE | INTERRUPTS)
    assert (out.end.vector, out.end.rip) == (SYSCALL, out.label("after"))
    assert out.end.rflags & TRACE
    assert out.end["r11"] & TRACE


def test_the_status_says_single_step(run: Run) -> None:
    source = """
    .section .user
    start: nop
        int3
    .text
    handler: mov $6, %edi
        mov $9, %eax            /* get_debugreg */
        syscall
        mov %rax, %rbx
        int3
    """
    out = run(source, user=True, rflags=2 | TRACE, handlers={1: "handler"})
    assert out.done
    assert out["rbx"] & 0x4000


@pytest.mark.limit("breakpoints")
@pytest.mark.parametrize(
    ("control", "address", "vector"), [(0x701, "there", 1), (0xD0701, "UDATA", 1)], ids=["code", "data"]
)
def test_hardware_breakpoints(run: Run, control: int, address: str, vector: int) -> None:
    source = f"""
    .text
    start: xor %edi, %edi
        mov ${address}, %rsi
        mov $8, %eax            /* set_debugreg */
        syscall
        mov $7, %edi
        mov ${control:#x}, %esi
        mov $8, %eax
        syscall
        pushq $0xe02b
        pushq $USTACK + 0x4000
        pushq $0x202
        pushq $0xe033
        pushq $user
        pushq $0
        pushq $0
        pushq $0
        pushq $0
        mov $23, %eax
        syscall
    .section .user
    user: nop
    there: movq $1, UDATA
    after: int3"""
    assert run(source).end.vector == vector
