"""The guest's timers and clock on a TSC that the test turns."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import ARGS, PAGE, PENDING, SHARED_INFO, World, page_address
from xenion.abi.errno import Errno
from xenion.abi.vcpu import VCPUOP_set_singleshot_timer, VCPUOP_stop_singleshot_timer, VcpuRunstateInfo
from xenion.abi.xen import Hypercall, VcpuTimeInfo, VMASST_TYPE_runstate_update_flag

TIMER_PORT, VIRQ_TIMER, PORT_VIRQ = 3, 0, 3
NOW = 10**9
FALLBACK = 10**8
TOO_FAR = 1 << 50
AWAKE, BLOCKED, POLLING, DOWN = range(4)
"""WAITS_* of core.h."""
LIMITS = (0, 1, NOW, NOW + 1, NOW + TOO_FAR - 1, NOW + TOO_FAR, 2**63 - 1, 2**63, 2**64 - 1)


def with_timer(world: World) -> None:
    world.state.ports[TIMER_PORT].state = PORT_VIRQ
    world.vcpu.virq_port[VIRQ_TIMER] = TIMER_PORT
    world.script.now = NOW


def fired(world: World) -> bool:
    """Since the last question."""
    at = SHARED_INFO * PAGE + PENDING
    pending = bool(world.memory[at] & 1 << TIMER_PORT)
    world.memory[at] = 0
    return pending


def look(world: World) -> None:
    world.lib.core_kicked(world.vcpu)


@examples(150)
@given(timeout=st.one_of(st.integers(0, 4 * NOW), st.integers(0, 2**64 - 1), st.sampled_from(LIMITS)))
def test_set_timer(core: Core, timeout: int) -> None:
    """Times that are absurd are taken for wrapped ones and fire soon; zero stops the timer."""
    with World(core) as world:
        with_timer(world)
        assert world.hypercall(Hypercall.set_timer_op, timeout) == 0
        absurd = timeout >= 2**63 or timeout - NOW >= TOO_FAR
        due = NOW + FALLBACK if absurd else timeout
        assert fired(world) == (0 < due <= NOW)
        assert world.vcpu.deadline == (due if due > NOW else 0)
        assert world.script.armed == 1
        if due > NOW:
            world.script.now = due - 1
            look(world)
            assert not fired(world)
            world.script.now = due
            look(world)
            assert fired(world)
        world.script.now = 2**62
        look(world)
        assert not fired(world)


@examples(100)
@given(period=st.integers(10**6, 1 << 62), waits=st.lists(st.integers(0, 1 << 40), max_size=12))
def test_periodic_timer(core: Core, period: int, waits: list[int]) -> None:
    """However late it is noticed, it fires once, and the next time is still a multiple of the period."""
    with World(core) as world:
        with_timer(world)
        world.vcpu.period, world.vcpu.period_due = period, NOW + period
        due = NOW + period
        for wait in waits:
            world.script.now += wait
            look(world)
            assert fired(world) == (world.script.now >= due)
            if world.script.now >= due:
                due += ((world.script.now - due) // period + 1) * period
            assert world.vcpu.period_due == due


@pytest.mark.parametrize("timeout", [0, 1, NOW - 1, NOW, NOW + 5, 2**64 - 1])
@pytest.mark.parametrize("flags", [0, 1])
def test_singleshot(world: World, timeout: int, flags: int) -> None:
    with_timer(world)
    at = world.put(struct.pack("<QII", timeout, flags, 0))
    assert world.hypercall(Hypercall.vcpu_op, VCPUOP_set_singleshot_timer, 0, at) == 0
    assert fired(world) == (timeout <= NOW)
    assert world.hypercall(Hypercall.vcpu_op, VCPUOP_stop_singleshot_timer, 0, 0) == 0
    assert world.vcpu.deadline == 0


def test_singleshot_of_nobody_and_from_nowhere(world: World) -> None:
    op = VCPUOP_set_singleshot_timer
    assert world.hypercall(Hypercall.vcpu_op, op, 1, page_address(0)) == -Errno.ENOENT
    assert world.hypercall(Hypercall.vcpu_op, op, 2**32 - 1, page_address(0)) == -Errno.ENOENT
    assert world.hypercall(Hypercall.vcpu_op, op, 0, 2**64 - 8) == -Errno.EFAULT


@examples(100)
@given(
    ticks=st.integers(0, 2**50),
    mul=st.integers(2**31, 2**32 - 1),
    shift=st.integers(-4, 4),
    base=st.integers(0, 2**60),
)
def test_system_time(core: Core, ticks: int, mul: int, shift: int, base: int) -> None:
    with World(core) as world:
        state = world.state
        state.tsc_mul, state.tsc_shift, state.tsc_base, state.time_base = mul, shift, 1234, base
        world.script.now = 1234 + ticks
        scaled = ticks << shift if shift >= 0 else ticks >> -shift
        assert world.lib.core_system_time(state) == base + (scaled * mul >> 32)
        world.lib.core_publish_time(world.vcpu)
        info = VcpuTimeInfo.from_buffer_copy(world.memory[world.vcpu.info + 32 : world.vcpu.info + 64])
        assert (info.version % 2, info.tsc_timestamp, info.system_time) == (0, 1234, base)
        assert (info.tsc_to_system_mul, info.tsc_shift, info.flags) == (mul, shift, 1)


def test_versions_grow(world: World) -> None:
    for n in range(3):
        world.lib.core_publish_time(world.vcpu)
        world.lib.core_publish_wallclock(world.state, 5 * 10**9 + 7)
        at = SHARED_INFO * PAGE
        assert struct.unpack_from("<I", world.memory, at + 32) == (2 * n + 2,)
        assert struct.unpack_from("<4I", world.memory, at + 3072) == (2 * n + 2, 5, 7, 0)


@pytest.mark.parametrize("flagged", [False, True])
def test_runstate_area(world: World, flagged: bool) -> None:
    world.state.vm_assist = flagged << VMASST_TYPE_runstate_update_flag
    world.vcpu.runstate_area = page_address(0) + 64
    for state, now in ((2, 100), (0, 350), (1, 400), (0, 1000)):
        world.script.now = now
        world.lib.core_change_runstate(world.vcpu, state)
    info = VcpuRunstateInfo.from_buffer_copy(world.memory[ARGS * PAGE + 64 : ARGS * PAGE + 112])
    assert (info.state, info.state_entry_time, list(info.time)) == (0, 1000, [150, 600, 250, 0])


def test_a_runstate_area_that_is_gone(world: World) -> None:
    world.vcpu.runstate_area = 2**64 - 16
    world.lib.core_change_runstate(world.vcpu, 0)
    assert not world.state.crashed


waits = st.sampled_from((AWAKE, BLOCKED, POLLING, DOWN))
times = st.one_of(st.just(0), st.integers(1, 2**63))


@examples(200)
@given(waiting=waits, deadline=times, period_due=times, poll_until=times)
def test_the_next_deadline(core: Core, waiting: int, deadline: int, period_due: int, poll_until: int) -> None:
    """The first of its timers, and of its timeout while it polls; none while it is down."""
    with World(core) as world:
        vcpu = world.vcpu
        vcpu.waiting, vcpu.deadline, vcpu.period_due, vcpu.poll_until = (
            waiting,
            deadline,
            period_due,
            poll_until,
        )
        due = [time for time in (deadline, period_due, poll_until if waiting == POLLING else 0) if time]
        assert world.lib.script_next_deadline(vcpu) == (min(due, default=0) if waiting != DOWN else 0)


def test_no_timer_fires_while_it_is_down(world: World) -> None:
    """Nor is the platform asked to wait for one; what was due comes once it is up."""
    with_timer(world)
    script, vcpu = world.script, world.vcpu
    vcpu.period, vcpu.period_due, vcpu.deadline = 10, NOW + 10, NOW + 5
    script.wait_takes, script.nmi_at, script.up_at = 1000, 1, 2
    world.lib.core_vcpu_down(vcpu)
    script.now = NOW + 50
    assert not world.lib.script_ends_wait(vcpu)
    assert not fired(world)
    look(world)
    assert (script.waits, list(script.deadlines[0:2])) == (2, [0, 0])
    assert fired(world)
    assert (vcpu.deadline, vcpu.period_due) == (0, NOW + 2060)


def test_another_ones_timer_is_its_own(core: Core) -> None:
    with World(core, nr_vcpus=2) as world:
        with_timer(world)
        other = world.state.vcpus[1]
        other.deadline = other.period_due = NOW
        other.period = 10
        look(world)
        assert not fired(world)
        assert (other.deadline, other.period_due) == (NOW, NOW)
