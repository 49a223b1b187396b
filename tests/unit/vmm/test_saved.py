"""What a domain is, taken and put into another one; and states that somebody has had their hands on."""

import os
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.model import XEN_SLOTS
from tests.unit.core.world import ALLOCATED, PINNED, TYPE_COUNT, TYPE_SHIFT, World
from tests.unit.vmm.kernel import FIRST_FREE, L1, L4, LEAF, PAGES, TABLE, Kernel, built
from xenion.abi.arch_x86_64 import VcpuGuestContext, VGCF_in_kernel
from xenion.core import lib
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain
from xenion.vmm.events import PortState
from xenion.vmm.hypercalls.initialise import initialise
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.saved import (
    DomainState,
    Port,
    SavedStateError,
    UnsavableError,
    capture,
    memory_runs,
    prepare,
    resume,
    shown_pages,
)

SPARE = PAGES + 8
"""What the domain may come to have."""
(TABLE_PFN, DATA_PFN, GONE_PFN, LEAVING_PFN, LEAVING_TABLE_PFN, INFO_PFN, CONTROL_PFN, CONTROL_1_PFN, WORDS_PFN,
 MORE_WORDS_PFN, GDT_PFN, TEXT_PFN) = range(FIRST_FREE + 4, FIRST_FREE + 16)  # fmt: skip
INFO_AT, CONTROL_AT = 0x140, PAGE_SIZE - 72
RIP, RSP, SECOND = 0xFFFFFFFF80001000, 0xFFFFFFFF80009000, 10**9
WALL_CLOCK_AT, WALL_CLOCK_SIZE = 3072, 16
TIME_AT, TIME_SIZE = 32, 32
"""Of a vcpu_info: what is published anew."""


# --- domains


def begin(kernel: Kernel) -> None:
    """As Domain.boot does, whose tables this kernel has had validated already."""
    domain = kernel.domain
    domain._start_clock()
    for vcpu in domain.vcpus:
        domain.memory.bytes[vcpu.state.info + 1] = 1
    kernel.vcpu.state.initialised = kernel.vcpu.state.online = 1
    domain.processor.start(RIP, RSP, 0x1234)


@contextmanager
def begun(nr_vcpus: int = 1) -> Iterator[Kernel]:
    with built(nr_vcpus=nr_vcpus, most_pages=SPARE) as kernel:
        begin(kernel)
        yield kernel


@contextmanager
def empty_domain(nr_vcpus: int = 1, most_pages: int = SPARE) -> Iterator[Domain]:
    """One that waits for what was saved."""
    notify_fd = os.eventfd(0, os.EFD_NONBLOCK)
    domain = Domain(
        SoftwareProcessor(),
        domid=7,
        nr_pages=0,
        most_pages=most_pages,
        handle=bytes(16),
        notify_fd=notify_fd,
        console_output=lambda data: None,
        nr_vcpus=nr_vcpus,
    )
    try:
        yield domain
    finally:
        domain.close()
        os.close(notify_fd)


def through_a_file(state: DomainState) -> DomainState:
    return msgspec.json.decode(msgspec.json.encode(state), type=DomainState)


def pages_of(domain: Domain, state: DomainState) -> dict[int, bytes]:
    """As they go into a file."""
    pages = {
        mfn: bytes(domain.memory.page(mfn))
        for first, count in memory_runs(domain, state)
        for mfn in range(first, first + count)
    }
    return pages | shown_pages(domain)


def put(domain: Domain, state: DomainState, pages: dict[int, bytes]) -> None:
    prepare(domain, state)
    for mfn, page in pages.items():
        domain.memory.page(mfn)[:] = page
    resume(domain, state)


@contextmanager
def moved(kernel: Kernel, state: DomainState | None = None) -> Iterator[Domain]:
    """What the kernel's domain is, in another one; `state`: what is said of it instead."""
    real = capture(kernel.domain)
    pages = pages_of(kernel.domain, real)
    with empty_domain(len(kernel.domain.vcpus)) as domain:
        put(domain, through_a_file(state or real), pages)
        yield domain


def refused(kernel: Kernel, state: DomainState, why: str) -> None:
    with pytest.raises(SavedStateError, match=why), moved(kernel, state):
        pass


def changed(kernel: Kernel, **fields: Any) -> DomainState:
    return msgspec.structs.replace(capture(kernel.domain), **fields)


def changed_vcpu(kernel: Kernel, number: int = 0, **fields: Any) -> DomainState:
    state = capture(kernel.domain)
    state.vcpus[number] = msgspec.structs.replace(state.vcpus[number], **fields)
    return state


def changed_number(kernel: Kernel, name: str, value: int) -> DomainState:
    return changed_vcpu(kernel, numbers=capture(kernel.domain).vcpus[0].numbers | {name: value})


# --- what they do


def unmap(kernel: Kernel, pfn: int) -> None:
    assert set_l1(kernel, L1, pfn, LEAF | kernel.mfn(pfn) << 12, 0) == 1


def set_l1(kernel: Kernel, table: int, index: int, before: int, after: int) -> int:
    at = kernel.mfn(table) * PAGE_SIZE + index * 8
    return int(lib.core_change_l1(kernel.domain.state, at, before, after))


