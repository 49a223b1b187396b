"""Page faults and their error codes, NX, the TLB, and page tables that nobody can get at."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processor.conftest import Run
from tests.processor.kit.layout import Shape

USER = ".section .user\nstart:\n"
SHAPES = [
    pytest.param(Shape(), id="one-table"),
    pytest.param(Shape(shared=False), id="switching"),
    pytest.param(Shape(open=True), id="one-table-open"),
    pytest.param(Shape(shared=False, open=True), id="switching-open"),
]
P, W, U, FETCH = 1, 2, 4, 16
PAGE_FAULT = 14

ACCESSES = {
    "read_nothing": ("mov UNOWHERE, %eax", 0, "UNOWHERE"),
    "write_nothing": ("mov %eax, UNOWHERE", W, "UNOWHERE"),
    "change_nothing": ("incl UNOWHERE", W, "UNOWHERE"),
    "write_code": ("mov %eax, USER + 64", P | W, "USER + 64"),
    "change_code": ("lock incl USER + 64", P | W, "USER + 64"),
    "exchange_code": ("xchg %eax, USER + 64", P | W, "USER + 64"),
    "compare_code": ("cmpxchg %ebx, USER + 64", P | W, "USER + 64"),
    "compare_wide_code": ("mov $USER + 64, %rdi; cmpxchg16b (%rdi)", P | W, "USER + 64"),
    "store_sse_code": ("movups %xmm0, USER + 64", P | W, "USER + 64"),
    "read_last_byte": ("mov UNOWHERE + 0xfff, %al", 0, "UNOWHERE + 0xfff"),
    "read_into_next": ("mov USTACK + 0x3ffd, %rax", 0, "USTACK + 0x4000"),
    "write_into_next": ("mov %rax, USTACK + 0x3ffd", W, "USTACK + 0x4000"),
    "no_l1": ("mov 0x700000, %eax", 0, "0x700000"),
    "no_l2": ("mov $0x40000000, %rbx; mov (%rbx), %eax", 0, "0x40000000"),
    "no_l3": ("mov $0x8000000000, %rbx; mov (%rbx), %eax", 0, "0x8000000000"),
    "null": ("xor %ebx, %ebx; mov (%rbx), %eax", 0, "0"),
    "push": ("mov $UNOWHERE + 0x1000, %rsp; fault: push %rax", W, "UNOWHERE + 0xff8"),
    "pop": ("mov $UNOWHERE, %rsp; fault: pop %rax", 0, "UNOWHERE"),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.limit("change_missing")) if n == "change_nothing" else n
        for n in ACCESSES
    ],
)
def test_error_codes_of_an_application(run: Run, name: str, shape: Shape) -> None:
    code, error, address = ACCESSES[name]
    *before, access = code.replace("fault: ", "").split("; ")
    data = f".data; address: .quad {address}"
    out = run(f"{USER}{';'.join(before)}\nfault: {access}; int3; {data}", user=True, shape=shape)
    assert out.end.fault == (PAGE_FAULT, error | U)
    assert (out.end.rip, out.end.cr2) == (out.label("fault"), out.u64("address"))


KERNEL_ACCESSES = {
    "read_nothing": ("mov NOWHERE, %eax", 0, "NOWHERE"),
    "write_nothing": ("mov %eax, NOWHERE", W, "NOWHERE"),
    "write_code": ("mov %eax, TEXT + 64", P | W, "TEXT + 64"),
    "write_users_code": ("mov %eax, USER + 64", P | W, "USER + 64"),
    "write_into_next": ("mov %rax, SPARE + 0x7ffd", W, "SPARE + 0x8000"),
    "no_l3": ("mov $0x8000000000, %rbx; mov (%rbx), %eax", 0, "0x8000000000"),
    "write_m2p": ("movabs $HOLE, %rbx; mov %eax, (%rbx)", P | W, "HOLE"),
    "hole": ("movabs $HOLE + 0x4000020000, %rbx; mov (%rbx), %eax", 0, "HOLE + 0x4000020000"),
}


@pytest.mark.parametrize("name", KERNEL_ACCESSES)
def test_error_codes_of_the_kernel(run: Run, name: str) -> None:
    code, error, address = KERNEL_ACCESSES[name]
    *before, access = code.split("; ")
    out = run(f"start: {';'.join(before)}\nfault: {access}; int3; .data; address: .quad {address}")
    assert out.end.fault == (PAGE_FAULT, error)
    assert (out.end.rip, out.end.cr2) == (out.label("fault"), out.u64("address"))


FETCHES = {
    "nothing": ("UNOWHERE", FETCH),
    "data": ("UDATA", FETCH | P),
    "stack": ("USTACK", FETCH | P),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FETCHES)
def test_applications_run_no_data(run: Run, name: str, shape: Shape) -> None:
    where, error = FETCHES[name]
    out = run(f"{USER} mov ${where}, %rbx; jmp *%rbx; .data; target: .quad {where}", user=True, shape=shape)
    assert out.end.fault == (PAGE_FAULT, error | U)
    assert out.end.rip == out.end.cr2 == out.u64("target")


@pytest.mark.parametrize(
    ("where", "error"), [("NOWHERE", FETCH), ("DATA", FETCH | P), ("SMC_DIRECT", FETCH | P)]
)
def test_the_kernel_runs_no_data(run: Run, where: str, error: int) -> None:
    out = run(f"start: mov ${where}, %rbx; jmp *%rbx; .data; target: .quad {where}")
    assert out.end.fault == (PAGE_FAULT, error)
    assert out.end.rip == out.end.cr2 == out.u64("target")


@pytest.mark.limit("early_fetch_fault")
def test_code_that_runs_into_a_missing_page(run: Run) -> None:
    """The address is the next page's, the instruction the one that crosses; those before it are done."""
    source = ".section .user\n.skip 7 * 4096 + 4090, 0x90\nstart: inc %ebx; fault: movabs $0x1122334455667788, %rax"
    out = run(source, user=True)
    assert out["rbx"] == 1
    assert out.end.fault == (PAGE_FAULT, FETCH | U)
    assert (out.end.rip, out.end.cr2) == (out.label("fault"), out.label("USER") + 0x8000)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "where",
    [
        *["NUCLEUS", "DATA", "DIRECT", "HIDDEN", "L4_DIRECT", "HOLE", "HOLE + 0x400000e000"],
        pytest.param("0xffff800000000000", marks=pytest.mark.limit("first_slot")),
    ],
)
def test_applications_see_nothing_of_the_kernel(
    run: Run, limited: Callable[[str], None], where: str, shape: Shape
) -> None:
    if where == "HIDDEN" or (shape.open and where in ("NUCLEUS", "DATA")):
        limited("user_bit")
    accesses = ["mov (%rbx), %eax", "mov %eax, (%rbx)", "lock incl (%rbx)", "xchg %eax, (%rbx)", "jmp *%rbx"]
    body = "\n".join(f"f{i}: {access}\na{i}:" for i, access in enumerate(accesses))
    out = run(f"{USER} movabs ${where}, %rbx; mov $0x55, %eax\n{body} int3", user=True, shape=shape,
              resume={f"f{i}": f"a{i}" for i in range(4)})  # fmt: skip
    assert len(out.traps) == 5
    for trap, error in zip(out.traps, (0, W, None, None, FETCH), strict=True):
        assert trap.vector == PAGE_FAULT
        assert trap["rax"] == 0x55
        assert error is None or trap.error in (error | U, error | U | P)


