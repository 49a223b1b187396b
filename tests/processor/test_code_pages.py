"""Stores to memory that has been executed: whoever writes it, and through whichever mapping, the new code runs.

Each test calls a small function that returns a constant (`mov $N, %eax; ret`), changes N, and calls it again.
"""

from __future__ import annotations

import struct

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import Guest
from xenion.core import lib
from xenion.processor import software

FUNCTION = "function: mov $1, %eax; ret"
NEXT = "mov $2, %eax; ret"
TARGETS = ["SMC", "SMC_ALIAS", "SMC_DIRECT"]


def stores(target: str, count: int, flush: str = "", offset: str = "function + 1 - SMC") -> str:
    """Calls the function, then `count` times stores and calls; the sum of what it returned in rbx."""
    rounds = "\n".join(
        f"mov ${n}, %ecx; mov %ecx, (%rbp); {flush}; call *%r12; add %rax, %rbx" for n in range(2, count + 2)
    )
    return f"""
    start: movabs ${target} + {offset}, %rbp
        mov $function, %r12
        xor %ebx, %ebx
        call *%r12
        add %rax, %rbx
        {rounds}
        int3
    .section .smc, "awx"
    {FUNCTION}
    """


@pytest.mark.parametrize("flush", ["", "MMUEXT flush"], ids=["", "flush"])
@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("target", TARGETS)
def test_stores_of_the_kernel(run: Run, target: str, count: int, flush: str) -> None:
    out = run(stores(target, count, flush) + ".data; .balign 8; flush: .quad 6, 0, 0")
    assert out.done
    assert out["rbx"] == sum(range(1, count + 2))


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("target", TARGETS)
def test_stores_before_the_first_call(run: Run, target: str, count: int) -> None:
    """The mapping is in the TLB as a plain writable page before any code of the page has run."""
    source = stores(target, count).replace(
        "call *%r12", f"movabs ${target} + 0x800, %rax; mov %rax, (%rax); call *%r12", 1
    )
    assert run(source)["rbx"] == sum(range(1, count + 2))


@pytest.mark.parametrize("executed", ["SMC", "SMC_ALIAS", "TEXT_ALIAS"])
@pytest.mark.parametrize("target", TARGETS)
def test_code_run_and_written_through_different_mappings(run: Run, executed: str, target: str) -> None:
    source = stores(target, 10).replace("mov $function, %r12", f"mov ${executed} + function - SMC, %r12")
    assert run(source)["rbx"] == sum(range(1, 12))


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
def test_data_and_code_in_one_page(run: Run, user: bool) -> None:
    """Stores to data beside code do not hurt, and the store to the code that follows them is seen."""
    section, target = (".usmc", "USMC_ALIAS") if user else (".smc", "SMC_DIRECT")
    source = f"""
    start: mov $function, %r12
        movabs ${target} + function - {section[1:].upper()}, %rbp
        xor %ebx, %ebx
        mov $200, %r13d
    again: call *%r12
        cmp counter, %rax
        jne bad
        incq counter
        incq counter - function(%rbp)
        decq counter - function(%rbp)
        mov counter, %rax
        mov %eax, 1(%rbp)
        dec %r13d
        jnz again
        int3
    bad: ud2
    .section {section}, "awx"
    {FUNCTION}
    .balign 8
    counter: .quad 1
    """
    out = run((".section .user\n" if user else "") + source, user=user)
    assert out.done
    assert out.u64("counter") == 201


@pytest.mark.parametrize("offset", [0, 8, 2048, 4095 - 6])
def test_other_code_of_the_same_page(run: Run, offset: int) -> None:
    """Two functions in one page are changed in turn, through the other mapping."""
    source = f"""
    start: movabs $SMC_DIRECT, %rbp
        xor %ebx, %ebx
        mov $1, %r13d
    again: call first
        add %rax, %rbx
        call second
        add %rax, %rbx
        inc %r13d
        mov %r13d, first + 1 - SMC(%rbp)
        call first
        add %rax, %rbx
        mov %r13d, second + 1 - SMC(%rbp)
        cmp $50, %r13d
        jne again
        int3
    .section .smc, "awx"
    .skip 32
    first: mov $1, %eax; ret
    .skip {offset}
    second: mov $1, %eax; ret
    """
    out = run(source)
    assert out.done
    assert out["rbx"] == sum(n + n + n + 1 for n in range(1, 50))


