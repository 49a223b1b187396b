"""Frames on a stream: however it is cut, and what cannot be."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.net.framing import PIECE_BYTES, FramingError, Inbox, pieces

FRAME = st.binary(min_size=14, max_size=400)


def put(inbox: Inbox, data: bytes) -> None:
    inbox.free[: len(data)] = data
    inbox.filled(len(data))


@given(st.lists(FRAME, max_size=30), st.lists(st.integers(1, 300), min_size=1), st.integers(0, 40))
def test_frames_come_out_as_they_went_in(frames: list[bytes], cuts: list[int], lazy: int) -> None:
    stream = b"".join(bytes(part) for piece in pieces(frames) for part in piece)
    inbox, got, at = Inbox(2048), [], 0
    while at < len(stream):
        room = len(inbox.free)
        step = min(cuts[at % len(cuts)], room)
        put(inbox, stream[at : at + step])
        at += step
        while inbox.frames and (len(inbox.frames) > lazy or room < 1000):
            got.append(bytes(inbox.frames[0]))
            inbox.used(1)
        if not step:
            got += [bytes(frame) for frame in inbox.frames]
            inbox.used(len(inbox.frames))
    got += [bytes(frame) for frame in inbox.frames]
    assert got == frames


@pytest.mark.parametrize("length", [0, 1, 13, 65551, 0xFFFFFFFF])
def test_what_cannot_be_a_length(length: int) -> None:
    inbox = Inbox()
    with pytest.raises(FramingError, match=f"a frame of {length} bytes"):
        put(inbox, struct.pack(">I", 14) + bytes(14) + struct.pack(">I", length))
    assert len(inbox.frames) == 1


def test_the_longest() -> None:
    inbox = Inbox()
    put(inbox, struct.pack(">I", 65550) + bytes(65550))
    assert [len(frame) for frame in inbox.frames] == [65550]


@given(st.lists(st.integers(14, 65550), max_size=40))
def test_pieces_are_short_or_one_frame(sizes: list[int]) -> None:
    found = [[len(part) for part in piece[1::2]] for piece in pieces(bytes(size) for size in sizes)]
    assert [size for piece in found for size in piece] == sizes
    for piece in found:
        assert len(piece) == 1 or sum(size + 4 for size in piece) <= PIECE_BYTES + 4
