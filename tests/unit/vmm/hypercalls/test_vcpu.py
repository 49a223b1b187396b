"""vcpu_op on another vCPU than the one that asks: up and down, and whose memory is meant."""

from collections.abc import Iterator

import pytest

from tests.unit.vmm.kernel import PAGES, Kernel, built
from xenion.abi.errno import Errno
from xenion.abi.sched import SCHEDOP_yield, SHUTDOWN_poweroff
from xenion.abi.vcpu import (
    RUNSTATE_blocked,
    RUNSTATE_offline,
    RUNSTATE_runnable,
    VCPUOP_down,
    VCPUOP_get_physid,
    VCPUOP_get_runstate_info,
    VCPUOP_initialise,
    VCPUOP_is_up,
    VCPUOP_register_runstate_memory_area,
    VCPUOP_register_vcpu_info,
    VCPUOP_send_nmi,
    VCPUOP_set_periodic_timer,
    VCPUOP_stop_periodic_timer,
    VCPUOP_up,
    VcpuRegisterRunstateMemoryArea,
    VcpuRegisterVcpuInfo,
    VcpuRunstateInfo,
    VcpuSetPeriodicTimer,
)
from xenion.abi.xen import Hypercall
from xenion.vmm.memory import PAGE_SIZE

OTHER = 1
ANSWER, INFO = 12, 13
"""Pages of the guest's."""
DOWN, GIVE_WAY_OVER = 3, 2
"""Of the core: what a vCPU waits for that is down, and why another one gets its turn."""


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """Its first vCPU is up; the other one has no page tables yet, so nothing can be read through it."""
    with built(nr_vcpus=2) as made:
        made.vcpu.state.initialised = made.vcpu.state.online = 1
        yield made


def op(kernel: Kernel, command: int, address: int = 0, number: int = OTHER) -> int:
    return kernel.call(Hypercall.vcpu_op, command, number, address)


def come_up(kernel: Kernel) -> None:
    """The other one, as one that has been initialised."""
    kernel.domain.vcpus[OTHER].state.initialised = 1
    assert op(kernel, VCPUOP_up) == 0


# --- up and down


def test_up(kernel: Kernel) -> None:
    assert op(kernel, VCPUOP_is_up) == 0
    assert op(kernel, VCPUOP_up) == -Errno.EINVAL
    assert op(kernel, VCPUOP_is_up) == 0
    come_up(kernel)
    assert op(kernel, VCPUOP_is_up) == 1
    assert op(kernel, VCPUOP_up) == 0  # it may be asked for twice


def test_down(kernel: Kernel) -> None:
    come_up(kernel)
    state = kernel.domain.vcpus[OTHER].state
    assert op(kernel, VCPUOP_down) == 0
    assert (state.waiting, state.runstate) == (DOWN, RUNSTATE_offline)
    assert (op(kernel, VCPUOP_is_up), op(kernel, VCPUOP_is_up, number=0)) == (0, 1)
    assert kernel.domain.stop_reason is None
    assert op(kernel, VCPUOP_down) == 0  # as it is already


@pytest.mark.parametrize("last", [0, OTHER])
def test_the_last_one_that_goes_down_powers_the_domain_off(kernel: Kernel, last: int) -> None:
    come_up(kernel)
    assert op(kernel, VCPUOP_down, number=1 - last) == 0
    assert (kernel.domain.stop_reason, kernel.domain.stopping) == (None, False)
    assert op(kernel, VCPUOP_down, number=last) == 0
    assert (kernel.domain.stop_reason, kernel.domain.stopping) == (SHUTDOWN_poweroff, True)


def test_one_that_was_never_up_is_not_left(kernel: Kernel) -> None:
    assert op(kernel, VCPUOP_down, number=0) == 0
    assert kernel.domain.stop_reason == SHUTDOWN_poweroff