@pytest.mark.parametrize("where", ["NUCLEUS", "DATA", "DIRECT"])
def test_error_code_hides_what_the_users_table_does_not_map(run: Run, where: str) -> None:
    """A kernel page that is in no table of the application's is not present, whichever table the processor used."""
    out = run(f"{USER} movabs ${where}, %rbx; fault: mov (%rbx), %eax; int3", user=True)
    assert out.end.fault == (PAGE_FAULT, U)


@pytest.mark.limit("user_bit")
def test_error_code_of_a_kernel_page_that_the_users_table_maps(run: Run) -> None:
    out = run(f"{USER} mov DATA, %eax; int3", user=True, shape=Shape(open=True))
    assert out.end.fault == (PAGE_FAULT, U | P)


@pytest.mark.parametrize("shared", [True, False])
def test_a_page_opened_in_the_users_table(run: Run, shared: bool) -> None:
    """As Linux shows its vsyscall page: high, and for applications."""
    code = f"{USER} movq $77, SHARED; mov SHARED, %rbx; int3"
    assert run(code, user=True, shape=Shape(shared=shared, open=True))["rbx"] == 77
    assert run(code, user=True, shape=Shape(shared=shared)).end.fault == (PAGE_FAULT, U | W)


def test_a_fault_leaves_nothing_behind(run: Run) -> None:
    """A store across two pages, the second missing, changes no byte of the first; push and call move no stack."""
    source = f"""{USER}
        movq $0x1111, USTACK + 0x3ff8
        mov $-1, %rax
    f0: mov %rax, USTACK + 0x3ffc
    a0: mov $UNOWHERE + 0x1000, %rsp
    f1: call elsewhere
    a1: mov $UNOWHERE, %rsi
        mov $UDATA, %rdi
        mov $UDATA + 8, %rsp
    f2: pop (%rsi)
    a2: int3
    elsewhere: ud2"""
    out = run(source, user=True, resume={f"f{i}": f"a{i}" for i in range(3)})
    assert out.done
    assert out.u64(out.label("USTACK") + 0x3FF8) == 0x1111
    assert out.traps[1]["rsp"] == out.label("UNOWHERE") + 0x1000
    assert out.traps[2]["rsp"] == out.label("UDATA") + 8


