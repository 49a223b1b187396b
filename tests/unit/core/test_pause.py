"""Pausing and NMIs: where a vCPU is held, what it looks like meanwhile, and what it finds when it goes on."""

import struct

import pytest

from tests.unit.core.world import EVENTS, PAGE, PENDING, SHARED_INFO, World, page_address
from xenion.abi.sched import SCHEDOP_block, SCHEDOP_poll, SCHEDOP_yield
from xenion.abi.vcpu import RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_running
from xenion.abi.xen import DOMID_SELF, Hypercall

PORT, TIMER_PORT, IPI, VIRQ = 7, 3, 4, 3
NOW = 10**9
MMUEXT_INVLPG_LOCAL = 7


@pytest.fixture
def guest(world: World) -> World:
    world.state.ports[PORT].state = IPI
    world.state.ports[TIMER_PORT].state = VIRQ
    world.vcpu.virq_port[0] = TIMER_PORT
    world.script.now = NOW
    world.memory[world.vcpu.info + 1] = 0
    return world


def states(world: World) -> list[int]:
    """The runstate in each wait so far."""
    return list(world.script.wait_states[0 : world.script.waits])


def yields(world: World) -> int:
    return world.hypercall(Hypercall.sched_op, SCHEDOP_yield)


def block(world: World) -> int:
    return world.hypercall(Hypercall.sched_op, SCHEDOP_block)


def poll(world: World, timeout: int) -> int:
    at = world.put(struct.pack("<QIIQ", page_address(0) + 1024, 0, 0, timeout))
    return world.hypercall(Hypercall.sched_op, SCHEDOP_poll, at)


# --- pausing


@pytest.mark.parametrize("way", ["core_resume", "core_kicked", "syscall"])
def test_every_way_back_to_the_guest_is_closed(guest: World, way: str) -> None:
    guest.lib.core_pause(guest.state)
    assert not guest.lib.core_parked(guest.state)
    guest.script.unpause_at = 1
    if way == "syscall":
        yields(guest)
    else:
        getattr(guest.lib, way)(guest.vcpu)
    assert (states(guest), guest.script.deadlines[0]) == ([RUNSTATE_offline], 0)
    assert guest.script.wait_parked[0]
    assert guest.script.notified == 1
    assert guest.vcpu.runstate == RUNSTATE_running
    assert not guest.lib.core_parked(guest.state)


def test_a_domain_that_is_not_paused_is_not_held(guest: World) -> None:
    guest.lib.core_pause(guest.state)
    guest.lib.core_unpause(guest.state)
    yields(guest)
    assert (guest.script.waits, guest.script.notified) == (0, 0)


def test_pausing_is_a_flag_and_kicks_each_time_that_it_changes(guest: World) -> None:
    for _ in range(2):
        guest.lib.core_pause(guest.state)
    assert (guest.state.paused, guest.script.woken[0], guest.vcpu.kick) == (1, 1, 1)
    for _ in range(2):
        guest.lib.core_unpause(guest.state)
    assert (guest.state.paused, guest.script.woken[0]) == (0, 2)


def test_a_pause_that_ends_before_the_wait_begins(guest: World) -> None:
    """The wake-up has come by then, and is not lost."""
    guest.lib.core_pause(guest.state)
    guest.script.unpause_early = 1
    guest.lib.core_kicked(guest.vcpu)
    assert (guest.script.notified, guest.script.waits) == (1, 0)
    assert not guest.vcpu.stopped
    assert not guest.lib.core_parked(guest.state)


def test_events_wait_for_the_end_of_the_pause(guest: World) -> None:
    """And do not end it."""
    guest.lib.core_pause(guest.state)
    guest.script.wait_port, guest.script.unpause_at = PORT, 3
    guest.lib.core_kicked(guest.vcpu)
    assert guest.memory[SHARED_INFO * PAGE + PENDING] == 1 << PORT
    assert states(guest) == [RUNSTATE_offline] * 3
    assert guest.script.notified == 1
    assert guest.vcpu.rip == EVENTS


