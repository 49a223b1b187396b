"""A capture in pieces of any size."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.xm.errors import XmError
from xenion.xm.pcap import Packets

HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


def packet(data: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}IIII", 1, 2, len(data), len(data)) + data


def take_all(packets: Packets, pieces: list[bytes]) -> bytes:
    return b"".join(map(packets.take, pieces))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 999), max_size=8))
def test_all_of_it_goes_through(contents: list[bytes], places: list[int]) -> None:
    data = HEADER + b"".join(map(packet, contents))
    packets = Packets()
    assert take_all(packets, cut(data, places)) == data
    assert packets.count == len(contents)
    assert not packets.full


@given(
    st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 7), st.lists(st.integers(0, 999), max_size=8)
)
def test_it_is_cut_after_enough(contents: list[bytes], most: int, places: list[int]) -> None:
    packets = Packets(most)
    taken = take_all(packets, cut(HEADER + b"".join(map(packet, contents)), places))
    assert taken == HEADER + b"".join(map(packet, contents[:most]))
    assert packets.count == min(most, len(contents))
    assert packets.full == (len(contents) >= most)


def test_the_other_order_and_nanoseconds() -> None:
    packets = Packets()
    packets.take(struct.pack(">IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1) + packet(b"abc", ">"))
    assert packets.count == 1


def test_what_is_no_capture() -> None:
    with pytest.raises(XmError, match="no capture"):
        Packets().take(b"<html>" + bytes(30))


@given(st.lists(st.binary(max_size=60)))
def test_anything_goes_through_or_is_refused(pieces: list[bytes]) -> None:
    packets = Packets()
    packets.take(HEADER)
    assert take_all(packets, pieces) == b"".join(pieces)