@pytest.mark.limit("half_stores")
@pytest.mark.parametrize(
    "store",
    [
        "movups %xmm0, USTACK + 0x3ff8",
        "fxsave64 USTACK + 0x3f00",
        pytest.param("fstpt USTACK + 0x3ff8", marks=pytest.mark.limit("half_fstp")),
    ],
)
def test_a_wide_store_that_faults_stores_nothing(run: Run, store: str) -> None:
    out = run(
        f"{USER} movq $0x1111, USTACK + 0x3ff8; movq $0x1111, USTACK + 0x3f08\nfldz; fault: {store}; int3",
        user=True,
    )
    assert out.end.fault == (PAGE_FAULT, W | U)
    assert [out.u64(out.label("USTACK") + at) for at in (0x3F08, 0x3FF8)] == [0x1111, 0x1111]


def test_a_string_move_stops_where_the_page_ends(run: Run) -> None:
    source = f"{USER} mov $UDATA, %rsi; mov $USTACK + 0x3ff0, %rdi; mov $32, %ecx; fault: rep movsb; int3"
    out = run(source, user=True)
    assert out.end.fault == (PAGE_FAULT, W | U)
    assert (out["rcx"], out["rdi"], out["rsi"]) == (16, out.label("USTACK") + 0x4000, out.label("UDATA") + 16)
    assert out.end.rip == out.label("fault")


# --- the TLB. `spare` is mapped by entries of kernel_l1; its pages can be had through DIRECT too.

ENTRY = "(SPARE_MFN + {}) << 12 | RW"


@pytest.mark.parametrize(
    "flush", ["flags_local", "flags_all", "flags_tlb", "invlpg", "invlpg_all", "flush", "flush_all", "cr3"]
)
def test_flush(run: Run, flush: str) -> None:
    """After each way to flush, an entry that was used before is the new one."""
    flags = {"flags_local": 2, "flags_all": 2 | 4, "flags_tlb": 1}.get(flush, 0)
    command = {"invlpg": 7, "invlpg_all": 11, "flush": 6, "flush_all": 10, "cr3": 5}.get(flush)
    after = "MMUEXT operation; test %rax, %rax; jnz bad" if command else ""
    argument = "L4_MFN" if flush == "cr3" else "SPARE"
    source = f"""
    start: movq $1, SPARE
        movq $2, SPARE + 0x1000
        MAP SPARE, ((SPARE_MFN + 1) << 12 | RW), {flags}
        test %rax, %rax
        jnz bad
        {after}
        mov SPARE, %rbx
        movq $3, SPARE
        int3
    bad: ud2
    .data
    .balign 8
    operation: .long {command or 0}, 0
        .quad {argument}, 0"""
    out = run(source)
    assert out.done
    assert out["rbx"] == 2
    assert out.words(out.label("SPARE"), 1) == [1]
    assert out.words(out.label("SPARE") + 0x1000, 1) == [3]


