"""Frames as a front end can take them: what it cannot do itself is done here."""

from xenion.abi.io.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xenion.dom0.guest import PAGE_SIZE
from xenion.dom0.net.frontend import Features
from xenion.dom0.net.packet import (
    ETHER_HEADER,
    ETHER_IPV4,
    ETHER_IPV6,
    MSS_LEAST,
    PROTO_TCP,
    Layout,
    address_of,
    blank,
    complete,
    layout,
    segment,
    verified,
)
from xenion.dom0.net.wire import Frame

_VLAN_TAG = 4
_GSO_OF = {ETHER_IPV4: XEN_NETIF_GSO_TYPE_TCPV4, ETHER_IPV6: XEN_NETIF_GSO_TYPE_TCPV6}


class Shaper:
    """`mtu` is the network's: a longer TCP frame stands for several segments."""

    def __init__(self, features: Features, mtu: int) -> None:
        self._features = features
        self._mtu = mtu
        self._plain = mtu + ETHER_HEADER + _VLAN_TAG
        self._longest = 1 << 32 if features.sg else PAGE_SIZE

    def shape(self, frame: Frame) -> list[Frame]:
        """What to give to the guest instead; empty: it cannot have it."""
        size = len(frame.data)
        if ETHER_HEADER <= size <= self._plain <= self._longest and not (frame.blank or frame.gso):
            return [frame]
        frames = self._unusual(frame, size) if size >= ETHER_HEADER else []
        return frames if all(len(f.data) <= self._longest for f in frames) else []

    def _unusual(self, frame: Frame, size: int) -> list[Frame]:
        at = address_of(frame.data)
        found = layout(at, size)
        if found is None or not found.payload or found.flags:
            return [] if frame.gso or frame.blank else [frame]
        if frame.gso:
            return self._gso(frame, found, frame.mss)
        if found.protocol == PROTO_TCP and size > self._plain:
            mss = self._mtu - (found.payload - found.network)
            if MSS_LEAST <= mss < found.end - found.payload:
                return self._gso(frame, found, mss)
        if frame.blank and not self._may_be_blank(found):
            return [Frame(frame.data, False, True)] if complete(at, size) else []
        return [frame]

    def _gso(self, frame: Frame, found: Layout, mss: int) -> list[Frame]:
        at, size = address_of(frame.data), len(frame.data)
        kind = _GSO_OF[found.ethertype]
        offered = kind in self._features.gso and self._features.sg and self._may_be_blank(found)
        if not (frame.validated or verified(at, size)):
            return []
        if offered and found.protocol == PROTO_TCP and mss >= MSS_LEAST and (frame.blank or blank(at, size)):
            return [Frame(frame.data, True, True, kind, mss)]
        cut = segment(at, size, mss)
        return [Frame(part, False, True) for part in cut] if cut else []

    def _may_be_blank(self, found: Layout) -> bool:
        return self._features.csum_v4 if found.ethertype == ETHER_IPV4 else self._features.csum_v6
