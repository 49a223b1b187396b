"""grant_table.h as gcc lays it out."""

from collections.abc import Callable
from ctypes import sizeof

import pytest

from xenion.abi import grant_table

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    grant_table.GrantEntryV1: "flags 0, domid 2, frame 4; 8",
    grant_table.GrantEntryHeader: "flags 0, domid 2; 4",
    grant_table.GrantEntryV2FullPage: "hdr 0, pad0 4, frame 8; 16",
    grant_table.GrantEntryV2SubPage: "hdr 0, page_off 4, length 6, frame 8; 16",
    grant_table.GrantEntryV2Transitive: "hdr 0, trans_domid 4, pad0 6, gref 8; 12",
    grant_table.GrantEntryV2: "hdr 0, full_page 0, sub_page 0, transitive 0, _spacer 0; 16",
    grant_table.GnttabMapGrantRef: (
        "host_addr 0, flags 8, ref 12, dom 16, status 18, handle 20, dev_bus_addr 24; 32"
    ),
    grant_table.GnttabUnmapGrantRef: "host_addr 0, dev_bus_addr 8, handle 16, status 20; 24",
    grant_table.GnttabSetupTable: "dom 0, nr_frames 4, status 8, frame_list 16; 24",
    grant_table.GnttabDumpTable: "dom 0, status 2; 4",
    grant_table.GnttabTransfer: "mfn 0, domid 8, ref 12, status 16; 24",
    grant_table.GnttabCopyPtrU: "ref 0, gmfn 0; 8",
    grant_table.GnttabCopyPtr: "u 0, domid 8, offset 10; 16",
    grant_table.GnttabCopy: "source 0, dest 16, len 32, flags 34, status 36; 40",
    grant_table.GnttabQuerySize: "dom 0, nr_frames 4, max_nr_frames 8, status 12; 16",
    grant_table.GnttabUnmapAndReplace: "host_addr 0, new_addr 8, handle 16, status 20; 24",
    grant_table.GnttabSetVersion: "version 0; 4",
    grant_table.GnttabGetStatusFrames: "nr_frames 0, dom 4, status 6, frame_list 8; 16",
    grant_table.GnttabGetVersion: "dom 0, pad 2, version 4; 8",
    grant_table.GnttabSwapGrantRef: "ref_a 0, ref_b 4, status 8; 12",
    grant_table.GnttabCacheFlushA: "dev_bus_addr 0, ref 0; 8",
    grant_table.GnttabCacheFlush: "a 0, offset 8, length 10, op 12; 16",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert grant_table.GNTTABOP_cache_flush == 12
    assert grant_table.GTF_transitive == grant_table.GTF_type_mask == 3
    assert grant_table.GTF_sub_page == 256
    assert grant_table.GNTMAP_guest_avail_mask == 0xFFFF0000
    assert grant_table.GNTTAB_CACHE_SOURCE_GREF == 0x80000000


def test_statuses_are_distinct_and_fit_their_field() -> None:
    statuses = {value for name, value in vars(grant_table).items() if name.startswith("GNTST_")}
    assert statuses == set(range(-13, 1))
    assert grant_table.GnttabMapGrantRef(status=grant_table.GNTST_no_space).status == -13


def test_both_versions_fill_a_page_evenly() -> None:
    assert 4096 % sizeof(grant_table.GrantEntryV1) == 0
    assert 4096 % sizeof(grant_table.GrantEntryV2) == 0
