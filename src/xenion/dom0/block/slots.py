"""How a guest of either word size lays out its slots (xenion.abi.io.blkif has the structures)."""

import struct
from ctypes import sizeof

from xenion.abi.io.blkif import (
    PROTOCOL_X86_32,
    PROTOCOL_X86_64,
    Blkif32Request,
    Blkif32RequestDiscard,
    Blkif32RequestIndirect,
    BlkifRequest,
    BlkifRequestDiscard,
    BlkifRequestIndirect,
)
from xenion.dom0.ring import offset_of

SEGMENT = struct.Struct("<IBBxx")
"""Grant reference, first sector, last sector."""


class Slots:
    """Unpacks a copied slot at once. The first byte of each is the operation."""

    def __init__(self, request: type, segments_at: int, pad: str) -> None:
        self.bytes = sizeof(request)
        self.segments_at = segments_at
        self.request = struct.Struct(f"<xBH{pad}QQ")
        """nr_segments, handle, id, sector_number."""
        self.indirect = struct.Struct(f"<xBH{pad}QQH2x8I")
        """indirect_op, nr_segments, id, sector_number, handle, indirect_grefs."""
        self.discard = struct.Struct(f"<xBH{pad}QQQ")
        """flag, handle, id, sector_number, nr_sectors."""
        self.response = struct.Struct("<QBxh")
        """id, operation, status."""


SLOTS = {
    PROTOCOL_X86_64: Slots(BlkifRequest, offset_of(BlkifRequest, "seg"), "4x"),
    PROTOCOL_X86_32: Slots(Blkif32Request, offset_of(Blkif32Request, "seg"), ""),
}

for _slots, _indirect, _discard in (
    (SLOTS[PROTOCOL_X86_64], BlkifRequestIndirect, BlkifRequestDiscard),
    (SLOTS[PROTOCOL_X86_32], Blkif32RequestIndirect, Blkif32RequestDiscard),
):
    if (
        _slots.discard.size != sizeof(_discard)
        or _slots.indirect.size != offset_of(_indirect, "indirect_grefs") + 32
    ):
        raise ImportError(
            f"a format of {__name__} does not follow {_indirect.__name__} or {_discard.__name__}"
        )
