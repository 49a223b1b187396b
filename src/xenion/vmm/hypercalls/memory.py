"""memory_op: the domain's reservation and the map of it (memory.h)."""

from xenion.abi.errno import Errno
from xenion.abi.memory import (
    E820Entry,
    XenMachphysMapping,
    XenMachphysMfnList,
    XENMEM_current_reservation,
    XENMEM_decrease_reservation,
    XENMEM_exchange,
    XENMEM_increase_reservation,
    XENMEM_machphys_mapping,
    XENMEM_machphys_mfn_list,
    XENMEM_maximum_gpfn,
    XENMEM_maximum_ram_page,
    XENMEM_maximum_reservation,
    XENMEM_memory_map,
    XENMEM_populate_physmap,
    XenMemoryDomain,
    XenMemoryExchange,
    XenMemoryMap,
    XenMemoryReservation,
)
from xenion.abi.xen import DOMID_SELF
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu

COMMAND_BITS = 6
M2P_SIZE = 1 << 38
MOST_EXTENTS = 0xFFFFFFFF >> COMMAND_BITS
L2_EXTENT = 1 << 21
E820_RAM = 1
M64 = (1 << 64) - 1


def is_self(vcpu: Vcpu, domid: int) -> bool:
    return domid in (DOMID_SELF, vcpu.domain.domid)


def _require_self(vcpu: Vcpu, domid: int) -> None:
    if not is_self(vcpu, domid):
        raise GuestError(Errno.EPERM if domid > DOMID_SELF else Errno.ESRCH)


def _release_extent(vcpu: Vcpu, mfn: int) -> bool:
    return bool(lib.core_release_frame(vcpu.domain.state, mfn) == 0)


def _take_frame(vcpu: Vcpu, pfn: int | None) -> int | None:
    domain = vcpu.domain
    if domain.pages >= domain.max_pages:
        return None
    mfn: int = lib.core_allocate_frame(domain.state)
    if mfn < 0:
        return None
    if pfn is not None:
        domain.set_pfn(mfn, pfn)
    return mfn


def _go_on_later(vcpu: Vcpu, command: int, done: int, address: int, third: int) -> int:
    """As Xen: how many extents are done already is a part of the command."""
    return int(lib.core_continue(vcpu.state, command | done << COMMAND_BITS, address, third))


def _reservation(vcpu: Vcpu, command: int, start: int, address: int, third: int) -> int:
    """increase, decrease and populate: one frame an extent; the count of extents done is the result."""
    try:
        request = vcpu.read_struct(address, XenMemoryReservation)
    except GuestError:
        return start
    larger = request.extent_order != 0  # such extents are never to be had
    if (
        larger
        or request.nr_extents > MOST_EXTENTS
        or start >= request.nr_extents
        or not is_self(vcpu, request.domid)
    ):
        return start
    for index in range(start, request.nr_extents):
        if index > start and lib.core_gives_way(vcpu.state):
            return _go_on_later(vcpu, command, index, address, third)
        at = (request.extent_start + index * 8) & M64
        try:
            if not _one_extent(vcpu, command, at, bool(request.extent_start)):
                return index
        except GuestError:
            return index
    return int(request.nr_extents)


def _one_extent(vcpu: Vcpu, command: int, at: int, has_list: bool) -> bool:
    if command == XENMEM_decrease_reservation:
        return _release_extent(vcpu, int.from_bytes(vcpu.read(at, 8), "little"))
    pfn = int.from_bytes(vcpu.read(at, 8), "little") if command == XENMEM_populate_physmap else None
    mfn = _take_frame(vcpu, pfn)
    if mfn is None:
        return False
    if has_list:
        vcpu.write(at, mfn.to_bytes(8, "little"))
    return True


