"""A domain's grant table (grant_table.h), versions 1 and 2: what the guest fills in, and how it is marked as in use.

The entries are the guest's to change at any time, also while they are looked at: each is read once, and its flags
change only through the core. What is in use, and by whom, is kept here, out of the guest's reach.
"""

import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.grant_table import (
    GNTTAB_NR_RESERVED_ENTRIES,
    GrantEntryV1,
    GrantEntryV2,
    GTF_invalid,
    GTF_permit_access,
    GTF_reading,
    GTF_transitive,
    GTF_type_mask,
    GTF_writing,
)
from xenion.core import ffi, lib
from xenion.vmm.errors import GuestError
from xenion.vmm.grants_maptrack import Maptrack
from xenion.vmm.memory import GRANT_FRAMES, PAGE_SIZE, MachineMemory

STATUS_SIZE = 2
STATUS_FRAMES = GRANT_FRAMES * PAGE_SIZE // 16 * STATUS_SIZE // PAGE_SIZE
IN_USE = GTF_reading | GTF_writing
SHARED_FRAME_REFERENCES = 2
"""What the count of a hypervisor's frame that the guest may map is while nothing maps it."""

FRAME_COUNT = 0x7FFFFFFF
RETRIES = 5

# Pins of an entry: four counts of eight bits.
HOST_WRITE, HOST_READ, DEVICE_WRITE, DEVICE_READ = 1, 1 << 8, 1 << 16, 1 << 24
WRITES = 0x00FF00FF
OVERFLOW_SHIFT = 7


