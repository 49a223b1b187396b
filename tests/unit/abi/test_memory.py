"""memory.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import memory

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    memory.XenMemoryReservation: "extent_start 0, nr_extents 8, extent_order 16, mem_flags 20, domid 24; 32",
    memory.XenMemoryExchange: "in_ 0, out 32, nr_exchanged 64; 72",
    memory.XenMemoryDomain: "domid 0; 2",
    memory.XenMachphysMfnList: "max_extents 0, extent_start 8, nr_extents 16; 24",
    memory.XenMachphysMapping: "v_start 0, v_end 8, max_mfn 16; 24",
    memory.XenAddToPhysmap: "domid 0, size 2, space 4, idx 8, gpfn 16; 24",
    memory.XenAddToPhysmapBatchExtra: "foreign_domid 0, res0 0; 2",
    memory.XenAddToPhysmapBatch: "domid 0, space 2, size 4, u 6, idxs 8, gpfns 16, errs 24; 32",
    memory.XenRemoveFromPhysmap: "domid 0, gpfn 8; 16",
    memory.XenMemoryMap: "nr_entries 0, buffer 8; 16",
    memory.E820Entry: "addr 0, size 8, type 16; 20",
    memory.XenForeignMemoryMap: "domid 0, map 8; 24",
    memory.XenPodTarget: "target_pages 0, tot_pages 8, pod_cache_pages 16, pod_entries 24, domid 32; 40",
    memory.XenMemAcquireResource: "domid 0, type 2, id 4, nr_frames 8, pad 12, frame 16, frame_list 24; 32",
    memory.XenVmemrange: "start 0, end 8, flags 16, nid 20; 24",
    memory.XenVnumaHandle: "h 0, pad 0; 8",
    memory.XenVnumaTopologyInfo: (
        "domid 0, pad 2, nr_vnodes 4, nr_vcpus 8, nr_vmemranges 12, vdistance 16, vcpu_to_vnode 24, "
        "vmemrange 32; 40"
    ),
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert memory.XENMEM_populate_physmap == 6
    assert (memory.XENMEM_add_to_physmap, memory.XENMEM_memory_map) == (7, 9)
    assert memory.XENMEM_machphys_mapping == 12
    assert memory.XENMEM_acquire_resource == 28
    assert memory.XENMEMF_vnode == 1 << 18
    assert memory.XENMAPSPACE_dev_mmio == 5


def test_e820_entries_are_packed() -> None:
    entries = (memory.E820Entry * 2)()
    entries[1].addr = 0x1000
    assert len(bytes(entries)) == 40
    assert bytes(entries)[20:28] == (0x1000).to_bytes(8, "little")