def test_user_entries_are_flushed_too(run: Run) -> None:
    """A page taken from an application while its kernel runs is gone when it goes on; one page is flushed, no more."""
    source = """
    .section .user
    start: movq $1, UDATA + 0x1000
        ud2
    again: mov UDATA + 0x1000, %rax
        int3
    .text
    handler: MMU_UPDATE request
        MMUEXT invlpg
        addq $2, 16(%rsp)
        HIRET
    .data
    .balign 8
    request: .quad USER_L1_MFN << 12 | (((UDATA + 0x1000) >> 9) & 0xff8), 0
    invlpg: .quad 7, UDATA + 0x1000, 0"""
    for shape in (Shape(), Shape(shared=False)):
        out = run(source, user=True, handlers={6: "handler"}, shape=shape)
        assert out.end.fault == (PAGE_FAULT, U)


@pytest.mark.parametrize("via", ["SPARE", "SPARE_DIRECT"])
@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_stale_entry_reaches_no_page_table(run: Run, level: int, via: str) -> None:
    """The writable mappings go without a flush, the page becomes a table: a store through the old one must not land."""
    source = f"""
    start: mov ${via}, %rbx
        movq $0, (%rbx)
        MAP SPARE, 0, 0
        test %rax, %rax
        jnz bad
        movabs $SPARE_DIRECT, %rdi
        mov $SPARE_MFN << 12 | RO, %rsi
        xor %edx, %edx
        HYPERCALL 14
        test %rax, %rax
        jnz bad
        MMUEXT pin
        test %rax, %rax
        jnz bad
        mov $-1, %rax
    fault: mov %rax, (%rbx)
        int3
    bad: ud2
    .data
    .balign 8
    pin: .long {level - 1}, 0
        .quad SPARE_MFN, 0"""
    out = run(source)
    assert out.end.vector == PAGE_FAULT
    assert out.end.rip == out.label("fault")
    assert out.words(out.label("SPARE"), 1) == [0]


def test_a_stale_entry_reaches_no_descriptors(run: Run) -> None:
    source = """
    start: movq $0, SPARE
        MAP SPARE, 0, 0
        movabs $SPARE_DIRECT, %rdi
        mov $SPARE_MFN << 12 | RO, %rsi
        xor %edx, %edx
        HYPERCALL 14
        mov $list, %rdi
        mov $512, %esi
        HYPERCALL 2
        test %rax, %rax
        jnz bad
        movabs $0x00af9b000000ffff, %rax
    fault: mov %rax, SPARE
        int3
    bad: ud2
    .data
    .balign 8
    list: .quad SPARE_MFN"""
    out = run(source)
    assert out.end.vector == PAGE_FAULT
    assert out.words(out.label("SPARE"), 1) == [0]


def test_a_page_given_back_is_out_of_reach(run: Run) -> None:
    """decrease_reservation of a page whose mappings went without a flush: stale entries must not show the frame."""
    source = """
    start: movq $0x77, SPARE
        MAP SPARE, 0, 0
        movabs $SPARE_DIRECT, %rdi
        xor %esi, %esi
        xor %edx, %edx
        HYPERCALL 14
        mov $1, %edi
        mov $reservation, %rsi
        HYPERCALL 12
        cmp $1, %rax
        jne bad
    fault: mov SPARE, %rbx
        int3
    bad: ud2
    .data
    .balign 8
    reservation: .quad frames, 1
        .long 0, 0
        .short 0x7ff0, 0
        .long 0
    frames: .quad SPARE_MFN"""
    out = run(source)
    assert out.end.fault == (PAGE_FAULT, 0)
    assert out.words(out.label("SPARE"), 1) == [0]


BAD_ENTRY = "$0xfffffffff003"
TABLE_WRITES = {
    "mov": "mov BAD, %rax; fault: mov %rax, (%rbx)",
    "xchg": "mov BAD, %rax; fault: xchg %rax, (%rbx)",
    "cmpxchg": "mov BAD, %rcx; mov (%rbx), %rax; fault: lock cmpxchg %rcx, (%rbx)",
    "movups": "mov BAD, %rax; movq %rax, %xmm0; fault: movups %xmm0, (%rbx)",
    "fxsave": "fault: fxsave64 (%rbx)",
    "rep": "mov BAD, %rax; mov %rbx, %rdi; mov $4, %ecx; fault: rep stosq",
}


