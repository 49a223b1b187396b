"""nmi.h: registration of the guest kernel's NMI handler."""

from ctypes import LittleEndianStructure

from xenion.abi.layout import U64, layout

XENNMI_register_callback = 0
XENNMI_unregister_callback = 1

# Bits of arch_shared_info.nmi_reason.
XEN_NMIREASON_io_error = 1 << 0
XEN_NMIREASON_pci_serr = 1 << 1
XEN_NMIREASON_unknown = 1 << 2


@layout(16)
class XennmiCallback(LittleEndianStructure):
    """nmi.h: ``struct xennmi_callback``."""

    handler_address: U64
    pad: U64
