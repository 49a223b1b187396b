"""Using a domain's grants: by Dom0's back ends in this process, or by the domain itself."""

from typing import Any

from xenion.abi.grant_table import (
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_general_error,
)
from xenion.core import lib
from xenion.vmm.grants import (
    HOST_READ,
    HOST_WRITE,
    OVERFLOW_SHIFT,
    WRITES,
    Active,
    GrantStatusError,
    GrantTable,
)


class GrantUser:
    """Domain `domid` (0: Dom0) as the user of the grants in `table`, whose domain is the core's `state`.

    Any thread may use it. What is acquired or mapped is given back by the same user with the same arguments.
    """

    def __init__(self, table: GrantTable, state: Any, domid: int) -> None:
        self._table, self._state, self._domid = table, state, domid

    def map(self, ref: int, *, write: bool) -> int:
        """The granted frame, which cannot go away or become a page table until `unmap`; GrantStatusError."""
        pin = HOST_WRITE if write else HOST_READ
        mfn = self.acquire(ref, pin, copy=False).mfn
        try:
            self.hold(mfn, write=write)
        except GrantStatusError:
            self.release(ref, pin)
            raise
        return mfn

    def unmap(self, ref: int, *, write: bool) -> None:
        """The guest may take the grant back from now on: nothing of the frame may be touched after it."""
        self.drop(self._table.active[ref].mfn, write=write)
        self.release(ref, HOST_WRITE if write else HOST_READ)

    def hold(self, mfn: int, *, write: bool) -> None:
        """A reference to a frame of the domain, and with `write` one that keeps it an ordinary page."""
        take = lib.core_get_writable if write else lib.core_get_frame
        if take(self._state, mfn):
            raise GrantStatusError(GNTST_general_error)

    def drop(self, mfn: int, *, write: bool) -> None:
        """Takes one `hold` back. The frame's last reference is left to the vCPU's thread, which frees it."""
        lib.core_drop_frame(self._state, mfn, write)

    def acquire(self, ref: int, pin: int, *, copy: bool) -> Active:
        """Pins an entry (HOST_READ and so on) and marks it in use; GrantStatusError. The frame is not held."""
        with self._table.lock:
            return self._acquire(ref, pin, copy)

    def _acquire(self, ref: int, pin: int, copy: bool) -> Active:
        table, write = self._table, bool(pin & WRITES)
        if ref >= table.entries:
            raise GrantStatusError(GNTST_bad_gntref)
        active = table.active.get(ref)
        if active and (
            active.domid != self._domid
            or active.pin & pin << OVERFLOW_SHIFT
            or (active.sub_page and not copy)
        ):
            raise GrantStatusError(GNTST_general_error)
        if not active or (write and not active.pin & WRITES):
            now = table.mark(
                self._state, ref, self._domid, pinned=bool(active), write=write, mapping=not copy
            )
            try:
                active = self._confirmed(now, active, copy)
            except GrantStatusError:
                table.unmark(self._state, ref, active.pin if active else 0, write=write)
                raise
        active.pin += pin
        table.active[ref] = active
        return active

    def _confirmed(self, now: Active, active: Active | None, copy: bool) -> Active:
        """The entry as it is now, if it can be used; one that is pinned must still say the same to a copier."""
        if active and not copy:
            return active
        if lib.core_get_frame(self._state, now.mfn):
            raise GrantStatusError(GNTST_bad_page)
        self.drop(now.mfn, write=False)
        if active is None:
            return now
        part = active.sub_page and (active.start, active.length) != (now.start, now.length)
        if active.mfn != now.mfn or part or (active.sub_page and not now.sub_page):
            raise GrantStatusError(GNTST_general_error)
        return active

    def release(self, ref: int, pin: int) -> None:
        """Takes one `acquire` back."""
        table = self._table
        with table.lock:
            active = table.active[ref]
            active.pin -= pin
            table.unmark(self._state, ref, active.pin, write=bool(pin & WRITES))
            if not active.pin:
                del table.active[ref]
