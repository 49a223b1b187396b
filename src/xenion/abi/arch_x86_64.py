"""arch-x86/xen.h and arch-x86/xen-x86_64.h: the PV interface's processor-specific part, 64 bits."""

from ctypes import Array, LittleEndianStructure, c_uint8, c_uint16, c_uint64
from typing import Annotated

from xenion.abi.layout import U8, U16, U32, U64, layout

# The flat segments of Xen's own GDT. 64-bit code has no data segment: DS64 is null.
FLAT_RING3_CS32 = 0xE023
FLAT_RING3_CS64 = 0xE033
FLAT_RING3_DS32 = 0xE02B
FLAT_RING3_DS64 = 0x0000
FLAT_RING3_SS32 = 0xE02B
FLAT_RING3_SS64 = 0xE02B
FLAT_KERNEL_DS64 = FLAT_RING3_DS64
FLAT_KERNEL_DS32 = FLAT_RING3_DS32
FLAT_KERNEL_DS = FLAT_KERNEL_DS64
FLAT_KERNEL_CS64 = FLAT_RING3_CS64
FLAT_KERNEL_CS32 = FLAT_RING3_CS32
FLAT_KERNEL_CS = FLAT_KERNEL_CS64
FLAT_KERNEL_SS64 = FLAT_RING3_SS64
FLAT_KERNEL_SS32 = FLAT_RING3_SS32
FLAT_KERNEL_SS = FLAT_KERNEL_SS64
FLAT_USER_DS64 = FLAT_RING3_DS64
FLAT_USER_DS32 = FLAT_RING3_DS32
FLAT_USER_DS = FLAT_USER_DS64
FLAT_USER_CS64 = FLAT_RING3_CS64
FLAT_USER_CS32 = FLAT_RING3_CS32
FLAT_USER_CS = FLAT_USER_CS64
FLAT_USER_SS64 = FLAT_RING3_SS64
FLAT_USER_SS32 = FLAT_RING3_SS32
FLAT_USER_SS = FLAT_USER_SS64

HYPERVISOR_VIRT_START = 0xFFFF800000000000
HYPERVISOR_VIRT_END = 0xFFFF880000000000
MACH2PHYS_VIRT_START = 0xFFFF800000000000
MACH2PHYS_VIRT_END = 0xFFFF804000000000
MACH2PHYS_NR_ENTRIES = (MACH2PHYS_VIRT_END - MACH2PHYS_VIRT_START) >> 3

# set_segment_base: which.
SEGBASE_FS = 0
SEGBASE_GS_USER = 1
SEGBASE_GS_KERNEL = 2
SEGBASE_GS_USER_SEL = 3

FIRST_RESERVED_GDT_PAGE = 14
FIRST_RESERVED_GDT_BYTE = FIRST_RESERVED_GDT_PAGE * 4096
FIRST_RESERVED_GDT_ENTRY = FIRST_RESERVED_GDT_BYTE // 8

XEN_LEGACY_MAX_VCPUS = 32

VGCF_I387_VALID = 1 << 0
VGCF_IN_KERNEL = 1 << 2
VGCF_i387_valid = 1 << 0
VGCF_in_kernel = 1 << 2
VGCF_failsafe_disables_events = 1 << 3
VGCF_syscall_disables_events = 1 << 4
VGCF_online = 1 << 5
VGCF_in_syscall = 1 << 8  # in iret_context.flags: return by sysret, so rcx and r11 are not restored
VGCF_IN_SYSCALL = VGCF_in_syscall

TRAP_INFO_DPL_MASK = 3  # TI_GET_DPL
TRAP_INFO_IF = 4  # TI_GET_IF

XEN_EMULATE_PREFIX = bytes.fromhex("0f0b78656e")
XEN_CPUID = XEN_EMULATE_PREFIX + bytes.fromhex("0fa2")

XEN_CPUID_NO_SUBLEAF = 0xFFFFFFFF
XEN_HVM_DEBUGCONS_IOPORT = 0xE9


