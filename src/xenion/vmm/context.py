"""A vCPU's registers as Xen's struct vcpu_guest_context has them (arch-x86/xen.h)."""

from xenion.abi.arch_x86_64 import (
    FLAT_KERNEL_SS,
    CpuUserRegs,
    VcpuGuestContext,
    VGCF_in_kernel,
    VGCF_online,
)
from xenion.processor import Registers
from xenion.vmm.privileged import CR0_BASE, CR0_TS, CR4
from xenion.vmm.vcpu import Vcpu


def guest_context(vcpu: Vcpu, registers: Registers) -> VcpuGuestContext:
    """As Xen's XEN_DOMCTL_getvcpucontext answers, less the floating-point registers: its flags say so."""
    state = vcpu.state
    context = VcpuGuestContext(
        flags=VGCF_online | (VGCF_in_kernel if state.kernel_mode else 0),
        user_regs=CpuUserRegs(
            **registers.general,
            **registers.selectors,
            rip=registers.rip,
            rflags=registers.rflags | state.iopl,
        ),
        ldt_base=state.ldt_base,
        ldt_ents=state.ldt_entries,
        gdt_ents=state.gdt_entries,
        kernel_ss=FLAT_KERNEL_SS,
        kernel_sp=state.kernel_sp,
        event_callback_eip=state.event_callback,
        failsafe_callback_eip=state.failsafe_callback,
        syscall_callback_eip=state.syscall_callback,
        vm_assist=vcpu.domain.state.vm_assist,
        fs_base=registers.bases["fs"],
        gs_base_kernel=registers.bases["gs"] if state.kernel_mode else state.gs_kernel,
        gs_base_user=state.gs_user if state.kernel_mode else registers.bases["gs"],
    )
    _fill_tables(context, vcpu)
    return context


def _fill_tables(context: VcpuGuestContext, vcpu: Vcpu) -> None:
    state = vcpu.state
    for vector, trap in enumerate(context.trap_ctxt):
        gate = state.traps[vector]
        trap.vector, trap.flags, trap.cs, trap.address = vector, gate.flags, gate.cs, gate.address
    context.gdt_frames[:14] = list(state.gdt_frames)
    context.debugreg[:] = list(state.debugreg)
    context.ctrlreg[0] = CR0_BASE | (CR0_TS if state.task_switched else 0)
    # The kernel's table is in CR3's place, that of user mode in the place of CR1, which no processor has.
    context.ctrlreg[1], context.ctrlreg[3] = state.user_cr3, state.cr3
    context.ctrlreg[2], context.ctrlreg[4] = vcpu.domain.fault_address(vcpu), CR4
