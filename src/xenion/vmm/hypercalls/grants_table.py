"""The grant table itself: its size and version, its frames, entries that change places, frames that are given away."""

from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.grant_table import (
    GNTTAB_CACHE_CLEAN,
    GNTTAB_CACHE_INVAL,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_page,
    GNTST_bad_virt_addr,
    GNTST_eagain,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GnttabGetStatusFrames,
    GnttabGetVersion,
    GnttabQuerySize,
    GnttabSetupTable,
    GnttabSetVersion,
    GrantEntryV1,
    GrantEntryV2,
    GTF_accept_transfer,
    GTF_transfer_committed,
    GTF_transfer_completed,
)
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.grants import RETRIES
from xenion.vmm.hypercalls.grants_copy import DOM0
from xenion.vmm.hypercalls.memory import is_self
from xenion.vmm.memory import GRANT_FRAMES, PAGE_SIZE
from xenion.vmm.vcpu import Vcpu, address_okay

M64 = (1 << 64) - 1
ALLOCATED = 0x80000000
"""A frame's count: the domain's, and 1 for that."""


def _domain_status(vcpu: Vcpu, domid: int) -> int:
    """GNTST_okay for the domain's own table: Dom0's is closed to it, others are not there."""
    if is_self(vcpu, domid):
        return GNTST_okay
    return GNTST_permission_denied if domid == DOM0 else GNTST_bad_domain


# --- size and frames


def _write_frames(vcpu: Vcpu, address: int, first: int, count: int) -> int:
    status = GNTST_okay
    for index in range(count):
        try:
            vcpu.write((address + index * 8) & M64, (first + index).to_bytes(8, "little"))
        except GuestError:
            status = GNTST_bad_virt_addr
    return status


def setup_table(vcpu: Vcpu, request: GnttabSetupTable) -> int:
    if not address_okay(request.frame_list):
        raise GuestError(Errno.EFAULT)
    status, grants = _domain_status(vcpu, request.dom), vcpu.domain.grants
    if status != GNTST_okay:
        return status
    if request.nr_frames > GRANT_FRAMES:
        return GNTST_general_error
    with grants.lock:
        grants.grow(vcpu.domain.state, request.nr_frames)
    return _write_frames(vcpu, request.frame_list, vcpu.domain.memory.grant_mfn, request.nr_frames)


def get_status_frames(vcpu: Vcpu, request: GnttabGetStatusFrames) -> int:
    if not address_okay(request.frame_list):
        raise GuestError(Errno.EFAULT)
    status, grants = _domain_status(vcpu, request.dom), vcpu.domain.grants
    if status != GNTST_okay:
        return status
    if request.nr_frames > grants.status_frames:
        return GNTST_general_error
    return _write_frames(vcpu, request.frame_list, grants.status_mfn, request.nr_frames)


def query_size(vcpu: Vcpu, request: GnttabQuerySize) -> int:
    status = _domain_status(vcpu, request.dom)
    if status == GNTST_okay:
        request.nr_frames, request.max_nr_frames = vcpu.domain.grants.frames, GRANT_FRAMES
    return status


# --- versions


def set_version(vcpu: Vcpu, address: int) -> int:
    """The guest learns the version that holds now, whatever the answer is."""
    request, grants = vcpu.read_struct(address, GnttabSetVersion), vcpu.domain.grants
    wanted, result = request.version, 0
    try:
        if wanted not in (1, 2):
            raise GuestError(Errno.EINVAL)
        if wanted != grants.version:
            grants.set_version(vcpu.domain.state, wanted)
    except GuestError as error:
        result = -error.errno
    request.version = grants.version
    vcpu.write_struct(address, request)
    return result


def get_version(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, GnttabGetVersion)
    if not is_self(vcpu, request.dom):
        raise GuestError(Errno.EPERM if request.dom == DOM0 else Errno.ESRCH)
    request.version = vcpu.domain.grants.version
    vcpu.write_struct(address, request)
    return 0


# --- entries and frames


def swap_grant_ref(vcpu: Vcpu, request: Any) -> int:
    grants, a, b = vcpu.domain.grants, request.ref_a, request.ref_b
    with grants.lock:
        if a >= grants.entries or b >= grants.entries:
            return GNTST_bad_gntref
        if a == b:
            return GNTST_okay
        if a in grants.active or b in grants.active:
            return GNTST_eagain
        parts = [grants.entry_bytes] if grants.version == 1 else [grants.entry_bytes, grants.status_bytes]
        for part in parts:
            one, other = part(a), part(b)
            one[:], other[:] = other.tobytes(), one.tobytes()
    return GNTST_okay


def transfer(vcpu: Vcpu, request: Any) -> int:
    """The frame leaves the domain before the rest is looked at; it stays only if the domain takes it itself."""
    domain, mfn = vcpu.domain, request.mfn
    state = domain.state
    if mfn >= state.nr_frames or state.frames[mfn].count != ALLOCATED | 1:
        return GNTST_bad_page
    if request.domid == domain.domid and _accept_transfer(vcpu, request.ref):
        _complete_transfer(vcpu, request.ref, mfn)
        return GNTST_okay
    lib.core_release_frame(state, mfn)
    return GNTST_general_error if request.domid in (domain.domid, DOM0) else GNTST_bad_domain


def _accept_transfer(vcpu: Vcpu, ref: int) -> bool:
    """Whether the entry takes a frame from the domain itself: then it is committed to it."""
    domain, grants = vcpu.domain, vcpu.domain.grants
    if ref >= grants.entries:
        return False
    open_entry = domain.domid << 16 | GTF_accept_transfer
    for _ in range(RETRIES):
        flags, domid = grants.header(ref)
        if domid << 16 | flags != open_entry:
            return False
        at, committed = grants.header_at(ref), open_entry | GTF_transfer_committed
        if lib.core_compare_swap32(domain.state, at, open_entry, committed) == open_entry:
            return True
    return False


def _complete_transfer(vcpu: Vcpu, ref: int, mfn: int) -> None:
    """The entry names the pfn where the frame goes, and is told the frame."""
    domain, grants = vcpu.domain, vcpu.domain.grants
    data = grants.entry_bytes(ref)
    if grants.version == 1:
        pfn = GrantEntryV1.from_buffer_copy(data).frame
        data[4:8] = mfn.to_bytes(4, "little")
    else:
        pfn = GrantEntryV2.from_buffer_copy(data).full_page.frame
        data[8:16] = mfn.to_bytes(8, "little")
    domain.set_pfn(mfn, pfn)
    lib.core_or16(domain.state, grants.header_at(ref), GTF_transfer_completed)


def cache_flush(vcpu: Vcpu, request: Any, opaque: int) -> None:
    """Nothing to be done, but for the errors: the domain's memory is coherent. GuestError."""
    if request.offset >= PAGE_SIZE or request.offset + request.length > PAGE_SIZE:
        raise GuestError(Errno.EINVAL)
    if request.op & ~(GNTTAB_CACHE_CLEAN | GNTTAB_CACHE_INVAL):
        raise GuestError(Errno.EINVAL)
    if not request.length or not request.op:
        if opaque:
            raise GuestError(Errno.EILSEQ)
        return
    state, mfn = vcpu.domain.state, request.a.dev_bus_addr // PAGE_SIZE
    if mfn >= state.nr_frames:
        raise GuestError(Errno.EINVAL)
    if not lib.core_owns_frame(state, mfn):
        raise GuestError(Errno.EPERM)
    if request.op == GNTTAB_CACHE_INVAL:
        raise GuestError(Errno.EOPNOTSUPP)
