"""io/ring.h: the shared ring of requests and responses, and its 32-bit free-running indexes."""

from ctypes import Array, LittleEndianStructure, c_uint8, sizeof
from typing import Annotated

from xenion.abi.layout import U32, layout

XEN_PAGE_SHIFT = 12
RING_IDX_MASK = 0xFFFFFFFF


@layout(64)
class SringHeader(LittleEndianStructure):
    """io/ring.h: DEFINE_RING_TYPES, ``struct *_sring`` before its first entry."""

    req_prod: U32
    req_event: U32
    rsp_prod: U32
    rsp_event: U32
    pvt: Annotated[Array[c_uint8], c_uint8 * 4]
    _pad: Annotated[Array[c_uint8], c_uint8 * 44]


def ring_size(area: int, entry: int) -> int:
    """io/ring.h: __CONST_RING_SIZE; slots of ``entry`` bytes in ``area`` bytes: a power of two, or 0."""
    slots = max(area - sizeof(SringHeader), 0) // entry
    return 1 << (slots.bit_length() - 1) if slots else 0


def ring_distance(producer: int, consumer: int) -> int:
    """How far ``producer`` is ahead, modulo 2**32; more than the ring's slots means a misbehaving peer."""
    return (producer - consumer) & RING_IDX_MASK


def ring_notify(old: int, new: int, event: int) -> bool:
    """io/ring.h: RING_PUSH_*_AND_CHECK_NOTIFY; whether a producer moving from old to new passed event."""
    return ring_distance(new, event) < ring_distance(new, old)