def _exchange(vcpu: Vcpu, address: int, third: int) -> int:
    """Frames for other frames, one by one: larger extents are never to be had."""
    request = vcpu.read_struct(address, XenMemoryExchange)
    give, take = request.in_, request.out
    if give.domid != take.domid:
        raise GuestError(Errno.EINVAL)
    _require_self(vcpu, give.domid)
    if give.extent_order or take.extent_order:
        raise GuestError(Errno.ENOMEM)
    if give.nr_extents != take.nr_extents or not request.nr_exchanged <= give.nr_extents <= MOST_EXTENTS:
        raise GuestError(Errno.EINVAL)
    first = request.nr_exchanged
    for index in range(first, give.nr_extents):
        if index > first and lib.core_gives_way(vcpu.state):
            return _go_on_later(vcpu, XENMEM_exchange, 0, address, third)
        old = int.from_bytes(vcpu.read(give.extent_start + index * 8, 8), "little")
        pfn = int.from_bytes(vcpu.read(take.extent_start + index * 8, 8), "little")
        if not _release_extent(vcpu, old):
            raise GuestError(Errno.EINVAL)
        mfn = _take_frame(vcpu, pfn)
        if mfn is None:
            raise GuestError(Errno.ENOMEM)
        vcpu.write(take.extent_start + index * 8, mfn.to_bytes(8, "little"))
        request.nr_exchanged = index + 1
        vcpu.write_struct(address, request)
    return 0


def _machphys_mapping(vcpu: Vcpu, address: int) -> int:
    memory = vcpu.domain.memory
    start = memory.m2p_address
    vcpu.write_struct(
        address, XenMachphysMapping(v_start=start, v_end=start + M2P_SIZE, max_mfn=memory.nr_frames - 1)
    )
    return 0


def _machphys_mfn_list(vcpu: Vcpu, address: int) -> int:
    """The frames that hold the M2P, one for each 2 MiB of it."""
    request = vcpu.read_struct(address, XenMachphysMfnList)
    memory = vcpu.domain.memory
    size = memory.nr_frames * 8
    count = min(request.max_extents, -(-size // L2_EXTENT))
    for index in range(count):
        mfn = memory.m2p_mfn + index * (L2_EXTENT // PAGE_SIZE)
        vcpu.write(request.extent_start + index * 8, mfn.to_bytes(8, "little"))
    request.nr_extents = count
    vcpu.write_struct(address, request)
    return 0


def _memory_map(vcpu: Vcpu, address: int) -> int:
    request = vcpu.read_struct(address, XenMemoryMap)
    if not request.nr_entries:
        raise GuestError(Errno.EINVAL)
    vcpu.write_struct(
        request.buffer, E820Entry(addr=0, size=vcpu.domain.memory.nr_pages * PAGE_SIZE, type=E820_RAM)
    )
    request.nr_entries = 1
    vcpu.write_struct(address, request)
    return 0


def _about_domain(vcpu: Vcpu, command: int, address: int) -> int:
    _require_self(vcpu, vcpu.read_struct(address, XenMemoryDomain).domid)
    return vcpu.domain.pages if command == XENMEM_current_reservation else vcpu.domain.max_pages


def memory_op(vcpu: Vcpu, args: list[int]) -> int:
    command, start, address = args[0] & ((1 << COMMAND_BITS) - 1), args[0] >> COMMAND_BITS, args[1]
    if command in (XENMEM_increase_reservation, XENMEM_decrease_reservation, XENMEM_populate_physmap):
        return _reservation(vcpu, command, start, address, args[2])
    if command == XENMEM_maximum_ram_page:
        return vcpu.domain.memory.nr_frames - 1
    if command in (XENMEM_current_reservation, XENMEM_maximum_reservation):
        return _about_domain(vcpu, command, address)
    if command == XENMEM_maximum_gpfn:
        _require_self(vcpu, vcpu.read_struct(address, XenMemoryDomain).domid)
        return vcpu.domain.max_pfn - 1
    if command == XENMEM_exchange:
        return _exchange(vcpu, address, args[2])
    if command == XENMEM_machphys_mapping:
        return _machphys_mapping(vcpu, address)
    if command == XENMEM_machphys_mfn_list:
        return _machphys_mfn_list(vcpu, address)
    if command == XENMEM_memory_map:
        return _memory_map(vcpu, address)
    raise GuestError(Errno.ENOSYS)
