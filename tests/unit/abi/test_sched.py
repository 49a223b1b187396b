"""sched.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import sched

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    sched.SchedShutdown: "reason 0; 4",
    sched.SchedPoll: "ports 0, nr_ports 8, timeout 16; 24",
    sched.SchedRemoteShutdown: "domain_id 0, reason 4; 8",
    sched.SchedWatchdog: "id 0, timeout 4; 8",
    sched.SchedPinOverride: "pcpu 0; 4",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (sched.SCHEDOP_yield, sched.SCHEDOP_block, sched.SCHEDOP_poll) == (0, 1, 3)
    assert sched.SCHEDOP_pin_override == 7
    assert sched.SHUTDOWN_MAX == sched.SHUTDOWN_soft_reset == 5


def test_pin_override_is_signed() -> None:
    assert sched.SchedPinOverride.from_buffer_copy(b"\xff" * 4).pcpu == -1