@pytest.mark.parametrize("table", ["L4", "KERNEL_L3", "KERNEL_L2", "DIRECT_L1", "USER_L4"])
@pytest.mark.parametrize("how", TABLE_WRITES)
def test_page_tables_are_not_written_unchecked(run: Run, table: str, how: str) -> None:
    """A store of a bad entry faults, and is not done."""
    code = TABLE_WRITES[how].replace("BAD", BAD_ENTRY)
    out = run(f"start: mov ${table}_DIRECT, %rbx; mov (%rbx), %rdx; {code}; int3")
    assert out.end.fault == (PAGE_FAULT, P | W)
    assert out.end.rip == out.label("fault")
    pfn = (out.label(f"{table}_DIRECT") - out.label("DIRECT")) // 4096
    assert int.from_bytes(out.memory[pfn * 4096 : pfn * 4096 + 8], "little") == out["rdx"]


MAKE_ENTRY = {
    "update_va_mapping": """
        mov $SPARE, %rdi
        mov value, %rsi
        xor %edx, %edx
        HYPERCALL 14""",
    "mmu_update": """
        mov value, %rax
        mov %rax, request + 8
        MMU_UPDATE request""",
    "store": """
        movabs $KERNEL_L1_DIRECT + ((SPARE >> 9) & 0xff8), %rbx
        mov value, %rax
    fault: mov %rax, (%rbx)
        ud2""",
    "pin": """
        mov value, %rax
        mov %rax, DATA + 0x8000
        MAP DATA + 0x8000, ((DATA_MFN + 8) << 12 | RO), 2
        movabs $DATA_DIRECT + 0x8000, %rdi
        mov $(DATA_MFN + 8) << 12 | RO, %rsi
        mov $2, %edx
        HYPERCALL 14
        MMUEXT pin""",
}
NOWHERE_FRAMES = [
    "FIRST_MFN + 160",
    "FIRST_MFN + 0x100000",
    "0xfffffffffff >> 4",
    "0xffffffffff",
    "0",
    "1",
    "FIRST_MFN - 70",
]


@pytest.mark.parametrize("frame", NOWHERE_FRAMES)
@pytest.mark.parametrize("how", ["update_va_mapping", "mmu_update", "store", "pin"])
def test_no_entry_to_nowhere(run: Run, frame: str, how: str) -> None:
    """Frames that do not exist or are not the domain's get into no table, and the domain goes on."""
    source = f"""
    start: movq $5, SPARE
        {MAKE_ENTRY[how]}
        mov %rax, %rbp
    after: mov SPARE, %rbx
        int3
    .data
    .balign 8
    value: .quad (({frame}) << 12) | RW
    request: .quad KERNEL_L1_MFN << 12 | ((SPARE >> 9) & 0xff8), 0
    pin: .long 0, 0
        .quad DATA_MFN + 8, 0"""
    out = run(source, resume={"fault": "after"} if how == "store" else {})
    assert out.done
    assert out["rbx"] == 5
    if how == "store":
        assert out.faults == [(PAGE_FAULT, P | W)]
    else:
        assert out["rbp"] >> 63 == 1


def test_accessed_and_dirty_bits(run: Run) -> None:
    """The processor sets them in the guest's tables: accessed by a read, dirty by a write only."""
    source = """
    start: mov $SPARE, %rdi
        mov $SPARE_MFN << 12 | P | W | NX, %rsi
        mov $2, %edx
        HYPERCALL 14
        movabs $KERNEL_L1_DIRECT + ((SPARE >> 9) & 0xff8), %rbp
        mov (%rbp), %r12
        mov SPARE, %rax
        mov (%rbp), %r13
        movq $1, SPARE
        mov (%rbp), %r14
        int3"""
    out = run(source)
    assert out.done
    assert [out[r] & 0x60 for r in ("r12", "r13", "r14")] == [0, 0x20, 0x60]
