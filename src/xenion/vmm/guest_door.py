"""Dom0's door to a domain: its granted pages, mapped or copied, and its event channels. Errors are the VMM's own.

The guest may change its entries and its pages at any time; nothing that is copied or mapped here leads anywhere but
to frames that it owns, that it has granted to Dom0, and, where Dom0 writes, that are ordinary pages.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain

from xenion.abi.grant_table import GNTST_bad_copy_arg, GNTST_general_error, GNTST_okay
from xenion.core import ffi, lib
from xenion.vmm.domain import Domain
from xenion.vmm.events import EventChannels
from xenion.vmm.grants import HOST_READ, HOST_WRITE, Active, GrantStatusError
from xenion.vmm.grants_use import GrantUser
from xenion.vmm.memory import PAGE_SIZE

DOM0 = 0


class GrantedPage:
    """A granted frame that Dom0 has mapped: it cannot go away or become a page table until `unmap`."""

    __slots__ = ("_ref", "_user", "_write", "mfn", "view")

    def __init__(self, user: GrantUser, ref: int, write: bool, mfn: int, view: memoryview) -> None:
        self._user, self._ref, self._write = user, ref, write
        self.mfn = mfn
        self.view = view

    def unmap(self) -> None:
        """Any thread, once. The view is not to be touched after it."""
        self.view.release()
        self._user.unmap(self._ref, write=self._write)


class DoorPort:
    """Dom0's end of one of the domain's event channels."""

    def __init__(self, events: EventChannels, port: int, handler: Callable[[], None]) -> None:
        """GuestError(EINVAL): it is no port that waits for Dom0."""
        self._events, self._port = events, port
        self._handler = partial(handler)  # its own, whatever else is called by the same handler
        events.connect_dom0(port, self._handler)

    def notify(self) -> None:
        """Any thread. Nothing happens once the guest, or Dom0, has closed the channel."""
        if self._events.handlers.get(self._port) is self._handler:
            self._events.notify(self._port)

    def close(self) -> None:
        """Dom0's thread: the guest's end waits for Dom0 again."""
        self._events.disconnect_dom0(self._port, self._handler)


class GuestDoor:
    """One domain as Dom0 reaches it. Any thread, where nothing else is said."""

    def __init__(self, domain: Domain) -> None:
        self._state, self._events, self._table = domain.state, domain.events, domain.grants
        self._bytes = domain.memory.bytes
        self._read_only = domain.memory.bytes.toreadonly()
        self._user = GrantUser(domain.grants, domain.state, DOM0)
        self.domid = domain.domid

    # --- pages that stay mapped

    def map(self, ref: int, *, write: bool) -> GrantedPage:
        """GrantStatusError."""
        mfn = self._user.map(ref, write=write)
        memory = self._bytes if write else self._read_only
        return GrantedPage(self._user, ref, write, mfn, memory[mfn * PAGE_SIZE : (mfn + 1) * PAGE_SIZE])

    def wrote(self, pages: Iterable[GrantedPage]) -> None:
        """The host has written into these: no code that was translated from them runs any more.

        It is called before the guest is told of what was written, by a word in its memory or by an event.
        """
        mfns = [page.mfn for page in pages]
        lib.core_host_wrote(self._state, mfns, len(mfns))

    # --- copies

    def copy_from(self, parts: Sequence[tuple[int, int, int]]) -> tuple[bytes, list[int]]:
        """The bytes of each (reference, offset, length), one after the other, and the GNTST_* of each part.

        The bytes of a part that could not be copied are zeroes.
        """
        data = bytearray(sum(length for _, _, length in parts))
        statuses = self._copy(parts, data, write=False)
        return bytes(data), statuses

    def copy_to(self, parts: Sequence[tuple[int, int, bytes | memoryview]]) -> list[int]:
        """Copies each (reference, offset, bytes); the GNTST_* of each."""
        sizes = [(ref, offset, len(data)) for ref, offset, data in parts]
        return self._copy(sizes, b"".join([data for _, _, data in parts]), write=True)

    def spread(self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray) -> list[int]:
        """Copies `data` to each (reference, offset, length), one after the other; the GNTST_* of each."""
        return self._copy(parts, data, write=True)

    def _copy(
        self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray, *, write: bool
    ) -> list[int]:
        active = self._table.active
        with self._table.lock:
            if not active or active.keys().isdisjoint([ref for ref, _, _ in parts]):
                return self._copy_unpinned(parts, data, write)
        return self._copy_each(parts, data, write)

    def _copy_unpinned(
        self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray | memoryview, write: bool
    ) -> list[int]:
        """With the table's lock held. One call for all."""
        numbers, statuses = array("I", chain.from_iterable(parts)), array("h", bytes(2 * len(parts)))
        lib.core_grant_copy(
            self._state,
            self._table.layout,
            DOM0,
            write,
            ffi.from_buffer("struct grant_part[]", numbers),
            len(parts),
            ffi.from_buffer("uint8_t[]", data),
            len(data),
            ffi.from_buffer("int16_t[]", statuses),
        )
        return statuses.tolist()

    def _copy_each(
        self, parts: Sequence[tuple[int, int, int]], data: bytes | bytearray, write: bool
    ) -> list[int]:
        """Some of the entries are pinned: those keep their marks, and say what they said when they were pinned."""
        statuses, at = [], 0
        for ref, offset, length in parts:
            piece = memoryview(data)[at : at + length]
            at += length
            try:
                self._copy_one(ref, offset, piece, write)
                statuses.append(GNTST_okay)
            except GrantStatusError as error:
                statuses.append(error.status)
        return statuses

    def _copy_one(self, ref: int, offset: int, piece: memoryview, write: bool) -> None:
        if offset + len(piece) > PAGE_SIZE:
            raise GrantStatusError(GNTST_bad_copy_arg)
        pin = HOST_WRITE if write else HOST_READ
        active = self._user.acquire(ref, pin, copy=True)
        try:
            self._user.hold(active.mfn, write=write)
            try:
                self._copy_held(active, offset, piece, write)
            finally:
                self._user.drop(active.mfn, write=write)
        finally:
            self._user.release(ref, pin)

    def _copy_held(self, active: Active, offset: int, piece: memoryview, write: bool) -> None:
        if offset < active.start or offset + len(piece) > active.start + active.length:
            raise GrantStatusError(GNTST_general_error)
        at = active.mfn * PAGE_SIZE + offset
        if write:
            self._bytes[at : at + len(piece)] = piece
            lib.core_host_wrote(self._state, [active.mfn], 1)
        else:
            piece[:] = self._bytes[at : at + len(piece)]

    # --- events

    def bind(self, port: int, handler: Callable[[], None]) -> DoorPort:
        """Dom0's thread, which calls `handler` when the guest notifies, and once soon. GuestError(EINVAL)."""
        return DoorPort(self._events, port, handler)

    def fence(self) -> None:
        """A full memory barrier."""
        lib.core_fence()