def write_word(kernel: Kernel, pfn: int, index: int, value: int) -> None:
    kernel.domain.space.write(pfn * PAGE_SIZE + index * 8, struct.pack("<Q", value))


def pin(kernel: Kernel, pfn: int, level: int) -> None:
    assert lib.core_pin(kernel.domain.state, kernel.mfn(pfn), level) == 0


def release(kernel: Kernel, pfn: int) -> None:
    assert lib.core_release_frame(kernel.domain.state, kernel.mfn(pfn)) == 0


def pinned_table(kernel: Kernel, pfn: int = TABLE_PFN, target: int = DATA_PFN) -> None:
    """An L1 table in the kernel's own pages."""
    unmap(kernel, pfn)
    write_word(kernel, pfn, 3, LEAF | kernel.mfn(target) << 12)
    pin(kernel, pfn, 1)


def give_back(kernel: Kernel) -> None:
    """One frame for good, and one that is still mapped."""
    unmap(kernel, GONE_PFN)
    release(kernel, GONE_PFN)
    release(kernel, LEAVING_PFN)


def register_info(kernel: Kernel, number: int = 0) -> None:
    state = kernel.domain.state
    assert lib.core_get_writable(state, kernel.mfn(INFO_PFN)) == 0
    at = kernel.mfn(INFO_PFN) * PAGE_SIZE + INFO_AT + 64 * number
    lib.core_register_info(kernel.domain.vcpus[number].state, at)


def start_fifo(kernel: Kernel) -> None:
    events = kernel.domain.events
    for vcpu, pfn in zip(kernel.domain.vcpus, (CONTROL_PFN, CONTROL_1_PFN), strict=False):
        events.init_control(vcpu.id, kernel.mfn(pfn), CONTROL_AT)
    for pfn in (WORDS_PFN, MORE_WORDS_PFN):
        events.expand_array(kernel.mfn(pfn))


def bind_ports(kernel: Kernel) -> None:
    """One of each kind, some of them with something that the guest has not seen."""
    events, last = kernel.domain.events, min(len(kernel.domain.vcpus) - 1, 1)
    channel = events.bind_dom0(lambda: None)
    events.bind_virq(0, 0)
    events.bind_virq(1, last)
    ipi = events.allocate(PortState.IPI, last)
    for domid in (0, 7):
        events.allocate(PortState.UNBOUND, number=domid)
    events.bind_own(events.allocate(PortState.UNBOUND, number=7))
    events.set_priority(ipi, 2)
    events.notify(channel)
    kernel.domain.raise_event(ipi)


def bring_up(kernel: Kernel, number: int = 1) -> None:
    """Another vCPU, with a GDT of its own."""
    unmap(kernel, GDT_PFN)
    context = VcpuGuestContext(flags=VGCF_in_kernel, gdt_ents=512, event_callback_eip=RIP)
    context.user_regs.rip, context.user_regs.rsp, context.user_regs.r15 = RIP + 8, RSP + 8, 0x55
    context.user_regs.cs, context.user_regs.ss = 0xE033, 0xE02B
    context.gdt_frames[0] = kernel.mfn(GDT_PFN)
    context.ctrlreg[3] = kernel.mfn(L4) << 12
    context.gs_base_kernel, context.fs_base = 0x7000, 0x8000
    assert initialise(kernel.domain.vcpus[number], kernel.vcpu, context) == 0
    lib.core_vcpu_up(kernel.domain.vcpus[number].state)


def have_grants(kernel: Kernel) -> None:
    """Of version 2, more of them, some filled in."""
    domain = kernel.domain
    domain.grants.set_version(domain.state, 2)
    domain.grants.grow(domain.state, 5)
    domain.grants.entry_bytes(1000)[:] = bytes(range(16))
    domain.grants.status_bytes(1000)[:] = b"\x10\x00"


def start_watchdogs(kernel: Kernel) -> None:
    kernel.domain.watchdogs.operate(0, 100, 5)
    kernel.domain.watchdogs.operate(0, 200, 5)
    kernel.domain.watchdogs.operate(1, 0, 5)


def set_timers(kernel: Kernel) -> None:
    state = kernel.vcpu.state
    state.deadline, state.period, state.period_due = 1 << 60, 7 * SECOND, 1 << 61
    state.waiting, state.poll_until, state.poll_count = lib.WAITS_POLLING, 1 << 59, 3
    state.poll_ports[0:3] = [4, 1, 9]
    state.runstate, state.runstate_entry = 2, 77
    state.runstate_time, state.runstate_area = [1, 2, 3, 4], kernel.address(TEXT_PFN)


