"""grant_table.h: grant entries of versions 1 and 2, and the operations on them."""

from ctypes import Array, LittleEndianStructure, LittleEndianUnion, c_uint32
from typing import Annotated

from xenion.abi.layout import S16, U16, U32, U64, layout

GNTTAB_NR_RESERVED_ENTRIES = 8
GNTTAB_RESERVED_CONSOLE = 0
GNTTAB_RESERVED_XENSTORE = 1

# Types of a grant entry: the low two bits of its flags.
GTF_invalid = 0 << 0
GTF_permit_access = 1 << 0
GTF_accept_transfer = 2 << 0
GTF_transitive = 3 << 0
GTF_type_mask = 3 << 0
# With GTF_permit_access.
GTF_readonly = 1 << 2
GTF_reading = 1 << 3
GTF_writing = 1 << 4
GTF_PWT = 1 << 5
GTF_PCD = 1 << 6
GTF_PAT = 1 << 7
GTF_sub_page = 1 << 8
# With GTF_accept_transfer.
GTF_transfer_committed = 1 << 2
GTF_transfer_completed = 1 << 3

GNTTABOP_map_grant_ref = 0
GNTTABOP_unmap_grant_ref = 1
GNTTABOP_setup_table = 2
GNTTABOP_dump_table = 3
GNTTABOP_transfer = 4
GNTTABOP_copy = 5
GNTTABOP_query_size = 6
GNTTABOP_unmap_and_replace = 7
GNTTABOP_set_version = 8
GNTTABOP_get_status_frames = 9
GNTTABOP_get_version = 10
GNTTABOP_swap_grant_ref = 11
GNTTABOP_cache_flush = 12

GNTCOPY_source_gref = 1 << 0
GNTCOPY_dest_gref = 1 << 1

GNTTAB_CACHE_CLEAN = 1 << 0
GNTTAB_CACHE_INVAL = 1 << 1
GNTTAB_CACHE_SOURCE_GREF = 1 << 31

GNTMAP_device_map = 1 << 0
GNTMAP_host_map = 1 << 1
GNTMAP_readonly = 1 << 2
GNTMAP_application_map = 1 << 3
GNTMAP_contains_pte = 1 << 4
GNTMAP_guest_avail_mask = 0xFFFF << 16

GNTST_okay = 0
GNTST_general_error = -1
GNTST_bad_domain = -2
GNTST_bad_gntref = -3
GNTST_bad_handle = -4
GNTST_bad_virt_addr = -5
GNTST_bad_dev_addr = -6
GNTST_no_device_space = -7
GNTST_permission_denied = -8
GNTST_bad_page = -9
GNTST_bad_copy_arg = -10
GNTST_address_too_big = -11
GNTST_eagain = -12
GNTST_no_space = -13


@layout(8)
class GrantEntryV1(LittleEndianStructure):
    """grant_table.h: ``struct grant_entry_v1``; ``flags`` is GTF_*."""

    flags: U16
    domid: U16
    frame: U32


@layout(4)
class GrantEntryHeader(LittleEndianStructure):
    """grant_table.h: ``struct grant_entry_header``."""

    flags: U16
    domid: U16


@layout(16)
class GrantEntryV2FullPage(LittleEndianStructure):
    """grant_table.h: ``grant_entry_v2.full_page``."""

    hdr: GrantEntryHeader
    pad0: U32
    frame: U64


@layout(16)
class GrantEntryV2SubPage(LittleEndianStructure):
    """grant_table.h: ``grant_entry_v2.sub_page``."""

    hdr: GrantEntryHeader
    page_off: U16
    length: U16
    frame: U64


@layout(12)
class GrantEntryV2Transitive(LittleEndianStructure):
    """grant_table.h: ``grant_entry_v2.transitive``."""

    hdr: GrantEntryHeader
    trans_domid: U16
    pad0: U16
    gref: U32


@layout(16)
class GrantEntryV2(LittleEndianUnion):
    """grant_table.h: ``union grant_entry_v2``; a version 2 table keeps 16-bit status words apart."""

    hdr: GrantEntryHeader
    full_page: GrantEntryV2FullPage
    sub_page: GrantEntryV2SubPage
    transitive: GrantEntryV2Transitive
    _spacer: Annotated[Array[c_uint32], c_uint32 * 4]


@layout(32)
class GnttabMapGrantRef(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_map_grant_ref``; ``flags`` is GNTMAP_*, ``status`` GNTST_*."""

    host_addr: U64
    flags: U32
    ref: U32
    dom: U16
    status: S16
    handle: U32
    dev_bus_addr: U64


@layout(24)
class GnttabUnmapGrantRef(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_unmap_grant_ref``."""

    host_addr: U64
    dev_bus_addr: U64
    handle: U32
    status: S16


@layout(24)
class GnttabSetupTable(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_setup_table``."""

    dom: U16
    nr_frames: U32
    status: S16
    frame_list: U64


@layout(4)
class GnttabDumpTable(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_dump_table``."""

    dom: U16
    status: S16


@layout(24)
class GnttabTransfer(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_transfer``."""

    mfn: U64
    domid: U16
    ref: U32
    status: S16


@layout(8)
class GnttabCopyPtrU(LittleEndianUnion):
    """grant_table.h: ``gnttab_copy_ptr.u``."""

    ref: U32
    gmfn: U64


@layout(16)
class GnttabCopyPtr(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_copy_ptr``."""

    u: GnttabCopyPtrU
    domid: U16
    offset: U16


@layout(40)
class GnttabCopy(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_copy``; ``flags`` is GNTCOPY_*."""

    source: GnttabCopyPtr
    dest: GnttabCopyPtr
    len: U16
    flags: U16
    status: S16


@layout(16)
class GnttabQuerySize(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_query_size``."""

    dom: U16
    nr_frames: U32
    max_nr_frames: U32
    status: S16


@layout(24)
class GnttabUnmapAndReplace(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_unmap_and_replace``."""

    host_addr: U64
    new_addr: U64
    handle: U32
    status: S16


@layout(4)
class GnttabSetVersion(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_set_version``."""

    version: U32


@layout(16)
class GnttabGetStatusFrames(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_get_status_frames``."""

    nr_frames: U32
    dom: U16
    status: S16
    frame_list: U64


@layout(8)
class GnttabGetVersion(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_get_version``."""

    dom: U16
    pad: U16
    version: U32


@layout(12)
class GnttabSwapGrantRef(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_swap_grant_ref``."""

    ref_a: U32
    ref_b: U32
    status: S16


@layout(8)
class GnttabCacheFlushA(LittleEndianUnion):
    """grant_table.h: ``gnttab_cache_flush.a``."""

    dev_bus_addr: U64
    ref: U32


@layout(16)
class GnttabCacheFlush(LittleEndianStructure):
    """grant_table.h: ``struct gnttab_cache_flush``; ``op`` is GNTTAB_CACHE_*."""

    a: GnttabCacheFlushA
    offset: U16
    length: U16
    op: U32
