"""Hypercalls as the guest makes them: dispatch, multicall, preemption, and whatever a hostile kernel passes."""

import struct
from collections.abc import Sequence
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import (
    ALIEN,
    ARGS,
    CODE,
    CODE_PAGE,
    L1,
    L4,
    PAGE,
    R8,
    R9,
    R10,
    RAX,
    RDI,
    RDX,
    RSI,
    SHARED_INFO,
    SPARE,
    STACK_PAGE,
    SYSCALL_SIZE,
    World,
    entry,
    page_address,
    signed,
)
from xenion.abi.arch_x86_64 import HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START, SEGBASE_FS
from xenion.abi.errno import Errno
from xenion.abi.xen import DOMID_SELF, MMUEXT_INVLPG_LOCAL, Hypercall

MMU_UPDATE_PREEMPTED = 1 << 31
ENTRY_WORDS = 8
UPDATES_AT = 0xC00
Entry: TypeAlias = tuple[int, tuple[int, ...]]

entries = st.one_of(
    st.tuples(st.just(Hypercall.stack_switch), st.tuples(st.just(0), st.integers(0, 2**64 - 1))),
    st.tuples(st.just(Hypercall.set_segment_base), st.tuples(st.just(SEGBASE_FS), st.integers(0, 2**47 - 1))),
    st.tuples(st.just(Hypercall.xen_version), st.tuples(st.integers(0, 9))),
    st.tuples(st.just(Hypercall.iret), st.just(())),
    st.tuples(st.just(Hypercall.multicall), st.just((page_address(0), 1))),
    st.tuples(
        st.just(Hypercall.mmu_update),
        st.tuples(st.just(page_address(0) + UPDATES_AT), st.integers(0, 5), st.just(0), st.just(DOMID_SELF)),
    ),
)


def run_multicall(world: World, calls: Sequence[Entry], *, kick_at: int) -> list[int]:
    """The results; vCPU 0 is kicked, with an event for it, by the cold call of this number, and before each retry."""
    updates = [word for n in range(5) for word in (SPARE << 12 | n << 3, 1000 + n)]
    world.put_words(updates, UPDATES_AT)
    words = [word for number, args in calls for word in (number, 0xDEAD, *args, *[0] * (6 - len(args)))]
    at = world.put_words(words)
    world.script.kick_at = kick_at
    world.pending_upcall(masked=False)
    if not kick_at:
        world.pending_upcall(masked=True)
        world.memory[world.vcpu.info] = 0
    result = world.enter(Hypercall.multicall, at, len(calls))
    while result is None:
        world.pending_upcall(masked=False)
        world.vcpu.kick = 1
        result = world.again()
    assert result == 0
    assert not world.vcpu.in_multicall
    return [signed(world.words[ARGS * 512 + ENTRY_WORDS * n + 1]) for n in range(len(calls))]


@examples(150)
@given(calls=st.lists(entries, min_size=1, max_size=8), kick_at=st.integers(1, 4))
def test_an_interrupted_multicall_ends_as_if_it_never_was(
    core: Core, calls: list[Entry], kick_at: int
) -> None:
    with World(core) as plain, World(core) as kicked:
        expected = run_multicall(plain, calls, kick_at=0)
        assert run_multicall(kicked, calls, kick_at=kick_at) == expected
        assert plain.upcalls == 0
        assert kicked.page(SPARE) == plain.page(SPARE)
        assert kicked.vcpu.kernel_sp == plain.vcpu.kernel_sp
        assert list(kicked.script.bases) == list(plain.script.bases)
        assert kicked.script.cold_calls == plain.script.cold_calls
        cold = [number for number, _ in calls if number == Hypercall.xen_version]
        if kick_at <= len(cold):
            assert kicked.upcalls
        answers = {Hypercall.iret: -Errno.ENOSYS, Hypercall.multicall: -Errno.EINVAL}
        assert expected == [answers.get(Hypercall(number), 0) for number, _ in calls]


def test_a_multicall_that_gives_way_names_what_is_left(world: World) -> None:
    call = [Hypercall.xen_version, 0, 7, 0, 0, 0, 0, 0]
    at = world.put_words(call * 4)
    world.script.kick_at = 2
    world.pending_upcall(masked=False)
    assert world.enter(Hypercall.multicall, at, 4) is None
    assert world.script.cold_calls == 2
    regs = world.vcpu.regs
    assert (regs[RAX], regs[RDI], regs[RSI]) == (Hypercall.multicall, at + 2 * 64, 2)
    assert world.again() == 0
    assert world.script.cold_calls == 4


