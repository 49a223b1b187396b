"""memory.h: memory reservations, the physical map, and queries about both."""

from ctypes import LittleEndianStructure, LittleEndianUnion

from xenion.abi.layout import U16, U32, U64, layout

XENMEM_increase_reservation = 0
XENMEM_decrease_reservation = 1
XENMEM_maximum_ram_page = 2
XENMEM_current_reservation = 3
XENMEM_maximum_reservation = 4
XENMEM_machphys_mfn_list = 5
XENMEM_populate_physmap = 6
XENMEM_add_to_physmap = 7
XENMEM_memory_map = 9
XENMEM_machine_memory_map = 10
XENMEM_exchange = 11
XENMEM_machphys_mapping = 12
XENMEM_set_memory_map = 13
XENMEM_maximum_gpfn = 14
XENMEM_remove_from_physmap = 15
XENMEM_set_pod_target = 16
XENMEM_get_pod_target = 17
XENMEM_get_sharing_freed_pages = 18
XENMEM_get_sharing_shared_pages = 19
XENMEM_paging_op = 20
XENMEM_access_op = 21
XENMEM_sharing_op = 22
XENMEM_add_to_physmap_batch = 23
XENMEM_claim_pages = 24
XENMEM_machphys_compat_mfn_list = 25
XENMEM_get_vnumainfo = 26
XENMEM_reserved_device_memory_map = 27
XENMEM_acquire_resource = 28

# xen_memory_reservation.mem_flags: address bits in bits 0-7 (0 for any), node + 1 in bits 8-15, and these.
XENMEMF_populate_on_demand = 1 << 16
XENMEMF_exact_node_request = 1 << 17
XENMEMF_vnode = 1 << 18

XENMAPSPACE_shared_info = 0
XENMAPSPACE_grant_table = 1
XENMAPSPACE_gmfn = 2
XENMAPSPACE_gmfn_range = 3
XENMAPSPACE_gmfn_foreign = 4
XENMAPSPACE_dev_mmio = 5

XENMAPIDX_grant_table_status = 0x80000000

XENMEM_resource_ioreq_server = 0
XENMEM_resource_grant_table = 1
XENMEM_resource_vmtrace_buf = 2
XENMEM_resource_grant_table_id_shared = 0
XENMEM_resource_grant_table_id_status = 1
XENMEM_resource_ioreq_server_frame_bufioreq = 0

# E820Entry.type; asm/e820.h, not a public header: the firmware's numbers.
E820_RAM = 1
E820_RESERVED = 2
E820_ACPI = 3
E820_NVS = 4
E820_UNUSABLE = 5


@layout(32)
class XenMemoryReservation(LittleEndianStructure):
    """memory.h: ``struct xen_memory_reservation``; ``mem_flags`` is XENMEMF_*."""

    extent_start: U64
    nr_extents: U64
    extent_order: U32
    mem_flags: U32
    domid: U16


@layout(72)
class XenMemoryExchange(LittleEndianStructure):
    """memory.h: ``struct xen_memory_exchange``; ``in_`` is Xen's ``in``."""

    in_: XenMemoryReservation
    out: XenMemoryReservation
    nr_exchanged: U64


@layout(2)
class XenMemoryDomain(LittleEndianStructure):
    """memory.h: ``struct xen_memory_domain``."""

    domid: U16


@layout(24)
class XenMachphysMfnList(LittleEndianStructure):
    """memory.h: ``struct xen_machphys_mfn_list``."""

    max_extents: U32
    extent_start: U64
    nr_extents: U32


@layout(24)
class XenMachphysMapping(LittleEndianStructure):
    """memory.h: ``struct xen_machphys_mapping``; ``max_mfn`` is the last entry, not their number."""

    v_start: U64
    v_end: U64
    max_mfn: U64


@layout(24)
class XenAddToPhysmap(LittleEndianStructure):
    """memory.h: ``struct xen_add_to_physmap``; ``space`` is XENMAPSPACE_*, ``size`` only for gmfn_range."""

    domid: U16
    size: U16
    space: U32
    idx: U64
    gpfn: U64


@layout(2)
class XenAddToPhysmapBatchExtra(LittleEndianUnion):
    """memory.h: ``union xen_add_to_physmap_batch_extra``."""

    foreign_domid: U16
    res0: U16


@layout(32)
class XenAddToPhysmapBatch(LittleEndianStructure):
    """memory.h: ``struct xen_add_to_physmap_batch``."""

    domid: U16
    space: U16
    size: U16
    u: XenAddToPhysmapBatchExtra
    idxs: U64
    gpfns: U64
    errs: U64


@layout(16)
class XenRemoveFromPhysmap(LittleEndianStructure):
    """memory.h: ``struct xen_remove_from_physmap``."""

    domid: U16
    gpfn: U64


@layout(16)
class XenMemoryMap(LittleEndianStructure):
    """memory.h: ``struct xen_memory_map``; ``buffer`` is the address of ``nr_entries`` of E820Entry."""

    nr_entries: U32
    buffer: U64


@layout(20)
class E820Entry(LittleEndianStructure):
    """asm/e820.h: ``struct e820entry``, packed; in memory.h only in words."""

    _pack_ = 1
    _layout_ = "ms"
    addr: U64
    size: U64
    type: U32


@layout(24)
class XenForeignMemoryMap(LittleEndianStructure):
    """memory.h: ``struct xen_foreign_memory_map``."""

    domid: U16
    map: XenMemoryMap


@layout(40)
class XenPodTarget(LittleEndianStructure):
    """memory.h: ``struct xen_pod_target``."""

    target_pages: U64
    tot_pages: U64
    pod_cache_pages: U64
    pod_entries: U64
    domid: U16


@layout(32)
class XenMemAcquireResource(LittleEndianStructure):
    """memory.h: ``struct xen_mem_acquire_resource``; ``type`` is XENMEM_resource_*."""

    domid: U16
    type: U16
    id: U32
    nr_frames: U32
    pad: U32
    frame: U64
    frame_list: U64


@layout(24)
class XenVmemrange(LittleEndianStructure):
    """memory.h: ``struct xen_vmemrange``."""

    start: U64
    end: U64
    flags: U32
    nid: U32


@layout(8)
class XenVnumaHandle(LittleEndianUnion):
    """memory.h: ``xen_vnuma_topology_info.vdistance``, ``.vcpu_to_vnode`` and ``.vmemrange`` alike."""

    h: U64
    pad: U64


@layout(40)
class XenVnumaTopologyInfo(LittleEndianStructure):
    """memory.h: ``struct xen_vnuma_topology_info``."""

    domid: U16
    pad: U16
    nr_vnodes: U32
    nr_vcpus: U32
    nr_vmemranges: U32
    vdistance: XenVnumaHandle
    vcpu_to_vnode: XenVnumaHandle
    vmemrange: XenVnumaHandle
