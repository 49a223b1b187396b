"""map_grant_ref, unmap_grant_ref and unmap_and_replace: a domain mapping its own grants.

What a mapping holds of the frame it holds by its page-table entry, which is checked and counted as any other; a
"device" mapping (there is no device) holds it by itself.
"""

from typing import Any

from xenion.abi.grant_table import (
    GNTMAP_application_map,
    GNTMAP_contains_pte,
    GNTMAP_device_map,
    GNTMAP_host_map,
    GNTMAP_readonly,
    GNTST_bad_dev_addr,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_general_error,
    GNTST_no_space,
    GNTST_okay,
)
from xenion.core import lib
from xenion.vmm.grants import DEVICE_READ, DEVICE_WRITE, HOST_READ, HOST_WRITE, GrantStatusError
from xenion.vmm.hypercalls.grants_copy import DOM0, own_grants, refuse_dom0_grant
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

_PRESENT, _WRITE, _USER, _AD, _NX = 1, 2, 4, 0x60, 1 << 63
FRAME_BITS = ((1 << 52) - 1) & ~(PAGE_SIZE - 1)
GUEST_AVAIL_SHIFT = 16
PTE_AVAIL_SHIFT = 9
PTE_AVAIL = 7


def _pins(flags: int) -> tuple[int, int]:
    """(host, device) as these GNTMAP_* ask for; 0 none."""
    readonly = flags & GNTMAP_readonly
    host = HOST_READ if readonly else HOST_WRITE
    device = DEVICE_READ if readonly else DEVICE_WRITE
    return host if flags & GNTMAP_host_map else 0, device if flags & GNTMAP_device_map else 0


def _entry(mfn: int, flags: int) -> int:
    value = mfn << 12 | _PRESENT | _AD | _NX | (flags >> GUEST_AVAIL_SHIFT & PTE_AVAIL) << PTE_AVAIL_SHIFT
    if not flags & GNTMAP_readonly:
        value |= _WRITE
    return value | (_USER if flags & GNTMAP_application_map else 0)


# --- page-table entries


def _slot(vcpu: Vcpu, address: int, flags: int) -> int:
    """The machine address of the L1 entry that `address` names; GrantStatusError."""
    if flags & GNTMAP_contains_pte:
        slot = address if not address & 7 and address < vcpu.domain.memory.nr_frames * PAGE_SIZE else 0
    else:
        slot = lib.core_l1_entry(vcpu.state, address)
    if not slot:
        raise GrantStatusError(GNTST_general_error)
    return slot


def _change(vcpu: Vcpu, slot: int, old: int, new: int) -> None:
    """GrantStatusError: no L1 table of the domain's, an entry it may not have, or no longer `old`."""
    if lib.core_change_l1(vcpu.domain.state, slot, old, new) != 1:
        raise GrantStatusError(GNTST_general_error)


def _create(vcpu: Vcpu, address: int, mfn: int, flags: int) -> None:
    slot = _slot(vcpu, address, flags)
    _change(vcpu, slot, vcpu.domain.memory.words[slot >> 3], _entry(mfn, flags))


def _take_entry(vcpu: Vcpu, address: int) -> int:
    """Clears the entry that maps `address`; what it was."""
    slot = _slot(vcpu, address, 0)
    old = vcpu.domain.memory.words[slot >> 3]
    _change(vcpu, slot, old, 0)
    return old


def _replace(vcpu: Vcpu, address: int, mfn: int, new_address: int, flags: int) -> None:
    """Puts in the mapping's place what maps `new_address` (which loses it), or nothing when that is 0."""
    new = 0
    if new_address:
        if flags & GNTMAP_contains_pte:
            raise GrantStatusError(GNTST_general_error)
        new = _take_entry(vcpu, new_address)
    slot = _slot(vcpu, address, flags)
    old, wanted = vcpu.domain.memory.words[slot >> 3], _entry(mfn, flags)
    if (old ^ wanted) & (FRAME_BITS | _PRESENT | _WRITE):
        raise GrantStatusError(GNTST_general_error)
    _change(vcpu, slot, old, new)


# --- the operations


def map_grant_ref(vcpu: Vcpu, request: Any) -> int:
    """One GnttabMapGrantRef, filled in; its GNTST_*."""
    grants = vcpu.domain.grants
    if not any(_pins(request.flags)):
        return GNTST_bad_gntref
    if request.dom not in (vcpu.domain.domid, DOM0):
        return GNTST_bad_domain
    handle = grants.maptrack.take()
    if handle is None:
        return GNTST_no_space
    try:
        if request.dom != vcpu.domain.domid:
            refuse_dom0_grant(request.ref)
        mfn = _map(vcpu, request)
    except GrantStatusError as error:
        grants.maptrack.put(handle)
        return error.status
    grants.maptrack.set(handle, request.ref, request.flags)
    request.handle, request.dev_bus_addr = handle, mfn * PAGE_SIZE
    return GNTST_okay


def _map(vcpu: Vcpu, request: Any) -> int:
    """The frame; GrantStatusError, and nothing is changed."""
    user, ref, flags = own_grants(vcpu), request.ref, request.flags
    host, device = _pins(flags)
    writes = not flags & GNTMAP_readonly
    mfn = user.acquire(ref, host + device, copy=False).mfn
    try:
        if device:
            user.hold(mfn, write=writes)
        try:
            if host:
                _create(vcpu, request.host_addr, mfn, flags)
        except GrantStatusError:
            if device:
                user.drop(mfn, write=writes)
            raise
    except GrantStatusError:
        user.release(ref, host + device)
        raise
    return mfn


def unmap_grant_ref(vcpu: Vcpu, request: Any) -> int:
    """One GnttabUnmapGrantRef; its GNTST_*."""
    return _unmap(vcpu, request.handle, request.host_addr, request.dev_bus_addr, 0)


def unmap_and_replace(vcpu: Vcpu, request: Any) -> int:
    """One GnttabUnmapAndReplace; its GNTST_*."""
    return _unmap(vcpu, request.handle, request.host_addr, 0, request.new_addr)


def _unmap(vcpu: Vcpu, handle: int, host_addr: int, dev_bus_addr: int, new_addr: int) -> int:
    """An address of 0 leaves that mapping as it is; the handle is free when neither is left."""
    grants, user = vcpu.domain.grants, own_grants(vcpu)
    mapping = grants.maptrack.get(handle)
    if mapping is None:
        return GNTST_bad_handle
    ref, flags = mapping.ref, mapping.flags
    mfn = grants.active[ref].mfn
    host, device = _pins(flags)
    if dev_bus_addr and device and dev_bus_addr != mfn * PAGE_SIZE:
        return GNTST_bad_dev_addr
    if host_addr and host:
        try:
            _replace(vcpu, host_addr, mfn, new_addr, flags)
        except GrantStatusError as error:
            return error.status
        user.release(ref, host)
        flags &= ~GNTMAP_host_map
    if dev_bus_addr and device:
        user.drop(mfn, write=not flags & GNTMAP_readonly)
        user.release(ref, device)
        flags &= ~GNTMAP_device_map
    if flags & (GNTMAP_host_map | GNTMAP_device_map):
        grants.maptrack.set(handle, ref, flags)
    else:
        grants.maptrack.put(handle)
    return GNTST_okay
