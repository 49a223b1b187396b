"""event_channel.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import event_channel

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    event_channel.EvtchnAllocUnbound: "dom 0, remote_dom 2, port 4; 8",
    event_channel.EvtchnBindInterdomain: "remote_dom 0, remote_port 4, local_port 8; 12",
    event_channel.EvtchnBindVirq: "virq 0, vcpu 4, port 8; 12",
    event_channel.EvtchnBindPirq: "pirq 0, flags 4, port 8; 12",
    event_channel.EvtchnBindIpi: "vcpu 0, port 4; 8",
    event_channel.EvtchnClose: "port 0; 4",
    event_channel.EvtchnSend: "port 0; 4",
    event_channel.EvtchnStatusUnbound: "dom 0; 2",
    event_channel.EvtchnStatusInterdomain: "dom 0, port 4; 8",
    event_channel.EvtchnStatusU: "unbound 0, interdomain 0, pirq 0, virq 0; 8",
    event_channel.EvtchnStatus: "dom 0, port 4, status 8, vcpu 12, u 16; 24",
    event_channel.EvtchnBindVcpu: "port 0, vcpu 4; 8",
    event_channel.EvtchnUnmask: "port 0; 4",
    event_channel.EvtchnReset: "dom 0; 2",
    event_channel.EvtchnInitControl: "control_gfn 0, offset 8, vcpu 12, link_bits 16, _pad 17; 24",
    event_channel.EvtchnExpandArray: "array_gfn 0; 8",
    event_channel.EvtchnSetPriority: "port 0, priority 4; 8",
    event_channel.EvtchnOpU: (
        "alloc_unbound 0, bind_interdomain 0, bind_virq 0, bind_pirq 0, bind_ipi 0, close 0, send 0, "
        "status 0, bind_vcpu 0, unmask 0; 24"
    ),
    event_channel.EvtchnOp: "cmd 0, u 4; 28",
    event_channel.EvtchnFifoControlBlock: "ready 0, _rsvd 4, head 8; 72",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_fifo_event_word() -> None:
    ec = event_channel
    flags = (ec.EVTCHN_FIFO_PENDING, ec.EVTCHN_FIFO_MASKED, ec.EVTCHN_FIFO_LINKED, ec.EVTCHN_FIFO_BUSY)
    assert flags == (31, 30, 29, 28)
    assert not ec.EVTCHN_FIFO_LINK_MASK & sum(1 << flag for flag in flags)
    assert ec.EVTCHN_FIFO_NR_CHANNELS == 131072


def test_numbers() -> None:
    assert event_channel.EVTCHN_2L_NR_CHANNELS == 4096
    assert event_channel.EVTCHNOP_alloc_unbound == 6
    assert event_channel.EVTCHNOP_set_priority == 13
    assert event_channel.EVTCHNSTAT_ipi == 5
