"""Segments: loads that kernels and applications make, 32-bit code, thread-local bases, levels that nobody gains."""

from __future__ import annotations

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.bench import SYSCALL32
from tests.processor.kit.layout import Shape
from tests.processor.kit.limits import SOFTWARE_KVM, names_of
from tests.processor.kit.processors import host_is_intel

USER = ".section .user\nstart:\n"
USER32 = ".section .user\n.code32\nstart:\n"
LEVELS = [pytest.param(False, id="kernel"), pytest.param(True, id="user")]

GDT = """
    .text
    set_gdt: mov $frames, %rdi      /* entries of GDT_PAGE become the vCPU's GDT */
        mov $512, %esi
        HYPERCALL 2
        ret
    .data
    .balign 8
    frames: .quad DATA_MFN + 8
    .balign 4096
    .org 8 * 4096
    gdt: .quad 0, 0, 0, 0
        .quad 0x00cffb000000ffff    /* 0x23: 32-bit code */
        .quad 0x00cff3000000ffff    /* 0x2b: data */
        .quad 0x00affb000000ffff    /* 0x33: 64-bit code */
        .quad 0x00cff3421000ffff    /* 0x3b: data from 0x421000 */
        .quad 0x0040f34200000fff    /* 0x43: data from 0x420000, 4 KiB */
        .quad 0x00cff1000000ffff    /* 0x4b: data, read-only */
        .quad 0x00cf73000000ffff    /* 0x53: not present */
    .org 9 * 4096
"""
MAKE_GDT_READ_ONLY = """
        MAP gdt, ((DATA_MFN + 8) << 12 | RO), 2
        movabs $DATA_DIRECT + 0x8000, %rdi
        mov $(DATA_MFN + 8) << 12 | RO, %rsi
        mov $2, %edx
        HYPERCALL 14
        call set_gdt
"""


def with_gdt(code: str, cs: int = 0x33) -> str:
    """Kernel code that loads the GDT above, then goes to the label `user` with the code segment `cs`."""
    return f"""{GDT}
    .text
    start: {MAKE_GDT_READ_ONLY}
        test %rax, %rax
        jnz bad
        pushq $0x2b
        pushq $USTACK + 0x4000
        pushq $0x202
        pushq ${cs:#x}
        pushq $user
        pushq $0
        pushq $0
        pushq $0
        pushq $0
        mov $23, %eax
        syscall
    bad: ud2
    {code}"""


@pytest.mark.limit("selectors")
def test_the_kernel_loads_its_stack_segment(run: Run) -> None:
    """As Linux does after every return to its kernel: both selectors of Xen's flat ring 3, and the level stays."""
    out = run("start: mov $0xe02b, %eax; mov %eax, %ss; incq SPARE; mov %ss, %ebx; int3")
    assert out.done
    assert out["rbx"] == 0xE02B
    assert out.u64(out.label("SPARE")) == 1


def test_an_application_gains_nothing_by_its_stack_segment(run: Run) -> None:
    out = run(
        USER + "mov $0xe02b, %eax; mov %eax, %ss; push $5; pop %rbx; fault: mov DATA, %eax; int3", user=True
    )
    assert out["rbx"] == 5
    assert (out.end.vector, out.end.rip) == (14, out.label("fault"))


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("selector", [0, 1, 2, 3])
def test_a_null_stack_segment_is_refused(run: Run, selector: int, user: bool) -> None:
    out = run(f"{USER if user else 'start:'} mov ${selector}, %eax; fault: mov %eax, %ss; int3", user=user)
    assert (out.end.fault, out.end.rip) == ((13, 0), out.label("fault"))


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("selector", [0xE033, 0xE010, 0xE013, 0xE011, 0xFFF8], ids=hex)
def test_bad_stack_segments_are_refused(run: Run, selector: int, user: bool) -> None:
    out = run(
        (USER if user else "start: ") + f"mov ${selector:#x}, %eax; fault: mov %eax, %ss; int3", user=user
    )
    assert (out.end.fault, out.end.rip) == ((13, selector & 0xFFFC), out.label("fault"))


@pytest.mark.limit("host_segments")
@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("segment", ["ds", "es", "fs", "gs"])
def test_data_segments(run: Run, segment: str, user: bool) -> None:
    """Null and flat selectors load; the hypervisor's, and those beyond the table, do not."""
    source = f"""
        xor %ecx, %ecx
        mov %ecx, %{segment}
        mov $0xe02b, %eax
        mov %eax, %{segment}
        mov %{segment}, %ebx
        mov $0xe010, %eax
    f0: mov %eax, %{segment}
    a0: mov $0xfff8, %eax
    f1: mov %eax, %{segment}
    a1: mov %{segment}, %ebp
        int3"""
    out = run((USER if user else "start: ") + source, user=user, resume={"f0": "a0", "f1": "a1"})
    assert out.done
    assert out.faults == [(13, 0xE010), (13, 0xFFF8)]
    assert (out["rbx"], out["rbp"]) == (0xE02B, 0xE02B)


