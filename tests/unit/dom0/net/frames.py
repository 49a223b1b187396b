"""Frames for tests, and an independent opinion on their checksums (RFC 1071, written as the RFC says it)."""

import ipaddress
import struct
from typing import Any

from tests.unit.dom0.net.front import MAC_BYTES, OTHER_MAC

TCP, UDP = 6, 17


def ones_sum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = 0
    for i in range(0, len(data), 2):
        total += data[i] << 8 | data[i + 1]
        total = (total & 0xFFFF) + (total >> 16)
    return total


def checksum(data: bytes) -> int:
    return ~ones_sum(data) & 0xFFFF


def pseudo(source: bytes, target: bytes, protocol: int, length: int) -> bytes:
    if len(source) == 4:
        return source + target + struct.pack(">BBH", 0, protocol, length)
    return source + target + struct.pack(">IxxxB", length, protocol)


def ether(
    payload: bytes, kind: int, source: bytes = MAC_BYTES, target: bytes = OTHER_MAC, vlans: int = 0
) -> bytes:
    return target + source + b"\x81\x00\x00\x07" * vlans + kind.to_bytes(2, "big") + payload


def ip(
    payload: bytes,
    protocol: int,
    source: str = "10.0.0.1",
    target: str = "10.0.0.2",
    *,
    options: bytes = b"",
    extensions: tuple[tuple[int, bytes], ...] = (),
    fragment: int = 0,
    ident: int = 7,
    vlans: int = 0,
    ether_source: bytes = MAC_BYTES,
    ether_target: bytes = OTHER_MAC,
) -> bytes:
    """An Ethernet frame; IPv4 or IPv6 by the addresses. `extensions`: (protocol, bytes without its next header)."""
    a, b = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    if len(a) == 4:
        header = struct.pack(
            ">BBHHHBBH4s4s", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), ident, fragment, 64,
            protocol, 0, a, b,
        ) + options  # fmt: skip
        header = header[:10] + checksum(header).to_bytes(2, "big") + header[12:]
        return ether(header + payload, 0x0800, ether_source, ether_target, vlans)
    chain = b""
    following = protocol
    for kind, body in reversed(extensions):
        chain = bytes([following]) + body + chain
        following = kind
    header = struct.pack(">IHBB16s16s", 6 << 28, len(chain) + len(payload), following, 64, a, b)
    return ether(header + chain + payload, 0x86DD, ether_source, ether_target, vlans)


def tcp_header(source: str, target: str, payload: bytes, *, flags: int = 0x10, seq: int = 1, ack: int = 1,
               ports: tuple[int, int] = (1000, 80), options: bytes = b"", blank: bool = False,
               window: int = 1000) -> bytes:  # fmt: skip
    head = struct.pack(
        ">HHIIBBHHH", *ports, seq, ack, (20 + len(options)) // 4 << 4, flags, window, 0, 0
    ) + options  # fmt: skip
    return _summed(head, 16, source, target, TCP, payload, blank)


def udp_header(
    source: str, target: str, payload: bytes, *, ports: tuple[int, int] = (1000, 53), blank: bool = False
) -> bytes:
    return _summed(struct.pack(">HHHH", *ports, 8 + len(payload), 0), 6, source, target, UDP, payload, blank)


def _summed(
    head: bytes, field: int, source: str, target: str, protocol: int, payload: bytes, blank: bool
) -> bytes:
    a, b = ipaddress.ip_address(source).packed, ipaddress.ip_address(target).packed
    start = pseudo(a, b, protocol, len(head) + len(payload))
    value = ones_sum(start) if blank else checksum(start + head + payload)
    if protocol == UDP and not blank and not value:
        value = 0xFFFF
    return head[:field] + value.to_bytes(2, "big") + head[field + 2 :]


def tcp(payload: bytes = b"", source: str = "10.0.0.1", target: str = "10.0.0.2", *, blank: bool = False,
        flags: int = 0x10, seq: int = 1, ack: int = 1, ports: tuple[int, int] = (1000, 80), tcp_options: bytes = b"",
        window: int = 1000, **how: Any) -> bytes:  # fmt: skip
    head = tcp_header(source, target, payload, flags=flags, seq=seq, ack=ack, ports=ports, options=tcp_options,
                      blank=blank, window=window)  # fmt: skip
    return ip(head + payload, TCP, source, target, **how)


def udp(payload: bytes = b"", source: str = "10.0.0.1", target: str = "10.0.0.2", *, blank: bool = False,
        ports: tuple[int, int] = (1000, 53), **how: Any) -> bytes:  # fmt: skip
    return ip(
        udp_header(source, target, payload, ports=ports, blank=blank) + payload, UDP, source, target, **how
    )


def arp(
    sender_mac: bytes, sender: str, target: str, *, operation: int = 1, source: bytes = MAC_BYTES
) -> bytes:
    body = bytes.fromhex("0001080006 04".replace(" ", "")) + operation.to_bytes(2, "big") + sender_mac
    body += ipaddress.ip_address(sender).packed + bytes(6) + ipaddress.ip_address(target).packed
    return ether(body, 0x0806, source)
