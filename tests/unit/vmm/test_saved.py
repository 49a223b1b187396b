"""What a domain is, taken and put into another one."""

import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest

from tests.unit.vmm.kernel import L1, L4, LEAF, PAGES, TABLE, Kernel
from tests.unit.vmm.saved_kit import (
    DATA_PFN,
    GONE_PFN,
    INFO_AT,
    INFO_PFN,
    LEAVING_PFN,
    LEAVING_TABLE_PFN,
    MORE_WORDS_PFN,
    SECOND,
    SPARE,
    TABLE_PFN,
    TIME_AT,
    WALL_CLOCK_AT,
    WORDS_PFN,
    all_of_it,
    begun,
    bind_ports,
    bring_up,
    but_the_time,
    changed,
    check,
    empty_domain,
    fill_memory,
    frames_of,
    give_back,
    have_grants,
    moved,
    own_pages,
    pages_of,
    pin,
    pinned_table,
    put,
    register_info,
    release,
    set_control,
    set_registers,
    set_timers,
    start_fifo,
    start_watchdogs,
    through_a_file,
    unmap,
    write_word,
)
from xenion.abi.arch_x86_64 import VcpuGuestContext, VGCF_in_kernel
from xenion.core import lib
from xenion.processor import ProcessorError
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.events import PortState
from xenion.vmm.hypercalls.initialise import initialise
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.saved import (
    DomainState,
    UnsavableError,
    capture,
)

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


LATE = 1000 * SECOND


@pytest.mark.parametrize("late_ns", [0, LATE])
def test_a_processor_whose_guests_have_the_hosts_tsc(late_ns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time goes on from where it was, whatever the TSC was."""
    features = replace(SoftwareProcessor.features, own_tsc=False)
    with begun() as kernel:
        clock = msgspec.structs.replace(capture(kernel.domain).clock, tsc=1 << 60, system_time=5 * SECOND)
        monkeypatch.setattr(SoftwareProcessor, "features", features)
        with moved(kernel, changed(kernel, clock=clock), late_ns) as domain:
            assert domain.state.tsc_offset == 0
            assert domain.state.tsc_base <= domain.processor.tsc() < domain.state.tsc_base + (1 << 40)
            assert domain.state.time_base == 5 * SECOND + late_ns
            later = domain.system_time() - 5 * SECOND
            assert late_ns <= later < late_ns + 60 * SECOND
            (shown,) = struct.unpack_from("<Q", domain.memory.bytes, domain.vcpus[0].state.info + TIME_AT + 8)
            assert shown == domain.state.tsc_base


@pytest.mark.parametrize("late_ns", [0, SECOND // 20, LATE])
def test_time_that_has_passed_for_its_guest_too(late_ns: int) -> None:
    with begun() as kernel:
        state = changed(kernel)
        with moved(kernel, state, late_ns) as domain:
            later = domain.system_time() - state.clock.system_time
            assert late_ns - 1000 <= later < late_ns + 60 * SECOND
            assert (domain.state.tsc_base, domain.state.time_base) == (
                state.clock.tsc_base,
                state.clock.time_base,
            )


def test_time_that_has_passed_changes_no_time_of_day() -> None:
    with begun() as kernel:
        clock = msgspec.structs.replace(capture(kernel.domain).clock, system_time=5 * SECOND)
        with moved(kernel, changed(kernel, clock=clock), LATE) as domain:
            at = domain.state.shared_info + WALL_CLOCK_AT
            _, low, ns, high = struct.unpack_from("<4I", domain.memory.bytes, at)
            began = (high << 32 | low) + ns / 1e9
            assert 1005 <= time.time() - began < 1065


@pytest.mark.parametrize("slower", [-1, 1])
def test_time_that_has_passed_on_a_tsc_of_another_frequency(slower: int) -> None:
    """It is as long as it was."""
    with begun() as kernel:
        clock = capture(kernel.domain).clock
        other = msgspec.structs.replace(
            clock, tsc=1 << 50, system_time=1 << 40, tsc_shift=clock.tsc_shift + slower
        )
        with moved(kernel, changed(kernel, clock=other), LATE) as domain:
            later = domain.system_time() - (1 << 40)
            assert LATE - 1000 <= later < LATE + 60 * SECOND
            assert domain.tsc() - (1 << 50) > 0


def test_more_time_than_a_clock_holds() -> None:
    with begun() as kernel:
        clock = msgspec.structs.replace(capture(kernel.domain).clock, tsc=(1 << 64) - 1)
        with moved(kernel, changed(kernel, clock=clock), LATE) as domain:
            assert domain.tsc() < 1 << 63, "it has gone round"


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


@pytest.mark.parametrize("what", ["read_fpu", "read_xcr0"])
def test_a_processor_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    def refuses(vcpu: int) -> None:
        raise ProcessorError("it does not tell")

    with begun() as kernel:
        monkeypatch.setattr(kernel.domain.processor, what, refuses)
        with pytest.raises(UnsavableError, match="it does not tell"):
            capture(kernel.domain)


def test_a_guest_that_maps_its_own_grants(kernel: Kernel) -> None:
    kernel.domain.grants.active[9] = cast(Any, None)
    with pytest.raises(UnsavableError, match="maps pages that it has granted itself"):
        capture(kernel.domain)
    kernel.domain.grants.active.clear()
