"""Domains that are saved and put into others, for the tests of that: what is done to them, what came of it."""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import msgspec
import pytest
from hypothesis import strategies as st

from tests.unit.core.isolation import check_isolation
from tests.unit.core.model import XEN_SLOTS
from tests.unit.core.world import ALLOCATED, PINNED, TYPE_COUNT, TYPE_SHIFT, World
from tests.unit.vmm.kernel import FIRST_FREE, L1, L4, LEAF, PAGES, Kernel, built
from xenion.abi.arch_x86_64 import VcpuGuestContext, VGCF_in_kernel
from xenion.core import lib
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain
from xenion.vmm.events import PortState
from xenion.vmm.hypercalls.initialise import initialise
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.saved import (
    DomainState,
    SavedStateError,
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


def put(domain: Domain, state: DomainState, pages: dict[int, bytes], late_ns: int = 0) -> None:
    prepare(domain, state)
    for mfn, page in pages.items():
        domain.memory.page(mfn)[:] = page
    resume(domain, state, late_ns)


@contextmanager
def moved(kernel: Kernel, state: DomainState | None = None, late_ns: int = 0) -> Iterator[Domain]:
    """What the kernel's domain is, in another one; `state`: what is said of it instead."""
    real = capture(kernel.domain)
    pages = pages_of(kernel.domain, real)
    with empty_domain(len(kernel.domain.vcpus)) as domain:
        put(domain, through_a_file(state or real), pages, late_ns)
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


def set_control(context: VcpuGuestContext, number: int, value: int) -> None:
    context.ctrlreg[number] = value


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