def test_no_event_is_shown_to_a_held_guest(guest: World) -> None:
    guest.lib.core_pause(guest.state)
    guest.script.wait_port, guest.script.stop_at = PORT, 2
    guest.lib.core_kicked(guest.vcpu)
    assert guest.script.waits == 2
    assert guest.memory[SHARED_INFO * PAGE + PENDING] == 0
    assert guest.state.inbox_any == 1


def test_a_timer_that_came_due_fires_after_the_pause(guest: World) -> None:
    guest.hypercall(Hypercall.set_timer_op, NOW + 500)
    guest.lib.core_pause(guest.state)
    guest.script.now, guest.script.unpause_at = NOW + 1000, 1
    guest.lib.core_kicked(guest.vcpu)
    assert guest.script.deadlines[0] == 0
    assert guest.vcpu.rip == EVENTS
    assert guest.vcpu.deadline == 0


def test_time_that_goes_by_counts_as_offline(guest: World) -> None:
    guest.vcpu.runstate_entry = NOW - 300
    guest.lib.core_pause(guest.state)
    guest.script.wait_port, guest.script.unpause_at, guest.script.wait_takes = PORT, 2, 50
    guest.lib.core_kicked(guest.vcpu)
    times = list(guest.vcpu.runstate_time)
    assert (times[RUNSTATE_running], times[RUNSTATE_offline]) == (300, 100)
    assert guest.vcpu.runstate_entry == NOW + 100


def test_a_stop_ends_the_pause_and_the_guest_runs_no_more(guest: World) -> None:
    guest.lib.core_set_pending(guest.state, PORT)
    guest.lib.core_pause(guest.state)
    guest.script.stop_at = 1
    rip = guest.vcpu.rip
    guest.lib.core_kicked(guest.vcpu)
    assert guest.script.waits == 1
    assert (guest.vcpu.rip, guest.vcpu.parked) == (rip, 0)


def test_a_stopped_domain_is_not_held(guest: World) -> None:
    guest.lib.core_pause(guest.state)
    guest.lib.core_stop(guest.state)
    guest.lib.core_resume(guest.vcpu)
    assert guest.script.waits == 0


def test_a_blocked_guest_is_held_and_blocks_again(guest: World) -> None:
    guest.script.pause_at, guest.script.unpause_at, guest.script.wait_port = 1, 2, PORT
    assert block(guest) == 0
    assert states(guest) == [RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_blocked]
    assert list(guest.script.wait_parked[0:3]) == [0, 1, 0]
    assert guest.upcalls == 1
    assert guest.vcpu.runstate == RUNSTATE_running


def test_a_guest_is_held_though_it_has_a_reason_to_wake(guest: World) -> None:
    guest.script.pause_at, guest.script.wait_port, guest.script.unpause_at = 1, PORT, 3
    assert block(guest) == 0
    assert states(guest) == [RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_offline]
    assert guest.upcalls == 1


def test_a_polling_guest_is_held_past_its_timeout(guest: World) -> None:
    guest.script.pause_at, guest.script.unpause_at = 1, 2
    assert poll(guest, NOW + 100) == 0
    assert states(guest) == [RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_blocked]
    assert list(guest.script.deadlines[0:3]) == [NOW + 100, 0, NOW + 100]


def test_a_stop_ends_the_pause_of_a_blocked_guest(guest: World) -> None:
    guest.script.pause_at, guest.script.stop_at = 1, 2
    assert block(guest) == 0
    assert guest.script.waits == 2


def test_long_calls_give_way(guest: World) -> None:
    """And go on after the pause where they were."""
    count, kick_at = 5, 2
    words = [word for n in range(count) for word in (MMUEXT_INVLPG_LOCAL, n << 12, 0)]
    at = guest.put_words(words)
    guest.state.paused, guest.script.kick_at, guest.script.unpause_at = 1, kick_at, 1
    assert guest.enter(Hypercall.mmuext_op, at, count, 0, DOMID_SELF) is None
    assert (guest.script.page_flushes, states(guest)) == (kick_at, [RUNSTATE_offline])
    assert guest.again() == 0
    assert guest.script.page_flushes == count