@pytest.mark.parametrize(
    "command",
    [
        VCPUOP_initialise,
        VCPUOP_up,
        VCPUOP_down,
        VCPUOP_is_up,
        VCPUOP_get_runstate_info,
        VCPUOP_register_vcpu_info,
        VCPUOP_send_nmi,
        99,
    ],
)
@pytest.mark.parametrize("number", [2, 64, 2**32 - 1])
def test_there_is_none_beyond_the_last(kernel: Kernel, command: int, number: int) -> None:
    assert op(kernel, command, Kernel.address(ANSWER), number) == -Errno.ENOENT


def test_an_nmi(kernel: Kernel) -> None:
    assert op(kernel, VCPUOP_send_nmi) == 0
    assert [vcpu.state.nmi_pending for vcpu in kernel.domain.vcpus] == [0, 1]
    assert op(kernel, VCPUOP_send_nmi, Kernel.address(ANSWER)) == -Errno.EINVAL


def test_no_physical_one(kernel: Kernel) -> None:
    assert op(kernel, VCPUOP_get_physid, Kernel.address(ANSWER)) == -Errno.EINVAL


def test_the_old_call_yields_too(kernel: Kernel) -> None:
    assert kernel.call(Hypercall.sched_op_compat, SCHEDOP_yield) == 0
    assert kernel.domain.state.give_way == GIVE_WAY_OVER


# --- in the memory of the one that asks


def test_a_periodic_timer(kernel: Kernel) -> None:
    first, other = (vcpu.state for vcpu in kernel.domain.vcpus)
    usual = first.period
    assert op(kernel, VCPUOP_set_periodic_timer, kernel.put(VcpuSetPeriodicTimer(period_ns=3_000_000))) == 0
    assert (other.period, other.period_due) == (3_000_000, 3_000_000)  # of a clock that stands still
    assert op(kernel, VCPUOP_stop_periodic_timer) == 0
    assert (other.period, other.period_due, first.period) == (0, 0, usual)


def test_runstates(kernel: Kernel) -> None:
    state = kernel.domain.vcpus[OTHER].state
    state.runstate, state.runstate_time = RUNSTATE_blocked, [1, 2, 3, 4]
    assert op(kernel, VCPUOP_get_runstate_info, Kernel.address(ANSWER)) == 0
    info = kernel.get(VcpuRunstateInfo, ANSWER)
    assert (info.state, list(info.time)) == (RUNSTATE_blocked, [1, 2, 3, 4])
    assert op(kernel, VCPUOP_get_runstate_info, Kernel.address(PAGES)) == -Errno.EFAULT


def test_a_runstate_area(kernel: Kernel) -> None:
    """It is filled at once."""
    state = kernel.domain.vcpus[OTHER].state
    state.runstate, state.runstate_time = RUNSTATE_runnable, [4, 3, 2, 1]
    area = VcpuRegisterRunstateMemoryArea()
    area.addr.v = Kernel.address(ANSWER, 64)
    assert op(kernel, VCPUOP_register_runstate_memory_area, kernel.put(area)) == 0
    info = kernel.get(VcpuRunstateInfo, ANSWER, 64)
    assert (info.state, list(info.time)) == (RUNSTATE_runnable, [4, 3, 2, 1])
    assert (state.runstate_area, kernel.vcpu.state.runstate_area) == (Kernel.address(ANSWER, 64), 0)


def register_info(kernel: Kernel) -> int:
    place = kernel.put(VcpuRegisterVcpuInfo(mfn=kernel.mfn(INFO), offset=128))
    return op(kernel, VCPUOP_register_vcpu_info, place)


def test_a_vcpu_info(kernel: Kernel) -> None:
    first, other = (vcpu.state for vcpu in kernel.domain.vcpus)
    usual = first.info
    assert register_info(kernel) == 0
    assert (other.info, first.info) == (kernel.mfn(INFO) * PAGE_SIZE + 128, usual)
    assert register_info(kernel) == -Errno.EINVAL  # once


def test_no_vcpu_info_of_another_that_is_up(kernel: Kernel) -> None:
    """It uses the one that it has."""
    come_up(kernel)
    usual = kernel.domain.vcpus[OTHER].state.info
    assert register_info(kernel) == -Errno.EINVAL
    assert kernel.domain.vcpus[OTHER].state.info == usual