JUMPS = {
    "lret": "pushq ${0:#x}; pushq $there; fault: lretq",
    "iret": "mov %rsp, %rdx; pushq $0xe02b; push %rdx; pushq $2; pushq ${0:#x}; pushq $there; fault: iretq",
}


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize("selector", [0xE008, 0xE00B, 0xE02B, 0xFFF8, 0], ids=hex)
@pytest.mark.parametrize("how", JUMPS)
def test_nobody_reaches_the_hypervisors_segments(
    run: Run, processor: str, how: str, selector: int, user: bool
) -> None:
    *before, last = JUMPS[how].format(selector).split("; ")
    source = f"{';'.join(before)}\n{last}; there: int3"
    out = run((USER if user else "start: ") + source, user=user)
    if SOFTWARE_KVM in names_of(processor):
        assert out.end.vector in (
            6,
            13,
            14,
        )  # it emulates such returns, and says otherwise why and where they fail
    else:
        assert (out.end.fault, out.end.rip) == ((13, selector & 0xFFFC), out.label("fault"))


@pytest.mark.parametrize("user", LEVELS)
@pytest.mark.parametrize(
    ("cs", "ss", "error"), [(0xE00B, 0xE02B, 0xE008), (0xE033, 0xE013, 0xE010), (0xFFFB, 0xE02B, 0xFFF8)]
)
def test_no_hypercall_leads_there(run: Run, cs: int, ss: int, error: int, user: bool) -> None:
    """HYPERVISOR_iret with a segment that is not the guest's is a fault of the guest's."""
    source = f"""
    start: pushq ${ss:#x}
        pushq $STACK + 0x3000
        pushq $0x202
        pushq ${cs & ~3 | 3 * user:#x}
        pushq $there
        pushq $0
        pushq $0
        pushq $0
        pushq $0
        mov $23, %eax
        syscall
    .section {".user" if user else ".text"}
    there: int3"""
    out = run(source)
    assert (out.end.fault, out.end.rip) == ((13, error), out.label("there"))


@pytest.mark.limit("selectors")
def test_an_applications_far_return(run: Run) -> None:
    out = run(
        USER + "pushq $0xe033; pushq $there; lretq; ud2; there: mov %cs, %ebx; mov DATA, %eax; int3",
        user=True,
    )
    assert out["rbx"] == 0xE033
    assert out.end.vector == 14


def test_an_applications_own_iret(run: Run) -> None:
    frame = "mov %rsp, %rdx; pushq $0xe02b; push %rdx; pushq $0x3297; pushq $0xe033; pushq $there"
    out = run(f"{USER}{frame}; iretq; ud2; there: pushf; pop %rbx; int3", user=True)
    assert out.done
    assert out["rbx"] & 0x3FD7 == 0x0297


@pytest.mark.parametrize("shape", [Shape(), Shape(shared=False)], ids=["one-table", "switching"])
def test_the_kernels_own_iret(run: Run, shape: Shape) -> None:
    """It comes back as the kernel it was: it reads and writes its data, makes hypercalls and takes its faults."""
    source = """
    start: mov %rsp, %rdx
        pushq $0xe02b
        push %rdx
        pushf
        pushq $0xe033
        pushq $there
        iretq
        ud2
    there: incq SPARE
        mov SPARE, %rbx
        mov $17, %eax
        xor %edi, %edi
        xor %esi, %esi
        syscall
        mov %rax, %rbp
    fault: mov NOWHERE, %rax
        ud2
    """
    out = run(source, shape=shape)
    assert (out["rbx"], out["rbp"]) == (1, 4 << 16 | 17)
    assert (out.end.fault, out.end.rip, out.end.in_user) == ((14, 0), out.label("fault"), False)


def test_flags_that_an_application_may_not_change(run: Run) -> None:
    out = run(USER + "pushq $0x7ed7; popf; pushf; pop %rbx; pushq $2; popf; int3", user=True, masked=False)
    assert out.done
    assert out["rbx"] & 0x3200 == 0x0200  # no I/O level, interrupts on
    assert out["rbx"] & 0x4CD5 == 0x4CD5  # nested task, overflow, direction, sign .. carry


# --- 32-bit code


