"""xen.h: hypercall numbers, and the structures every domain shares with the hypervisor."""

from ctypes import Array, LittleEndianStructure, LittleEndianUnion, c_char, c_uint8, c_uint64
from enum import IntEnum
from typing import Annotated

from xenion.abi.arch_x86_64 import XEN_LEGACY_MAX_VCPUS, ArchSharedInfo, ArchVcpuInfo
from xenion.abi.layout import S8, U8, U16, U32, U64, layout


class Hypercall(IntEnum):
    """xen.h: ``__HYPERVISOR_*``."""

    set_trap_table = 0
    mmu_update = 1
    set_gdt = 2
    stack_switch = 3
    set_callbacks = 4
    fpu_taskswitch = 5
    sched_op_compat = 6
    platform_op = 7
    set_debugreg = 8
    get_debugreg = 9
    update_descriptor = 10
    memory_op = 12
    multicall = 13
    update_va_mapping = 14
    set_timer_op = 15
    event_channel_op_compat = 16
    xen_version = 17
    console_io = 18
    physdev_op_compat = 19
    grant_table_op = 20
    vm_assist = 21
    update_va_mapping_otherdomain = 22
    iret = 23
    vcpu_op = 24
    set_segment_base = 25
    mmuext_op = 26
    xsm_op = 27
    nmi_op = 28
    sched_op = 29
    callback_op = 30
    xenoprof_op = 31
    event_channel_op = 32
    physdev_op = 33
    hvm_op = 34
    sysctl = 35
    domctl = 36
    kexec_op = 37
    tmem_op = 38
    argo_op = 39
    xenpmu_op = 40
    dm_op = 41
    hypfs_op = 42
    arch_0 = 48
    arch_1 = 49
    arch_2 = 50
    arch_3 = 51
    arch_4 = 52
    arch_5 = 53
    arch_6 = 54
    arch_7 = 55
    mca = arch_0  # arch-x86/xen-mca.h


VIRQ_TIMER = 0
VIRQ_DEBUG = 1
VIRQ_CONSOLE = 2
VIRQ_DOM_EXC = 3
VIRQ_TBUF = 4
VIRQ_DEBUGGER = 6
VIRQ_XENOPROF = 7
VIRQ_CON_RING = 8
VIRQ_PCPU_STATE = 9
VIRQ_MEM_EVENT = 10
VIRQ_ARGO = 11
VIRQ_ENOMEM = 12
VIRQ_XENPMU = 13
VIRQ_ARCH_0 = 16
VIRQ_ARCH_1 = 17
VIRQ_ARCH_2 = 18
VIRQ_ARCH_3 = 19
VIRQ_ARCH_4 = 20
VIRQ_ARCH_5 = 21
VIRQ_ARCH_6 = 22
VIRQ_ARCH_7 = 23
NR_VIRQS = 24

# The low two bits of mmu_update.ptr.
MMU_NORMAL_PT_UPDATE = 0
MMU_MACHPHYS_UPDATE = 1
MMU_PT_UPDATE_PRESERVE_AD = 2
MMU_PT_UPDATE_NO_TRANSLATE = 3

MMUEXT_PIN_L1_TABLE = 0
MMUEXT_PIN_L2_TABLE = 1
MMUEXT_PIN_L3_TABLE = 2
MMUEXT_PIN_L4_TABLE = 3
MMUEXT_UNPIN_TABLE = 4
MMUEXT_NEW_BASEPTR = 5
MMUEXT_TLB_FLUSH_LOCAL = 6
MMUEXT_INVLPG_LOCAL = 7
MMUEXT_TLB_FLUSH_MULTI = 8
MMUEXT_INVLPG_MULTI = 9
MMUEXT_TLB_FLUSH_ALL = 10
MMUEXT_INVLPG_ALL = 11
MMUEXT_FLUSH_CACHE = 12
MMUEXT_SET_LDT = 13
MMUEXT_NEW_USER_BASEPTR = 15
MMUEXT_CLEAR_PAGE = 16
MMUEXT_COPY_PAGE = 17
MMUEXT_FLUSH_CACHE_GLOBAL = 18
MMUEXT_MARK_SUPER = 19
MMUEXT_UNMARK_SUPER = 20

UVMF_NONE = 0 << 0
UVMF_TLB_FLUSH = 1 << 0
UVMF_INVLPG = 2 << 0
UVMF_FLUSHTYPE_MASK = 3 << 0
UVMF_MULTI = 0 << 2  # the other bits then hold the address of a vcpu bitmap
UVMF_LOCAL = 0 << 2
UVMF_ALL = 1 << 2

CONSOLEIO_write = 0
CONSOLEIO_read = 1

VMASST_CMD_enable = 0
VMASST_CMD_disable = 1
VMASST_TYPE_4gb_segments = 0
VMASST_TYPE_4gb_segments_notify = 1
VMASST_TYPE_writable_pagetables = 2
VMASST_TYPE_pae_extended_cr3 = 3
VMASST_TYPE_architectural_iopl = 4
VMASST_TYPE_runstate_update_flag = 5
VMASST_TYPE_m2p_strict = 32

DOMID_FIRST_RESERVED = 0x7FF0
DOMID_SELF = 0x7FF0
DOMID_IO = 0x7FF1
DOMID_XEN = 0x7FF2
DOMID_COW = 0x7FF3
DOMID_INVALID = 0x7FF4
DOMID_ANY = 0x7FF5
DOMID_IDLE = 0x7FFF
DOMID_MASK = 0x7FFF

XEN_PVCLOCK_TSC_STABLE_BIT = 1 << 0
XEN_PVCLOCK_GUEST_STOPPED = 1 << 1

