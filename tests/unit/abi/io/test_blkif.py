"""io/blkif.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi.io import blkif
from xenion.abi.io.ring import ring_size

# Each structure's fields with their offsets, and its size: gcc's numbers, those of Blkif32 from gcc -m32.
LAYOUTS: dict[type, str] = {
    blkif.BlkifRequestSegment: "gref 0, first_sect 4, last_sect 5; 8",
    blkif.BlkifRequest: "operation 0, nr_segments 1, handle 2, id 8, sector_number 16, seg 24; 112",
    blkif.BlkifRequestDiscard: "operation 0, flag 1, handle 2, id 8, sector_number 16, nr_sectors 24; 32",
    blkif.BlkifRequestIndirect: (
        "operation 0, indirect_op 1, nr_segments 2, id 8, sector_number 16, handle 24, _pad2 26, "
        "indirect_grefs 28, _pad3 60; 64"
    ),
    blkif.BlkifResponse: "id 0, operation 8, status 10; 16",
    blkif.Blkif32Request: "operation 0, nr_segments 1, handle 2, id 4, sector_number 12, seg 20; 108",
    blkif.Blkif32RequestDiscard: ("operation 0, flag 1, handle 2, id 4, sector_number 12, nr_sectors 20; 28"),
    blkif.Blkif32RequestIndirect: (
        "operation 0, indirect_op 1, nr_segments 2, id 4, sector_number 12, handle 20, _pad1 22, "
        "indirect_grefs 24, _pad2 56; 64"
    ),
    blkif.Blkif32Response: "id 0, operation 8, status 10; 12",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


@pytest.mark.parametrize(
    ("slot", "pages", "slots"), [(112, 1, 32), (108, 1, 32), (112, 16, 512), (108, 16, 512)]
)
def test_rings_have_as_many_slots_as_in_linux(slot: int, pages: int, slots: int) -> None:
    assert ring_size(pages * 4096, slot) == slots