def set_registers(kernel: Kernel) -> None:
    state, domain = kernel.vcpu.state, kernel.domain
    for number in range(16):
        state.regs[number] = number << 60 | number
    state.traps[14] = {"address": RIP + 14, "cs": 0xE033, "flags": 3}
    state.kernel_sp, state.event_callback, state.failsafe_callback = RSP, RIP + 1, RIP + 2
    state.syscall_callback, state.sysenter_callback, state.syscall32_callback = RIP + 3, RIP + 4, RIP + 5
    state.sysenter_masks = state.syscall32_masks = state.nmi_masked = state.task_switched = 1
    state.gs_user, state.iopl, state.debugreg[0] = 0x1111, 1 << 12, RIP
    domain.state.vm_assist = 1 << 5
    kernel.vcpu.io_bitmap, kernel.vcpu.io_ports = kernel.address(TEXT_PFN), 1024
    image = bytearray(domain.processor.read_fpu(0))
    image[4], image[32:42], image[160:176] = 1, bytes(range(1, 11)), bytes(range(16))
    domain.processor.write_fpu(0, bytes(image))


def fill_memory(kernel: Kernel) -> None:
    kernel.put(bytes(range(256)) * 16, TEXT_PFN)
    kernel.put(b"something", DATA_PFN, PAGE_SIZE - 9)
    kernel.domain.set_pfn(kernel.mfn(DATA_PFN), 0x1234)


def all_of_it(kernel: Kernel) -> None:
    for do in (fill_memory, pinned_table, register_info, start_fifo, bind_ports, give_back, have_grants,
               start_watchdogs, set_timers, set_registers, bring_up):  # fmt: skip
        do(kernel)


# --- what came of it


def frames_of(domain: Domain) -> list[tuple[int, int]]:
    """Type and count of each: they follow from the tables, and are as they were."""
    found = []
    for mfn in range(domain.memory.nr_frames):
        frame = domain.state.frames[mfn]
        found.append((frame.type if frame.type & TYPE_COUNT else frame.type & PINNED, frame.count))
    return found


def own_pages(domain: Domain) -> list[bytes]:
    """But for what is published of the time, and what the hypervisor has in its slots of the kernel's L4 table."""
    memory, pages = bytearray(domain.memory.bytes), []
    for slot in XEN_SLOTS:
        struct.pack_into("<Q", memory, domain.state.vcpus[0].cr3 + slot * 8, 0)
    for vcpu in domain.vcpus:
        at = vcpu.state.info + TIME_AT
        memory[at : at + TIME_SIZE] = bytes(TIME_SIZE)
    at = domain.state.shared_info + WALL_CLOCK_AT
    memory[at : at + WALL_CLOCK_SIZE] = bytes(WALL_CLOCK_SIZE)
    for first, count in memory_runs(domain, capture(domain)):
        pages.append(bytes(memory[first * PAGE_SIZE : (first + count) * PAGE_SIZE]))
    return pages


def but_the_time(state: DomainState) -> DomainState:
    """And the registers of a vCPU that never had any."""
    clock = msgspec.structs.replace(state.clock, tsc=0, system_time=0)
    vcpus = [v if v.initialised else msgspec.structs.replace(v, context=b"") for v in state.vcpus]
    return msgspec.structs.replace(state, clock=clock, vcpus=vcpus)


class Seen:
    """A domain as the checks of the core's own tests see one."""

    def __init__(self, domain: Domain) -> None:
        self.state, self.nr_frames = domain.state, domain.memory.nr_frames
        self.vcpu = domain.state.vcpus + 0
        self._words = domain.memory.words

    def type_of(self, mfn: int) -> tuple[int, int]:
        word = self.state.frames[mfn].type
        count = word & TYPE_COUNT
        return (word >> TYPE_SHIFT if count else 0), count

    def references(self, mfn: int) -> int:
        return int(self.state.frames[mfn].count & ~ALLOCATED)

    def page(self, mfn: int) -> list[int]:
        return self._words[mfn * 512 : (mfn + 1) * 512].tolist()


def hypervisors_pages(domain: Domain) -> list[bytes]:
    """Those that no guest may change, and that are the same in each domain."""
    memory = domain.memory
    first = memory.m2p_mfn + memory.m2p_pages
    return [bytes(memory.page(mfn)) for mfn in (*range(first, memory.areas_l1), memory.zero_mfn,
                                                memory.reserved_gdt_mfn)]  # fmt: skip


