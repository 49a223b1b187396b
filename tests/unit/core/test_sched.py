"""block and poll: what ends the wait, and until when the platform is asked to wait."""

import struct

import pytest

from tests.unit.core.world import EVENTS, PAGE, PENDING, SHARED_INFO, World, page_address
from xenion.abi.errno import Errno
from xenion.abi.sched import SCHEDOP_block, SCHEDOP_poll, SCHEDOP_yield
from xenion.abi.vcpu import RUNSTATE_blocked, RUNSTATE_runnable
from xenion.abi.xen import Hypercall

PORT, TIMER_PORT, IPI, VIRQ = 7, 3, 4, 3
NOW = 10**9
BLOCKED, POLLING = 1, 2
"""WAITS_* of core.h."""
OVER = 2
"""GIVE_WAY_OVER of state.h."""
LONG = Hypercall.memory_op


def poll(world: World, ports: list[int], timeout: int = 0, *, count: int | None = None) -> int:
    ports_at = world.put(struct.pack(f"<{len(ports)}I", *ports), 1024)
    at = world.put(struct.pack("<QIIQ", ports_at, len(ports) if count is None else count, 0, timeout))
    return world.hypercall(Hypercall.sched_op, SCHEDOP_poll, at)


def ready_ports(world: World) -> None:
    world.state.ports[PORT].state = IPI
    world.state.ports[TIMER_PORT].state = VIRQ
    world.vcpu.virq_port[0] = TIMER_PORT
    world.script.now = NOW


def test_block_ends_with_an_event_and_opens_the_mask(world: World) -> None:
    ready_ports(world)
    world.script.wait_port = PORT
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_block) == 0
    assert world.upcalls == 1
    assert (world.script.waits, world.script.deadlines[0]) == (1, 0)
    assert world.vcpu.runstate == 0


def test_block_does_not_wait_for_what_is_there(world: World) -> None:
    ready_ports(world)
    world.pending_upcall(masked=True)
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_block) == 0
    assert world.script.waits == 0
    assert world.upcalls == 1


def test_block_until_the_timer(world: World) -> None:
    ready_ports(world)
    assert world.hypercall(Hypercall.set_timer_op, NOW + 500) == 0
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_block) == 0
    assert (world.script.waits, world.script.deadlines[0]) == (1, NOW + 500)
    assert world.upcalls == 1


def test_a_stopped_domain_blocks_no_more(world: World) -> None:
    ready_ports(world)
    world.hypercall(Hypercall.sched_op, SCHEDOP_block)
    assert world.vcpu.stopped
    assert world.script.waits == 1


def test_poll_ends_at_its_timeout(world: World) -> None:
    ready_ports(world)
    assert poll(world, [PORT], NOW + 100) == 0
    assert (world.script.waits, world.script.deadlines[0]) == (1, NOW + 100)
    assert world.vcpu.poll_count == 0


def test_poll_ends_with_a_masked_event(world: World) -> None:
    ready_ports(world)
    at = SHARED_INFO * PAGE
    world.memory[at + 2560] = 1 << PORT
    world.script.wait_port = PORT
    assert poll(world, [9, PORT]) == 0
    assert world.script.waits == 1
    assert world.memory[at + PENDING] == 1 << PORT
    assert world.upcalls == 0


def test_poll_does_not_wait_for_what_is_pending(world: World) -> None:
    ready_ports(world)
    world.lib.core_set_pending(world.state, PORT)
    assert poll(world, [PORT]) == 0
    assert world.script.waits == 0


def test_poll_of_nothing_is_a_sleep(world: World) -> None:
    """Upcalls that are masked do not end it."""
    ready_ports(world)
    world.pending_upcall(masked=True)
    assert poll(world, [], NOW + 100) == 0
    assert (world.script.waits, world.script.deadlines[0]) == (1, NOW + 100)


@pytest.mark.parametrize(
    ("ports", "count", "rc"),
    [
        ([4096], None, -Errno.EINVAL),
        ([1, 2**32 - 1], None, -Errno.EINVAL),
        ([0] * 128, 129, -Errno.EINVAL),
        ([0], 2**32 - 1, -Errno.EINVAL),
    ],
)
def test_bad_polls(world: World, ports: list[int], count: int | None, rc: int) -> None:
    assert poll(world, ports, 1, count=count) == rc
    assert world.script.waits == 0
    assert world.vcpu.poll_count == 0


