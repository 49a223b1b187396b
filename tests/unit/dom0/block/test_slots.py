"""Formats against the ABI's structures."""

from ctypes import sizeof

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.block.front import Front
from tests.unit.dom0.fake_guest import FakeGuest
from xenion.abi.io.blkif import (
    PROTOCOL_X86_32,
    PROTOCOL_X86_64,
    Blkif32Response,
    BlkifOp,
    BlkifResponse,
)
from xenion.dom0.block.slots import SEGMENT, SLOTS
from xenion.dom0.loop import Loop

PROTOCOLS = st.sampled_from([PROTOCOL_X86_64, PROTOCOL_X86_32])
U64 = st.integers(0, (1 << 64) - 1)
SEGMENTS = st.lists(
    st.tuples(st.integers(0, (1 << 32) - 1), st.integers(0, 255), st.integers(0, 255)), max_size=11
)


@pytest.fixture(scope="module")
def guest() -> FakeGuest:
    loop = Loop()
    made = FakeGuest(loop)
    loop.close()
    return made


@given(PROTOCOLS, U64, U64, U64, SEGMENTS, st.integers(0, 255), st.integers(0, (1 << 32) - 1))
def test_requests(
    guest: FakeGuest,
    protocol: str,
    ident: int,
    sector: int,
    sectors: int,
    segments: list[tuple[int, int, int]],
    code: int,
    ref: int,
) -> None:
    front, slots = Front.__new__(Front), SLOTS[protocol]
    front.narrow, front.guest = protocol == PROTOCOL_X86_32, guest
    slot = front.request(code, ident, sector, segments)
    assert len(slot) == slots.bytes
    assert slots.request.unpack_from(slot) == (len(segments), 0, ident, sector)
    found = SEGMENT.iter_unpack(slot[slots.segments_at : slots.segments_at + 8 * len(segments)])
    assert list(found) == segments
    slot = front.indirect(code, ident, sector, [], ref, count=code * 257)
    assert slots.indirect.unpack_from(slot)[:6] == (code, code * 257, ident, sector, 0, ref)
    slot = front.discard(ident, sector, sectors, code)
    assert slots.discard.unpack_from(slot) == (code, 0, ident, sector, sectors)
    assert slot[0] == BlkifOp.DISCARD


@given(U64, st.integers(0, 255), st.sampled_from([0, -1, -2]))
def test_responses(ident: int, operation: int, status: int) -> None:
    for protocol, structure in ((PROTOCOL_X86_64, BlkifResponse), (PROTOCOL_X86_32, Blkif32Response)):
        packed = SLOTS[protocol].response.pack(ident, operation, status)
        response = structure.from_buffer_copy(packed.ljust(sizeof(structure), b"\xff"))
        assert (response.operation, response.status) == (operation, status)
        assert bytes(response)[:8] == ident.to_bytes(8, "little")
