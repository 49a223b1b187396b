"""What the core's page-table code must do, said slowly: no counts are kept, they are worked out anew each time.

The model knows the words of every frame, what is held from outside the tables (pins, base registers, the GDT ...), and
which frames are in use as what. All references follow from these by looking at every entry of every table.
"""

from collections import Counter
from collections.abc import Iterator

from tests.unit.core.world import FIRST, NX, PSE, RW, US, A, D, G, P
from xenion.abi.arch_x86_64 import FIRST_RESERVED_GDT_ENTRY, FLAT_KERNEL_CS64
from xenion.abi.errno import Errno

SEGMENTS, WRITABLE = 5, 7
XEN_SLOTS = range(256, 272)
HOLE_SLOT = 256
HELD_SLOTS, HELD_BITS = 257, 60
ADDRESS = 0x000FFFFFFFFFF000
SOFTWARE_BITS = 0xE00 | 0x7FF << 52
HARMLESS = NX | SOFTWARE_BITS | D | A | US | G
DESCRIPTOR_P, DESCRIPTOR_S, SYSTEM_TYPE, CALL_GATE = 1 << 47, 1 << 44, 0xF << 40, 0xC << 40
FORCED = 3 << 45 | 1 << 40
"""Privilege level 3, and accessed."""


class RefusedError(Exception):
    """The guest gets this error."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


def frame_of(entry: int) -> int:
    return (entry & ADDRESS) >> 12


def is_table(kind: int) -> bool:
    return 1 <= kind <= 4


def refused_bits(level: int) -> int:
    return 0 if level == 1 else PSE | G


class Model:
    def __init__(self, nr_frames: int, hole: int, words: dict[int, dict[int, int]], shared: int) -> None:
        """`words`: by frame and index, zeroes left out."""
        self.nr_frames, self.hole = nr_frames, hole
        self.words = words
        self.shared = shared
        self.allocated = set(range(FIRST, nr_frames))
        self.kinds: dict[int, int] = {shared: WRITABLE}
        self.validating: set[int] = set()
        self.pinned: set[int] = set()
        self.held: list[int] = []
        """Frames that a host thread keeps writable."""
        self.gdt: list[int] = []
        self.cr3 = self.user_cr3 = 0
        self.kernel_form: set[int] = set()
        self.live: set[int] = set()
        self.freed: list[int] = []
        self.settle()

    # --- references, from scratch

    def _held(self) -> Iterator[tuple[int, int]]:
        yield from ((mfn, self.kinds[mfn]) for mfn in self.pinned)
        yield from ((mfn, WRITABLE) for mfn in self.held)
        yield from ((mfn, SEGMENTS) for mfn in self.gdt)
        yield from ((mfn, 4) for mfn in (self.cr3, self.user_cr3) if mfn)
        yield self.shared, WRITABLE

    def _of_entry(self, table: int, level: int, entry: int) -> Iterator[tuple[int, int]]:
        """(frame, kind) that the entry holds; kind 0: the frame alone."""
        target = frame_of(entry)
        if not entry & P:
            return
        if level == 1:
            yield target, WRITABLE if entry & RW else 0
        elif target != table:
            linear = not entry & RW and self.kinds.get(target) == level
            yield target, level if linear else level - 1

    def entries(self, mfn: int) -> Iterator[tuple[int, int]]:
        level = self.kinds[mfn]
        for index, entry in sorted(self.words[mfn].items()):
            if not (level == 4 and index in XEN_SLOTS):
                yield index, entry

    def references(self) -> tuple[Counter[int], Counter[int]]:
        """How often each frame is referred to, and how often with a type."""
        frames: Counter[int] = Counter(self.allocated)
        types: Counter[int] = Counter()
        everything = list(self._held())
        for mfn, kind in self.kinds.items():
            if is_table(kind):
                for _, entry in self.entries(mfn):
                    everything += self._of_entry(mfn, kind, entry)
        for target, kind in everything:
            frames[target] += 1
            if kind:
                types[target] += 1
        return frames, types

    def settle(self) -> None:
        """Frames that nothing uses as what they are lose their type, frames without references are free."""
        while True:
            frames, types = self.references()
            unused = [mfn for mfn in self.kinds if not types[mfn]]
            if not unused:
                break
            for mfn in unused:
                del self.kinds[mfn]
                self.kernel_form.discard(mfn)
        for mfn in self.live - set(frames):
            self.freed.append(mfn)
            self.words[mfn] = {}
        self.live = set(frames)
        self.frames, self.types = frames, types

    # --- taking references

    def _target(self, table: int, level: int, entry: int) -> None:
        target = frame_of(entry)
        if entry & refused_bits(level):
            raise RefusedError(Errno.EINVAL)
        if level == 1:
            if target >= self.nr_frames:
                raise RefusedError(Errno.EPERM)
            if target not in self.live or (entry & RW and self.kinds.get(target, WRITABLE) != WRITABLE):
                raise RefusedError(Errno.EBUSY)
            if entry & RW:
                self.kinds[target] = WRITABLE
            return
        try:
            self._use(target, level - 1)
        except RefusedError:
            if entry & RW or not (target == table or self._linear(table, level, target)):
                raise

    def _linear(self, table: int, level: int, target: int) -> bool:
        """May a table lead to another of its own level? Not if one of the two would then be the middle of a chain."""
        if target not in self.live or self.kinds.get(target) != level or target in self.validating:
            return False
        linear = {
            (holder, frame_of(entry))
            for holder, kind in self.kinds.items()
            if kind == level and holder not in self.validating
            for _, entry in self.entries(holder)
            if entry & P and holder != frame_of(entry) and self.kinds.get(frame_of(entry)) == level
        }
        return target not in {holder for holder, _ in linear} and table not in {end for _, end in linear}

    def _use(self, mfn: int, kind: int) -> None:
        if mfn not in self.live:
            raise RefusedError(Errno.EINVAL)
        current = self.kinds.get(mfn)
        if current == kind:
            return
        if current is not None:
            raise RefusedError(Errno.EINVAL)
        before = dict(self.kinds)
        self.kinds[mfn] = kind
        self.validating.add(mfn)
        try:
            self._validate(mfn, kind)
        except RefusedError:
            self.kinds = before
            raise
        finally:
            self.validating.discard(mfn)

    def _validate(self, mfn: int, kind: int) -> None:
        words = self.words[mfn]
        if is_table(kind):
            for _, entry in self.entries(mfn):
                if entry & P:
                    self._target(mfn, kind, entry)
        if kind == 4:
            for slot in XEN_SLOTS:
                words.pop(slot, None)
            words[HOLE_SLOT] = self.hole
        if kind == SEGMENTS:
            for index, value in sorted(words.items()):
                words[index] = checked_descriptor(value)

    def take(self, mfn: int, kind: int) -> None:
        self._use(mfn, kind)

    # --- what the guest asks

    def update(self, mfn: int, index: int, value: int, *, preserve: bool = False) -> None:
        """MMU_NORMAL_PT_UPDATE and MMU_PT_UPDATE_PRESERVE_AD."""
        if mfn not in self.live:
            raise RefusedError(Errno.EINVAL)
        kind = self.kinds.get(mfn, WRITABLE)
        if is_table(kind):
            self.change(mfn, index, value, preserve=preserve)
        elif kind == WRITABLE:
            self._store(mfn, index, value)
        else:
            raise RefusedError(Errno.EINVAL)

    def _store(self, mfn: int, index: int, value: int) -> None:
        if value:
            self.words[mfn][index] = value
        else:
            self.words[mfn].pop(index, None)

    def change(
        self, mfn: int, index: int, value: int, *, preserve: bool = False, shortcut: bool = True
    ) -> None:
        level, old = self.kinds[mfn], self.words[mfn].get(index, 0)
        if level == 4 and index in XEN_SLOTS:
            raise RefusedError(Errno.EINVAL)
        same_references = (
            old & value & P and not (old ^ value) & ~HARMLESS and not value & refused_bits(level)
        )
        if value & P and not (shortcut and same_references):
            self._target(mfn, level, value)
        self._store(mfn, index, value | (old & (A | D) if preserve else 0))
        self.settle()

    def walk(self, address: int) -> int:
        """The frame of the L1 table (or what stands there) behind an address of the kernel's."""
        table = self.cr3
        for shift in (39, 30, 21):
            entry = self.words[table].get(address >> shift & 511, 0)
            if not entry & P or entry & PSE or frame_of(entry) >= self.nr_frames:
                raise RefusedError(Errno.EINVAL)
            table = frame_of(entry)
        return table

    def update_va(self, address: int, value: int) -> None:
        table = self.walk(address)
        if table not in self.live or self.kinds.get(table) != 1:
            raise RefusedError(Errno.EINVAL)
        self.change(table, address >> 12 & 511, value)

    def direct_write(self, mfn: int, index: int, value: int) -> None:
        """The guest's own store to a table that it maps read-only."""
        if self.kinds.get(mfn) != 1:
            raise RefusedError(Errno.EFAULT)
        self.change(mfn, index, value, shortcut=False)

    def pin(self, mfn: int, level: int) -> None:
        self._use(mfn, level)
        if mfn in self.pinned:
            raise RefusedError(Errno.EINVAL)
        self.pinned.add(mfn)
        self.settle()

    def unpin(self, mfn: int) -> None:
        if mfn not in self.live or mfn not in self.pinned:
            raise RefusedError(Errno.EINVAL)
        self.pinned.discard(mfn)
        self.settle()

    def new_kernel_table(self, mfn: int) -> None:
        if mfn == self.cr3:
            return
        self._use(mfn, 4)
        if mfn != self.user_cr3:
            self.kernel_form.add(mfn)
        self.cr3 = mfn
        self.settle()

    def new_user_table(self, mfn: int) -> None:
        if mfn == self.user_cr3:
            return
        if mfn:
            self._use(mfn, 4)
            self.kernel_form.discard(mfn)
        self.user_cr3 = mfn
        self.settle()

    def set_gdt(self, frames: list[int]) -> None:
        before = dict(self.kinds)
        try:
            for mfn in frames:
                self._use(mfn, SEGMENTS)
        except RefusedError:
            self.kinds = before
            raise
        self.gdt = list(frames)
        self.settle()

    def hold(self, mfn: int) -> None:
        self._use(mfn, WRITABLE)
        self.held.append(mfn)
        self.settle()

    def unhold(self) -> int:
        mfn = self.held.pop()
        self.settle()
        return mfn

    def clear_page(self, mfn: int) -> None:
        self._use_plain(mfn)
        self.words[mfn] = {}

    def copy_page(self, target: int, source: int) -> None:
        if source not in self.live:
            raise RefusedError(Errno.EINVAL)
        self._use_plain(target)
        self.words[target] = dict(self.words[source])

    def _use_plain(self, mfn: int) -> None:
        if mfn not in self.live or self.kinds.get(mfn, WRITABLE) != WRITABLE:
            raise RefusedError(Errno.EINVAL)

    def release(self, mfn: int) -> None:
        if mfn not in self.allocated:
            raise RefusedError(Errno.EINVAL)
        self.allocated.discard(mfn)
        self.settle()

    def allocated_frame(self, mfn: int) -> None:
        """The domain was given this frame."""
        if mfn in self.live or not FIRST <= mfn < self.nr_frames:
            raise AssertionError(f"frame {mfn} was not free")
        self.allocated.add(mfn)
        self.settle()

    # --- how it is stored

    def page(self, mfn: int) -> list[int]:
        """An L4 in use as the kernel's holds the user bits of its kernel half back, in words of Xen's slots."""
        page = [0] * 512
        for index, value in self.words[mfn].items():
            page[index] = value
        if mfn in self.kernel_form:
            for index in range(XEN_SLOTS.stop, 512):
                if page[index] & (P | US) == P | US:
                    page[index] &= ~US
                    n = index - XEN_SLOTS.stop
                    page[HELD_SLOTS + n // HELD_BITS] |= 2 << n % HELD_BITS
        return page


def checked_descriptor(value: int) -> int:
    """As it is stored in a descriptor table."""
    if not value & DESCRIPTOR_P:
        return value
    if value & DESCRIPTOR_S:
        return value | FORCED
    if not value & SYSTEM_TYPE:
        return value
    selector = value >> 16 & 0xFFFF
    reserved = selector >> 3 >= FIRST_RESERVED_GDT_ENTRY and not selector & 4 and selector != FLAT_KERNEL_CS64
    if value & SYSTEM_TYPE != CALL_GATE or value >> 32 & 0xFF or reserved:
        raise RefusedError(Errno.EINVAL)
    return value & ~(3 << 45) | 3 << 16
