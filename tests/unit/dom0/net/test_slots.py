"""Transmit slots: what they say, and what xen-netback does about mistakes."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.net.front import REQUEST, gso_extra
from xenion.abi.io import netif
from xenion.dom0.net.slots import Packet, TxSlotError, packet_at

MORE, EXTRA = netif.NETTXF_more_data, netif.NETTXF_extra_info


def request(size: int, flags: int = 0, *, ref: int = 5, offset: int = 0, ident: int = 1) -> bytes:
    return REQUEST.pack(ref, offset, flags, ident, size)


def one(*slots: bytes) -> Packet:
    packet = packet_at(slots, 0)
    assert packet is not None
    return packet


def test_a_packet_in_one_slot() -> None:
    packet = one(request(60, netif.NETTXF_csum_blank | netif.NETTXF_data_validated, offset=100))
    assert (packet.ids, packet.parts, packet.size) == ([1], [(5, 100, 60)], 60)
    assert packet.blank
    assert packet.validated
    assert not packet.refused
    assert packet.slots == 1


def test_a_chain_whose_first_size_is_the_whole() -> None:
    packet = one(
        request(5000, MORE, ident=1), request(1000, MORE, ref=6, ident=2), request(96, ref=7, ident=3)
    )
    assert packet.ids == [1, 2, 3]
    assert packet.parts == [(5, 0, 3904), (6, 0, 1000), (7, 0, 96)]
    assert packet.slots == 3


def test_segmentation_with_a_chain() -> None:
    packet = one(request(3000, MORE | EXTRA), gso_extra(1448), request(1000))
    assert (packet.gso, packet.mss, packet.extras, packet.slots) == (
        netif.XEN_NETIF_GSO_TYPE_TCPV4,
        1448,
        1,
        3,
    )


def test_hash_and_xdp_are_looked_over() -> None:
    extras = [bytes([kind, netif.XEN_NETIF_EXTRA_FLAG_MORE]) + bytes(10) for kind in (4, 5)]
    packet = one(request(60, EXTRA), *extras, gso_extra(100, 2))
    assert (packet.extras, packet.gso) == (3, netif.XEN_NETIF_GSO_TYPE_TCPV6)


def test_multicast_requests_are_no_packets() -> None:
    packet = one(
        request(0, EXTRA), bytes([netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, 0]) + b"\1\0^\0\0\1" + bytes(4)
    )
    assert packet.multicast == (netif.XEN_NETIF_EXTRA_TYPE_MCAST_ADD, b"\1\0^\0\0\1")
    assert packet.slots == 2


@pytest.mark.parametrize(
    "slots",
    [
        [request(13)],
        [request(13, offset=4090)],
        [request(100, MORE), request(101)],
        [request(100, MORE), request(90)],
        [request(4000, MORE)] + [request(10, MORE)] * netif.XEN_NETIF_NR_SLOTS_MIN + [request(10)],
    ],
    ids=["short", "short and crossing", "overflown", "short first", "too many slots"],
)
def test_what_costs_the_packet(slots: list[bytes]) -> None:
    packet = one(*slots)
    assert packet.refused
    assert packet.slots == len(slots)


def test_as_many_slots_as_every_back_end_takes() -> None:
    slots = [request(4000, MORE)] + [request(10, MORE)] * (netif.XEN_NETIF_NR_SLOTS_MIN - 1) + [request(10)]
    assert not one(*slots).refused


@pytest.mark.parametrize(
    ("slots", "says"),
    [
        ([request(100, offset=4000)], "page's end"),
        ([request(100, MORE, offset=4080), request(50)], "page's end"),
        ([request(100, MORE), request(50, offset=4090)], "page's end"),
        ([request(100, MORE)] + [request(1, MORE)] * 21, "over 20 slots"),
        ([request(100, EXTRA), bytes(12)], "type 0"),
        ([request(100, EXTRA), bytes([6]) + bytes(11)], "type 6"),
        ([request(100, EXTRA), gso_extra(0)], "0 bytes"),
        ([request(100, EXTRA), gso_extra(100, 0)], "type 0"),
        ([request(100, EXTRA), gso_extra(0, 0)], "type 0"),
        ([request(100, EXTRA), gso_extra(100, 3)], "type 3"),
    ],
)
def test_what_costs_the_device(slots: list[bytes], says: str) -> None:
    with pytest.raises(TxSlotError, match=says):
        packet_at(slots, 0)


@pytest.mark.parametrize(
    "slots",
    [
        [request(100, EXTRA)],
        [request(100, MORE)],
        [request(100, EXTRA | MORE), gso_extra(100)],
        [request(100, EXTRA), gso_extra(100, more=1)],
        [request(100, MORE), request(1, MORE)],
    ],
)
def test_a_packet_that_is_not_all_there(slots: list[bytes]) -> None:
    assert packet_at(slots, 0) is None


@given(st.lists(st.binary(min_size=12, max_size=12), min_size=1, max_size=40))
def test_any_slots(slots: list[bytes]) -> None:
    _check(slots)


def _likely(flags: int, size: int, offset: int, kind: int, mss: int) -> bytes:
    return struct.pack("<BBHHHHH", kind, flags & 1, mss, offset, flags, 3, size)


@given(
    st.lists(
        st.builds(
            _likely,
            st.sampled_from([0, MORE, EXTRA, MORE | EXTRA, 0xFFFF]),
            st.sampled_from([0, 1, 13, 14, 60, 4000, 4096, 0xFFFF]),
            st.sampled_from([0, 1, 96, 4082, 4096, 0xFFFF]),
            st.integers(0, 7),
            st.sampled_from([0, 1, 1448]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_likely_slots(slots: list[bytes]) -> None:
    _check(slots)


def _check(slots: Any) -> None:
    at = 0
    while at < len(slots):
        try:
            packet = packet_at(slots, at)
        except TxSlotError:
            return
        if packet is None:
            return
        assert packet.slots >= 1
        at += packet.slots
        if not packet.refused and packet.multicast is None:
            assert sum(length for _, _, length in packet.parts) == packet.size >= 14
            for _, offset, length in packet.parts:
                assert length > 0
                assert offset + length <= 4096
            assert not packet.gso or packet.mss
    assert at == len(slots)