def test_an_instruction_across_two_pages(run: Run) -> None:
    """Its bytes in either page may change."""
    source = """
    start: movabs $SMC_DIRECT, %rbp
        xor %ebx, %ebx
        mov $1, %r13d
    again: call function
        add %rax, %rbx
        inc %r13d
        mov %r13b, function + 1 - SMC(%rbp)
        call function
        add %rax, %rbx
        mov %r13b, function + 4 - SMC(%rbp)
        cmp $20, %r13d
        jne again
        int3
    .section .smc, "awx"
    .skip 4093
    function: mov $1, %eax; ret
    """
    out = run(source)
    assert out.done
    first, last, total = 1, 0, 0
    for n in range(2, 21):
        total += last << 24 | first
        first = n
        total += last << 24 | first
        last = n
    assert out["rbx"] == total


def test_the_block_that_runs_changes_itself(run: Run) -> None:
    """A store to the next instruction takes effect at once, through the page's own address."""
    source = """
    start: jmp code
    .section .smc, "awx"
    code: xor %ebx, %ebx
        mov $5, %ecx
        mov %ecx, ahead + 1(%rip)
    ahead: mov $1, %eax
        add %rax, %rbx
        mov $9, %ecx
        mov %ecx, further + 1(%rip)
        nop
    further: mov $1, %eax
        add %rax, %rbx
        int3
    """
    assert run(source)["rbx"] == 14


def test_the_block_that_runs_changes_itself_through_another_mapping(run: Run) -> None:
    source = """
    start: jmp code
    .section .smc, "awx"
    code: movabs $SMC_DIRECT, %rbp
        mov $5, %ecx
        mov %ecx, ahead + 1 - SMC(%rbp)
    ahead: mov $1, %eax
        int3
    """
    assert run(source)["rax"] == 5


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
@pytest.mark.parametrize("how", ["movsb", "movsq", "stosl", "movups", "push", "xchg", "cmpxchg", "bytes"])
def test_functions_copied_over_one_another(run: Run, how: str, user: bool) -> None:
    """As a just-in-time compiler does: code is copied to one place again and again and called there."""
    section, target = ("usmc", "USMC_ALIAS") if user else ("smc", "SMC_DIRECT")
    copy = {
        "movsb": "mov $16, %ecx; rep movsb",
        "movsq": "mov $2, %ecx; rep movsq",
        "stosl": "mov (%rsi), %eax; stosl; mov 4(%rsi), %eax; stosl",
        "movups": "movups (%rsi), %xmm0; movups %xmm0, (%rdi)",
        "push": "mov %rsp, %r14; lea 8(%rdi), %rsp; push (%rsi); mov %r14, %rsp",
        "xchg": "mov (%rsi), %rax; xchg %rax, (%rdi)",
        "cmpxchg": "mov (%rdi), %rax; mov (%rsi), %rcx; lock cmpxchg %rcx, (%rdi)",
        "bytes": ";".join(f"mov {i}(%rsi), %al; mov %al, {i}(%rdi)" for i in range(8)),
    }[how]
    source = f"""
    start: xor %ebx, %ebx
        mov $100, %r13d
    again: mov $one, %rsi
        movabs ${target} + 0x1000, %rdi
        {copy.replace("; ", chr(10))}
        call {section.upper()} + 0x1000
        add %rax, %rbx
        mov $two, %rsi
        movabs ${target} + 0x1000, %rdi
        {copy.replace("; ", chr(10))}
        call {section.upper()} + 0x1000
        add %rax, %rbx
        dec %r13d
        jnz again
        int3
    .balign 16
    one: mov $1, %eax; ret
    .balign 16
    two: mov $1000, %eax; ret
    .balign 16
    """
    out = run((".section .user\n" if user else "") + source, user=user)
    assert out.done
    assert out["rbx"] == 100100