def test_polls_from_nowhere(world: World) -> None:
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_poll, 2**64 - 8) == -Errno.EFAULT
    at = world.put(struct.pack("<QIIQ", 2**64 - 4, 2, 0, 0))
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_poll, at) == -Errno.EFAULT
    at = world.put(struct.pack("<QIIQ", page_address(1) + 4092, 60, 0, 1))
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_poll, at) == 0


def test_yield(world: World) -> None:
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_yield) == 0
    assert world.script.waits == 0


# --- where vCPUs take turns on one thread


@pytest.fixture
def turns(world: World) -> World:
    ready_ports(world)
    world.state.takes_turns = 1
    return world


def block_marked(world: World) -> None:
    """The call is answered, and nobody has waited."""
    assert world.hypercall(Hypercall.sched_op, SCHEDOP_block) == 0
    assert (world.vcpu.waiting, world.vcpu.runstate) == (BLOCKED, RUNSTATE_blocked)
    assert (world.script.waits, world.upcalls) == (0, 0)


def ends_wait(world: World) -> bool:
    return bool(world.lib.script_ends_wait(world.vcpu))


def test_who_blocks_is_marked(turns: World) -> None:
    """It has no reason to go on until there is an event; then it is its turn at some time."""
    block_marked(turns)
    assert not ends_wait(turns)
    turns.lib.core_post_event(turns.state, PORT)
    assert ends_wait(turns)
    assert (turns.vcpu.waiting, turns.vcpu.runstate) == (0, RUNSTATE_runnable)


def test_who_polls_is_marked_and_its_timeout_watched(turns: World) -> None:
    armed = turns.script.armed
    assert poll(turns, [PORT], NOW + 100) == 0
    assert (turns.vcpu.waiting, turns.vcpu.runstate) == (POLLING, RUNSTATE_blocked)
    assert (turns.script.waits, turns.script.armed) == (0, armed + 1)
    turns.script.now = NOW + 99
    assert not ends_wait(turns)
    turns.script.now = NOW + 100
    assert ends_wait(turns)
    assert (turns.vcpu.waiting, turns.vcpu.poll_count) == (0, 0)


def test_a_masked_upcall_ends_a_block_and_no_poll(turns: World) -> None:
    block_marked(turns)
    turns.pending_upcall(masked=True)
    assert ends_wait(turns)
    assert poll(turns, [PORT], NOW + 100) == 0
    assert turns.vcpu.waiting == POLLING
    assert not ends_wait(turns)


def test_who_waits_is_not_upcalled_before_its_turn(turns: World) -> None:
    block_marked(turns)
    turns.pending_upcall(masked=False)
    rip = turns.vcpu.rip
    turns.lib.core_kicked(turns.vcpu)
    assert (turns.vcpu.rip, turns.vcpu.waiting) == (rip, BLOCKED)
    assert ends_wait(turns)
    turns.lib.core_kicked(turns.vcpu)
    assert turns.vcpu.rip == EVENTS


def test_a_poll_of_what_is_pending_waits_for_nothing(turns: World) -> None:
    turns.lib.core_set_pending(turns.state, PORT)
    assert poll(turns, [PORT]) == 0
    assert turns.vcpu.waiting == 0


def test_a_yield_is_for_the_others(turns: World) -> None:
    assert turns.hypercall(Hypercall.sched_op, SCHEDOP_yield) == 0
    assert turns.state.give_way == OVER
    turns.state.give_way = turns.state.takes_turns = 0
    assert turns.hypercall(Hypercall.sched_op, SCHEDOP_yield) == 0
    assert turns.state.give_way == 0


def test_a_long_call_gives_way_to_another_vcpu(turns: World) -> None:
    """It looks when it is kicked, and goes on where it was when it has its turn again."""
    turns.script.long_number = LONG
    turns.script.kick_at = turns.script.operations + 4
    turns.state.give_way = OVER
    assert turns.enter(LONG, 0, 10) is None
    assert turns.script.long_steps == 3
    turns.state.give_way = 0
    assert turns.again() == turns.script.cold_result
    assert turns.script.long_steps == 10
