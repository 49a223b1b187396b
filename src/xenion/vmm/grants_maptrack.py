"""Handles of grant mappings, as map_grant_ref gives them out: small numbers, the one that was free longest first."""

from array import array
from dataclasses import dataclass

PER_FRAME = 256
MAX_FRAMES = 1024
TAIL = 0xFFFFFFFF
FLAGS_MASK = 0xFFFF


@dataclass(frozen=True, slots=True)
class Mapping:
    """What a handle stands for: a grant reference and the GNTMAP_* of what is still mapped."""

    ref: int
    flags: int


class Maptrack:
    """Grows by Xen's frames of 256 up to its limit of 1024 frames. A free handle's `ref` is the next free one."""

    def __init__(self, max_frames: int = MAX_FRAMES) -> None:
        self._limit = max_frames * PER_FRAME
        self._refs = array("I")
        self._flags = array("H")
        self._head = self._tail = TAIL

    def take(self) -> int | None:
        """A free handle, or None: all are in use. One always stays in the list, so that `put` has a tail."""
        handle = self._head
        if handle == TAIL or self._refs[handle] == TAIL:
            return self._grow()
        self._head = self._refs[handle]
        return handle

    def _grow(self) -> int | None:
        first = len(self._refs)
        if first >= self._limit:
            return None
        self._refs.extend(range(first + 1, first + PER_FRAME + 1))
        self._flags.extend([0] * PER_FRAME)
        if self._tail == TAIL:
            self._tail = first + PER_FRAME - 1
        self._refs[first + PER_FRAME - 1] = self._head
        self._head = first + 1
        return first

    def put(self, handle: int) -> None:
        """Makes a handle free."""
        self._flags[handle] = 0
        self._refs[handle] = TAIL
        self._refs[self._tail] = handle
        self._tail = handle

    def set(self, handle: int, ref: int, flags: int) -> None:
        self._refs[handle] = ref
        self._flags[handle] = flags & FLAGS_MASK

    def get(self, handle: int) -> Mapping | None:
        """None: no such handle is in use."""
        if handle >= len(self._flags) or not self._flags[handle]:
            return None
        return Mapping(self._refs[handle], self._flags[handle])