def test_a_long_cold_call_goes_on_where_it_was(world: World) -> None:
    world.script.long_number = Hypercall.memory_op
    world.script.kick_at = 4
    world.pending_upcall(masked=False)
    assert world.enter(Hypercall.memory_op, 100, 6, 7) is None
    regs = world.vcpu.regs
    assert (regs[RAX], regs[RDI], regs[RSI], regs[RDX]) == (Hypercall.memory_op, 103, 3, 7)
    assert world.again() == 0
    assert (world.script.long_steps, world.script.cold_calls) == (6, 2)


def test_a_long_cold_call_in_a_multicall_goes_on_where_it_was(world: World) -> None:
    """The rest of it is the first entry of the rest of the list."""
    world.script.long_number = Hypercall.memory_op
    before, long = [Hypercall.xen_version, 0, 7, 0, 0, 0, 0, 0], [Hypercall.memory_op, 0, 100, 6, 7, 0, 0, 0]
    at = world.put_words(before + long + before)
    world.script.kick_at = 5
    world.pending_upcall(masked=False)
    assert world.enter(Hypercall.multicall, at, 3) is None
    regs = world.vcpu.regs
    assert (regs[RAX], regs[RDI], regs[RSI]) == (Hypercall.multicall, at + 64, 2)
    assert list(world.words[ARGS * 512 + 8 : ARGS * 512 + 16])[2:5] == [103, 3, 7]
    assert not world.vcpu.in_multicall
    assert world.again() == 0
    assert (world.script.long_steps, world.script.cold_calls) == (6, 4)


def test_a_kick_without_an_event_interrupts_nothing(world: World) -> None:
    at = world.put_words([Hypercall.xen_version, *[0] * 7] * 3)
    world.script.kick_at = 1
    assert world.enter(Hypercall.multicall, at, 3) == 0
    assert world.vcpu.kick == 0


@examples(60)
@given(count=st.integers(1, 12), seed=st.integers(0, 2**32))
def test_an_interrupted_mmu_update(core: Core, count: int, seed: int) -> None:
    """One update at a time: the worst there is."""
    with World(core) as world:
        updates = [word for n in range(count) for word in (SPARE << 12 | n << 3, seed * 2 * (n + 1))]
        at, done_at = world.put_words(updates), page_address(0) + 2048
        args = (Hypercall.mmu_update, at, count, done_at, DOMID_SELF)
        world.vcpu.kick = 1
        world.pending_upcall(masked=False)
        result = world.enter(*args)
        for n in range(1, count):
            assert result is None
            regs = world.vcpu.regs
            expected = (
                Hypercall.mmu_update,
                at + 16 * n,
                count - n | MMU_UPDATE_PREEMPTED,
                done_at,
                DOMID_SELF,
            )
            assert tuple(regs[r] for r in (RAX, RDI, RSI, RDX, R10)) == expected
            assert struct.unpack_from("<I", world.memory, ARGS * PAGE + 2048) == (n,)
            world.vcpu.kick = 1
            world.pending_upcall(masked=False)
            result = world.again()
        assert result == 0
        assert struct.unpack_from("<I", world.memory, ARGS * PAGE + 2048) == (count,)
        assert world.page(SPARE)[:count] == [seed * 2 * (n + 1) for n in range(count)]


@examples(60)
@given(count=st.integers(1, 12), kick_at=st.integers(1, 13))
def test_an_interrupted_mmuext_op(core: Core, count: int, kick_at: int) -> None:
    with World(core) as world:
        words = [word for n in range(count) for word in (MMUEXT_INVLPG_LOCAL, n << 12, 0)]
        at, done_at = world.put_words(words), page_address(0) + 2048
        world.script.kick_at = kick_at
        world.pending_upcall(masked=False)
        result = world.enter(Hypercall.mmuext_op, at, count, done_at, DOMID_SELF)
        assert (result is None) == (kick_at < count)
        if result is None:
            assert world.script.page_flushes == kick_at
            assert tuple(world.vcpu.regs[r] for r in (RDI, RSI)) == (
                at + 24 * kick_at,
                count - kick_at | MMU_UPDATE_PREEMPTED,
            )
            result = world.again()
        assert result == 0
        assert (world.script.page_flushes, world.script.flushed_page) == (count, (count - 1) << 12)
        assert struct.unpack_from("<I", world.memory, ARGS * PAGE + 2048) == (count,)


