"""Anti-spoofing: which frames a guest may send, by their source addresses."""

import ipaddress
from collections.abc import Iterable
from typing import Any

from xenion.dom0.net.packet import ETHER_ARP, ETHER_IPV4, ETHER_IPV6, PROTO_ICMPV6, PROTO_UDP, Layout, layout
from xenion.dom0.net.wire import Buffer

_UNSPECIFIED_4, _UNSPECIFIED_6 = bytes(4), bytes(16)
_NEIGHBOUR_ADVERTISEMENT = 136
_ARP_ETHERNET_IPV4 = bytes.fromhex("0001 0800 06 04")
_ARP_SIZE, _ARP_SENDER_MAC, _ARP_SENDER_IP = 28, 8, 14


class Guard:
    """With `addresses` only ARP, IPv4 and IPv6 pass, from these alone; link-local IPv6, duplicate address detection and
    DHCP's first steps are not forbidden by them."""

    def __init__(self, mac: bytes, addresses: Iterable[str] = ()) -> None:
        self._mac = mac
        self._addresses = {ipaddress.ip_address(address).packed for address in addresses}

    def allows(self, frame: Buffer, at: Any) -> bool:
        """`at` is `address_of` the frame, which has at least 14 bytes."""
        if frame[6:12] != self._mac:
            return False
        if not self._addresses:
            return frame[12] != 0x08 or frame[13] != 0x06 or self._arp_mac(frame, 14)
        found = layout(at, len(frame))
        if found is None:
            return False
        if found.ethertype == ETHER_IPV4:
            return self._ipv4(frame, found)
        if found.ethertype == ETHER_IPV6:
            return self._ipv6(frame, found)
        return found.ethertype == ETHER_ARP and self._arp(frame, found.network)

    def _arp_mac(self, frame: Buffer, arp: int) -> bool:
        sender = arp + _ARP_SENDER_MAC
        return frame[sender : sender + 6] == self._mac

    def _arp(self, frame: Buffer, arp: int) -> bool:
        if len(frame) < arp + _ARP_SIZE or frame[arp : arp + 6] != _ARP_ETHERNET_IPV4:
            return False
        sender = bytes(frame[arp + _ARP_SENDER_IP : arp + _ARP_SENDER_IP + 4])
        return self._arp_mac(frame, arp) and (sender == _UNSPECIFIED_4 or sender in self._addresses)

    def _ipv4(self, frame: Buffer, found: Layout) -> bool:
        source = bytes(frame[found.network + 12 : found.network + 16])
        return source in self._addresses or (source == _UNSPECIFIED_4 and found.protocol == PROTO_UDP)

    def _ipv6(self, frame: Buffer, found: Layout) -> bool:
        if not self._own_6(bytes(frame[found.network + 8 : found.network + 24])):
            return False
        at = found.transport
        if found.protocol != PROTO_ICMPV6 or not at or found.end <= at:
            return True
        if frame[at] != _NEIGHBOUR_ADVERTISEMENT:
            return True
        target = bytes(frame[at + 8 : at + 24])
        return found.end >= at + 24 and self._own_6(target)

    def _own_6(self, address: bytes) -> bool:
        link_local = address[0] == 0xFE and address[1] & 0xC0 == 0x80
        return link_local or address == _UNSPECIFIED_6 or address in self._addresses
