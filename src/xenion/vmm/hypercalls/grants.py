"""grant_table_op (grant_table.h): a domain's table, and what it may do with its own grants.

Other domains' grants are out of reach. Dom0's back ends map a guest's grants through vmm.grants, not through this call.
"""

from collections.abc import Callable
from ctypes import LittleEndianStructure, sizeof
from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.grant_table import (
    GNTCOPY_dest_gref,
    GNTCOPY_source_gref,
    GNTST_bad_copy_arg,
    GNTST_bad_domain,
    GNTST_bad_gntref,
    GNTST_bad_handle,
    GNTST_bad_page,
    GNTST_bad_virt_addr,
    GNTST_general_error,
    GNTST_okay,
    GNTST_permission_denied,
    GnttabCopy,
    GnttabCopyPtr,
    GnttabGetVersion,
    GnttabMapGrantRef,
    GNTTABOP_copy,
    GNTTABOP_get_version,
    GNTTABOP_map_grant_ref,
    GNTTABOP_query_size,
    GNTTABOP_set_version,
    GNTTABOP_setup_table,
    GNTTABOP_transfer,
    GNTTABOP_unmap_grant_ref,
    GnttabQuerySize,
    GnttabSetupTable,
    GnttabSetVersion,
    GnttabTransfer,
    GnttabUnmapGrantRef,
)
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.grants import GrantStatusError
from xenion.vmm.hypercalls.memory import is_self
from xenion.vmm.memory import GRANT_FRAMES, PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

MOST_OPERATIONS = 4096


def _setup_table(vcpu: Vcpu, request: Any) -> int:
    if not is_self(vcpu, request.dom):
        return GNTST_bad_domain
    if request.nr_frames > GRANT_FRAMES:
        return GNTST_general_error
    vcpu.domain.grants.grow(request.nr_frames)
    first = vcpu.domain.memory.grant_mfn
    frames = b"".join((first + i).to_bytes(8, "little") for i in range(request.nr_frames))
    try:
        vcpu.write(request.frame_list, frames)
    except GuestError:
        return GNTST_bad_virt_addr
    return GNTST_okay


def _query_size(vcpu: Vcpu, request: Any) -> int:
    if not is_self(vcpu, request.dom):
        return GNTST_bad_domain
    request.nr_frames, request.max_nr_frames = vcpu.domain.grants.frames, GRANT_FRAMES
    return GNTST_okay


def _copy_end(vcpu: Vcpu, end: GnttabCopyPtr, by_reference: int, length: int, write: bool) -> memoryview:
    """The bytes that one end of a copy names; raises GrantStatusError."""
    if not is_self(vcpu, end.domid):
        raise GrantStatusError(GNTST_bad_domain)
    if end.offset + length > PAGE_SIZE:
        raise GrantStatusError(GNTST_bad_copy_arg)
    domain = vcpu.domain
    mfn = domain.grants.resolve(end.u.ref, domain.domid, write) if by_reference else end.u.gmfn
    if not lib.core_owns_frame(domain.state, mfn):
        raise GrantStatusError(GNTST_bad_page)
    return domain.memory.page(mfn)[end.offset : end.offset + length]


def _copy(vcpu: Vcpu, request: Any) -> int:
    state, flags, length = vcpu.domain.state, request.flags, request.len
    try:
        source = _copy_end(vcpu, request.source, flags & GNTCOPY_source_gref, length, False)
        target = _copy_end(vcpu, request.dest, flags & GNTCOPY_dest_gref, length, True)
    except GrantStatusError as error:
        return error.status
    grants = vcpu.domain.grants
    by_reference = flags & GNTCOPY_dest_gref
    mfn = grants.resolve(request.dest.u.ref, vcpu.domain.domid, True) if by_reference else request.dest.u.gmfn
    if lib.core_get_writable(state, mfn):
        return GNTST_permission_denied
    target[:] = bytes(source)
    lib.core_code_written(state, mfn * PAGE_SIZE + request.dest.offset, max(length, 1))
    lib.core_put_writable(state, mfn)
    return GNTST_okay


def _map(vcpu: Vcpu, request: Any) -> int:
    """Only Dom0 maps grants; a domain that names itself or another is told so."""
    return GNTST_bad_gntref if is_self(vcpu, request.dom) else GNTST_bad_domain


def _transfer(vcpu: Vcpu, request: Any) -> int:
    """To whom? There is no other domain that a frame could go to."""
    return GNTST_bad_domain


def _unmap(vcpu: Vcpu, request: Any) -> int:
    """There are no mappings."""
    return GNTST_bad_handle


Operation = Callable[[Vcpu, Any], int]
OPERATIONS: dict[int, tuple[type[LittleEndianStructure], Operation]] = {
    GNTTABOP_setup_table: (GnttabSetupTable, _setup_table),
    GNTTABOP_query_size: (GnttabQuerySize, _query_size),
    GNTTABOP_copy: (GnttabCopy, _copy),
    GNTTABOP_transfer: (GnttabTransfer, _transfer),
    GNTTABOP_map_grant_ref: (GnttabMapGrantRef, _map),
    GNTTABOP_unmap_grant_ref: (GnttabUnmapGrantRef, _unmap),
}


SINGLE = {GNTTABOP_setup_table, GNTTABOP_query_size}


def _set_version(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, GnttabSetVersion)
    wanted = request.version
    request.version = 1
    if wanted == 2:
        raise GuestError(Errno.ENOSYS)
    if wanted != 1:
        raise GuestError(Errno.EINVAL)
    vcpu.write_struct(address, request)
    return 0


def _get_version(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, GnttabGetVersion)
    if not is_self(vcpu, request.dom):
        raise GuestError(Errno.EPERM)
    request.version = 1
    vcpu.write_struct(address, request)
    return 0


def grant_table_op(vcpu: Vcpu, args: list[int]) -> int:
    command, address, count = args[0] & 0xFFFFFFFF, args[1], args[2] & 0xFFFFFFFF
    if command == GNTTABOP_set_version:
        return _set_version(vcpu, address)
    if command == GNTTABOP_get_version:
        return _get_version(vcpu, address)
    if command not in OPERATIONS:
        raise GuestError(Errno.ENOSYS)
    if count > MOST_OPERATIONS:
        raise GuestError(Errno.EINVAL)
    if command in SINGLE and count != 1:
        raise GuestError(Errno.EINVAL)
    kind, operation = OPERATIONS[command]
    for index in range(count):
        at = address + index * sizeof(kind)
        request = vcpu.read_struct(at, kind)
        request.status = operation(vcpu, request)  # type: ignore[attr-defined]  # each of them has one
        vcpu.write_struct(at, request)
    return 0