def test_an_application_sees_the_kernels_store(run: Run) -> None:
    """The kernel patches an application's code through its own mapping, as a debugger does."""
    source = f"""
    .section .user
    start: xor %ebx, %ebx
    again: call function
        add %rax, %rbx
        ud2
    .section .usmc, "awx"
    {FUNCTION}
    .text
    handler: mov count, %eax
        inc %eax
        mov %eax, count
        movabs $USMC_DIRECT + function + 1 - USMC, %rcx
        mov %eax, (%rcx)
        movq $again, 16(%rsp)
        cmp $30, %eax
        je finished
        HIRET
    finished: int3
    .data
    count: .quad 1
    """
    out = run(source, user=True, handlers={6: "handler"})
    assert out.done
    assert out["rbx"] == sum(range(1, 30))


def test_an_application_writes_through_its_alias(run: Run) -> None:
    source = f"""
    .section .user
    start: xor %ebx, %ebx
        mov $1, %r13d
    again: call function
        add %rax, %rbx
        inc %r13d
        mov %r13d, USMC_ALIAS + function + 1 - USMC
        cmp $60, %r13d
        jne again
        int3
    .section .usmc, "awx"
    {FUNCTION}
    """
    assert run(source, user=True)["rbx"] == sum(range(1, 60))


def test_other_code_behind_the_same_address(run: Run) -> None:
    """A remapped page: translated code belongs to the frame, not to the address."""
    source = """
    start: xor %ebx, %ebx
        mov $20, %r13d
    again: call SMC
        add %rax, %rbx
        MAP SMC, ((SMC_MFN + 1) << 12 | RX), 2
        call SMC
        add %rax, %rbx
        MAP SMC, (SMC_MFN << 12 | RX), 2
        dec %r13d
        jnz again
        int3
    .section .smc, "awx"
    mov $1, %eax; ret
    .balign 4096
    mov $100, %eax; ret
    """
    out = run(source)
    assert out.done
    assert out["rbx"] == 20 * 101


def test_a_loop_is_remapped_under_the_processor(run: Run) -> None:
    """The caller and the callee lie in different pages that are chained by a direct jump."""
    source = """
    start: mov $300, %r13d
        xor %ebx, %ebx
    again: jmp SMC
    back: add %rax, %rbx
        test $1, %r13b
        jz even
        MAP SMC, ((SMC_MFN + 1) << 12 | RX), 2
        jmp on
    even: MAP SMC, (SMC_MFN << 12 | RX), 2
    on: dec %r13d
        jnz again
        int3
    .section .smc, "awx"
    mov $1, %eax; jmp back
    .balign 4096
    mov $100, %eax
    .byte 0xe9
    .long back - . - 4 + 0x1000
    """
    out = run(source)
    assert out.done
    assert out["rbx"] == 151 * 1 + 149 * 100


# --- the hypervisor writes

BY_HYPERVISOR = {
    "copy_page": ("MMUEXT copy", "copy: .quad 17, SMC_MFN, SMC_MFN + 1"),
    "mmu_update": ("MMU_UPDATE request", "request: .quad SMC_MFN << 12, 0x90c93100000002b8"),
    "grant_copy": (
        "mov $5, %edi; mov $grant, %rsi; mov $1, %edx; HYPERCALL 20",
        "grant: .quad SMC_MFN + 1; .short 0x7ff0, 0; .long 0; .quad SMC_MFN; .short 0x7ff0, 0, 0, 0, 16, 0, 0, 0",
    ),
    "update_descriptor": (
        "mov $SMC_MFN << 12, %rdi; mov entry, %rsi; HYPERCALL 10",
        "entry: .quad 0x90c93100000002b8",
    ),
    "count_of_a_call": (
        "mov $list, %rdi; mov $2, %esi; mov $SMC + 1, %rdx; mov $0x7ff0, %r10d; HYPERCALL 1",
        "list: .quad SPARE_MFN << 12, 0, SPARE_MFN << 12, 0",
    ),
}


