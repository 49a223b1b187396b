"""vcpu_op and sched_op but what the core answers (vcpu.h, sched.h)."""

from contextlib import suppress

from xenion.abi.arch_x86_64 import VcpuGuestContext
from xenion.abi.errno import Errno
from xenion.abi.sched import (
    SHUTDOWN_MAX,
    SCHEDOP_block,
    SCHEDOP_pin_override,
    SCHEDOP_remote_shutdown,
    SCHEDOP_shutdown,
    SCHEDOP_shutdown_code,
    SCHEDOP_watchdog,
    SCHEDOP_yield,
    SchedRemoteShutdown,
    SchedShutdown,
    SchedWatchdog,
    SHUTDOWN_poweroff,
    SHUTDOWN_suspend,
)
from xenion.abi.vcpu import (
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
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.hypercalls.initialise import initialise
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu, address_okay

SUSPEND_CANCELLED = 1
SHORTEST_PERIOD_NS, LONGEST_PERIOD_NS = 1_000_000, 1 << 62
VCPU_INFO_SIZE = 64


def _periodic_timer(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    period = by.read_struct(address, VcpuSetPeriodicTimer).period_ns
    if not SHORTEST_PERIOD_NS <= period <= LONGEST_PERIOD_NS:
        raise GuestError(Errno.EINVAL)
    vcpu.state.period = period
    vcpu.state.period_due = vcpu.domain.system_time() + period
    lib.core_arm_timer(vcpu.state)
    return 0


def _stop_periodic(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    vcpu.state.period_due = 0
    vcpu.state.period = 0
    return 0


def _register_info(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    """Once a vCPU, which is the caller or down, into a page of the domain's that stays writable for good."""
    request = by.read_struct(address, VcpuRegisterVcpuInfo)
    state, domain = vcpu.state, vcpu.domain
    if request.offset > PAGE_SIZE - VCPU_INFO_SIZE or request.offset % 8:
        raise GuestError(Errno.ENXIO)
    if (vcpu is not by and state.online) or state.info != domain.memory.first_vcpu_info(vcpu.id):
        raise GuestError(Errno.EINVAL)
    if lib.core_get_writable(domain.state, request.mfn):
        raise GuestError(Errno.EINVAL)
    lib.core_register_info(state, request.mfn * PAGE_SIZE + request.offset)
    return 0


def _register_runstate(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    """The area may be unmapped now and then: it is written when it can be."""
    area = by.read_struct(address, VcpuRegisterRunstateMemoryArea).addr.v
    if not address_okay(area):
        raise GuestError(Errno.EFAULT)
    vcpu.state.runstate_area = area
    with suppress(GuestError):
        by.write(area, bytes(_runstate(vcpu)))
    return 0


def _runstate(vcpu: Vcpu) -> VcpuRunstateInfo:
    state = vcpu.state
    info = VcpuRunstateInfo(state=state.runstate, state_entry_time=state.runstate_entry)
    info.time[:] = list(state.runstate_time)
    return info


def _get_runstate(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    """The running time counts up to now."""
    info = _runstate(vcpu)
    info.time[info.state] += vcpu.domain.system_time() - info.state_entry_time
    by.write_struct(address, info)
    return 0


def _initialise(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    return initialise(vcpu, by, by.read_struct(address, VcpuGuestContext))


def _physid(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    """Only a pinned vCPU has one."""
    raise GuestError(Errno.EINVAL)


def _send_nmi(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    if address:
        raise GuestError(Errno.EINVAL)
    lib.core_send_nmi(vcpu.state)
    return 0


def _up(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    if not vcpu.state.initialised:
        raise GuestError(Errno.EINVAL)
    lib.core_vcpu_up(vcpu.state)
    return 0


def _down(vcpu: Vcpu, by: Vcpu, address: int) -> int:
    """The last vCPU that goes offline takes the domain with it: a power-off. One that waits for an event
    waits no more when it is brought up again."""
    domain = vcpu.domain
    if not any(other.state.online for other in domain.vcpus if other is not vcpu):
        domain.shutdown(SHUTDOWN_poweroff)
    elif vcpu.state.online:
        lib.core_vcpu_down(vcpu.state)
    return 0


OPERATIONS = {
    VCPUOP_get_physid: _physid,
    VCPUOP_initialise: _initialise,
    VCPUOP_up: _up,
    VCPUOP_down: _down,
    VCPUOP_get_runstate_info: _get_runstate,
    VCPUOP_register_runstate_memory_area: _register_runstate,
    VCPUOP_set_periodic_timer: _periodic_timer,
    VCPUOP_stop_periodic_timer: _stop_periodic,
    VCPUOP_register_vcpu_info: _register_info,
    VCPUOP_send_nmi: _send_nmi,
}


def vcpu_op(vcpu: Vcpu, args: list[int]) -> int:
    """On any of the domain's vCPUs; what is in memory is in that of the one that asks, as its page tables have it."""
    command, target = args[0] & 0xFFFFFFFF, vcpu.domain.vcpu(args[1] & 0xFFFFFFFF)
    if command == VCPUOP_is_up:
        return int(target.state.online)
    operation = OPERATIONS.get(command)
    if operation is None:
        raise GuestError(Errno.ENOSYS)
    return operation(target, vcpu, args[2])


def sched_op(vcpu: Vcpu, args: list[int]) -> int:
    command = args[0] & 0xFFFFFFFF
    if command == SCHEDOP_shutdown:
        return _shutdown(vcpu, vcpu.read_struct(args[1], SchedShutdown).reason)
        return 0
    if command == SCHEDOP_shutdown_code:
        reason = vcpu.read_struct(args[1], SchedShutdown).reason
        if reason > SHUTDOWN_MAX:
            raise GuestError(Errno.EINVAL)
        vcpu.domain.shutdown_code = reason
        return 0
    if command == SCHEDOP_remote_shutdown:
        target = vcpu.read_struct(args[1], SchedRemoteShutdown).domain_id
        raise GuestError(Errno.EPERM if target == vcpu.domain.domid or target == 0 else Errno.ESRCH)
    if command == SCHEDOP_watchdog:
        request = vcpu.read_struct(args[1], SchedWatchdog)
        result = vcpu.domain.watchdogs.operate(request.id, request.timeout, vcpu.domain.system_time())
        vcpu.domain.wake_dom0()
        return result
    if command == SCHEDOP_pin_override:
        raise GuestError(Errno.EPERM)
    raise GuestError(Errno.ENOSYS)


def _shutdown(vcpu: Vcpu, reason: int) -> int:
    """To a guest that was asked to suspend itself the result says, when it goes on, that all is as it was."""
    domain = vcpu.domain
    if reason == SHUTDOWN_suspend and domain.may_suspend:
        domain.suspend()
        return SUSPEND_CANCELLED
    domain.shutdown(reason)
    return 0


def sched_op_compat(vcpu: Vcpu, args: list[int]) -> int:
    """The old interface: yield, block and shutdown with the reason as argument."""
    command = args[0] & 0xFFFFFFFF
    if command == SCHEDOP_yield:
        lib.core_yield(vcpu.domain.state)
        return 0
    if command == SCHEDOP_block:
        return int(lib.core_block(vcpu.state))
    if command == SCHEDOP_shutdown:
        return _shutdown(vcpu, args[1] & 0xFF)
    raise GuestError(Errno.ENOSYS)