@pytest.mark.limit("host_segments")
def test_32_bit_code(run: Run) -> None:
    """Addresses and operands have 32 bits; inc and dec have their short forms; the upper halves are not seen."""
    source = f"""{USER32}
        mov $0x80000000, %ecx
        add %ecx, %ecx
        adc $0, %edx
        mov $UDATA, %ebx
        movl $7, 4(%ebx)
        mov $0xfffffffc, %esi
        mov 8(%ebx, %esi), %eax
        inc %eax
        pusha
        popa
        push %eax
        pop %edi
        call 1f
    1:  pop %ebp
        sub $1b, %ebp
        int3
    .code64"""
    out = run(source, compat=True)
    assert out.done
    assert [out[r] for r in ("rax", "rdx", "rdi", "rbp")] == [8, 1, 8, 0]
    assert (out.end.cs, out.end.ss) == (0xE023, 0xE02B)


@pytest.mark.limit("host_segments")
def test_32_bit_code_in_the_guests_own_segments(run: Run) -> None:
    source = with_gdt(
        ".section .user\n.code32\nuser: mov %cs, %eax; mov %ss, %ebx; push %eax; pop %ecx; int3\n.code64",
        cs=0x23,
    )
    out = run(source)
    assert out.done
    assert [out[r] for r in ("rax", "rbx", "rcx")] == [0x23, 0x2B, 0x23]
    assert (out.end.cs, out.end.ss) == (0x23, 0x2B)


def test_int_80_of_32_bit_code(run: Run) -> None:
    out = run(USER32 + "mov $4, %eax; mov $1, %ebx; int $0x80; after: int3\n.code64", compat=True)
    assert (out.end.fault, out.end.rip) == ((0x80, None), out.label("after"))
    assert (out["rax"], out["rbx"], out.end.cs) == (4, 1, 0xE023)


def test_syscall_of_32_bit_code(run: Run, processor: str) -> None:
    """Intel's processors have no such instruction."""
    out = run(USER32 + "mov $4, %eax; mov $1, %ebx; fault: syscall; after: int3\n.code64", compat=True)
    if processor == "hardware" and host_is_intel():
        assert (out.end.fault, out.end.rip) == ((6, None), out.label("fault"))
        return
    assert (out.end.vector, out.end.rip) == (SYSCALL32, out.label("after"))
    assert (out["rax"], out["rbx"], out["rcx"]) == (4, 1, out.label("after"))
    assert (out.end.cs, out.end.ss) == (0xE023, 0xE02B)


@pytest.mark.limit("host_segments")
def test_from_32_to_64_bits_and_back(run: Run) -> None:
    """A far jump into 64-bit code and a far return from it, as some loaders do."""
    source = f"""{USER32}
        ljmp $0xe033, $wide
    narrow: inc %eax
        int3
    .code64
    wide: movabs $0x1122334455667788, %rbx
        shr $32, %rbx
        pushq $0xe023
        pushq $narrow
        mov $1, %eax
        lretq"""
    out = run(source, compat=True)
    assert out.done
    assert (out["rax"], out["rbx"], out.end.cs) == (2, 0x11223344, 0xE023)


@pytest.mark.limit("host_segments")
def test_a_32_bit_fault_is_reported(run: Run) -> None:
    out = run(USER32 + "mov $0x12345678, %ebx; fault: mov UNOWHERE, %eax; int3\n.code64", compat=True)
    assert (out.end.fault, out.end.rip, out.end.cs) == ((14, 4), out.label("fault"), 0xE023)


@pytest.mark.limit("host_segments")
@pytest.mark.parametrize(
    "code", ["aaa", "daa", "bound %eax, UDATA", "into", "lds UDATA, %eax", "push %es; pop %es"]
)
def test_instructions_of_32_bit_code_only(run: Run, code: str) -> None:
    source = f"{USER32} xor %eax, %eax; movl $0, UDATA; movl $0, UDATA + 4; {code}; int3\n.code64"
    out = run(source, compat=True)
    assert out.end.fault in ((3, None),)


@pytest.mark.limit("host_segments")
def test_bound_and_into_trap(run: Run) -> None:
    source = f"""{USER32} movl $5, UDATA
        movl $9, UDATA + 4
        mov $12, %eax
    f0: bound %eax, UDATA
    a0: mov $0x7fffffff, %eax
        inc %eax
        into
    f1: int3
    .code64"""
    out = run(source, compat=True, resume={"f0": "a0", "f1": "f1"}, most_traps=3)
    assert [t.vector for t in out.traps[:2]] == [5, 4]


# --- bases


