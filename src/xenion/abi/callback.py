"""callback.h: registration of the guest kernel's entry points."""

from ctypes import LittleEndianStructure

from xenion.abi.layout import U16, U64, layout

CALLBACKOP_register = 0
CALLBACKOP_unregister = 1

CALLBACKTYPE_event = 0
CALLBACKTYPE_failsafe = 1
CALLBACKTYPE_syscall = 2
CALLBACKTYPE_sysenter_deprecated = 3
CALLBACKTYPE_nmi = 4
CALLBACKTYPE_sysenter = 5
CALLBACKTYPE_syscall32 = 7

CALLBACKF_mask_events = 1 << 0


@layout(16)
class CallbackRegister(LittleEndianStructure):
    """callback.h: ``struct callback_register``."""

    type: U16
    flags: U16
    address: U64


@layout(4)
class CallbackUnregister(LittleEndianStructure):
    """callback.h: ``struct callback_unregister``."""

    type: U16
    _unused: U16