class GrantStatusError(Exception):
    """A grant cannot be used; `status` is the GNTST_* for the guest."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(slots=True)
class Active:
    """An entry in use: what it said when it was first pinned counts until the last pin goes."""

    domid: int
    mfn: int
    start: int
    length: int
    sub_page: bool
    pin: int = 0


class GrantTable:
    """`frames` of the reserved grant frames are in use; the rest is closed until the guest asks for it.

    `lock` is held by who looks at `active` or changes it: a vCPU's hypercall, or a Dom0 back end's thread.
    """

    def __init__(self, memory: MachineMemory) -> None:
        self._memory = memory
        self.version = 1
        self.frames = 1
        self.status_frames = 0
        self.active: dict[int, Active] = {}
        self.maptrack = Maptrack()
        self.lock = threading.Lock()
        self.layout = ffi.new("struct grant_layout *")
        self._entry = ffi.new("struct grant_entry *")
        self._lay_out()

    def _lay_out(self) -> None:
        """Tells the core where the entries are, after their number or version has changed."""
        self.layout.entries, self.layout.status = (
            self._memory.grant_mfn * PAGE_SIZE,
            self.status_mfn * PAGE_SIZE,
        )
        self.layout.version, self.layout.count = self.version, self.entries

    # --- size

    @property
    def max_version(self) -> int:
        """1 where the machine memory has no frames for the status words."""
        return 2 if self.status_mfn + STATUS_FRAMES <= self._memory.first_mfn else 1

    @property
    def status_mfn(self) -> int:
        return self._memory.grant_mfn + GRANT_FRAMES

    @property
    def entry_size(self) -> int:
        return 8 if self.version == 1 else 16

    @property
    def entries(self) -> int:
        return self.frames * PAGE_SIZE // self.entry_size

    def status_frames_of(self, frames: int) -> int:
        return -(-frames * PAGE_SIZE // 16 * STATUS_SIZE // PAGE_SIZE)

    def grow(self, state: Any, frames: int) -> None:
        """To at least `frames` grant frames, at most GRANT_FRAMES, and their status frames."""
        for mfn in range(self._memory.grant_mfn + self.frames, self._memory.grant_mfn + frames):
            self._open(state, mfn)
        self.frames = max(self.frames, frames)
        if self.version == 2:
            self._grow_status(state)
        self._lay_out()

    def _grow_status(self, state: Any) -> None:
        wanted = self.status_frames_of(self.frames)
        for mfn in range(self.status_mfn + self.status_frames, self.status_mfn + wanted):
            self._open(state, mfn)
        self.status_frames = wanted

    def _open(self, state: Any, mfn: int) -> None:
        """Zeroes a frame and lets the guest map it."""
        self._clear(state, mfn)
        if not state.frames[mfn].count:
            lib.core_share_frame(state, mfn)

    def _clear(self, state: Any, mfn: int) -> None:
        self._memory.page(mfn)[:] = bytes(PAGE_SIZE)
        lib.core_code_written(state, mfn * PAGE_SIZE, PAGE_SIZE)

    # --- entries

    def header_at(self, ref: int) -> int:
        """Machine address of flags and domid."""
        return self._memory.grant_mfn * PAGE_SIZE + ref * self.entry_size

    def status_at(self, ref: int) -> int:
        """Machine address of the word that holds GTF_reading and GTF_writing."""
        return self.header_at(ref) if self.version == 1 else self.status_mfn * PAGE_SIZE + ref * STATUS_SIZE

    def entry_bytes(self, ref: int) -> memoryview:
        at = self.header_at(ref)
        return self._memory.bytes[at : at + self.entry_size]

    def status_bytes(self, ref: int) -> memoryview:
        at = self.status_at(ref)
        return self._memory.bytes[at : at + STATUS_SIZE]

    def header(self, ref: int) -> tuple[int, int]:
        """(flags, domid) as they are now."""
        flags, domid = struct.unpack("<HH", self.entry_bytes(ref)[:4].tobytes())
        return flags, domid

    def set(self, ref: int, domid: int, mfn: int) -> None:
        """Fills an entry for the guest, as the domain builder does for console and xenstore: before it runs."""
        self.entry_bytes(ref)[:] = bytes(GrantEntryV1(flags=GTF_permit_access, domid=domid, frame=mfn))

    # --- the marks that tell the guest what is in use

    def mark(self, state: Any, ref: int, domid: int, *, pinned: bool, write: bool, mapping: bool) -> Active:
        """Checks that the entry grants this to `domid` (a pinned one does), and marks it; GrantStatusError.

        What it grants, not checked.
        """
        use = pinned * lib.GRANT_PINNED | write * lib.GRANT_WRITE | mapping * lib.GRANT_MAPPING
        entry = self._entry
        status = lib.core_grant_mark(state, self.layout, ref, domid, use, entry)
        if status:
            raise GrantStatusError(status)
        return Active(domid, entry.mfn, entry.start, entry.length, bool(entry.sub_page))

    def unmark(self, state: Any, ref: int, pin: int, *, write: bool) -> None:
        """Takes the marks back that `pin`, what is left of the pins, does not need any more."""
        unused = 0 if pin else GTF_reading
        if write and not pin & WRITES:
            unused |= GTF_writing
        if unused:
            lib.core_grant_unmark(state, self.layout, ref, unused)

    # --- versions

    def set_version(self, state: Any, version: int) -> None:
        """1 or 2. GuestError: ENOSYS, EBUSY, EAGAIN, ERANGE. All entries but the reserved ones are cleared."""
        if version > self.max_version:
            raise GuestError(Errno.ENOSYS)
        with self.lock:
            if any(ref >= GNTTAB_NR_RESERVED_ENTRIES for ref in self.active):
                raise GuestError(Errno.EBUSY)
            if self.version == 2:
                if any(active.sub_page for active in self.active.values()):
                    raise GuestError(Errno.EAGAIN)
                reserved = list(self._reserved_as_v1())
                self._close_status(state)
            else:
                reserved = [
                    GrantEntryV1.from_buffer_copy(self.entry_bytes(ref))
                    for ref in range(GNTTAB_NR_RESERVED_ENTRIES)
                ]
            self.version = version
            self._lay_out()
            for mfn in range(self._memory.grant_mfn, self._memory.grant_mfn + self.frames):
                self._clear(state, mfn)
            if version == 2:
                self._grow_status(state)
            for ref, entry in enumerate(reserved):
                self._restore(ref, entry)

    def _reserved_as_v1(self) -> Iterator[GrantEntryV1]:
        for ref in range(GNTTAB_NR_RESERVED_ENTRIES):
            entry = GrantEntryV2.from_buffer_copy(self.entry_bytes(ref))
            (status,) = struct.unpack("<H", self.status_bytes(ref))
            flags, frame = entry.hdr.flags, entry.full_page.frame
            kind = flags & GTF_type_mask
            if kind == GTF_transitive or (kind == GTF_permit_access and frame >> 32):
                raise GuestError(Errno.ERANGE)
            if kind == GTF_permit_access:
                yield GrantEntryV1(flags=flags | status, domid=entry.hdr.domid, frame=frame)
            else:
                yield GrantEntryV1(flags=GTF_invalid)

    def _restore(self, ref: int, entry: GrantEntryV1) -> None:
        if self.version == 1:
            self.entry_bytes(ref)[:] = bytes(entry)
            return
        new = GrantEntryV2()
        new.hdr.flags, new.hdr.domid = entry.flags & ~IN_USE, entry.domid
        new.full_page.frame = entry.frame
        self.entry_bytes(ref)[:] = bytes(new)
        self.status_bytes(ref)[:] = (entry.flags & IN_USE).to_bytes(STATUS_SIZE, "little")

    def _close_status(self, state: Any) -> None:
        """The guest must not map them any more: GuestError(EBUSY)."""
        frames = [state.frames[self.status_mfn + i] for i in range(self.status_frames)]
        if any(frame.count & FRAME_COUNT > SHARED_FRAME_REFERENCES for frame in frames):
            raise GuestError(Errno.EBUSY)
        for frame in frames:
            frame.count = frame.type = 0
        self.status_frames = 0
