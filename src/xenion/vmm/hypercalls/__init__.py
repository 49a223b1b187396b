"""Every hypercall of the PV ABI, declared."""

from xenion.abi.xen import Hypercall
from xenion.vmm.hypercalls import (
    console,
    debugreg,
    events,
    grants,
    memory,
    physdev,
    privileged,
    traps,
    vcpu,
    version,
)
from xenion.vmm.hypercalls.table import Entry, Status, absent, core, full, partial

H = Hypercall

TABLE: tuple[Entry, ...] = (
    full(H.set_trap_table, traps.set_trap_table),
    core(H.mmu_update, "page tables and frames of the calling domain"),
    core(H.set_gdt),
    core(H.stack_switch),
    full(H.set_callbacks, traps.set_callbacks),
    core(H.fpu_taskswitch),
    full(H.sched_op_compat, vcpu.sched_op_compat, "old interface"),
    full(H.platform_op, privileged.refused, "refused: the domain is unprivileged"),
    partial(H.set_debugreg, debugreg.set_debugreg, "registers are kept, breakpoints do not fire"),
    full(H.get_debugreg, debugreg.get_debugreg),
    core(H.update_descriptor, "call gates are refused", Status.PARTIAL),
    partial(H.memory_op, memory.memory_op, "extents of one page; no PoD, paging, sharing or vNUMA"),
    core(H.multicall),
    core(H.update_va_mapping),
    core(H.set_timer_op),
    absent(H.event_channel_op_compat, "old interface"),
    full(H.xen_version, version.xen_version),
    full(H.console_io, console.console_io, "written to the domain's console; nothing to read"),
    absent(H.physdev_op_compat, "old interface"),
    full(H.grant_table_op, grants.grant_table_op, "versions 1 and 2; the domain's own grants"),
    full(H.vm_assist, version.vm_assist),
    core(H.update_va_mapping_otherdomain, "the calling domain only", Status.PARTIAL),
    core(H.iret, "not inside a multicall"),
    partial(H.vcpu_op, vcpu.vcpu_op, "no time area; no floating-point registers for a vCPU to begin with"),
    core(H.set_segment_base),
    core(H.mmuext_op, "no cache flushes: the domain has no device"),
    absent(H.xsm_op, "no XSM"),
    full(H.nmi_op, traps.nmi_op),
    full(H.sched_op, vcpu.sched_op),
    full(H.callback_op, traps.callback_op, "sysenter callbacks are kept, the instruction faults"),
    absent(H.xenoprof_op, "no profiling"),
    partial(
        H.event_channel_op,
        events.event_channel_op,
        "no physical interrupts; interdomain only with Dom0 and itself",
    ),
    partial(H.physdev_op, physdev.physdev_op, "I/O privilege level and bitmap only"),
    full(H.hvm_op, privileged.not_for_pv, "refused: not an HVM domain"),
    full(H.sysctl, privileged.refused, "refused: the domain is unprivileged"),
    full(H.domctl, privileged.refused, "refused: the domain is unprivileged"),
    full(H.kexec_op, privileged.refused, "refused: the domain is unprivileged"),
    absent(H.tmem_op, "gone from Xen too"),
    absent(H.argo_op, "no Argo"),
    absent(H.xenpmu_op, "no performance counters"),
    full(H.dm_op, privileged.refused, "refused: the domain is unprivileged"),
    absent(H.hypfs_op, "no hypfs"),
)

HANDLERS = {int(e.number): e.handler for e in TABLE if e.handler}