def test_an_update_that_fails_is_counted(world: World) -> None:
    at = world.put_words([SPARE << 12, 2, ALIEN << 12, 2, SPARE << 12 | 8, 2])
    assert world.hypercall(Hypercall.mmu_update, at, 3, page_address(0) + 512, DOMID_SELF) == -Errno.EINVAL
    assert struct.unpack_from("<I", world.memory, ARGS * PAGE + 512) == (1,)


@pytest.mark.parametrize("number", [Hypercall.mmu_update, Hypercall.mmuext_op])
@pytest.mark.parametrize(("domid", "error"), [(0, Errno.ESRCH), (6, Errno.ESRCH), (0x7FF1, Errno.EPERM)])
def test_other_domains_are_out_of_reach(world: World, number: int, domid: int, error: Errno) -> None:
    assert world.hypercall(number, world.put_words([SPARE << 12, 2, 0]), 1, 0, domid) == -error


@pytest.mark.parametrize("number", [Hypercall.mmu_update, Hypercall.mmuext_op, Hypercall.multicall])
@pytest.mark.parametrize("count", [1, 2**31 - 1, 2**32 - 1])
@pytest.mark.parametrize("address", [0, 1 << 47, HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END - 8, 2**64 - 8])
def test_lists_that_are_not_there(world: World, number: int, count: int, address: int) -> None:
    assert world.hypercall(number, address, count & 0x7FFFFFFF, 0, DOMID_SELF) == -Errno.EFAULT


def test_other_calls_go_to_the_cold_half(world: World) -> None:
    world.script.cold_result = -77
    for number in (Hypercall.memory_op, 39, 63, 64, 2**32, 2**64 - 1):
        assert world.hypercall(number, 1, 2, 3, 4, 5, 6) == -77
        assert list(world.script.cold_args) == [1, 2, 3, 4, 5, 6]
        assert world.script.cold_number == number


def test_the_record_of_the_last_calls(world: World) -> None:
    world.script.cold_result = 9
    for n in range(40):
        world.hypercall(Hypercall.xen_version, n)
    assert world.vcpu.call_count == 40
    records = {(r.number, r.args[0], r.result) for r in world.vcpu.calls}
    assert records == {(Hypercall.xen_version, n, 9) for n in range(8, 40)}


# --- whatever a kernel does

IPI, VIRQ = 4, 3
CORE_CALLS = (1, 2, 3, 5, 10, 13, 14, 15, 22, 23, 24, 25, 26, 29, 32)
pointers = st.one_of(
    st.integers(0, 0xE00).map(lambda n: page_address(0) + n),
    st.sampled_from(
        [0, 1, page_address(0) - 8, page_address(2) - 4, page_address(STACK_PAGE), 1 << 47, (1 << 47) - 4]
    ),
    st.sampled_from(
        [HYPERVISOR_VIRT_START, HYPERVISOR_VIRT_END, 2**64 - 4, 2**64 - 1, 2**63, 0x123456789ABC]
    ),
)
frame_numbers = st.sampled_from([0, ALIEN, L4, L1, SPARE, SPARE + 1, 31, 32, 1 << 40, 2**52 - 1])
arguments = st.one_of(
    pointers,
    st.integers(0, 40),
    frame_numbers,
    st.builds(
        lambda mfn, low: mfn << 12 | low,
        st.sampled_from([0, SPARE, L1, L4, 31, 1 << 40]),
        st.integers(0, 4095),
    ),
    st.sampled_from(
        [DOMID_SELF, 2**31 - 1, 2**31, 2**32 - 1, 2**64 - 1, MMU_UPDATE_PREEMPTED | 3, 7168, 7169, 8193]
    ),
    st.integers(0, 2**64 - 1),
)
contents = st.lists(arguments, max_size=48)
calls = st.tuples(st.sampled_from(CORE_CALLS), st.tuples(*[arguments] * 6), contents)


