"""memory_op on many extents gives way to what the guest has to see, and goes on where it was."""

import struct

import pytest

from tests.unit.vmm.kernel import L1, LEAF, PAGES, Kernel
from xenion.abi.memory import (
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_populate_physmap,
    XenMemoryExchange,
    XenMemoryReservation,
)
from xenion.abi.xen import DOMID_SELF, Hypercall
from xenion.core import lib
from xenion.vmm.hypercalls.memory import COMMAND_BITS

CONTINUES = -(2**63)
COUNT = 6
PFNS = list(range(PAGES - COUNT, PAGES))
LIST, OTHER = 5, 6
"""Pages of the guest's that hold lists of extents."""


@pytest.fixture
def mfns(kernel: Kernel) -> list[int]:
    """Of PFNS, which nothing maps."""
    found = [kernel.mfn(pfn) for pfn in PFNS]
    for pfn, mfn in zip(PFNS, found, strict=True):
        entry = kernel.mfn(L1) * 4096 + pfn * 8
        assert lib.core_change_l1(kernel.domain.state, entry, mfn << 12 | LEAF, 0) == 1
    return found


def run(kernel: Kernel, command: int, address: int) -> tuple[int, list[int]]:
    """The answer at last, and the commands with which the call was made; an event waits for the guest all the time."""
    commands, state = [command], kernel.vcpu.state
    kernel.domain.memory.bytes[int(state.info) : int(state.info) + 2] = b"\1\0"
    state.kick = 1
    result = kernel.call(Hypercall.memory_op, command, address, 77)
    while result == CONTINUES:
        assert list(kernel.args)[1:3] == [address, 77]
        commands.append(kernel.args[0])
        state.kick = 1
        result = kernel.call(Hypercall.memory_op, *kernel.args)
    return result, commands


def reservation(kernel: Kernel, values: list[int], page: int = LIST) -> XenMemoryReservation:
    kernel.put(struct.pack(f"<{len(values)}Q", *values), page)
    return XenMemoryReservation(extent_start=kernel.address(page), nr_extents=len(values), domid=DOMID_SELF)


def test_away_and_back(kernel: Kernel, mfns: list[int]) -> None:
    before = kernel.domain.pages
    result, commands = run(kernel, XENMEM_decrease_reservation, kernel.put(reservation(kernel, mfns)))
    assert (result, kernel.domain.pages) == (COUNT, before - COUNT)
    assert commands == [XENMEM_decrease_reservation | done << COMMAND_BITS for done in range(COUNT)]
    result, commands = run(kernel, XENMEM_populate_physmap, kernel.put(reservation(kernel, PFNS)))
    assert (result, kernel.domain.pages) == (COUNT, before)
    assert commands == [XENMEM_populate_physmap | done << COMMAND_BITS for done in range(COUNT)]


def test_an_exchange(kernel: Kernel, mfns: list[int]) -> None:
    request = XenMemoryExchange(in_=reservation(kernel, mfns), out=reservation(kernel, PFNS, OTHER))
    result, commands = run(kernel, XENMEM_exchange, kernel.put(request))
    assert (result, kernel.get(XenMemoryExchange).nr_exchanged) == (0, COUNT)
    assert commands == [XENMEM_exchange] * COUNT
