"""What a guest put on a transmit ring, understood: slots in, packets out. No I/O, no guest memory.

As xen-netback judges: some mistakes cost the guest the packet, others the device.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from xenion.abi.io.netif import (
    XEN_NETIF_EXTRA_FLAG_MORE,
    XEN_NETIF_EXTRA_TYPE_GSO,
    XEN_NETIF_EXTRA_TYPE_MAX,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
    XEN_NETIF_EXTRA_TYPE_MCAST_DEL,
    XEN_NETIF_EXTRA_TYPE_NONE,
    XEN_NETIF_GSO_TYPE_NONE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
    XEN_NETIF_NR_SLOTS_MIN,
    NETTXF_csum_blank,
    NETTXF_data_validated,
    NETTXF_extra_info,
    NETTXF_more_data,
)
from xenion.dom0.guest import PAGE_SIZE
from xenion.dom0.net.packet import ETHER_HEADER
from xenion.dom0.ring import RingError

SLOT_BYTES = 12
FATAL_SLOTS = 20
"""Data slots after the first: with more than XEN_NETIF_NR_SLOTS_MIN a packet is refused, with more than these the
device is turned off (netback's fatal_skb_slots)."""

_REQUEST = struct.Struct("<IHHHH")
_EXTRA = struct.Struct("<BB6s4x")
_GSO = struct.Struct("<HBBH")


class TxSlotError(RingError):
    """The guest broke the transmit ring's rules: `what` it did."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the guest {what} on its transmit ring: its network device is turned off until it connects again"
        )


@dataclass(slots=True)
class Packet:
    """What one chain of slots says. `refused`: it is answered with an error and not sent."""

    ids: list[int]
    """Of the first request and of each further data slot."""
    extras: int = 0
    """Slots of extra information behind the first request."""
    parts: list[tuple[int, int, int]] = field(default_factory=list)
    """Reference, offset and length, as `Guest.gather` takes them; within a page."""
    size: int = 0
    blank: bool = False
    validated: bool = False
    gso: int = XEN_NETIF_GSO_TYPE_NONE
    mss: int = 0
    refused: bool = False
    multicast: tuple[int, bytes] | None = None
    """XEN_NETIF_EXTRA_TYPE_MCAST_* and an address: a request to the filter, no packet."""

    @property
    def slots(self) -> int:
        return len(self.ids) + self.extras


def packet_at(slots: Sequence[bytes], at: int) -> Packet | None:
    """The packet that begins with `slots[at]`; None when its last slots are not there yet. TxSlotError."""
    gref, offset, flags, ident, size = _REQUEST.unpack(slots[at])
    if not flags & (NETTXF_more_data | NETTXF_extra_info):  # nearly every one
        refused = size < ETHER_HEADER
        if offset + size > PAGE_SIZE and not refused:
            raise TxSlotError("let a packet cross a page's end")
        parts = [(gref, offset, size)]
        blank = bool(flags & NETTXF_csum_blank)
        return Packet([ident], 0, parts, size, blank, bool(flags & NETTXF_data_validated), refused=refused)
    packet = Packet([ident], size=size)
    packet.blank = bool(flags & NETTXF_csum_blank)
    packet.validated = bool(flags & NETTXF_data_validated)
    if flags & NETTXF_extra_info and not _add_extras(packet, slots, at + 1):
        return None
    if packet.multicast is not None:
        return packet
    return _add_data(packet, slots, at + 1 + packet.extras, gref, offset, bool(flags & NETTXF_more_data))


def _add_extras(packet: Packet, slots: Sequence[bytes], at: int) -> bool:
    """Whether all were there."""
    more, segmented = True, False
    while more:
        if at == len(slots):
            return False
        kind, flags, value = _EXTRA.unpack(slots[at])
        at += 1
        packet.extras += 1
        if not XEN_NETIF_EXTRA_TYPE_NONE < kind < XEN_NETIF_EXTRA_TYPE_MAX:
            raise TxSlotError(f"gave extra information of type {kind}, which does not exist,")
        if kind in (XEN_NETIF_EXTRA_TYPE_MCAST_ADD, XEN_NETIF_EXTRA_TYPE_MCAST_DEL):
            packet.multicast = (kind, value)
        elif kind == XEN_NETIF_EXTRA_TYPE_GSO:
            packet.mss, packet.gso = _GSO.unpack(value)[:2]
            segmented = True
        more = bool(flags & XEN_NETIF_EXTRA_FLAG_MORE)
    if segmented and packet.multicast is None:
        _check_gso(packet)
    return True


def _check_gso(packet: Packet) -> None:
    if packet.gso not in (XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6):
        raise TxSlotError(f"asked for segmentation of type {packet.gso}, which does not exist,")
    if not packet.mss:
        raise TxSlotError("asked for segments of 0 bytes")


def _add_data(
    packet: Packet, slots: Sequence[bytes], at: int, gref: int, offset: int, more: bool
) -> Packet | None:
    first, further = packet.size, 0
    rest: list[tuple[int, int, int]] = []
    while more:
        if further == FATAL_SLOTS:
            raise TxSlotError(f"used over {FATAL_SLOTS} slots for one packet")
        if at + further == len(slots):
            return None
        ref, start, flags, ident, size = _REQUEST.unpack(slots[at + further])
        further += 1
        if start + size > PAGE_SIZE:
            raise TxSlotError("let a packet cross a page's end")
        # A packet of 64 KiB and more has an overflown size in its first slot: old front ends do that.
        packet.refused = packet.refused or size > first or further > XEN_NETIF_NR_SLOTS_MIN
        first -= min(size, first)
        packet.ids.append(ident)
        if size:
            rest.append((ref, start, size))
        more = bool(flags & NETTXF_more_data)
    packet.refused = packet.refused or first < ETHER_HEADER
    if not packet.refused and offset + first > PAGE_SIZE:
        raise TxSlotError("let a packet cross a page's end")
    packet.parts = [(gref, offset, first), *rest]
    return packet
