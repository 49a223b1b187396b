"""io/blkif.h: requests for sectors of a virtual disk, and their answers.

`Blkif*` is the layout of 64-bit guests ("x86_64-abi" in the front end's `protocol` node), `Blkif32*` that of 32-bit
ones ("x86_32-abi"), whose 64-bit fields are aligned to four bytes. All sector numbers and counts are in units of
512 bytes, whatever the `sector-size` node says.
"""

from ctypes import Array, LittleEndianStructure, c_uint32
from enum import IntEnum, IntFlag
from typing import Annotated

from xenion.abi.layout import S16, U8, U16, U32, U64, layout

PROTOCOL_X86_64 = "x86_64-abi"
"""io/protocols.h: XEN_IO_PROTO_ABI_X86_64."""
PROTOCOL_X86_32 = "x86_32-abi"
"""io/protocols.h: XEN_IO_PROTO_ABI_X86_32."""

SECTOR_BYTES = 512
SECTORS_PER_PAGE = 8

BLKIF_MAX_SEGMENTS_PER_REQUEST = 11
BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST = 8
SEGMENTS_PER_INDIRECT_PAGE = 512

BLKIF_DISCARD_SECURE = 1


class BlkifOp(IntEnum):
    """io/blkif.h: BLKIF_OP_*."""

    READ = 0
    WRITE = 1
    WRITE_BARRIER = 2
    FLUSH_DISKCACHE = 3
    RESERVED_1 = 4
    DISCARD = 5
    INDIRECT = 6


class BlkifRsp(IntEnum):
    """io/blkif.h: BLKIF_RSP_*."""

    OKAY = 0
    ERROR = -1
    EOPNOTSUPP = -2


class Vdisk(IntFlag):
    """io/blkif.h: VDISK_*, bits of the `info` node."""

    CDROM = 0x1
    REMOVABLE = 0x2
    READONLY = 0x4


@layout(8)
class BlkifRequestSegment(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request_segment``; first and last sector in the page, both inclusive."""

    gref: U32
    first_sect: U8
    last_sect: U8


@layout(112)
class BlkifRequest(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request``."""

    operation: U8
    nr_segments: U8
    handle: U16
    id: U64
    sector_number: U64
    seg: Annotated[Array[BlkifRequestSegment], BlkifRequestSegment * BLKIF_MAX_SEGMENTS_PER_REQUEST]


@layout(32)
class BlkifRequestDiscard(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request_discard``."""

    operation: U8
    flag: U8
    handle: U16
    id: U64
    sector_number: U64
    nr_sectors: U64


@layout(64)
class BlkifRequestIndirect(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request_indirect``; its pages are arrays of BlkifRequestSegment."""

    operation: U8
    indirect_op: U8
    nr_segments: U16
    id: U64
    sector_number: U64
    handle: U16
    _pad2: U16
    indirect_grefs: Annotated[Array[c_uint32], c_uint32 * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]
    _pad3: U32


@layout(16)
class BlkifResponse(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_response``."""

    id: U64
    operation: U8
    status: S16


# 64-bit numbers of a 32-bit guest are halves, so that ctypes aligns them to four bytes as i386 does.
_Halves = Annotated[Array[c_uint32], c_uint32 * 2]


@layout(108)
class Blkif32Request(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request`` of a 32-bit guest."""

    operation: U8
    nr_segments: U8
    handle: U16
    id: _Halves
    sector_number: _Halves
    seg: Annotated[Array[BlkifRequestSegment], BlkifRequestSegment * BLKIF_MAX_SEGMENTS_PER_REQUEST]


@layout(28)
class Blkif32RequestDiscard(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request_discard`` of a 32-bit guest."""

    operation: U8
    flag: U8
    handle: U16
    id: _Halves
    sector_number: _Halves
    nr_sectors: _Halves


@layout(64)
class Blkif32RequestIndirect(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_request_indirect`` of a 32-bit guest."""

    operation: U8
    indirect_op: U8
    nr_segments: U16
    id: _Halves
    sector_number: _Halves
    handle: U16
    _pad1: U16
    indirect_grefs: Annotated[Array[c_uint32], c_uint32 * BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST]
    _pad2: _Halves


@layout(12)
class Blkif32Response(LittleEndianStructure):
    """io/blkif.h: ``struct blkif_response`` of a 32-bit guest."""

    id: _Halves
    operation: U8
    status: S16