def test_thread_local_bases(run: Run) -> None:
    """The kernel sets the bases of its applications by hypercall; its own GS base is another."""
    source = """
    start: xor %edi, %edi           /* set_segment_base: FS */
        mov $UDATA + 0x100, %rsi
        HYPERCALL 25
        mov $1, %edi                /* GS of applications */
        mov $UDATA + 0x200, %rsi
        HYPERCALL 25
        mov $2, %edi                /* GS of the kernel */
        mov $kernels, %rsi
        HYPERCALL 25
        mov %gs:0, %rbx
        pushq $0xe02b
        pushq $USTACK + 0x4000
        pushq $0x202
        pushq $0xe033
        pushq $user
        pushq $0
        pushq $0
        pushq $0
        push %rbx
        mov $23, %eax
        syscall
    .section .user
    user: mov %fs:8, %rcx
        mov %gs:8, %rdx
        movq $77, %fs:16
        int3
    .section .udata, "aw"
    .org 0x100
    .quad 1, 2, 3, 4
    .org 0x200
    .quad 5, 6, 7, 8
    .data
    .balign 8
    kernels: .quad 99
    """
    out = run(source)
    assert out.done
    assert [out[r] for r in ("rax", "rcx", "rdx")] == [99, 2, 6]
    assert out.u64(out.label("UDATA") + 0x110) == 77


@pytest.mark.limit("host_segments")
def test_bases_from_descriptors(run: Run) -> None:
    """A selector loads its descriptor's base: thread-local storage of 32-bit applications."""
    source = with_gdt("""
    .section .user
    .code32
    user: mov $0x3b, %eax
        mov %eax, %gs
        movl %gs:4, %ebx
        mov $0x3b, %eax
        mov %eax, %ds
        movl 8, %ecx
        int3
    .code64
    .section .usmc, "awx"
    .org 0x1000
    .long 1, 2, 3, 4
    """, cs=0x23)  # fmt: skip
    out = run(source)
    assert out.done
    assert (out["rbx"], out["rcx"]) == (2, 3)


@pytest.mark.limit("segment_limits")
@pytest.mark.parametrize(
    ("code", "vector"), [("mov %gs:0x1000, %ecx", 13), ("mov %gs:0xffe, %ecx", 13), ("movl $1, %es:0x10", 13)]
)
def test_limits_and_rights_of_segments(run: Run, code: str, vector: int) -> None:
    source = with_gdt(f"""
    .section .user
    .code32
    user: mov $0x43, %eax
        mov %eax, %gs
        mov $0x4b, %eax
        mov %eax, %es
        movl %gs:0xffc, %ebx
    fault: {code}
        int3
    .code64
    """, cs=0x23)  # fmt: skip
    out = run(source)
    assert (out.end.fault, out.end.rip) == ((vector, 0), out.label("fault"))


def test_a_descriptor_that_is_not_present(run: Run) -> None:
    out = run(with_gdt(".section .user\nuser: mov $0x53, %eax; fault: mov %eax, %gs; int3"))
    assert (out.end.fault, out.end.rip) == ((11, 0x50), out.label("fault"))


LDT = """
    start: mov $ldt, %rdi
        mov $(DATA_MFN + 8) << 12 | RO, %rsi
        mov $2, %edx
        HYPERCALL 14
        movabs $DATA_DIRECT + 0x8000, %rdi
        mov $(DATA_MFN + 8) << 12 | RO, %rsi
        mov $2, %edx
        HYPERCALL 14
        MMUEXT set_ldt
        test %rax, %rax
        jnz bad
        xor %edi, %edi
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
    bad: ud2
    .data
    .balign 8
    set_ldt: .quad 13, ldt, 512
    .org 8 * 4096
    ldt: .quad 0
        .quad 0x00cff3421000ffff
        .quad 0
    .org 9 * 4096
"""


@pytest.mark.parametrize("shape", [Shape(), Shape(shared=False)], ids=["one-table", "switching"])
def test_local_descriptors(run: Run, shape: Shape) -> None:
    """The LDT is mapped when it is first used; a selector beyond what is there faults."""
    source = f"""{LDT}
    .section .user
    user: mov $0xf, %eax
        mov %eax, %fs
        mov %fs:4, %ebx
        mov $0x17, %eax
    f0: mov %eax, %fs
    a0: mov $0x1007, %eax
    f1: mov %eax, %fs
    a1: int3
    .section .usmc, "awx"
    .org 0x1000
    .long 1, 2, 3, 4
    """
    out = run(source, shape=shape, resume={"f0": "a0", "f1": "a1"})
    assert out.done
    assert out["rbx"] == 2
    assert out.faults == [(13, 0x14), (13, 0x1004)]


@pytest.mark.limit("host_segments")
def test_syscall_keeps_data_segments(run: Run) -> None:
    """What an application has in ds, es, fs and gs is there when its kernel looks."""
    source = (
        USER
        + "mov $0xe02b, %eax; mov %eax, %ds; mov %eax, %es; syscall\n.text\nentry: mov %ds, %ebx; mov %es, %ebp; int3"
    )
    out = run(source, user=True, handlers={"syscall": "entry"})
    assert out.done
    assert (out["rbx"], out["rbp"]) == (0xE02B, 0xE02B)
