"""physdev.h as gcc lays it out."""

from collections.abc import Callable

import pytest

from xenion.abi import physdev

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    physdev.PhysdevEoi: "irq 0; 4",
    physdev.PhysdevPirqEoiGmfn: "gmfn 0; 8",
    physdev.PhysdevIrqStatusQuery: "irq 0, flags 4; 8",
    physdev.PhysdevSetIopl: "iopl 0; 4",
    physdev.PhysdevSetIobitmap: "bitmap 0, nr_ports 8; 16",
    physdev.PhysdevApic: "apic_physbase 0, reg 8, value 12; 16",
    physdev.PhysdevIrq: "irq 0, vector 4; 8",
    physdev.PhysdevMapPirq: (
        "domid 0, type 4, index 8, pirq 12, bus 16, devfn 20, entry_nr 24, table_base 32; 40"
    ),
    physdev.PhysdevUnmapPirq: "domid 0, pirq 4; 8",
    physdev.PhysdevManagePci: "bus 0, devfn 1; 2",
    physdev.PhysdevRestoreMsi: "bus 0, devfn 1; 2",
    physdev.PhysdevPhysfn: "bus 0, devfn 1; 2",
    physdev.PhysdevManagePciExt: "bus 0, devfn 1, is_extfn 4, is_virtfn 8, physfn 12; 16",
    physdev.PhysdevOpU: "irq_status_query 0, set_iopl 0, set_iobitmap 0, apic_op 0, irq_op 0; 16",
    physdev.PhysdevOp: "cmd 0, u 8; 24",
    physdev.PhysdevSetupGsi: "gsi 0, triggering 4, polarity 5; 8",
    physdev.PhysdevGetFreePirq: "type 0, pirq 4; 8",
    physdev.PhysdevPciMmcfgReserved: "address 0, segment 8, start_bus 10, end_bus 11, flags 12; 16",
    physdev.PhysdevPciDeviceAdd: "seg 0, bus 2, devfn 3, flags 4, physfn 8; 12",
    physdev.PhysdevPciDevice: "seg 0, bus 2, devfn 3; 4",
    physdev.PhysdevDbgpOpU: "pci 0; 4",
    physdev.PhysdevDbgpOp: "op 0, bus 1, u 2; 6",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


def test_numbers() -> None:
    assert (physdev.PHYSDEVOP_set_iopl, physdev.PHYSDEVOP_set_iobitmap, physdev.PHYSDEVOP_eoi) == (6, 7, 12)
    assert physdev.PHYSDEVOP_pirq_eoi_gmfn_v2 == 28
    assert physdev.PHYSDEVOP_release_msix == 31
    assert physdev.MAP_PIRQ_TYPE_MULTI_MSI == 4


def test_signed_fields_take_minus_one() -> None:
    assert physdev.PhysdevMapPirq(pirq=-1).pirq == -1