@pytest.mark.parametrize("name", BY_HYPERVISOR)
def test_the_hypervisor_writes_code(run: Run, name: str) -> None:
    """A hypercall that writes guest memory: what ran there before is forgotten."""
    call, data = BY_HYPERVISOR[name]
    source = f"""
    start: call SMC
        mov %rax, %rbx
        {call.replace("; ", chr(10))}
        test %rax, %rax
        jnz bad
        call SMC
        int3
    bad: ud2
    .section .smc, "awx"
    mov $1, %eax; xor %ecx, %ecx; nop; ret
    .balign 4096
    mov $2, %eax; xor %ecx, %ecx; nop; ret
    .data
    .balign 8
    {data}
    """
    out = run(source)
    assert out.done
    assert (out["rbx"], out["rax"]) == (1, 2)


def test_a_cleared_page_of_code(run: Run) -> None:
    """`add %al, (%rax)` all over: the old function does not run any more."""
    source = """
    start: call SMC
        mov %rax, %rbx
        MMUEXT clear
        mov $NOWHERE, %rax
        call SMC
        int3
    .section .smc, "awx"
    mov $1, %eax; ret
    .data
    .balign 8
    clear: .quad 16, SMC_MFN, 0
    """
    out = run(source)
    assert (out["rbx"], out.end.vector, out.end.rip) == (1, 14, out.label("SMC"))


def test_a_page_given_back_forgets_its_code(run: Run) -> None:
    """A frame that leaves the domain and comes back is all zeroes, and so is what it executes."""
    source = """
    start: call SMC
        mov %rax, %rbx
        mov $SMC, %rdi
        call unmap
        mov $SMC_ALIAS, %rdi
        call unmap
        mov $TEXT_ALIAS, %rdi
        call unmap
        movabs $SMC_DIRECT, %rdi
        call unmap
        mov $1, %edi
        mov $reservation, %rsi
        HYPERCALL 12
        mov %rax, %r12
        movq $0, frames
        mov $6, %edi
        mov $reservation, %rsi
        HYPERCALL 12
        mov %rax, %r13
        mov frames, %rsi
        shl $12, %rsi
        or $RX, %rsi
        mov $SMC, %rdi
        mov $2, %edx
        HYPERCALL 14
        mov %rax, %r14
        mov $NOWHERE, %rax
        call SMC
        int3
    unmap: xor %esi, %esi
        mov $2, %edx
        HYPERCALL 14
        ret
    .section .smc, "awx"
    mov $1, %eax; ret
    .data
    .balign 8
    reservation: .quad frames, 1
        .long 0, 0
        .short 0x7ff0, 0
        .long 0
    frames: .quad SMC_MFN"""
    out = run(source)
    assert [out[r] for r in ("rbx", "r12", "r13", "r14")] == [1, 1, 1, 0]
    assert (out.end.vector, out.end.rip) == (14, out.label("SMC"))


def test_a_host_write_that_says_so(run: Run) -> None:
    """Dom0's door to guest memory: a write, then `core_code_written`."""

    def patch(guest: Guest) -> None:
        value = struct.unpack("<Q", bytes([0xB8, 2, 0, 0, 0, 0xC3, 0, 0]))[0]
        guest.poke("function", value)
        first = guest.domain.memory.first_mfn
        frame = first + guest.label("SMC_MFN") - guest.label("FIRST_MFN")
        lib.core_code_written(guest.domain.state, frame * 4096, 8)

    source = f"""
    start: call function
        mov %rax, %rbx
        HOST 0
        call function
        int3
    .section .smc, "awx"
    .balign 8
    {FUNCTION}
    """
    out = run(source, host=[patch])
    assert (out["rbx"], out["rax"]) == (1, 2)


