"""event_channel_op but send and unmask, which the core answers (event_channel.h)."""

from ctypes import sizeof

from xenion.abi.errno import Errno
from xenion.abi.event_channel import (
    EVTCHN_FIFO_LINK_BITS,
    EvtchnAllocUnbound,
    EvtchnBindInterdomain,
    EvtchnBindIpi,
    EvtchnBindPirq,
    EvtchnBindVcpu,
    EvtchnBindVirq,
    EvtchnClose,
    EvtchnExpandArray,
    EvtchnFifoControlBlock,
    EvtchnInitControl,
    EVTCHNOP_alloc_unbound,
    EVTCHNOP_bind_interdomain,
    EVTCHNOP_bind_ipi,
    EVTCHNOP_bind_pirq,
    EVTCHNOP_bind_vcpu,
    EVTCHNOP_bind_virq,
    EVTCHNOP_close,
    EVTCHNOP_expand_array,
    EVTCHNOP_init_control,
    EVTCHNOP_reset,
    EVTCHNOP_set_priority,
    EVTCHNOP_status,
    EvtchnReset,
    EvtchnSetPriority,
    EVTCHNSTAT_closed,
    EVTCHNSTAT_interdomain,
    EVTCHNSTAT_ipi,
    EVTCHNSTAT_unbound,
    EVTCHNSTAT_virq,
    EvtchnStatus,
)
from xenion.abi.xen import NR_VIRQS, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF
from xenion.vmm.errors import GuestError
from xenion.vmm.events import PortState
from xenion.vmm.hypercalls.memory import is_self
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

PER_VCPU_VIRQS = {VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, 13}
STATUS = {
    PortState.FREE: EVTCHNSTAT_closed,
    PortState.UNBOUND: EVTCHNSTAT_unbound,
    PortState.INTERDOMAIN: EVTCHNSTAT_interdomain,
    PortState.VIRQ: EVTCHNSTAT_virq,
    PortState.IPI: EVTCHNSTAT_ipi,
}


def _alloc_unbound(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnAllocUnbound)
    if not is_self(vcpu, request.dom):
        raise GuestError(Errno.EPERM)
    remote = vcpu.domain.domid if is_self(vcpu, request.remote_dom) else request.remote_dom
    request.port = vcpu.domain.events.allocate(PortState.UNBOUND, 0, remote)
    vcpu.write_struct(address, request)
    return 0


def _bind_interdomain(vcpu: Vcpu, address: int) -> int:
    """Only to the domain's own unbound ports: other domains are out of reach."""
    request = vcpu.read_struct(address, EvtchnBindInterdomain)
    if not is_self(vcpu, request.remote_dom):
        raise GuestError(Errno.ESRCH)
    request.local_port = vcpu.domain.events.bind_own(request.remote_port)
    vcpu.write_struct(address, request)
    vcpu.domain.raise_event(request.local_port)  # a notification may have been lost while it was unbound
    return 0


def _bind_virq(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnBindVirq)
    if request.virq >= NR_VIRQS or (request.virq not in PER_VCPU_VIRQS and request.vcpu):
        raise GuestError(Errno.EINVAL)
    vcpu.domain.events.check_vcpu(request.vcpu)
    request.port = vcpu.domain.events.bind_virq(request.virq, request.vcpu)
    vcpu.write_struct(address, request)
    return 0


def _bind_ipi(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnBindIpi)
    vcpu.domain.events.check_vcpu(request.vcpu)
    request.port = vcpu.domain.events.allocate(PortState.IPI, request.vcpu)
    vcpu.write_struct(address, request)
    return 0


def _bind_vcpu(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnBindVcpu)
    events = vcpu.domain.events
    events.check_vcpu(request.vcpu)
    events.bind_vcpu(request.port, request.vcpu, PER_VCPU_VIRQS)
    return 0


def _close(vcpu: Vcpu, address: int) -> int:
    vcpu.domain.events.close(vcpu.read_struct(address, EvtchnClose).port)
    return 0


def _status(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnStatus)
    if not is_self(vcpu, request.dom):
        raise GuestError(Errno.EPERM if request.dom == 0 else Errno.ESRCH)
    events = vcpu.domain.events
    if not 0 <= request.port < events.limit:
        raise GuestError(Errno.EINVAL)
    state = events.state(request.port)
    request.status, request.vcpu = STATUS[state], events.vcpu_of(request.port)
    if state == PortState.UNBOUND:
        request.u.unbound.dom = events.number_of(request.port)
    elif state == PortState.INTERDOMAIN:
        request.u.interdomain.dom = 0 if events.is_dom0(request.port) else vcpu.domain.domid
        request.u.interdomain.port = (
            request.port if events.is_dom0(request.port) else events.number_of(request.port)
        )
    elif state == PortState.VIRQ:
        request.u.virq = events.number_of(request.port)
    vcpu.write_struct(address, request)
    return 0


def _bind_pirq(vcpu: Vcpu, address: int) -> int:
    """No physical interrupt belongs to a domain."""
    vcpu.read_struct(address, EvtchnBindPirq)
    raise GuestError(Errno.EINVAL)


def _init_control(vcpu: Vcpu, address: int) -> int:
    """A control block crosses no page boundary."""
    request = vcpu.read_struct(address, EvtchnInitControl)
    events = vcpu.domain.events
    events.check_vcpu(request.vcpu)
    if request.offset > PAGE_SIZE - sizeof(EvtchnFifoControlBlock) or request.offset % 8:
        raise GuestError(Errno.EINVAL)
    events.init_control(request.vcpu, request.control_gfn, request.offset)
    request.link_bits = EVTCHN_FIFO_LINK_BITS
    vcpu.write_struct(address, request)
    return 0


def _expand_array(vcpu: Vcpu, address: int) -> int:
    vcpu.domain.events.expand_array(vcpu.read_struct(address, EvtchnExpandArray).array_gfn)
    return 0


def _set_priority(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, EvtchnSetPriority)
    events = vcpu.domain.events
    if request.port >= events.limit:
        raise GuestError(Errno.EINVAL)
    if not events.fifo:
        raise GuestError(Errno.ENOSYS)
    if events.state(request.port) == PortState.FREE:
        raise GuestError(Errno.EACCES)
    events.set_priority(request.port, request.priority)
    return 0


def _reset(vcpu: Vcpu, address: int) -> int:
    """Closes all but console and xenstore, and returns to two-level channels."""
    if not is_self(vcpu, vcpu.read_struct(address, EvtchnReset).dom):
        raise GuestError(Errno.EPERM)
    vcpu.domain.events.reset()
    return 0


OPERATIONS = {
    EVTCHNOP_alloc_unbound: _alloc_unbound,
    EVTCHNOP_bind_interdomain: _bind_interdomain,
    EVTCHNOP_bind_virq: _bind_virq,
    EVTCHNOP_bind_ipi: _bind_ipi,
    EVTCHNOP_bind_vcpu: _bind_vcpu,
    EVTCHNOP_close: _close,
    EVTCHNOP_status: _status,
    EVTCHNOP_reset: _reset,
    EVTCHNOP_bind_pirq: _bind_pirq,
    EVTCHNOP_init_control: _init_control,
    EVTCHNOP_expand_array: _expand_array,
    EVTCHNOP_set_priority: _set_priority,
}


def event_channel_op(vcpu: Vcpu, args: list[int]) -> int:
    command = args[0] & 0xFFFFFFFF
    operation = OPERATIONS.get(command)
    if operation is None:
        raise GuestError(Errno.ENOSYS)
    return operation(vcpu, args[1])
