"""Faults and traps: which vector, which error code, where, and that the instruction left nothing behind."""

from __future__ import annotations

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import SYSCALL, GuestFailure

USER = ".section .user\nstart:\n"
KERNEL = "start:\n"
LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]


def at(user: bool) -> str:
    return USER if user else KERNEL


DIVISIONS = {
    "div8": "mov $5, %eax; fault: div %bl",
    "div16": "xor %edx, %edx; fault: div %bx",
    "div32": "xor %edx, %edx; fault: div %ebx",
    "div64": "xor %edx, %edx; fault: div %rbx",
    "idiv64": "xor %edx, %edx; fault: idiv %rbx",
    "quotient_too_large": "mov $1, %edx; mov $1, %ebx; fault: div %rbx",
    "smallest_by_minus_one": "mov $0x80000000, %eax; cltd; mov $-1, %ebx; fault: idiv %ebx",
    "smallest_by_minus_one_64": "mov $1, %eax; ror $1, %rax; cqto; mov $-1, %rbx; fault: idiv %rbx",
    "idiv8": "mov $0x8000, %eax; mov $-1, %bl; fault: idiv %bl",
}


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("name", DIVISIONS)
def test_division(run: Run, name: str, user: bool) -> None:
    out = run(at(user) + "xor %ebx, %ebx;" + DIVISIONS[name] + "; int3", user=user)
    assert out.end.fault == (0, None)
    assert out.end.rip == out.label("fault")


@pytest.mark.parametrize("user", LEVELS)
def test_ud2(run: Run, user: bool) -> None:
    out = run(at(user) + "mov $7, %ebx; fault: ud2; int3", user=user)
    assert (out.end.fault, out.end.rip, out["rbx"], out.end.in_user) == (
        (6, None),
        out.label("fault"),
        7,
        user,
    )


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("code", [".byte 0xcc", ".byte 0xcd, 3"], ids=["int3", "int_3"])
def test_breakpoint_is_behind_the_instruction(run: Run, code: str, user: bool) -> None:
    out = run(at(user) + f"nop; {code}; after: nop", user=user)
    assert (out.end.fault, out.end.rip) == ((3, None), out.label("after"))