def test_more_code_than_is_kept(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight thousand functions, called in turn and again: the engine throws all its code away in the middle."""
    monkeypatch.setattr(software, "TRANSLATION_BUFFER_MIB", 1)
    count = 8 * 4096 // 4
    source = f"""
    start: xor %ebx, %ebx
        mov $3, %r14d
    again: mov $SMC, %r12
        mov ${count}, %r13d
    next: xor %eax, %eax
        call *%r12
        add %rax, %rbx
        add $4, %r12
        dec %r13d
        jnz next
        dec %r14d
        jnz again
        int3
    .section .smc, "awx"
    .set n, 0
    .rept {count}
    mov $(n & 255), %al
    ret
    nop
    .set n, n + 1
    .endr
    """
    out = run(source)
    assert out.done
    assert out["rbx"] == 3 * sum(n & 255 for n in range(count))


RELOADS = {
    "new table": "MMUEXT reload",
    "flush": "MMUEXT flush",
    "one page": "MMUEXT page",
    "while it changes": "",
}


@pytest.mark.parametrize("how", RELOADS)
@pytest.mark.parametrize("first", ["function", "target"], ids=["same", "longer"])
def test_other_code_at_the_same_address(run: Run, how: str, first: str) -> None:
    """What ran through one mapping does not run again when the mapping has changed and is looked at anew."""
    flags = 0 if RELOADS[how] else 2
    source = f"""
    start: MAP SPARE, (SMC_MFN << 12 | RX), 2
        xor %ebx, %ebx
        mov $SPARE + {first} - SMC, %r12
        mov $50, %r13d
    again: call *%r12
        add %rax, %rbx
        dec %r13d
        jnz again
        MAP SPARE, ((SMC_MFN + 1) << 12 | RX), {flags}
        {RELOADS[how]}
        call *%r12
        mov %rax, %r14
        {RELOADS["new table"]}
        call *%r12
        add %rax, %r14
        MAP SPARE, ((SMC_MFN + 0) << 12 | RX), {flags}
        {RELOADS[how]}
        call *%r12
        int3
    .section .smc, "awx"
    target: xor %eax, %eax
    {FUNCTION}
    .balign 4096
    xor %eax, %eax
    {NEXT}
    .data
    .balign 8
    reload: .quad 5, L4_MFN, 0
    flush: .quad 6, 0, 0
    page: .quad 7, SPARE, 0
    """
    out = run(source)
    assert out.done
    assert [out[r] for r in ("rbx", "r14", "rax")] == [50, 4, 1]


def test_other_code_at_the_same_address_of_another_table(run: Run) -> None:
    """Two L4 tables that differ in the kernel half alone, loaded in turn."""
    l4, chains = 0, ((1, 2, 3), (4, 5, 6))  # pages of SPARE: a second L4, and the L3, L2 and L1 of either
    ours = "\n".join(
        f"MAP (SPARE+{page}*4096), 0, 2\nMAP (SPARE_DIRECT+{page}*4096), ((SPARE_MFN+{page})<<12|RO), 2"
        for page in range(7)
    )

    def put(page: int, index: int, value: str) -> str:
        return f"mov ${value}, %rax; mov %rax, SPARE + {page} * 4096 + {index} * 8"

    def table(page: int) -> str:
        return f"(SPARE_MFN + {page}) << 12 | P | W | U | AD"

    filled = "\n".join(
        f"{put(l3, 0, table(l2))}\n{put(l2, 0, table(l1))}\n{put(l1, 0, f'(SMC_MFN + {n}) << 12 | RX')}"
        for n, (l3, l2, l1) in enumerate(chains)
    )
    source = f"""
    start: cld
        movabs $L4_DIRECT, %rsi
        mov $SPARE + {l4} * 4096, %rdi
        mov $512, %ecx
        rep movsq
        {filled}
        {put(l4, 300, table(chains[1][0]))}
        {ours}
        MMU_UPDATE update
        MMUEXT pin
        movabs $0xffff960000000000, %r12
        xor %ebx, %ebx
        mov $20, %r13d
    again: call *%r12
        add %rax, %rbx
        MMUEXT other
        call *%r12
        add %rax, %rbx
        MMUEXT first
        dec %r13d
        jnz again
        int3
    .section .smc, "awx"
    {FUNCTION}
    .balign 4096
    {NEXT}
    .data
    .balign 8
    update: .quad L4_MFN << 12 | 300 * 8, {table(chains[0][0])}
    pin: .quad 3, SPARE_MFN + {l4}, 0
    other: .quad 5, SPARE_MFN + {l4}, 0
    first: .quad 5, L4_MFN, 0
    """
    out = run(source)
    assert out.done
    assert out["rbx"] == 20 * (1 + 2)