def test_multicalls_give_way(guest: World) -> None:
    at = guest.put_words([Hypercall.xen_version, *[0] * 7] * 3)
    guest.state.paused, guest.script.kick_at, guest.script.unpause_at = 1, 1, 1
    assert guest.enter(Hypercall.multicall, at, 3) is None
    assert (guest.script.cold_calls, states(guest)) == (1, [RUNSTATE_offline])
    assert guest.again() == 0
    assert guest.script.cold_calls == 3


# --- NMIs


def test_an_nmi_goes_to_the_trap_tables_second_entry(guest: World) -> None:
    """Whatever the guest masks; with the entry's own flags."""
    guest.memory[guest.vcpu.info + 1] = 1
    guest.lib.core_send_nmi(guest.vcpu)
    assert guest.script.woken[0] == 1
    guest.lib.core_kicked(guest.vcpu)
    assert guest.faulted(2)
    assert (guest.vcpu.nmi_pending, guest.vcpu.nmi_masked) == (0, 1)


@pytest.mark.parametrize(("flags", "masked"), [(0, 0), (4, 1)])
def test_its_entry_says_whether_events_are_masked(guest: World, flags: int, masked: int) -> None:
    guest.vcpu.traps[2].flags = flags
    guest.lib.core_send_nmi(guest.vcpu)
    guest.lib.core_kicked(guest.vcpu)
    assert guest.memory[guest.vcpu.info + 1] == masked


def test_one_nmi_at_a_time(guest: World) -> None:
    """However many are sent during the handler, one comes after it."""
    guest.vcpu.traps[2].flags = 4
    guest.lib.core_send_nmi(guest.vcpu)
    guest.lib.core_kicked(guest.vcpu)
    guest.vcpu.rip = 0
    for _ in range(3):
        guest.lib.core_send_nmi(guest.vcpu)
    guest.lib.core_kicked(guest.vcpu)
    assert guest.vcpu.rip == 0
    assert guest.vcpu.nmi_pending == 1
    guest.vcpu.nmi_masked = 0
    guest.lib.core_kicked(guest.vcpu)
    assert guest.faulted(2)
    assert guest.vcpu.nmi_pending == 0


def test_an_nmi_comes_before_an_event(guest: World) -> None:
    guest.vcpu.traps[2].flags = 4
    guest.lib.core_set_pending(guest.state, PORT)
    guest.lib.core_send_nmi(guest.vcpu)
    guest.lib.core_kicked(guest.vcpu)
    assert guest.faulted(2)
    assert guest.memory[guest.vcpu.info] == 1


def test_an_nmi_without_a_handler_is_lost(guest: World) -> None:
    guest.vcpu.traps[2].address = 0
    guest.lib.core_send_nmi(guest.vcpu)
    rip = guest.vcpu.rip
    guest.lib.core_kicked(guest.vcpu)
    assert (guest.vcpu.rip, guest.vcpu.nmi_pending, guest.state.crashed) == (rip, 0, 0)


@pytest.mark.parametrize("polling", [False, True])
def test_a_blocked_guest_wakes_for_an_nmi(guest: World, polling: bool) -> None:
    guest.script.nmi_at = 1
    assert (poll(guest, 0) if polling else block(guest)) == 0
    assert guest.script.waits == 1
    assert not guest.vcpu.stopped
    assert guest.faulted(2)


def test_a_guest_in_its_nmi_handler_does_not_wake_for_another(guest: World) -> None:
    guest.vcpu.nmi_masked = 1
    guest.script.nmi_at, guest.script.stop_at = 1, 2
    assert block(guest) == 0
    assert guest.script.waits == 2


def test_an_nmi_waits_for_the_end_of_a_pause(guest: World) -> None:
    guest.lib.core_pause(guest.state)
    guest.script.nmi_at, guest.script.unpause_at = 1, 2
    guest.lib.core_kicked(guest.vcpu)
    assert guest.script.waits == 2
    assert guest.faulted(2)


def test_a_long_call_gives_way_to_an_nmi(guest: World) -> None:
    at = guest.put_words([Hypercall.xen_version, *[0] * 7] * 3)
    guest.script.kick_at, guest.vcpu.nmi_pending = 1, 1
    guest.enter(Hypercall.multicall, at, 3)
    assert guest.script.cold_calls == 1
    assert guest.faulted(2)
