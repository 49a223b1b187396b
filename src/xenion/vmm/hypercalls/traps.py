"""Where the guest's handlers are: set_trap_table, set_callbacks, callback_op, nmi_op (xen.h, callback.h)."""

from contextlib import suppress

from xenion.abi.arch_x86_64 import FLAT_KERNEL_CS, TrapInfo
from xenion.abi.callback import (
    CALLBACKF_mask_events,
    CALLBACKOP_register,
    CALLBACKOP_unregister,
    CallbackRegister,
    CALLBACKTYPE_event,
    CALLBACKTYPE_failsafe,
    CALLBACKTYPE_nmi,
    CALLBACKTYPE_syscall,
    CALLBACKTYPE_syscall32,
    CALLBACKTYPE_sysenter,
    CallbackUnregister,
)
from xenion.abi.errno import Errno
from xenion.abi.nmi import XENNMI_register_callback, XENNMI_unregister_callback, XennmiCallback
from xenion.core import lib
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu

TRAP_INFO_SIZE = 16
PERMANENT = {
    CALLBACKTYPE_event,
    CALLBACKTYPE_failsafe,
    CALLBACKTYPE_syscall,
    CALLBACKTYPE_syscall32,
    CALLBACKTYPE_sysenter,
}
TRAP_VECTORS = 256
NMI_VECTOR = 2
TRAP_MASKS_EVENTS = 4


def is_canonical(address: int) -> bool:
    return address >> 47 in (0, (1 << 17) - 1)


def set_trap_table(vcpu: Vcpu, args: list[int]) -> int:
    """A table that ends at address 0; a null pointer empties it."""
    address = args[0]
    if not address:
        for trap in vcpu.state.traps:
            trap.address = trap.flags = trap.cs = 0
        return 0
    for _ in range(TRAP_VECTORS + 1):
        info = vcpu.read_struct(address, TrapInfo)
        if not info.address:
            return 0
        if not is_canonical(info.address):
            raise GuestError(Errno.EINVAL)
        trap = vcpu.state.traps[info.vector]
        trap.address, trap.flags, trap.cs = info.address, info.flags, info.cs
        address += TRAP_INFO_SIZE
    return 0


def _register(vcpu: Vcpu, kind: int, address: int, flags: int) -> None:
    if not is_canonical(address):
        raise GuestError(Errno.EINVAL)
    masks = int(bool(flags & CALLBACKF_mask_events))
    state = vcpu.state
    if kind == CALLBACKTYPE_event:
        state.event_callback = address
    elif kind == CALLBACKTYPE_failsafe:
        state.failsafe_callback, state.failsafe_masks = address, masks
    elif kind == CALLBACKTYPE_syscall:
        state.syscall_callback, state.syscall_masks = address, masks
    elif kind == CALLBACKTYPE_syscall32:
        state.syscall32_callback, state.syscall32_masks = address, masks
    elif kind == CALLBACKTYPE_sysenter:
        state.sysenter_callback, state.sysenter_masks = address, masks
    elif kind == CALLBACKTYPE_nmi:
        _register_nmi(vcpu, address)
    else:
        raise GuestError(Errno.ENOSYS)


def _register_nmi(vcpu: Vcpu, address: int) -> None:
    """An entry of the trap table, as set_trap_table makes it.

    An NMI that came before there was a handler is lost; but one whose reason is still there comes again.
    """
    trap = vcpu.state.traps[NMI_VECTOR]
    trap.address, trap.cs, trap.flags = address, FLAT_KERNEL_CS, TRAP_MASKS_EVENTS
    if vcpu.id == 0 and vcpu.domain.nmi_reason:
        lib.core_send_nmi(vcpu.state)


def _unregister_nmi(vcpu: Vcpu) -> None:
    trap = vcpu.state.traps[NMI_VECTOR]
    trap.address = trap.cs = trap.flags = 0


def set_callbacks(vcpu: Vcpu, args: list[int]) -> int:
    kinds = (CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall)
    for kind, address in zip(kinds, args, strict=False):
        with suppress(GuestError):  # a bad one of the three is passed over in silence
            _register(vcpu, kind, address, 0)
    return 0


def callback_op(vcpu: Vcpu, args: list[int]) -> int:
    command, address = args[0] & 0xFFFFFFFF, args[1]
    if command == CALLBACKOP_register:
        request = vcpu.read_struct(address, CallbackRegister)
        _register(vcpu, request.type, request.address, request.flags)
        return 0
    if command == CALLBACKOP_unregister:
        kind = vcpu.read_struct(address, CallbackUnregister).type
        if kind in PERMANENT:
            raise GuestError(Errno.EINVAL)  # these can be replaced, never taken away
        if kind == CALLBACKTYPE_nmi:
            _unregister_nmi(vcpu)
            return 0
    raise GuestError(Errno.ENOSYS)


def nmi_op(vcpu: Vcpu, args: list[int]) -> int:
    """nmi.h: the older way to say where a domain's NMIs go."""
    command = args[0] & 0xFFFFFFFF
    if command == XENNMI_register_callback:
        _register(vcpu, CALLBACKTYPE_nmi, vcpu.read_struct(args[1], XennmiCallback).handler_address, 0)
        return 0
    if command == XENNMI_unregister_callback:
        _unregister_nmi(vcpu)
        return 0
    raise GuestError(Errno.ENOSYS)
