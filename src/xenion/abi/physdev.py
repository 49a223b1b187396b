"""physdev.h: physical devices and interrupts, and a PV kernel's I/O privilege."""

from ctypes import LittleEndianStructure, LittleEndianUnion

from xenion.abi.layout import S32, U8, U16, U32, U64, layout

PHYSDEVOP_IRQ_UNMASK_NOTIFY = 4
PHYSDEVOP_irq_status_query = 5
PHYSDEVOP_set_iopl = 6
PHYSDEVOP_set_iobitmap = 7
PHYSDEVOP_apic_read = 8
PHYSDEVOP_apic_write = 9
PHYSDEVOP_alloc_irq_vector = 10
PHYSDEVOP_free_irq_vector = 11
PHYSDEVOP_eoi = 12
PHYSDEVOP_map_pirq = 13
PHYSDEVOP_unmap_pirq = 14
PHYSDEVOP_manage_pci_add = 15
PHYSDEVOP_manage_pci_remove = 16
PHYSDEVOP_pirq_eoi_gmfn_v1 = 17
PHYSDEVOP_restore_msi = 19
PHYSDEVOP_manage_pci_add_ext = 20
PHYSDEVOP_setup_gsi = 21
PHYSDEVOP_get_free_pirq = 23
PHYSDEVOP_pci_mmcfg_reserved = 24
PHYSDEVOP_pci_device_add = 25
PHYSDEVOP_pci_device_remove = 26
PHYSDEVOP_restore_msi_ext = 27
PHYSDEVOP_pirq_eoi_gmfn_v2 = 28
PHYSDEVOP_dbgp_op = 29
PHYSDEVOP_prepare_msix = 30
PHYSDEVOP_release_msix = 31

PHYSDEVOP_DBGP_RESET_PREPARE = 1
PHYSDEVOP_DBGP_RESET_DONE = 2
PHYSDEVOP_DBGP_BUS_UNKNOWN = 0
PHYSDEVOP_DBGP_BUS_PCI = 1

XENIRQSTAT_needs_eoi = 1 << 0
XENIRQSTAT_shared = 1 << 1

MAP_PIRQ_TYPE_MSI = 0x0
MAP_PIRQ_TYPE_GSI = 0x1
MAP_PIRQ_TYPE_UNKNOWN = 0x2
MAP_PIRQ_TYPE_MSI_SEG = 0x3
MAP_PIRQ_TYPE_MULTI_MSI = 0x4

XEN_PCI_MMCFG_RESERVED = 0x1
XEN_PCI_DEV_EXTFN = 0x1
XEN_PCI_DEV_VIRTFN = 0x2
XEN_PCI_DEV_PXM = 0x4


@layout(4)
class PhysdevEoi(LittleEndianStructure):
    """physdev.h: ``struct physdev_eoi``."""

    irq: U32


@layout(8)
class PhysdevPirqEoiGmfn(LittleEndianStructure):
    """physdev.h: ``struct physdev_pirq_eoi_gmfn``."""

    gmfn: U64


@layout(8)
class PhysdevIrqStatusQuery(LittleEndianStructure):
    """physdev.h: ``struct physdev_irq_status_query``; ``flags`` is XENIRQSTAT_*."""

    irq: U32
    flags: U32


@layout(4)
class PhysdevSetIopl(LittleEndianStructure):
    """physdev.h: ``struct physdev_set_iopl``."""

    iopl: U32


@layout(16)
class PhysdevSetIobitmap(LittleEndianStructure):
    """physdev.h: ``struct physdev_set_iobitmap``."""

    bitmap: U64
    nr_ports: U32


@layout(16)
class PhysdevApic(LittleEndianStructure):
    """physdev.h: ``struct physdev_apic``."""

    apic_physbase: U64
    reg: U32
    value: U32


@layout(8)
class PhysdevIrq(LittleEndianStructure):
    """physdev.h: ``struct physdev_irq``."""

    irq: U32
    vector: U32


@layout(40)
class PhysdevMapPirq(LittleEndianStructure):
    """physdev.h: ``struct physdev_map_pirq``; ``type`` is MAP_PIRQ_TYPE_*."""

    domid: U16
    type: S32
    index: S32
    pirq: S32
    bus: S32
    devfn: S32
    entry_nr: S32
    table_base: U64


@layout(8)
class PhysdevUnmapPirq(LittleEndianStructure):
    """physdev.h: ``struct physdev_unmap_pirq``."""

    domid: U16
    pirq: S32


@layout(2)
class PhysdevManagePci(LittleEndianStructure):
    """physdev.h: ``struct physdev_manage_pci``."""

    bus: U8
    devfn: U8


@layout(2)
class PhysdevRestoreMsi(LittleEndianStructure):
    """physdev.h: ``struct physdev_restore_msi``."""

    bus: U8
    devfn: U8


@layout(2)
class PhysdevPhysfn(LittleEndianStructure):
    """physdev.h: ``physdev_manage_pci_ext.physfn`` and ``physdev_pci_device_add.physfn`` alike."""

    bus: U8
    devfn: U8


@layout(16)
class PhysdevManagePciExt(LittleEndianStructure):
    """physdev.h: ``struct physdev_manage_pci_ext``."""

    bus: U8
    devfn: U8
    is_extfn: U32
    is_virtfn: U32
    physfn: PhysdevPhysfn


@layout(16)
class PhysdevOpU(LittleEndianUnion):
    """physdev.h: ``physdev_op.u``."""

    irq_status_query: PhysdevIrqStatusQuery
    set_iopl: PhysdevSetIopl
    set_iobitmap: PhysdevSetIobitmap
    apic_op: PhysdevApic
    irq_op: PhysdevIrq


@layout(24)
class PhysdevOp(LittleEndianStructure):
    """physdev.h: ``struct physdev_op``, the argument of physdev_op_compat."""

    cmd: U32
    u: PhysdevOpU


@layout(8)
class PhysdevSetupGsi(LittleEndianStructure):
    """physdev.h: ``struct physdev_setup_gsi``."""

    gsi: S32
    triggering: U8
    polarity: U8


@layout(8)
class PhysdevGetFreePirq(LittleEndianStructure):
    """physdev.h: ``struct physdev_get_free_pirq``."""

    type: S32
    pirq: U32


@layout(16)
class PhysdevPciMmcfgReserved(LittleEndianStructure):
    """physdev.h: ``struct physdev_pci_mmcfg_reserved``."""

    address: U64
    segment: U16
    start_bus: U8
    end_bus: U8
    flags: U32


@layout(12)
class PhysdevPciDeviceAdd(LittleEndianStructure):
    """physdev.h: ``struct physdev_pci_device_add``; 32-bit optional values follow it as ``flags`` says."""

    seg: U16
    bus: U8
    devfn: U8
    flags: U32
    physfn: PhysdevPhysfn


@layout(4)
class PhysdevPciDevice(LittleEndianStructure):
    """physdev.h: ``struct physdev_pci_device``."""

    seg: U16
    bus: U8
    devfn: U8


@layout(4)
class PhysdevDbgpOpU(LittleEndianUnion):
    """physdev.h: ``physdev_dbgp_op.u``."""

    pci: PhysdevPciDevice


@layout(6)
class PhysdevDbgpOp(LittleEndianStructure):
    """physdev.h: ``struct physdev_dbgp_op``."""

    op: U8
    bus: U8
    u: PhysdevDbgpOpU
