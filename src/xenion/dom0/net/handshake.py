"""The ACK that passt owes a guest which speaks first.

When a connection comes in by one of its port forwards, passt (of 2023) sends the guest a SYN, gets a SYN-ACK and then
says nothing until the client has sent something: its first ACK travels with the first data. The guest's service is told
of the connection by that ACK only; one that speaks first (ssh, SMTP) and a client that waits for it block each other.
So the wire answers the SYN-ACK itself, with the bare ACK that passt would have sent: to the guest, never to passt.
"""

import struct
from collections import OrderedDict

from xenion.dom0.net.packet import ETHER_IPV4, ETHER_IPV6, PROTO_TCP, address_of, complete
from xenion.dom0.net.wire import Buffer

_SYN, _ACK = 0x02, 0x10
_LONGEST_SYN = 14 + 40 + 60
_REMEMBERED = 1024
_IPV4, _IPV6 = struct.Struct(">BBHHHBBH4s4s"), struct.Struct(">IHBB16s16s")
_TCP = struct.Struct(">HHIIBBHHH")
_TTL = 64
_WINDOW_SCALE, _NO_OPERATION, _END = 3, 1, 0


class Acknowledger:
    """Remembers the SYNs that came from the wire, and answers the guest's SYN-ACK to one of them."""

    def __init__(self) -> None:
        self._windows: OrderedDict[bytes, int] = OrderedDict()

    def from_wire(self, frame: Buffer) -> None:
        if len(frame) > _LONGEST_SYN:
            return
        found = _tcp_of(frame)
        if found is None or frame[found[1] + 13] & (_SYN | _ACK) != _SYN:
            return
        network, tcp = found
        window = int.from_bytes(frame[tcp + 14 : tcp + 16], "big") >> _scale(bytes(frame[tcp + 20 :]))
        self._windows[_pair(frame, network, tcp, turned=False)] = max(window, 1)
        if len(self._windows) > _REMEMBERED:
            self._windows.popitem(last=False)

    def from_guest(self, frame: Buffer) -> bytes | None:
        """The frame to give to the guest."""
        if len(frame) > _LONGEST_SYN:
            return None
        found = _tcp_of(frame)
        if found is None or frame[found[1] + 13] & (_SYN | _ACK) != _SYN | _ACK:
            return None
        window = self._windows.get(_pair(frame, *found, turned=True))
        return None if window is None else _acknowledgement(frame, *found, window)


def _tcp_of(frame: Buffer) -> tuple[int, int] | None:
    """Where the IP and the TCP header are, in a frame without VLAN tags, fragments and IPv6 extensions."""
    kind = int.from_bytes(frame[12:14], "big")
    if kind == ETHER_IPV4 and len(frame) >= 54 and frame[23] == PROTO_TCP:
        tcp = 14 + (frame[14] & 15) * 4
    elif kind == ETHER_IPV6 and len(frame) >= 74 and frame[20] == PROTO_TCP:
        tcp = 54
    else:
        return None
    return (14, tcp) if len(frame) >= tcp + 20 else None


def _addresses(frame: Buffer, network: int) -> tuple[bytes, bytes]:
    if frame[network] >> 4 == 4:
        return bytes(frame[network + 12 : network + 16]), bytes(frame[network + 16 : network + 20])
    return bytes(frame[network + 8 : network + 24]), bytes(frame[network + 24 : network + 40])


def _pair(frame: Buffer, network: int, tcp: int, *, turned: bool) -> bytes:
    source, target = _addresses(frame, network)
    ports = bytes(frame[tcp : tcp + 4])
    return target + source + ports[2:] + ports[:2] if turned else source + target + ports


def _scale(options: bytes) -> int:
    """The window scale that a SYN announces; 0 without one. At most 14 (RFC 7323)."""
    at = 0
    while at + 1 < len(options) and options[at] != _END:
        if options[at] == _NO_OPERATION:
            at += 1
            continue
        if options[at] == _WINDOW_SCALE and at + 2 < len(options):
            return min(options[at + 2], 14)
        at += max(options[at + 1], 2)
    return 0


def _acknowledgement(frame: Buffer, network: int, tcp: int, window: int) -> bytes:
    """From the SYN-ACK's target to its source: what it asks for, and nothing more."""
    source, target = _addresses(frame, network)
    head = bytes(frame[6:12]) + bytes(frame[0:6]) + bytes(frame[12:14])
    if len(source) == 4:
        ip = _IPV4.pack(0x45, 0, 40, 0, 0x4000, _TTL, PROTO_TCP, 0, target, source)
        ip = ip[:10] + _checksum(ip).to_bytes(2, "big") + ip[12:]
    else:
        ip = _IPV6.pack(6 << 28, 20, PROTO_TCP, _TTL, target, source)
    sequence, acknowledged = struct.unpack_from(">II", frame, tcp + 4)
    ports = struct.unpack_from(">HH", frame, tcp)
    pseudo = _sum(target + source + bytes([0, PROTO_TCP, 0, 20]))
    segment = _TCP.pack(
        ports[1], ports[0], acknowledged, (sequence + 1) & 0xFFFFFFFF, 5 << 4, _ACK, window, pseudo, 0
    )
    made = bytearray(head + ip + segment)
    complete(address_of(made), len(made))
    return bytes(made)


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _checksum(header: bytes) -> int:
    return ~_sum(header) & 0xFFFF
