"""States that make no sense: each of them is refused in a sentence."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from tests.unit.vmm.kernel import L1, L4, Kernel
from tests.unit.vmm.saved_kit import (
    CONTROL_PFN,
    DATA_PFN,
    SPARE,
    WORDS_PFN,
    begin,
    begun,
    changed,
    changed_number,
    changed_vcpu,
    moved,
    refused,
    register_info,
    set_control,
    start_fifo,
    unmap,
)
from xenion.abi.arch_x86_64 import VcpuGuestContext
from xenion.vmm.events import PortState
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.saved import (
    DomainState,
    Port,
    SavedStateError,
    capture,
    memory_runs,
)


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


@pytest.mark.parametrize("states", [{"extended": bytes(3584)}, {"extended": b"x"}, {"xcr0": 7}])
def test_extended_states_that_the_processor_does_not_have(states: dict[str, Any]) -> None:
    with begun() as kernel:
        refused(kernel, changed_vcpu(kernel, **states), "its state makes no sense")


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