@examples(250)
@given(
    sequence=st.lists(calls, max_size=12),
    kicks=st.integers(0, 2**12 - 1),
    mode=st.booleans(),
    fifo=st.one_of(st.none(), st.lists(st.integers(0, 2**32 - 1), min_size=16, max_size=16)),
)
def test_no_hypercall_breaks_isolation_or_the_host(
    core: Core,
    sequence: list[tuple[int, tuple[int, ...], list[int]]],
    kicks: int,
    mode: bool,
    fifo: list[int] | None,
) -> None:
    """`fifo`: with FIFO event channels whose words and heads the guest has written to."""
    with World(core, nr_vcpus=2) as world:
        for port, state in ((1, IPI), (2, IPI), (3, VIRQ), (1500, IPI)):
            world.state.ports[port].state, world.state.ports[port].priority = state, port % 16
        world.vcpu.virq_port[0] = 3
        if fifo:
            assert world.lib.core_fifo_init(world.vcpu, SPARE + 2, PAGE - 72) == 0
            assert world.lib.core_fifo_expand(world.state, SPARE + 3) == 0
            for n, value in enumerate(fifo):
                world.set_word(
                    (SPARE + 3, SPARE + 2)[n % 2], (0, 512 - 9)[n % 2] + n // 2, value << 32 | fifo[-n]
                )
        for turn, (number, args, words) in enumerate(sequence):
            world.ready()
            world.put_words(words)
            world.vcpu.kick = kicks >> turn & 1
            world.pending_upcall(masked=mode)
            world.vcpu.regs[RAX] = number
            for register, value in zip((RDI, RSI, RDX, R10, R8, R9), args, strict=True):
                world.vcpu.regs[register] = value
            world.lib.core_syscall(world.vcpu, 0)
            world.vcpu.stopped = 0
            check_isolation(world)


@examples(250)
@given(
    code=st.binary(max_size=15),
    offset=st.sampled_from([0, PAGE - 15, PAGE - 8, PAGE - 2, PAGE - 1]),
    rip=st.one_of(st.none(), pointers),
    rsp=st.one_of(st.none(), pointers, st.integers(0, 2**64 - 1)),
    address=arguments,
    kind=st.integers(0, 6),
    vector=st.integers(0, 2**32 - 1),
    error=st.integers(0, 2**32 - 1),
    kernel_mode=st.booleans(),
    frame=contents,
    iopl=st.integers(0, 3),
)
def test_no_trap_breaks_isolation_or_the_host(
    core: Core,
    code: bytes,
    offset: int,
    rip: int | None,
    rsp: int | None,
    address: int,
    kind: int,
    vector: int,
    error: int,
    kernel_mode: bool,
    frame: list[int],
    iopl: int,
) -> None:
    with World(core, read_only=[SPARE]) as world:
        world.set_word(SPARE, 3, entry(SPARE + 1))
        assert world.lib.core_pin(world.state, SPARE, 1) == 0
        vcpu, lib = world.vcpu, world.lib
        at = CODE * PAGE + offset
        world.memory[at : at + min(len(code), PAGE - offset)] = code[: PAGE - offset]
        world.put_words(frame)
        vcpu.rip = page_address(CODE_PAGE) + offset if rip is None else rip
        vcpu.regs[4] = vcpu.regs[4] if rsp is None else rsp
        vcpu.kernel_mode, vcpu.iopl, vcpu.ldt_entries = kernel_mode, iopl << 12, 8192
        if kind == 0:
            lib.core_page_fault(vcpu, address, error)
        elif kind == 1:
            lib.core_page_fault(vcpu, world.spare_address(SPARE) + address % PAGE, error | 3)
        elif kind == 2:
            lib.core_page_fault(vcpu, world.state.gdt_area + address % 0x40000, error)
        elif kind == 3:
            lib.core_exception(vcpu, vector % 32, error & 1, error)
        elif kind == 4:
            lib.core_software_interrupt(vcpu, vector, 2)
        elif kind == 5:
            vcpu.regs[RAX] = Hypercall.iret
            lib.core_syscall(vcpu, error & 1)
        else:
            world.state.vm_assist = error
            lib.core_kicked(vcpu)
        check_isolation(world)
        assert world.page(SHARED_INFO)[PAGE // 16 :] == [0] * (512 - PAGE // 16)


def test_a_syscall_instruction_is_two_bytes() -> None:
    assert len(bytes.fromhex("0f05")) == SYSCALL_SIZE
