"""Rings of bytes shared with a guest, and what a back end needs from the VMM to serve one.

Both ends may run at once and the guest is hostile. Each index is loaded once, checked, and only then used;
data is copied once. A side stores its own index only, so no shared word is ever read, modified and written.
"""

from collections.abc import Callable
from ctypes import LittleEndianStructure
from typing import Protocol

RING_IDX_MASK = 0xFFFF_FFFF

Fence = Callable[[], None]
"""A full memory barrier, given by the core."""


class SharedPage(Protocol):
    """One 4 KiB ring page of a guest."""

    def view(self) -> memoryview:
        """The page's bytes, writable, mapped once; aligned 32-bit loads and stores through it are atomic."""


class Notifier(Protocol):
    """Dom0's end of an event channel."""

    def notify(self) -> None:
        """Make the guest's end pending."""


class RingError(Exception):
    """A guest broke a ring's rules; the back end has stopped serving that ring."""


class BrokenIndexError(RingError):
    """Producer and consumer are further apart than the ring is long."""

    def __init__(self, ring: str, cons: int, prod: int, size: int) -> None:
        super().__init__(
            f"the guest broke its {ring} ring: consumer {cons:#x} and producer {prod:#x} are over {size} "
            "bytes apart; the ring is no longer served, look for a bug in the guest's front end"
        )


def offset_of(structure: type[LittleEndianStructure], field: str) -> int:
    """Where ``field`` lies in ``structure``, in bytes."""
    return int(getattr(structure, field).offset)


class _ByteRing:
    """One direction of a shared page: ``size`` bytes (a power of two) at ``data``, two 32-bit indexes."""

    def __init__(
        self, page: SharedPage, structure: type[LittleEndianStructure], field: str, size: int, fence: Fence
    ) -> None:
        view = page.view().cast("B")
        start = offset_of(structure, field)
        # Xen's headers write `in` and `out`; the former cannot be a Python attribute.
        self.name = field.rstrip("_")
        self.size = size
        self._data = view[start : start + size]
        self._words = view.cast("I")
        self._cons_word = offset_of(structure, f"{self.name}_cons") // 4
        self._prod_word = offset_of(structure, f"{self.name}_prod") // 4
        self._fence = fence

    def _indexes(self) -> tuple[int, int]:
        """Consumer, and bytes that wait; BrokenIndexError when no ring can be in that state."""
        # An index stored by an earlier call must be seen before these are loaded: a guest that notifies only
        # when it saw the ring full, or empty, could otherwise go to sleep unnoticed.
        self._fence()
        cons = self._words[self._cons_word]
        prod = self._words[self._prod_word]
        used = (prod - cons) & RING_IDX_MASK
        if used > self.size:
            raise BrokenIndexError(self.name, cons, prod, self.size)
        return cons, used

    def reset(self) -> None:
        """Empty the ring. Only while the guest has handed over both indexes (xs_wire.h: reconnection)."""
        self._words[self._cons_word] = 0
        self._words[self._prod_word] = 0


class RingReader(_ByteRing):
    """The consumer's end: bytes that the guest produces."""

    def read(self, limit: int) -> bytes:
        """Take up to ``limit`` bytes; empty when none wait. Raises BrokenIndexError."""
        cons, used = self._indexes()
        count = min(used, limit)
        if count <= 0:
            return b""
        self._fence()  # the producer's index before its data
        start = cons & (self.size - 1)
        end = start + count
        if end <= self.size:
            taken = bytes(self._data[start:end])
        else:
            taken = bytes(self._data[start:]) + bytes(self._data[: end - self.size])
        self._fence()  # the copy is complete before the guest may overwrite it
        self._words[self._cons_word] = (cons + count) & RING_IDX_MASK
        return taken


class RingWriter(_ByteRing):
    """The producer's end: bytes for the guest."""

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Put what fits of ``data`` and return how many bytes that was. Raises BrokenIndexError."""
        cons, used = self._indexes()
        count = min(self.size - used, len(data))
        if count <= 0:
            return 0
        self._fence()  # the consumer's index before its space is overwritten
        prod = (cons + used) & RING_IDX_MASK
        start = prod & (self.size - 1)
        first = min(count, self.size - start)
        self._data[start : start + first] = data[:first]
        if first < count:
            self._data[: count - first] = data[first:count]
        self._fence()  # the data before the index that shows it
        self._words[self._prod_word] = (prod + count) & RING_IDX_MASK
        return count