@layout(16)
class TrapInfo(LittleEndianStructure):
    """arch-x86/xen.h: ``struct trap_info``; a table ends at address 0, ``flags`` is TRAP_INFO_*."""

    vector: U8
    flags: U8
    cs: U16
    address: U64


@layout(72)
class IretContext(LittleEndianStructure):
    """arch-x86/xen-x86_64.h: ``struct iret_context``, which the iret hypercall takes from the stack."""

    rax: U64
    r11: U64
    rcx: U64
    flags: U64
    rip: U64
    cs: U64
    rflags: U64
    rsp: U64
    ss: U64


@layout(200)
class CpuUserRegs(LittleEndianStructure):
    """arch-x86/xen-x86_64.h: ``struct cpu_user_regs``, 64-bit names only."""

    r15: U64
    r14: U64
    r13: U64
    r12: U64
    rbp: U64
    rbx: U64
    r11: U64
    r10: U64
    r9: U64
    r8: U64
    rax: U64
    rcx: U64
    rdx: U64
    rsi: U64
    rdi: U64
    error_code: U32
    entry_vector: U32
    rip: U64
    cs: U16
    _pad0: Annotated[Array[c_uint16], c_uint16 * 1]
    saved_upcall_mask: U8
    _pad1: Annotated[Array[c_uint8], c_uint8 * 3]
    rflags: U64
    rsp: U64
    ss: U16
    _pad2: Annotated[Array[c_uint16], c_uint16 * 3]
    es: U16
    _pad3: Annotated[Array[c_uint16], c_uint16 * 3]
    ds: U16
    _pad4: Annotated[Array[c_uint16], c_uint16 * 3]
    fs: U16
    _pad5: Annotated[Array[c_uint16], c_uint16 * 3]
    gs: U16
    _pad6: Annotated[Array[c_uint16], c_uint16 * 3]


@layout(16)
class ArchVcpuInfo(LittleEndianStructure):
    """arch-x86/xen-x86_64.h: ``struct arch_vcpu_info``."""

    cr2: U64
    pad: U64


@layout(48)
class ArchSharedInfo(LittleEndianStructure):
    """arch-x86/xen.h: ``struct arch_shared_info``."""

    max_pfn: U64
    pfn_to_mfn_frame_list_list: U64
    nmi_reason: U64
    p2m_cr3: U64
    p2m_vaddr: U64
    p2m_generation: U64


@layout(5168)
class VcpuGuestContext(LittleEndianStructure):
    """arch-x86/xen.h: ``struct vcpu_guest_context``; ``flags`` is VGCF_*, ``fpu_ctxt`` an FXSAVE image."""

    fpu_ctxt: Annotated[Array[c_uint8], c_uint8 * 512]
    flags: U64
    user_regs: CpuUserRegs
    trap_ctxt: Annotated[Array[TrapInfo], TrapInfo * 256]
    ldt_base: U64
    ldt_ents: U64
    gdt_frames: Annotated[Array[c_uint64], c_uint64 * 16]
    gdt_ents: U64
    kernel_ss: U64
    kernel_sp: U64
    ctrlreg: Annotated[Array[c_uint64], c_uint64 * 8]
    debugreg: Annotated[Array[c_uint64], c_uint64 * 8]
    event_callback_eip: U64
    failsafe_callback_eip: U64
    syscall_callback_eip: U64
    vm_assist: U64
    fs_base: U64
    gs_base_kernel: U64
    gs_base_user: U64


@layout(24)
class XenCpuidLeaf(LittleEndianStructure):
    """arch-x86/xen.h: ``struct xen_cpuid_leaf``."""

    leaf: U32
    subleaf: U32
    a: U32
    b: U32
    c: U32
    d: U32


@layout(16)
class XenMsrEntry(LittleEndianStructure):
    """arch-x86/xen.h: ``struct xen_msr_entry``."""

    idx: U32
    flags: U32
    val: U64
