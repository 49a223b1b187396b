"""A domain's grant table, version 1 (grant_table.h): shared frames that the guest fills and Dom0 reads."""

from xenion.abi.grant_table import (
    GNTST_bad_gntref,
    GNTST_permission_denied,
    GrantEntryV1,
    GTF_permit_access,
    GTF_readonly,
    GTF_type_mask,
)
from xenion.vmm.memory import PAGE_SIZE, MachineMemory

ENTRY_SIZE = 8
PER_FRAME = PAGE_SIZE // ENTRY_SIZE


class GrantStatusError(Exception):
    """A grant cannot be used; `status` is the GNTST_* for the guest."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class GrantTable:
    """`frames` of the reserved grant frames are in use; the rest is closed until the guest asks for it."""

    def __init__(self, memory: MachineMemory) -> None:
        self._memory = memory
        self.frames = 1

    def grow(self, frames: int) -> None:
        self.frames = max(self.frames, frames)

    def set(self, reference: int, domid: int, mfn: int) -> None:
        """Fills an entry for the guest, as the domain builder does for console and xenstore."""
        entry = GrantEntryV1(flags=GTF_permit_access, domid=domid, frame=mfn)
        at = self._memory.grant_mfn * PAGE_SIZE + reference * ENTRY_SIZE
        self._memory.bytes[at : at + ENTRY_SIZE] = bytes(entry)

    def resolve(self, reference: int, domid: int, write: bool) -> int:
        """The frame that a grant to `domid` names; one snapshot of the entry, then checks. GrantStatusError."""
        if reference >= self.frames * PER_FRAME:
            raise GrantStatusError(GNTST_bad_gntref)
        at = self._memory.grant_mfn * PAGE_SIZE + reference * ENTRY_SIZE
        entry = GrantEntryV1.from_buffer_copy(self._memory.bytes[at : at + ENTRY_SIZE])
        if entry.flags & GTF_type_mask != GTF_permit_access or entry.domid != domid:
            raise GrantStatusError(GNTST_bad_gntref)
        if write and entry.flags & GTF_readonly:
            raise GrantStatusError(GNTST_permission_denied)
        return entry.frame
