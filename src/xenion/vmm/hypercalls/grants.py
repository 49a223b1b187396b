"""grant_table_op (grant_table.h): a domain's table, and what it may do with its own grants.

Other domains' grants are out of reach. Dom0's back ends use a guest's through vmm.grants_use, not through this call.
"""

from collections.abc import Callable
from ctypes import sizeof
from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.grant_table import (
    GnttabCacheFlush,
    GnttabCopy,
    GnttabGetStatusFrames,
    GnttabMapGrantRef,
    GNTTABOP_cache_flush,
    GNTTABOP_copy,
    GNTTABOP_get_status_frames,
    GNTTABOP_get_version,
    GNTTABOP_map_grant_ref,
    GNTTABOP_query_size,
    GNTTABOP_set_version,
    GNTTABOP_setup_table,
    GNTTABOP_swap_grant_ref,
    GNTTABOP_transfer,
    GNTTABOP_unmap_and_replace,
    GNTTABOP_unmap_grant_ref,
    GnttabQuerySize,
    GnttabSetupTable,
    GnttabSwapGrantRef,
    GnttabTransfer,
    GnttabUnmapAndReplace,
    GnttabUnmapGrantRef,
)
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.hypercalls import grants_copy, grants_map, grants_table
from xenion.vmm.vcpu import Vcpu, address_okay

COMMAND_MASK = (1 << 12) - 1
"""Bits above are where an interrupted cache_flush goes on."""

MOST_OPERATIONS = (1 << 31) - 1
M64 = (1 << 64) - 1

Operation = Callable[[Vcpu, Any], int]
ONE: dict[int, tuple[Any, Operation]] = {
    GNTTABOP_setup_table: (GnttabSetupTable, grants_table.setup_table),
    GNTTABOP_query_size: (GnttabQuerySize, grants_table.query_size),
    GNTTABOP_get_status_frames: (GnttabGetStatusFrames, grants_table.get_status_frames),
}
MANY: dict[int, tuple[Any, Operation]] = {
    GNTTABOP_map_grant_ref: (GnttabMapGrantRef, grants_map.map_grant_ref),
    GNTTABOP_unmap_grant_ref: (GnttabUnmapGrantRef, grants_map.unmap_grant_ref),
    GNTTABOP_unmap_and_replace: (GnttabUnmapAndReplace, grants_map.unmap_and_replace),
    GNTTABOP_transfer: (GnttabTransfer, grants_table.transfer),
    GNTTABOP_copy: (GnttabCopy, grants_copy.copy),
    GNTTABOP_swap_grant_ref: (GnttabSwapGrantRef, grants_table.swap_grant_ref),
}
WRITTEN_WHOLE = {GNTTABOP_map_grant_ref, GNTTABOP_query_size}
"""Of the others the guest gets its status back, and no other field is touched."""


def _perform(vcpu: Vcpu, command: int, kind: Any, operation: Operation, at: int) -> None:
    request = vcpu.read_struct(at, kind)
    request.status = operation(vcpu, request)
    if command in WRITTEN_WHOLE:
        vcpu.write_struct(at, request)
    else:
        field = kind.status
        vcpu.write((at + field.offset) & M64, bytes(request)[field.offset : field.offset + field.size])


def _each(vcpu: Vcpu, command: int, address: int, count: int, size: int, act: Callable[[int], None]) -> int:
    """`act` on each element's address. It gives way as Xen does, and goes on where it was."""
    if not address_okay(address):
        raise GuestError(Errno.EFAULT)
    for index in range(count):
        at = (address + index * size) & M64
        if index and lib.core_gives_way(vcpu.state):
            return int(lib.core_continue(vcpu.state, command, at, count - index))
        act(at)
    return 0


def _cache_flush(vcpu: Vcpu, address: int, count: int, opaque: int) -> int:
    left = [opaque]

    def act(at: int) -> None:
        grants_table.cache_flush(vcpu, vcpu.read_struct(at, GnttabCacheFlush), left[0])
        left[0] = 0

    return _each(vcpu, GNTTABOP_cache_flush, address, count, sizeof(GnttabCacheFlush), act)


def grant_table_op(vcpu: Vcpu, args: list[int]) -> int:
    command, address, count = args[0] & COMMAND_MASK, args[1], args[2] & 0xFFFFFFFF
    opaque = args[0] & 0xFFFFFFFF & ~COMMAND_MASK
    if count > MOST_OPERATIONS or (opaque and command != GNTTABOP_cache_flush):
        raise GuestError(Errno.EINVAL)
    if command in MANY:
        kind, operation = MANY[command]
        return _each(
            vcpu,
            command,
            address,
            count,
            sizeof(kind),
            lambda at: _perform(vcpu, command, kind, operation, at),
        )
    if command in ONE:
        if count != 1:
            raise GuestError(Errno.EINVAL)
        _perform(vcpu, command, *ONE[command], address)
        return 0
    if command == GNTTABOP_set_version:
        return grants_table.set_version(vcpu, address)
    if command == GNTTABOP_get_version:
        return grants_table.get_version(vcpu, address)
    if command == GNTTABOP_cache_flush:
        return _cache_flush(vcpu, address, count, opaque)
    raise GuestError(Errno.ENOSYS)
