"""How frames follow each other on a stream socket: each after its length in 4 bytes, big endian. No I/O here."""

import struct
from collections.abc import Iterable

from xenion.dom0.net.packet import ETHER_HEADER, FRAME_MOST
from xenion.dom0.net.wire import Buffer

PREFIX = struct.Struct(">I")
RECEIVE_BYTES = 512 * 1024
PIECE_BYTES = 32 * 1024
"""Frames are sent together up to this many bytes, longer ones alone. So a frame takes two of the kernel's buffers at
most: passt (of 2023) reads twice for a frame and loses its place in the stream if it then has not all of it."""


class FramingError(Exception):
    """The other side sent what cannot be a frame's length; nothing after it can be understood."""

    def __init__(self, length: int) -> None:
        super().__init__(
            f"the other side of the network connection announced a frame of {length} bytes, {ETHER_HEADER} to "
            f"{FRAME_MOST} are possible: the connection is given up"
        )


class Inbox:
    """Bytes as they were received, and the frames in them.

    Fill `free`, tell `filled`, look at `frames`, tell how many were used, and so on. Frames are views of one buffer:
    good until the next `free`.
    """

    def __init__(self, size: int = RECEIVE_BYTES) -> None:
        self._bytes = bytearray(size)
        self._view = memoryview(self._bytes)
        self._start = self._end = self._seen = 0
        self._found: list[memoryview] = []

    @property
    def free(self) -> memoryview:
        """Room for more; never empty when all frames are used."""
        if not self._found:
            self._compact()
        return self._view[self._end :]

    def _compact(self) -> None:
        left = self._end - self._start
        if self._start:
            self._view[:left] = self._bytes[self._start : self._end]
            self._start, self._end, self._seen = 0, left, 0

    def filled(self, count: int) -> None:
        """FramingError; frames before the bad one can still be used."""
        self._end += count
        at, view = self._seen, self._view
        try:
            while at + 4 <= self._end:
                (length,) = PREFIX.unpack_from(view, at)
                if not ETHER_HEADER <= length <= FRAME_MOST:
                    raise FramingError(length)
                if at + 4 + length > self._end:
                    break
                self._found.append(view[at + 4 : at + 4 + length])
                at += 4 + length
        finally:
            self._seen = at

    @property
    def frames(self) -> list[memoryview]:
        """Whole frames that are not used yet."""
        return self._found

    def used(self, count: int) -> None:
        del self._found[:count]
        if not self._found:
            self._start = self._seen

    def clear(self) -> None:
        self._start = self._end = self._seen = 0
        self._found.clear()


def pieces(frames: Iterable[Buffer]) -> Iterable[list[Buffer]]:
    """What to give to one `sendmsg` after the other."""
    piece: list[Buffer] = []
    size = 0
    for frame in frames:
        length = len(frame)
        if size and size + length > PIECE_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(PREFIX.pack(length))
        piece.append(frame)
        size += 4 + length
    if piece:
        yield piece
