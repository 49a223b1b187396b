"""block and poll: what ends the wait, and until when the platform is asked to wait."""

import struct

import pytest

from tests.unit.core.world import PAGE, PENDING, SHARED_INFO, World, page_address
from xenion.abi.errno import Errno
from xenion.abi.sched import SCHEDOP_block, SCHEDOP_poll, SCHEDOP_yield
from xenion.abi.xen import Hypercall

PORT, TIMER_PORT, IPI, VIRQ = 7, 3, 4, 3
NOW = 10**9


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