MAX_GUEST_CMDLINE = 1024

SIF_PRIVILEGED = 1 << 0
SIF_INITDOMAIN = 1 << 1
SIF_MULTIBOOT_MOD = 1 << 2
SIF_MOD_START_PFN = 1 << 3
SIF_VIRT_P2M_4TOOLS = 1 << 4
SIF_PM_MASK = 0xFF << 8

XEN_VGATYPE_TEXT_MODE_3 = 0x03
XEN_VGATYPE_VESA_LFB = 0x23
XEN_VGATYPE_EFI_LFB = 0x70


@layout(8)
class MmuextOpArg1(LittleEndianUnion):
    """xen.h: ``mmuext_op.arg1``."""

    mfn: U64
    linear_addr: U64


@layout(8)
class MmuextOpArg2(LittleEndianUnion):
    """xen.h: ``mmuext_op.arg2``; ``vcpumask`` is a guest address."""

    nr_ents: U32
    vcpumask: U64
    src_mfn: U64


@layout(24)
class MmuextOp(LittleEndianStructure):
    """xen.h: ``struct mmuext_op``."""

    cmd: U32
    arg1: MmuextOpArg1
    arg2: MmuextOpArg2


@layout(16)
class MmuUpdate(LittleEndianStructure):
    """xen.h: ``struct mmu_update``; ``ptr`` is a machine address with MMU_* in its low two bits."""

    ptr: U64
    val: U64


@layout(64)
class MultiCallEntry(LittleEndianStructure):
    """xen.h: ``struct multicall_entry``."""

    op: U64
    result: U64
    args: Annotated[Array[c_uint64], c_uint64 * 6]


@layout(32)
class VcpuTimeInfo(LittleEndianStructure):
    """xen.h: ``struct vcpu_time_info``; ``system_time`` in ns, ``version`` odd while being written."""

    version: U32
    pad0: U32
    tsc_timestamp: U64
    system_time: U64
    tsc_to_system_mul: U32
    tsc_shift: S8
    flags: U8
    pad1: Annotated[Array[c_uint8], c_uint8 * 2]


@layout(64)
class VcpuInfo(LittleEndianStructure):
    """xen.h: ``struct vcpu_info``."""

    evtchn_upcall_pending: U8
    evtchn_upcall_mask: U8
    evtchn_pending_sel: U64
    arch: ArchVcpuInfo
    time: VcpuTimeInfo


@layout(3136)
class SharedInfo(LittleEndianStructure):
    """xen.h: ``struct shared_info``."""

    vcpu_info: Annotated[Array[VcpuInfo], VcpuInfo * XEN_LEGACY_MAX_VCPUS]
    evtchn_pending: Annotated[Array[c_uint64], c_uint64 * 64]
    evtchn_mask: Annotated[Array[c_uint64], c_uint64 * 64]
    wc_version: U32
    wc_sec: U32
    wc_nsec: U32
    wc_sec_hi: U32
    arch: ArchSharedInfo


@layout(16)
class StartInfoConsoleDomU(LittleEndianStructure):
    """xen.h: ``start_info.console.domU``."""

    mfn: U64
    evtchn: U32


@layout(8)
class StartInfoConsoleDom0(LittleEndianStructure):
    """xen.h: ``start_info.console.dom0``."""

    info_off: U32
    info_size: U32


@layout(16)
class StartInfoConsole(LittleEndianUnion):
    """xen.h: ``start_info.console``."""

    domU: StartInfoConsoleDomU
    dom0: StartInfoConsoleDom0


@layout(1168)
class StartInfo(LittleEndianStructure):
    """xen.h: ``struct start_info``; strings are NUL-terminated."""

    magic: Annotated[bytes, c_char * 32]
    nr_pages: U64
    shared_info: U64
    flags: U32
    store_mfn: U64
    store_evtchn: U32
    console: StartInfoConsole
    pt_base: U64
    nr_pt_frames: U64
    mfn_list: U64
    mod_start: U64
    mod_len: U64
    cmd_line: Annotated[bytes, c_char * MAX_GUEST_CMDLINE]
    first_p2m_pfn: U64
    nr_p2m_frames: U64


@layout(16)
class XenMultibootModList(LittleEndianStructure):
    """xen.h: ``struct xen_multiboot_mod_list``."""

    mod_start: U32
    mod_end: U32
    cmdline: U32
    pad: U32


@layout(10)
class VgaTextMode3(LittleEndianStructure):
    """xen.h: ``dom0_vga_console_info.u.text_mode_3``."""

    font_height: U16
    cursor_x: U16
    cursor_y: U16
    rows: U16
    columns: U16


@layout(36)
class VgaVesaLfb(LittleEndianStructure):
    """xen.h: ``dom0_vga_console_info.u.vesa_lfb``."""

    width: U16
    height: U16
    bytes_per_line: U16
    bits_per_pixel: U16
    lfb_base: U32
    lfb_size: U32
    red_pos: U8
    red_size: U8
    green_pos: U8
    green_size: U8
    blue_pos: U8
    blue_size: U8
    rsvd_pos: U8
    rsvd_size: U8
    gbl_caps: U32
    mode_attrs: U16
    pad: U16
    ext_lfb_base: U32


@layout(36)
class Dom0VgaConsoleInfoU(LittleEndianUnion):
    """xen.h: ``dom0_vga_console_info.u``."""

    text_mode_3: VgaTextMode3
    vesa_lfb: VgaVesaLfb


@layout(40)
class Dom0VgaConsoleInfo(LittleEndianStructure):
    """xen.h: ``struct dom0_vga_console_info``."""

    video_type: U8
    u: Dom0VgaConsoleInfoU
