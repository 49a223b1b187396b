"""VCPUOP_initialise: where another vCPU is to begin (vcpu.h, struct vcpu_guest_context)."""

from contextlib import suppress
from typing import Any

from xenion.abi.arch_x86_64 import (
    XEN_LEGACY_MAX_VCPUS,
    VcpuGuestContext,
    VGCF_failsafe_disables_events,
    VGCF_i387_valid,
    VGCF_in_kernel,
    VGCF_syscall_disables_events,
)
from xenion.abi.errno import Errno
from xenion.core import ffi, lib
from xenion.processor import GENERAL, SEGMENTS
from xenion.vmm.errors import GuestError
from xenion.vmm.hypercalls.debugreg import write_debugreg
from xenion.vmm.hypercalls.traps import is_canonical
from xenion.vmm.memory import PAGE_SIZE
from xenion.vmm.vcpu import Vcpu


def initialise(vcpu: Vcpu, by: Vcpu, context: VcpuGuestContext) -> int:
    """GuestError: EEXIST, it has been already; EINVAL, a bad value, or a vCPU beyond the shared info's that has no
    vcpu_info yet; EOPNOTSUPP, floating-point registers of the guest's choice."""
    state, memory = vcpu.state, vcpu.domain.memory
    if state.initialised:
        raise GuestError(Errno.EEXIST)
    if vcpu.id >= XEN_LEGACY_MAX_VCPUS and state.info == memory.first_vcpu_info(vcpu.id):
        raise GuestError(Errno.EINVAL)
    if context.flags & VGCF_i387_valid:
        raise GuestError(Errno.EOPNOTSUPP)
    check_addresses(context)
    rc = lib.core_initialise_vcpu(state, by.state, start_of(context))
    if rc:
        raise GuestError(Errno(-rc))
    fill(vcpu, context)
    return 0


def check_addresses(context: VcpuGuestContext) -> None:
    """GuestError(EINVAL)."""
    addresses = (
        context.user_regs.rip,
        context.event_callback_eip,
        context.failsafe_callback_eip,
        context.syscall_callback_eip,
        context.fs_base,
        context.gs_base_kernel,
        context.gs_base_user,
        *(trap.address for trap in context.trap_ctxt),
    )
    if not all(is_canonical(address) for address in addresses):
        raise GuestError(Errno.EINVAL)


def start_of(context: VcpuGuestContext) -> Any:
    """The core's `struct vcpu_start`."""
    regs = context.user_regs
    start = ffi.new("struct vcpu_start *")
    start.general = [getattr(regs, name) for name in GENERAL]
    start.selectors = [getattr(regs, name) for name in SEGMENTS]
    start.rip, start.flags = regs.rip, regs.rflags
    start.in_kernel = int(bool(context.flags & VGCF_in_kernel))
    start.fs_base = context.fs_base
    start.gs_base = context.gs_base_kernel if start.in_kernel else context.gs_base_user
    start.kernel_table = context.ctrlreg[3] // PAGE_SIZE
    start.user_table = context.ctrlreg[1] // PAGE_SIZE
    start.gdt_frames = list(context.gdt_frames)
    start.gdt_entries, start.ldt_entries = min(context.gdt_ents, 1 << 16), min(context.ldt_ents, 1 << 16)
    start.ldt_base = context.ldt_base
    return start


def fill(vcpu: Vcpu, context: VcpuGuestContext) -> None:
    """All that does not need the core."""
    state = vcpu.state
    for trap, info in zip(state.traps, context.trap_ctxt, strict=True):
        trap.address, trap.flags, trap.cs = info.address, info.flags, info.cs
    state.kernel_sp = context.kernel_sp
    state.event_callback = context.event_callback_eip
    state.failsafe_callback = context.failsafe_callback_eip
    state.syscall_callback = context.syscall_callback_eip
    state.failsafe_masks = int(bool(context.flags & VGCF_failsafe_disables_events))
    state.syscall_masks = int(bool(context.flags & VGCF_syscall_disables_events))
    for number, value in enumerate(context.debugreg):
        with suppress(GuestError):  # as Xen does: a bad one is passed over in silence
            write_debugreg(vcpu, number, value)
    state.gs_kernel, state.gs_user = context.gs_base_kernel, context.gs_base_user
    state.period_due = vcpu.domain.system_time() + state.period if state.period else 0