def check(domain: Domain) -> None:
    """It may be any guest; it is not more than one."""
    check_isolation(cast("World", Seen(domain)))
    for vcpu in domain.vcpus:
        assert vcpu.state.info % 8 == 0
        assert domain.state.frames[vcpu.state.info // PAGE_SIZE].count or vcpu.id >= 32
    with empty_domain() as fresh:
        assert hypervisors_pages(domain) == hypervisors_pages(fresh)
    capture(domain)


# --- round trips


@pytest.mark.parametrize(
    "does",
    [fill_memory, pinned_table, register_info, start_fifo, bind_ports, give_back, have_grants, start_watchdogs,
     set_timers, set_registers],
)  # fmt: skip
def test_what_it_is_in_another_domain(does: Callable[[Kernel], None]) -> None:
    with begun() as kernel:
        does(kernel)
        before = capture(kernel.domain)
        with moved(kernel) as domain:
            assert but_the_time(capture(domain)) == but_the_time(before)
            assert frames_of(domain) == frames_of(kernel.domain)
            assert own_pages(domain) == own_pages(kernel.domain)
            assert domain.pages == kernel.domain.pages
            check(domain)


@pytest.mark.parametrize("times", [1, 3])
def test_all_of_it_again_and_again(times: int) -> None:
    """Three vCPUs, of which one was never brought up."""
    with begun(3) as kernel:
        all_of_it(kernel)
        before, state, pages = frames_of(kernel.domain), capture(kernel.domain), own_pages(kernel.domain)
        assert [vcpu.initialised for vcpu in state.vcpus] == [True, True, False]
        again(through_a_file(state), pages_of(kernel.domain, state), times, state, before, pages)


def again(
    state: DomainState,
    memory: dict[int, bytes],
    times: int,
    first: DomainState,
    frames: list[tuple[int, int]],
    pages: list[bytes],
) -> None:
    with empty_domain(len(state.vcpus)) as domain:
        put(domain, state, memory)
        found = capture(domain)
        assert but_the_time(found) == but_the_time(first)
        assert frames_of(domain) == frames
        assert own_pages(domain) == pages
        check(domain)
        if times > 1:
            again(through_a_file(found), pages_of(domain, found), times - 1, first, frames, pages)


def test_the_parts_that_matter_are_in_there() -> None:
    """So that what is compared above is not nothing."""
    with begun(3) as kernel:
        all_of_it(kernel)
        state = capture(kernel.domain)
        mfn, first = kernel.mfn, kernel.domain.memory.first_mfn
        assert state.owned == [(first, GONE_PFN), (mfn(GONE_PFN + 1), PAGES - GONE_PFN - 1)]
        assert sorted(state.special) == sorted([(mfn(L4), 4), (mfn(TABLE_PFN), 1), (mfn(LEAVING_PFN), 0)])
        assert state.fifo_frames == [mfn(WORDS_PFN), mfn(MORE_WORDS_PFN)]
        assert (state.grant_version, state.grant_frames) == (2, 5)
        assert state.watchdogs == [None, 200 * SECOND + 5]
        assert (state.most_pages, state.max_pages) == (SPARE, SPARE)
        assert {port.state for port in state.ports} == {1, 2, 3, 4}
        assert [port.number for port in state.ports if port.inbox] == [1]
        assert state.vcpus[0].info == mfn(INFO_PFN) * PAGE_SIZE + INFO_AT
        assert any(state.vcpus[1].queue_tail), "the event that it has not seen"
        assert state.vcpus[0].poll_ports == [4, 1, 9]


def test_a_frame_that_was_given_back_goes_when_its_mapping_goes() -> None:
    with begun() as kernel:
        release(kernel, LEAVING_PFN)
        frame, entry = kernel.mfn(LEAVING_PFN), LEAF | kernel.mfn(LEAVING_PFN) << 12
        at = kernel.mfn(L1) * PAGE_SIZE + LEAVING_PFN * 8
        with moved(kernel) as domain:
            assert domain.pages == PAGES
            assert lib.core_change_l1(domain.state, at, entry, 0) == 1
            assert domain.pages == PAGES - 1
            assert not lib.core_owns_frame(domain.state, frame)


def test_a_pinned_table_that_was_given_back_goes_when_it_is_unpinned() -> None:
    with begun() as kernel:
        pinned_table(kernel, LEAVING_TABLE_PFN)
        release(kernel, LEAVING_TABLE_PFN)
        with moved(kernel) as domain:
            assert frames_of(domain) == frames_of(kernel.domain)


@pytest.mark.parametrize(("holder", "target"), [(TABLE_PFN, DATA_PFN), (DATA_PFN, TABLE_PFN)])
def test_linear_page_tables(holder: int, target: int) -> None:
    """One L4 table that is seen through another, whichever of the two has the lower number."""
    with begun() as kernel:
        for pfn in (holder, target):
            unmap(kernel, pfn)
        write_word(kernel, holder, 300, TABLE & ~2 | kernel.mfn(target) << 12)
        pin(kernel, target, 4)
        pin(kernel, holder, 4)
        with moved(kernel) as domain:
            assert frames_of(domain) == frames_of(kernel.domain)


def test_a_table_that_is_seen_through_itself() -> None:
    with begun() as kernel:
        unmap(kernel, TABLE_PFN)
        write_word(kernel, TABLE_PFN, 300, TABLE & ~2 | kernel.mfn(TABLE_PFN) << 12)
        pin(kernel, TABLE_PFN, 4)
        with moved(kernel) as domain:
            assert frames_of(domain) == frames_of(kernel.domain)


def test_user_bits_that_are_held_back_come_out_again() -> None:
    """A kernel's L4 table is without them until it is its applications' as well."""
    with begun(2) as kernel:
        at = (kernel.domain.memory.first_mfn + L4) * 512 + 511
        assert kernel.domain.memory.words[at] & 0xFFF == LEAF
        with moved(kernel) as domain:
            context = VcpuGuestContext(flags=VGCF_in_kernel)
            context.user_regs.cs, context.user_regs.ss = 0xE033, 0xE02B
            set_control(context, 1, domain.vcpus[0].state.cr3)
            set_control(context, 3, domain.vcpus[0].state.cr3)
            assert initialise(domain.vcpus[1], domain.vcpus[0], context) == 0
            assert domain.memory.words[at] & 0xFFF == TABLE


def test_the_time_goes_on_where_it_was() -> None:
    with begun() as kernel:
        state = changed(kernel)
        with moved(kernel, state) as domain:
            assert 0 <= domain.tsc() - state.clock.tsc < 1 << 40
            assert domain.system_time() >= state.clock.system_time
            assert domain.state.tsc_base == state.clock.tsc_base


def test_the_time_of_day_is_the_hosts() -> None:
    """However long the guest was away: it is told when its own time began."""
    with begun() as kernel:
        clock = msgspec.structs.replace(capture(kernel.domain).clock, system_time=5 * 10**9)
        with moved(kernel, changed(kernel, clock=clock)) as domain:
            at = domain.state.shared_info + WALL_CLOCK_AT
            version, low, ns, high = struct.unpack_from("<4I", domain.memory.bytes, at)
            began = (high << 32 | low) + ns / 1e9
            assert version % 2 == 0
            assert 5 <= time.time() - began < 60


def test_a_tsc_of_another_frequency_is_shown_anew() -> None:
    """Time goes on from where it was, with this host's scaling."""
    with begun() as kernel:
        clock = capture(kernel.domain).clock
        other = msgspec.structs.replace(clock, tsc=1 << 50, system_time=1 << 40, tsc_mul=clock.tsc_mul // 2)
        with moved(kernel, changed(kernel, clock=other)) as domain:
            state = domain.state
            assert (state.tsc_base, state.time_base) == (1 << 50, 1 << 40)
            assert (state.tsc_mul, state.tsc_shift) == (clock.tsc_mul, clock.tsc_shift)
            assert domain.system_time() >= 1 << 40
            (shown,) = struct.unpack_from("<Q", domain.memory.bytes, domain.vcpus[0].state.info + TIME_AT + 8)
            assert shown == 1 << 50


@pytest.mark.parametrize("masked", [0, 1])
def test_upcalls_are_masked_as_they_were(masked: int) -> None:
    with begun(2) as kernel:
        bring_up(kernel)
        for vcpu in kernel.domain.vcpus:
            kernel.domain.memory.bytes[vcpu.state.info + 1] = masked
        with moved(kernel) as domain:
            assert [domain.memory.bytes[vcpu.state.info + 1] for vcpu in domain.vcpus] == [masked] * 2


def test_events_go_on() -> None:
    """What was posted before is shown; and a virtual interrupt finds its port."""
    with begun() as kernel:
        bind_ports(kernel)
        with moved(kernel) as domain:
            assert domain.state.inbox[0] == 2
            assert domain.state.inbox_any == 1
            assert domain.events.is_dom0(1)
            domain.events.rebind_dom0(1, lambda: None)
            assert [domain.vcpus[0].state.virq_port[virq] for virq in range(3)] == [2, 3, 0]
            assert domain.events.allocate(PortState.IPI) == len(capture(kernel.domain).ports) + 1


def test_the_guests_choice_of_what_it_may_have_at_most() -> None:
    with begun() as kernel:
        with moved(kernel, changed(kernel, max_pages=PAGES)) as domain:
            assert domain.max_pages == PAGES
        with moved(kernel, changed(kernel, max_pages=1 << 63)) as domain:
            assert domain.max_pages == SPARE


@pytest.mark.parametrize("room", [2, 3, 4])
def test_frames_are_looked_for_in_parts(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xenion.vmm.saved.SPECIAL_AT_ONCE", room)
    with begun() as kernel:
        pinned_table(kernel)
        release(kernel, LEAVING_PFN)
        assert [level for _, level in capture(kernel.domain).special] == [4, 1, 0]


# --- what cannot be saved


def test_a_processor_that_cannot_save(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    features = replace(kernel.domain.processor.features, name="fast", can_save=False)
    monkeypatch.setattr(kernel.domain.processor, "features", features, raising=False)
    with pytest.raises(UnsavableError, match="domains on the fast processor cannot be saved yet"):
        capture(kernel.domain)


def test_a_guest_that_maps_its_own_grants(kernel: Kernel) -> None:
    kernel.domain.grants.active[9] = cast(Any, None)
    with pytest.raises(UnsavableError, match="maps pages that it has granted itself"):
        capture(kernel.domain)
    kernel.domain.grants.active.clear()


# --- what is refused


def test_a_processor_that_cannot_restore(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the state says that it ran on."""
    state = capture(kernel.domain)
    with empty_domain() as domain:
        features = replace(domain.processor.features, can_save=False)
        monkeypatch.setattr(domain.processor, "features", features, raising=False)
        with pytest.raises(SavedStateError, match="on the software processor cannot be restored yet"):
            prepare(domain, state)


def test_another_processor(kernel: Kernel) -> None:
    refused(
        kernel, changed(kernel, processor="hardware"), "on the hardware processor, and this is the software"
    )


def test_a_feature_that_this_processor_does_not_have() -> None:
    with begun() as kernel:
        rows = capture(kernel.domain).cpuid
        refused(kernel, changed(kernel, cpuid=[*rows, (7, 0, 0, 1, 0, 0)]), "CPUID")
        with moved(kernel, changed(kernel, cpuid=rows[:1])) as domain:
            assert len(domain.cpuid) == 1


@pytest.mark.parametrize("most_pages", [0, 1, SPARE - 1, SPARE + 1, 1 << 63, 1 << 200])
def test_another_size(kernel: Kernel, most_pages: int) -> None:
    begin(kernel)
    refused(kernel, changed(kernel, most_pages=most_pages), "the size of its memory")


@pytest.mark.parametrize("count", [1, 3, 70])
def test_another_count_of_vcpus(count: int) -> None:
    with begun(2) as kernel:
        vcpus = (capture(kernel.domain).vcpus * 35)[:count]
        refused(kernel, changed(kernel, vcpus=vcpus), "the count of its virtual CPUs")


WRONG: dict[str, Callable[[Kernel], DomainState]] = {
    "a VIRQ": lambda k: changed_vcpu(k, virq_port=[7] + [0] * 23),
    "what a virtual CPU polls": lambda k: changed_vcpu(k, poll_ports=[4096]),
    "what a virtual CPU waits for": lambda k: changed_vcpu(k, waiting=4),
    "a virtual CPU's runstate": lambda k: changed_number(k, "runstate", 4),
    "a virtual CPU's timers": lambda k: changed_number(changed_period(k), "period_due", 5),
    "a virtual CPU": lambda k: changed_vcpu(k, numbers={}),
    "its first virtual CPU": lambda k: changed_vcpu(k, initialised=False),
    "its clock": lambda k: changed(k, clock=msgspec.structs.replace(capture(k.domain).clock, tsc_mul=0)),
    "its page tables": lambda k: changed(k, special=[(k.mfn(DATA_PFN), 1)] * 2),
    "its frames": lambda k: changed(k, special=[(k.mfn(L4), 4), (k.domain.memory.zero_mfn, 0)]),
    "the registers of a virtual CPU": lambda k: changed_context(k, lambda c: set_control(c, 3, 0)),
}


def changed_period(kernel: Kernel) -> Kernel:
    kernel.vcpu.state.period = 0
    return kernel


def set_control(context: VcpuGuestContext, number: int, value: int) -> None:
    context.ctrlreg[number] = value


def changed_context(kernel: Kernel, change: Callable[[VcpuGuestContext], None]) -> DomainState:
    context = VcpuGuestContext.from_buffer_copy(capture(kernel.domain).vcpus[0].context)
    change(context)
    return changed_vcpu(kernel, context=bytes(context))


@pytest.mark.parametrize("what", WRONG)
def test_what_makes_no_sense(what: str) -> None:
    with begun() as kernel:
        refused(kernel, WRONG[what](kernel), f"^its state makes no sense: {what}")


@pytest.mark.parametrize(
    "fields",
    [
        {"virq_port": [0] * 25},
        {"poll_ports": [1] * 129},
        {"runstate_time": [0] * 5},
        {"queue_tail": [0] * 17},
        {"context": b""},
        {"context": bytes(100)},
        {"info": 1 << 64},
        {"info": 1 << 200},
        {"info": 0},
        {"info": 17},
        {"info": PAGE_SIZE - 56},
    ],
    ids=str,
)
def test_fields_of_vcpus(fields: dict[str, Any]) -> None:
    with begun() as kernel:
        start_fifo(kernel)
        refused(kernel, changed_vcpu(kernel, **fields), "^its state makes no sense")


@pytest.mark.parametrize("tail", [2048, 1 << 17, (1 << 32) - 1])
def test_a_queue_that_ends_where_there_is_no_port(tail: int) -> None:
    with begun() as kernel:
        start_fifo(kernel)
        refused(kernel, changed_vcpu(kernel, queue_tail=[0] * 15 + [tail]), "a FIFO queue")


@pytest.mark.parametrize("offset", [4, PAGE_SIZE - 71, PAGE_SIZE - 64])
def test_a_control_block_that_does_not_fit(offset: int) -> None:
    with begun() as kernel:
        start_fifo(kernel)
        at = kernel.mfn(CONTROL_PFN) * PAGE_SIZE + offset
        refused(kernel, changed_vcpu(kernel, control_block=at), "a FIFO control block")


@pytest.mark.parametrize("pfn", [L4, L1, -1, -90, SPARE, 1 << 40, 1 << 70])
@pytest.mark.parametrize("what", ["info", "control_block", "fifo_frames"])
def test_places_that_are_not_the_guests_or_not_to_be_written(what: str, pfn: int) -> None:
    with begun() as kernel:
        register_info(kernel)
        start_fifo(kernel)
        mfn = kernel.domain.memory.first_mfn + pfn
        if what == "fifo_frames":
            state = changed(kernel, fifo_frames=[mfn])
        else:
            state = changed_vcpu(kernel, **{what: mfn * PAGE_SIZE})
        refused(kernel, state, "^its state makes no sense")


@pytest.mark.parametrize("count", [129, 1000])
def test_too_many_pages_of_event_words(count: int) -> None:
    with begun() as kernel:
        start_fifo(kernel)
        refused(kernel, changed(kernel, fifo_frames=[kernel.mfn(WORDS_PFN)] * count), "ENOSPC")


def test_event_words_without_a_control_block() -> None:
    with begun() as kernel:
        refused(kernel, changed(kernel, fifo_frames=[kernel.mfn(WORDS_PFN)]), "EOPNOTSUPP")


@pytest.mark.parametrize("watchdogs", [[], [None], [None] * 3, [1 << 64, None, None]])
def test_the_count_of_watchdogs(watchdogs: list[int | None]) -> None:
    with begun() as kernel:
        refused(kernel, changed(kernel, watchdogs=watchdogs), "watchdogs")


def port(number: int = 9, **fields: Any) -> Port:
    plain = Port(number, PortState.IPI, False, 0, 0, 7, 0, 7, 0, False)
    return msgspec.structs.replace(plain, **fields)


@pytest.mark.parametrize(
    "ports",
    [
        [port(0)],
        [port(4096)],
        [port((1 << 32) - 1)],
        [port(), port()],
        [port(state=PortState.FREE)],
        [port(state=5)],
        [port(state=255)],
        [port(vcpu=1)],
        [port(vcpu=65535)],
        [port(last_vcpu=1)],
        [port(dom0_end=True)],
        [port(state=PortState.VIRQ, dom0_end=True)],
        [port(state=PortState.VIRQ, other=24)],
        [port(state=PortState.VIRQ, other=(1 << 32) - 1)],
        [port(state=PortState.INTERDOMAIN, other=4096)],
    ],
    ids=str,
)
def test_ports(ports: list[Port]) -> None:
    with begun() as kernel:
        refused(kernel, changed(kernel, ports=ports), "^its state makes no sense")


def test_dom0s_channels_are_the_low_ones() -> None:
    """There are no mailboxes for the others."""
    with begun() as kernel:
        start_fifo(kernel)
        high = port(4096, state=PortState.INTERDOMAIN, dom0_end=True)
        refused(kernel, changed(kernel, ports=[high]), "EINVAL")
        with moved(kernel, changed(kernel, ports=[port(4096, inbox=True)])) as domain:
            assert list(domain.events.bound()) == [4096]
            assert domain.state.inbox_any == 0


@pytest.mark.parametrize("level", [1, 2, 3])
def test_a_table_that_is_pinned_as_what_it_cannot_be(level: int) -> None:
    with begun() as kernel:
        refused(
            kernel, changed(kernel, special=[(kernel.mfn(L1), level), (kernel.mfn(L1), 4)]), "its page tables"
        )


@pytest.mark.parametrize("level", [5, 6, 7, 8, 13, 255])
def test_only_tables_are_pinned(level: int) -> None:
    """A guest cannot have pinned anything else."""
    with begun() as kernel:
        special = [*capture(kernel.domain).special, (kernel.mfn(DATA_PFN), level)]
        unmap(kernel, DATA_PFN)
        refused(kernel, changed(kernel, special=special), "^its state makes no sense")


@pytest.mark.parametrize("period", [1, 999_999, (1 << 62) + 1])
def test_periods_that_no_guest_may_ask_for(period: int) -> None:
    """VCPUOP_set_periodic_timer refuses them."""
    with begun() as kernel:
        refused(kernel, changed_number(kernel, "period", period), "a virtual CPU's timers")


@pytest.mark.parametrize("mfn", [0, 1, 40, 1 << 40, 1 << 64, 1 << 200])
@pytest.mark.parametrize("level", [0, 1, 4])
def test_frames_of_others(mfn: int, level: int) -> None:
    with begun() as kernel:
        special = [*capture(kernel.domain).special, (mfn, level)]
        refused(kernel, changed(kernel, special=special), "^its state makes no sense")


@pytest.mark.parametrize("address", [1 << 47, 1 << 63, 0xFFFF7FFFFFFFFFFF])
@pytest.mark.parametrize("name", ["event_callback_eip", "fs_base", "gs_base_kernel", "gs_base_user"])
def test_addresses_that_no_register_takes(name: str, address: int) -> None:
    with begun() as kernel:
        state = changed_context(kernel, lambda context: setattr(context, name, address))
        refused(kernel, state, "EINVAL")


@pytest.mark.parametrize("owned", [[], [(95, 4)], [(1 << 63, 1 << 63)]])
def test_tables_in_frames_that_are_not_the_domains(owned: list[tuple[int, int]]) -> None:
    with begun() as kernel:
        refused(kernel, changed(kernel, owned=owned), "^its state makes no sense")


@pytest.mark.parametrize(
    "run", [(0, 1), (1, 1 << 63), (90, 10), (95, 1000), (200, 1), (95, (1 << 64) - 1), ((1 << 64) - 1, 2)]
)
def test_memory_is_never_more_than_the_domains(run: tuple[int, int]) -> None:
    """What is said to be owned does not make the hypervisor's pages the file's to fill, nor what there is not."""
    with begun() as kernel:
        state = changed(kernel, owned=[*capture(kernel.domain).owned, run])
        memory = kernel.domain.memory
        alien = {*range(memory.m2p_mfn + memory.m2p_pages, memory.shared_info_mfn), 0}
        try:
            with moved(kernel, state) as domain:
                runs = memory_runs(domain, state)
        except SavedStateError:
            return
        for first, count in runs:
            assert first + count <= memory.nr_frames
            assert not alien.intersection(range(first, first + count))


def test_everything_that_is_in_a_state_is_told_from_more() -> None:
    with begun() as kernel:
        known = msgspec.to_builtins(capture(kernel.domain))
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(known | {"more": 1}, DomainState)


# --- anything

EDGES = (0, 1, 2, 4, 5, 7, 8, 63, 64, 255, 256, 4095, 4096, 65535, 1 << 17, 1 << 31, (1 << 32) - 1, 1 << 47,
         1 << 62, 1 << 63, (1 << 64) - 1, 1 << 64, 1 << 100, -1, 95, 96, 101, 103, 158, 159)  # fmt: skip


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """All (container, key) in it."""
    keys = tree.keys() if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def mutate(tree: Any, data: st.DataObject) -> None:
    found = list(places(tree))
    # A few long lists would hide everything else.
    parents = {id(container): container for container, _ in found}
    container = data.draw(st.sampled_from(list(parents.values())))
    key = data.draw(
        st.sampled_from(sorted(container) if isinstance(container, dict) else range(len(container)))
    )
    old = container[key]
    how = data.draw(st.integers(0, 5))
    if isinstance(container, list) and how == 0:
        del container[key]
    elif isinstance(container, list) and how == 1:
        container.insert(key, old)
    elif isinstance(old, bool):
        container[key] = not old
    elif isinstance(old, int) and how < 4:
        container[key] = data.draw(
            st.one_of(st.sampled_from(EDGES), st.integers(0, 1 << 65), st.just(old ^ 1))
        )
    elif isinstance(old, str) and len(old) > 1000:
        container[key] = mutated_context(old, data)
    elif how == 4:
        container[key] = data.draw(st.sampled_from([None, [], {}, "", 0, True]))
    elif isinstance(old, int):
        container[key] = old + data.draw(st.integers(-3, 3))


def mutated_context(text: str, data: st.DataObject) -> str:
    context = bytearray(msgspec.convert(text, bytes))
    words = memoryview(context).cast("Q")
    # Registers, tables and flags are at both ends, floating point and traps between them.
    index = data.draw(st.one_of(st.integers(0, 90), st.integers(len(words) - 60, len(words) - 1),
                                st.integers(0, len(words) - 1)))  # fmt: skip
    words[index] = (
        data.draw(st.one_of(st.sampled_from(EDGES[:-9]), st.integers(0, (1 << 64) - 1))) & (1 << 64) - 1
    )
    words.release()
    return str(msgspec.to_builtins(bytes(context)))


class Rich:
    """What one is, and its memory: too much to be shown."""

    def __init__(self, state: bytes, pages: dict[int, bytes]) -> None:
        self.state, self.pages = state, pages


@pytest.fixture(scope="module")
def rich() -> Iterator[Rich]:
    """One that has everything."""
    with begun(3) as kernel:
        all_of_it(kernel)
        state = capture(kernel.domain)
        yield Rich(msgspec.json.encode(state), pages_of(kernel.domain, state))


@settings(max_examples=100)
@given(data=st.data(), changes=st.integers(1, 4))
def test_any_state(rich: Rich, data: st.DataObject, changes: int) -> None:
    """Is refused, or makes a guest like any other."""
    tree = msgspec.json.decode(rich.state)
    for _ in range(changes):
        mutate(tree, data)
    try:
        state = msgspec.json.decode(msgspec.json.encode(tree), type=DomainState)
    except (msgspec.DecodeError, OverflowError):
        return
    with empty_domain(3) as domain:
        try:
            put(domain, state, rich.pages)
        except SavedStateError:
            return
        check(domain)


@settings(max_examples=40)
@given(data=st.data())
def test_any_memory(rich: Rich, data: st.DataObject) -> None:
    """Tables and what else is read from there are the file's, too."""
    state = msgspec.json.decode(rich.state, type=DomainState)
    pages = {mfn: bytearray(page) for mfn, page in rich.pages.items()}
    first = min(mfn for mfn, _ in state.owned)
    interesting = [first + pfn for pfn in (*range(4), TABLE_PFN, GDT_PFN, WORDS_PFN, CONTROL_PFN, INFO_PFN)]
    mfn = st.one_of(st.sampled_from(interesting), st.sampled_from(sorted(pages)))
    entry = st.builds(lambda frame, flags: frame << 12 | flags, st.integers(0, 170), st.integers(0, 0x1FF))
    words = st.tuples(mfn, st.integers(0, 511), st.one_of(entry, st.integers(0, (1 << 64) - 1)))
    for where, index, word in data.draw(st.lists(words, min_size=1, max_size=5)):
        struct.pack_into("<Q", pages[where], index * 8, word)
    with empty_domain(3) as domain:
        try:
            put(domain, state, {number: bytes(page) for number, page in pages.items()})
        except SavedStateError:
            return
        check_isolation(cast("World", Seen(domain)))