@pytest.mark.parametrize("vector", [1, 2, 6, 13, 14, 32, 0x79, 0x82, 0xFF])
def test_int_n_obeys_the_trap_table(run: Run, vector: int) -> None:
    """A vector that the table closes to applications raises #GP with its descriptor's number, at the instruction."""
    out = run(USER + f"fault: int ${vector}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((13, vector * 8 + 2), out.label("fault"))


@pytest.mark.parametrize("vector", [32, 0x79, 0x82, 0xFF])
def test_int_n_to_an_open_vector(run: Run, vector: int) -> None:
    out = run(USER + f"int ${vector}; after: int3", user=True, open_vectors=frozenset({vector}))
    assert (out.end.fault, out.end.rip) == ((vector, None), out.label("after"))


def test_int_80_is_open(run: Run) -> None:
    """Xen has a gate of its own for it: the trap table's level is not asked."""
    out = run(USER + "mov $5, %ebx; int $0x80; after: int3", user=True)
    assert (out.end.fault, out.end.rip, out["rbx"]) == ((0x80, None), out.label("after"), 5)


@pytest.mark.limit("icebp")
def test_icebp(run: Run) -> None:
    out = run(USER + ".byte 0xf1; after: int3", user=True)
    assert (out.end.fault, out.end.rip) == ((1, None), out.label("after"))


PORTS = {
    "inb": "in $0x60, %al", "inw": "in (%dx), %ax", "inl": "in (%dx), %eax",
    "outb": "out %al, $0x80", "outw": "out %ax, (%dx)", "outl": "out %eax, (%dx)",
    "insb": "insb", "insl": "insl", "outsb": "outsb", "outsl": "outsl",
    "rep_insb": "mov $3, %ecx; rep insb", "rep_outsb": "mov $3, %ecx; rep outsb",
}  # fmt: skip


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("name", PORTS)
def test_ports_fault(run: Run, name: str, user: bool) -> None:
    """No level of the guest has I/O privilege before it has asked for it."""
    *before, port = PORTS[name].split("; ")
    data = "UDATA" if user else "DATA"
    source = f"mov $0x60, %edx; mov $0x1234, %eax; mov ${data} + 64, %rdi; mov %rdi, %rsi; {';'.join(before)}"
    out = run(at(user) + f"{source}\nfault: {port}; int3", user=user)
    assert (out.end.fault, out.end.rip, out["rax"]) == ((13, 0), out.label("fault"), 0x1234)


PRIVILEGED = {
    "hlt": "hlt", "lgdt": "lgdt {0}", "lidt": "lidt {0}", "lldt": "lldt %ax", "ltr": "ltr %ax",
    "invlpg": "invlpg {0}", "swapgs": "swapgs", "wrmsr": "mov $0xc0000082, %ecx; wrmsr", "lmsw": "lmsw %ax",
    "mov_cr8": "mov %rax, %cr8", "sysret": "sysretq", "sysexit": "sysexit",
}  # fmt: skip
"""Refused to the guest's kernel as well."""

APPLICATIONS_NOT = {
    "rdmsr": "mov $0xc0000080, %ecx; rdmsr", "mov_from_cr0": "mov %cr0, %rax", "mov_to_cr3": "mov %rax, %cr3",
    "mov_from_cr4": "mov %cr4, %rax", "clts": "clts", "wbinvd": "wbinvd", "invd": "invd", "mov_dr7": "mov %rax, %dr7",
    "mov_from_dr6": "mov %dr6, %rax", "cli": "cli", "sti": "sti",
}  # fmt: skip
"""Done for the guest's kernel, refused to applications."""


@pytest.mark.parametrize("name", PRIVILEGED)
def test_privileged_instruction_in_the_kernel(run: Run, name: str) -> None:
    *before, last = PRIVILEGED[name].format("DATA").split("; ")
    out = run(f"start: xor %eax, %eax; {';'.join(before)}\nfault: {last}; int3")
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


@pytest.mark.parametrize("name", PRIVILEGED | APPLICATIONS_NOT)
def test_privileged_instruction_in_an_application(run: Run, name: str) -> None:
    *before, last = (PRIVILEGED | APPLICATIONS_NOT)[name].format("UDATA").split("; ")
    out = run(USER + f"xor %eax, %eax; {';'.join(before)}\nfault: {last}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


INVALID_IN_64_BIT = {
    "aaa": 0x37, "aas": 0x3F, "daa": 0x27, "das": 0x2F, "into": 0xCE, "salc": 0xD6, "push_es": 0x06,
    "pusha": 0x60, "popa": 0x61, "bound": 0x62, "lds": 0xC5,
}  # fmt: skip


@pytest.mark.parametrize("name", ["aaa", "aas", "daa", "das", "into", "salc", "push_es", "pusha", "popa"])
def test_invalid_in_64_bit_code(run: Run, name: str) -> None:
    out = run(USER + f"fault: .byte {INVALID_IN_64_BIT[name]:#x}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((6, None), out.label("fault"))


@pytest.mark.parametrize(
    "code", ["nop", "add %eax, %ebx", pytest.param("mov %eax, (%rdi)", marks=pytest.mark.limit("lock_mov"))]
)
def test_lock_prefix_where_it_is_not_allowed(run: Run, code: str) -> None:
    out = run(USER + f"mov $UDATA, %rdi\nfault: .byte 0xf0; {code}; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((6, None), out.label("fault"))


def test_syscall_of_an_application(run: Run) -> None:
    """RCX holds the return address, R11 the flags; the frame shows the flat selectors."""
    out = run(USER + "mov $0x123, %rax; mov $-1, %rcx; mov $-1, %r11; stc; syscall; after: int3", user=True)
    end = out.end
    assert end.vector == SYSCALL
    assert (end.rip, end["rcx"], end["rax"]) == (out.label("after"), out.label("after"), 0x123)
    assert end["r11"] & 0x8D5 == end.rflags & 0x8D5
    assert end["r11"] & 1 == 1
    assert (end.cs, end.ss) == (0xE033, 0xE02B)


def test_syscall_across_pages(run: Run) -> None:
    out = run(USER + "jmp edge; .balign 4096; .skip 4095, 0x90; edge: syscall; after: int3", user=True)
    assert (out.end.vector, out["rcx"]) == (SYSCALL, out.label("after"))


def test_hypercall_keeps_the_other_registers(run: Run) -> None:
    """Only RAX is a result; RCX and R11 are the instruction's own."""
    names = ("rbx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r12", "r13", "r14", "r15")
    values = {n: 0x1111111111111111 * (i + 1) for i, n in enumerate(names)}
    moves = ";".join(f"movabs ${v:#x}, %{n}" for n, v in values.items())
    out = run(f"start: {moves}; mov $29, %eax; xor %edi, %edi; xor %esi, %esi; syscall; int3")
    assert out.done
    assert out["rax"] == 0
    expected = values | {"rdi": 0, "rsi": 0}
    assert {n: out[n] for n in names} == expected


def test_faults_do_not_change_the_flags(run: Run) -> None:
    out = run(USER + "xor %eax, %eax; sub $1, %eax; fault: mov UNOWHERE, %rbx; int3", user=True)
    assert out.end.rflags & 0x8D5 == 0x95  # carry, parity, adjust, sign


@pytest.mark.parametrize("user", LEVELS)
def test_many_page_faults_arrive(run: Run, user: bool) -> None:
    """Ten thousand faults, each resumed by the guest's own handler (the engine forgets that it has delivered one)."""
    source = f"""
    start: mov $10000, %ebx
    again: fault: movq $1, UNOWHERE
    after: dec %ebx
        jnz again
        int3
    .text
    handler: pop %rcx
        pop %r11
        cmpq ${6 if user else 2}, (%rsp)
        jne wrong
        add $8, %rsp
        addq $after - fault, (%rsp)
        incq count
        push %r11
        push %rcx
        HIRET
    wrong: ud2
    .data
    .balign 8
    count: .quad 0
    """
    out = run(
        ("\n.section .user\n" if user else "\n.text\n") + source,
        user=user,
        handlers={14: "handler"},
        seconds=30,
    )
    assert out.done
    assert out.u64("count") == 10000


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize(
    ("code", "vector"), [("ud2", 6), ("div %ecx", 0), ("mov UNOWHERE, %eax", 14), ("hlt", 13)]
)
def test_faults_of_one_kind_repeat(run: Run, code: str, vector: int, user: bool) -> None:
    """The same fault twice at the same place, and of mixed kinds after one another."""
    body = "\n".join(
        f"fault{i}: {c}\nafter{i}:"
        for i, c in enumerate([code, code, "ud2", code, "mov NOWHERE, %eax", code])
    )
    out = run(
        at(user) + f"xor %ecx, %ecx\n{body} int3",
        user=user,
        resume={f"fault{i}": f"after{i}" for i in range(6)},
    )
    assert out.done
    assert [v for v, _ in out.faults] == [vector, vector, 6, vector, 14, vector]


def test_non_canonical_address(run: Run) -> None:
    out = run(USER + "movabs $0x8000000000000000, %rbx; fault: mov (%rbx), %eax; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


@pytest.mark.limit("stack_fault")
def test_non_canonical_stack(run: Run) -> None:
    out = run(USER + "movabs $0x8000000000000000, %rsp; fault: push %rax; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((12, 0), out.label("fault"))


@pytest.mark.limit("jump_fault")
def test_non_canonical_jump(run: Run) -> None:
    out = run(USER + "movabs $0x8000000000000000, %rbx; fault: jmp *%rbx; int3", user=True)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


def test_a_stack_that_takes_no_frame_ends_the_domain(run: Run) -> None:
    with pytest.raises(GuestFailure, match="stack cannot take"):
        run("start: mov $NOWHERE, %rsp; ud2")


@pytest.mark.parametrize("user", [False, True])
def test_a_jump_to_where_the_engine_would_stop(run: Run, user: bool) -> None:
    """The last byte of the hypervisor's hole, which the engine is told to end at: a page fault like any there."""
    out = run(at(user) + "movabs $0xffff87ffffffffff, %rbx; jmp *%rbx", user=user)
    assert out.end.vector == 14
    assert out.end.rip == out.end.cr2 == 0xFFFF87FFFFFFFFFF
    assert (out.end.error or 0) & 0x10
