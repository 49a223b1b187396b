"""event_channel.h: event channel operations, the two-level and the FIFO ABI."""

from ctypes import Array, LittleEndianStructure, LittleEndianUnion, c_uint8, c_uint32
from typing import Annotated

from xenion.abi.layout import U8, U16, U32, U64, layout

EVTCHNOP_bind_interdomain = 0
EVTCHNOP_bind_virq = 1
EVTCHNOP_bind_pirq = 2
EVTCHNOP_close = 3
EVTCHNOP_send = 4
EVTCHNOP_status = 5
EVTCHNOP_alloc_unbound = 6
EVTCHNOP_bind_ipi = 7
EVTCHNOP_bind_vcpu = 8
EVTCHNOP_unmask = 9
EVTCHNOP_reset = 10
EVTCHNOP_init_control = 11
EVTCHNOP_expand_array = 12
EVTCHNOP_set_priority = 13

BIND_PIRQ__WILL_SHARE = 1

EVTCHNSTAT_closed = 0
EVTCHNSTAT_unbound = 1
EVTCHNSTAT_interdomain = 2
EVTCHNSTAT_pirq = 3
EVTCHNSTAT_virq = 4
EVTCHNSTAT_ipi = 5

EVTCHN_2L_NR_CHANNELS = 8 * 8 * 64

EVTCHN_FIFO_PRIORITY_MAX = 0
EVTCHN_FIFO_PRIORITY_DEFAULT = 7
EVTCHN_FIFO_PRIORITY_MIN = 15
EVTCHN_FIFO_MAX_QUEUES = EVTCHN_FIFO_PRIORITY_MIN + 1

# Bits of a FIFO event word.
EVTCHN_FIFO_PENDING = 31
EVTCHN_FIFO_MASKED = 30
EVTCHN_FIFO_LINKED = 29
EVTCHN_FIFO_BUSY = 28
EVTCHN_FIFO_LINK_BITS = 17
EVTCHN_FIFO_LINK_MASK = (1 << EVTCHN_FIFO_LINK_BITS) - 1
EVTCHN_FIFO_NR_CHANNELS = 1 << EVTCHN_FIFO_LINK_BITS


@layout(8)
class EvtchnAllocUnbound(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_alloc_unbound``."""

    dom: U16
    remote_dom: U16
    port: U32


@layout(12)
class EvtchnBindInterdomain(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_bind_interdomain``."""

    remote_dom: U16
    remote_port: U32
    local_port: U32


@layout(12)
class EvtchnBindVirq(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_bind_virq``."""

    virq: U32
    vcpu: U32
    port: U32


@layout(12)
class EvtchnBindPirq(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_bind_pirq``."""

    pirq: U32
    flags: U32
    port: U32


@layout(8)
class EvtchnBindIpi(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_bind_ipi``."""

    vcpu: U32
    port: U32


@layout(4)
class EvtchnClose(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_close``."""

    port: U32


@layout(4)
class EvtchnSend(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_send``."""

    port: U32


@layout(2)
class EvtchnStatusUnbound(LittleEndianStructure):
    """event_channel.h: ``evtchn_status.u.unbound``."""

    dom: U16


@layout(8)
class EvtchnStatusInterdomain(LittleEndianStructure):
    """event_channel.h: ``evtchn_status.u.interdomain``."""

    dom: U16
    port: U32


@layout(8)
class EvtchnStatusU(LittleEndianUnion):
    """event_channel.h: ``evtchn_status.u``."""

    unbound: EvtchnStatusUnbound
    interdomain: EvtchnStatusInterdomain
    pirq: U32
    virq: U32


@layout(24)
class EvtchnStatus(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_status``; ``status`` is EVTCHNSTAT_*."""

    dom: U16
    port: U32
    status: U32
    vcpu: U32
    u: EvtchnStatusU


@layout(8)
class EvtchnBindVcpu(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_bind_vcpu``."""

    port: U32
    vcpu: U32


@layout(4)
class EvtchnUnmask(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_unmask``."""

    port: U32


@layout(2)
class EvtchnReset(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_reset``."""

    dom: U16


@layout(24)
class EvtchnInitControl(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_init_control``."""

    control_gfn: U64
    offset: U32
    vcpu: U32
    link_bits: U8
    _pad: Annotated[Array[c_uint8], c_uint8 * 7]


@layout(8)
class EvtchnExpandArray(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_expand_array``."""

    array_gfn: U64


@layout(8)
class EvtchnSetPriority(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_set_priority``."""

    port: U32
    priority: U32


@layout(24)
class EvtchnOpU(LittleEndianUnion):
    """event_channel.h: ``evtchn_op.u``."""

    alloc_unbound: EvtchnAllocUnbound
    bind_interdomain: EvtchnBindInterdomain
    bind_virq: EvtchnBindVirq
    bind_pirq: EvtchnBindPirq
    bind_ipi: EvtchnBindIpi
    close: EvtchnClose
    send: EvtchnSend
    status: EvtchnStatus
    bind_vcpu: EvtchnBindVcpu
    unmask: EvtchnUnmask


@layout(28)
class EvtchnOp(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_op``, the argument of event_channel_op_compat."""

    cmd: U32
    u: EvtchnOpU


@layout(72)
class EvtchnFifoControlBlock(LittleEndianStructure):
    """event_channel.h: ``struct evtchn_fifo_control_block``; ``ready`` has one bit a priority."""

    ready: U32
    _rsvd: U32
    head: Annotated[Array[c_uint32], c_uint32 * EVTCHN_FIFO_MAX_QUEUES]
