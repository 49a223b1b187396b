"""Ethernet frames of TCP and UDP: layout, checksums and segmentation, by the core (core/src/checksum.c).

Buffers are read or changed in place; none is kept. What cannot be done with a frame is said by False or None: a frame
of a guest or a peer is hostile, and a bad one is no exception.
"""

from typing import Any, NamedTuple

from xenion.core import ffi, lib

ETHER_HEADER = 14
ETHER_IPV4, ETHER_ARP, ETHER_IPV6 = 0x0800, 0x0806, 0x86DD
PROTO_TCP, PROTO_UDP, PROTO_ICMPV6 = 6, 17, 58

FRAME_MOST: int = lib.FRAME_MOST
"""The longest frame in bytes: an IP packet of 65535 behind an Ethernet header, rounded up."""
FRAGMENT: int = lib.FRAME_FRAGMENT
"""In `Layout.flags`: a piece of an IP packet."""
MSS_LEAST = 48
"""Linux's TCP_MIN_SND_MSS: a guest that wants smaller segments only wants many of them."""

_layout = ffi.new("struct frame_layout *")


class Layout(NamedTuple):
    """`struct frame_layout` (core/src/api.h): offsets from the frame's first byte, 0 for what is not there."""

    ethertype: int
    network: int
    transport: int
    payload: int
    end: int
    protocol: int
    flags: int


def address_of(buffer: Any) -> Any:
    """For the other functions' `at`; good while `buffer` is kept and not resized."""
    return ffi.from_buffer("uint8_t[]", buffer)


def layout(at: Any, size: int) -> Layout | None:
    """None: malformed. `_layout` is one for all: only one thread of a process works on frames."""
    if lib.core_frame_layout(at, size, _layout):
        return None
    it = _layout
    return Layout(it.ethertype, it.network, it.transport, it.payload, it.end, it.protocol, it.flags)


def flow(at: Any, size: int) -> int:
    """A number below 2**32, the same for all frames of a connection's direction."""
    return int(lib.core_frame_flow(at, size))


def complete(at: Any, size: int) -> bool:
    """Makes a full checksum of the pseudo header's sum in a TCP or UDP frame; whether it could."""
    return not lib.core_frame_complete(at, size)


def complete_at(at: Any, size: int, start: int, field: int) -> bool:
    """The same for any protocol: from `start` to the frame's end, into the field `field` bytes behind `start`."""
    return not lib.core_frame_complete_at(at, size, start, field)


def blank(at: Any, size: int) -> bool:
    """Leaves only the pseudo header's sum in a TCP or UDP frame; whether it could."""
    return not lib.core_frame_blank(at, size)


def verified(at: Any, size: int) -> bool:
    """Whether a TCP or UDP frame's checksum is right."""
    found = layout(at, size)
    if found is None or not found.payload:
        return False
    field = found.transport + (16 if found.protocol == PROTO_TCP else 6)
    before = bytes(ffi.buffer(at + field, 2))
    return blank(at, size) and complete(at, size) and bytes(ffi.buffer(at + field, 2)) == before


def segment(at: Any, size: int, mss: int) -> list[memoryview] | None:
    """A TCP frame as complete frames of at most `mss` payload bytes each; None: it is none, or `mss` is too small."""
    found = layout(at, size)
    if found is None or not found.payload or mss < MSS_LEAST:
        return None
    count = max(-(-(found.end - found.payload) // mss), 1)
    cut = bytearray(found.end + (count - 1) * found.payload)
    sizes = ffi.new("uint32_t[]", count)
    if lib.core_frame_segment(at, size, mss, address_of(cut), len(cut), sizes, count) != count:
        return None
    frames, view, start = [], memoryview(cut), 0
    for length in sizes:
        frames.append(view[start : start + length])
        start += length
    return frames
