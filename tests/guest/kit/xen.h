/* Xen's public ABI as far as the probes need it: 64-bit PV. Each block names the public header it follows. */
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long s64;

/* xen.h: hypercall numbers */
enum {
    NR_set_trap_table = 0, NR_mmu_update = 1, NR_set_gdt = 2, NR_stack_switch = 3, NR_set_callbacks = 4,
    NR_fpu_taskswitch = 5, NR_sched_op_compat = 6, NR_platform_op = 7, NR_set_debugreg = 8,
    NR_get_debugreg = 9, NR_update_descriptor = 10, NR_memory_op = 12, NR_multicall = 13,
    NR_update_va_mapping = 14, NR_set_timer_op = 15, NR_event_channel_op_compat = 16, NR_xen_version = 17,
    NR_console_io = 18, NR_physdev_op_compat = 19, NR_grant_table_op = 20, NR_vm_assist = 21,
    NR_update_va_mapping_otherdomain = 22, NR_iret = 23, NR_vcpu_op = 24, NR_set_segment_base = 25,
    NR_mmuext_op = 26, NR_xsm_op = 27, NR_nmi_op = 28, NR_sched_op = 29, NR_callback_op = 30,
    NR_xenoprof_op = 31, NR_event_channel_op = 32, NR_physdev_op = 33, NR_hvm_op = 34, NR_sysctl = 35,
    NR_domctl = 36, NR_kexec_op = 37, NR_tmem_op = 38, NR_argo_op = 39, NR_xenpmu_op = 40, NR_dm_op = 41,
    NR_hypfs_op = 42,
};

/* errno.h */
enum {
    EPERM = 1, ENOENT = 2, ESRCH = 3, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, ENOEXEC = 8, EBADF = 9, EAGAIN = 11,
    ENOMEM = 12, EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, EXDEV = 18, ENODEV = 19, EINVAL = 22,
    ENOSPC = 28, ENODATA = 61, EDOM = 33, ERANGE = 34, ENOSYS = 38, EOVERFLOW = 75, EOPNOTSUPP = 95, ETIME = 62,
};

#define DOMID_SELF 0x7ff0u
#define DOMID_IO 0x7ff1u
#define DOMID_XEN 0x7ff2u
#define DOMID_INVALID 0x7ff4u

/* xen.h, arch-x86/xen.h, arch-x86/xen-x86_64.h */
struct vcpu_time_info {
    volatile u32 version;
    u32 pad0;
    volatile u64 tsc_timestamp;
    volatile u64 system_time;
    volatile u32 tsc_to_system_mul;
    volatile s8 tsc_shift;
    volatile u8 flags;
    u8 pad1[2];
};

struct vcpu_info {
    volatile u8 upcall_pending;
    volatile u8 upcall_mask;
    u8 pad[6];
    volatile u64 pending_sel;
    volatile u64 cr2;
    u64 arch_pad;
    struct vcpu_time_info time;
};

struct shared_info {
    struct vcpu_info vcpu_info[32];
    volatile u64 evtchn_pending[64];
    volatile u64 evtchn_mask[64];
    volatile u32 wc_version, wc_sec, wc_nsec, wc_sec_hi;
    u64 max_pfn, pfn_to_mfn_frame_list_list, nmi_reason, p2m_cr3, p2m_vaddr, p2m_generation;
};

struct start_info {
    char magic[32];
    u64 nr_pages;
    u64 shared_info;
    u32 flags;
    u32 pad0;
    u64 store_mfn;
    u32 store_evtchn;
    u32 pad1;
    u64 console_mfn;
    u32 console_evtchn;
    u32 pad2;
    u64 pt_base;
    u64 nr_pt_frames;
    u64 mfn_list;
    u64 mod_start;
    u64 mod_len;
    char cmd_line[1024];
    u64 first_p2m_pfn;
    u64 nr_p2m_frames;
};

struct trap_info {
    u8 vector;
    u8 flags; /* bits 0-1: DPL; bit 2: mask events on entry */
    u16 cs;
    u32 pad;
    u64 address;
};

struct iret_frame {
    u64 rax, r11, rcx, flags, rip, cs, rflags, rsp, ss;
};
#define VGCF_in_syscall 0x100

#define KERNEL_CS 0xe033 /* FLAT_RING3_CS64; a frame from the kernel shows it with RPL 0 */
#define KERNEL_SS 0xe02b
#define USER_CS 0xe033
#define USER_SS 0xe02b
#define USER_CS32 0xe023
#define HYPERVISOR_START 0xffff800000000000ul
#define HYPERVISOR_END 0xffff880000000000ul
#define XENMEM_machphys_mapping 12

struct mmu_update {
    u64 ptr, val;
};
enum { MMU_NORMAL_PT_UPDATE = 0, MMU_MACHPHYS_UPDATE = 1, MMU_PT_UPDATE_PRESERVE_AD = 2, MMU_PT_UPDATE_NO_TRANSLATE = 3 };

struct mmuext_op {
    u32 cmd;
    u32 pad;
    u64 arg1; /* mfn or linear address */
    u64 arg2; /* entries, vcpu mask or source mfn */
};
enum {
    MMUEXT_PIN_L1_TABLE, MMUEXT_PIN_L2_TABLE, MMUEXT_PIN_L3_TABLE, MMUEXT_PIN_L4_TABLE, MMUEXT_UNPIN_TABLE,
    MMUEXT_NEW_BASEPTR, MMUEXT_TLB_FLUSH_LOCAL, MMUEXT_INVLPG_LOCAL, MMUEXT_TLB_FLUSH_MULTI,
    MMUEXT_INVLPG_MULTI, MMUEXT_TLB_FLUSH_ALL, MMUEXT_INVLPG_ALL, MMUEXT_FLUSH_CACHE, MMUEXT_SET_LDT,
    MMUEXT_UNKNOWN14, MMUEXT_NEW_USER_BASEPTR, MMUEXT_CLEAR_PAGE, MMUEXT_COPY_PAGE,
    MMUEXT_FLUSH_CACHE_GLOBAL, MMUEXT_MARK_SUPER, MMUEXT_UNMARK_SUPER,
};
enum { UVMF_NONE = 0, UVMF_TLB_FLUSH = 1, UVMF_INVLPG = 2, UVMF_ALL = 4 };

struct multicall_entry {
    u64 op;
    s64 result;
    u64 args[6];
};

/* sched.h */
enum { SCHEDOP_yield, SCHEDOP_block, SCHEDOP_shutdown, SCHEDOP_poll, SCHEDOP_remote_shutdown, SCHEDOP_shutdown_code,
       SCHEDOP_watchdog, SCHEDOP_pin_override };
enum { SHUTDOWN_poweroff, SHUTDOWN_reboot, SHUTDOWN_suspend, SHUTDOWN_crash };
struct sched_poll {
    u32 *ports;
    u32 nr_ports;
    u32 pad;
    u64 timeout;
};

/* event_channel.h */
enum { EVTCHNOP_bind_interdomain, EVTCHNOP_bind_virq, EVTCHNOP_bind_pirq, EVTCHNOP_close, EVTCHNOP_send,
       EVTCHNOP_status, EVTCHNOP_alloc_unbound, EVTCHNOP_bind_ipi, EVTCHNOP_bind_vcpu, EVTCHNOP_unmask,
       EVTCHNOP_reset, EVTCHNOP_init_control, EVTCHNOP_expand_array, EVTCHNOP_set_priority };
enum { VIRQ_TIMER = 0, VIRQ_DEBUG = 1, VIRQ_CONSOLE = 2, VIRQ_XENOPROF = 7, VIRQ_ARCH_0 = 16 };
enum { EVTCHNSTAT_closed, EVTCHNSTAT_unbound, EVTCHNSTAT_interdomain, EVTCHNSTAT_pirq, EVTCHNSTAT_virq,
       EVTCHNSTAT_ipi };
struct evtchn_status {
    u16 dom;
    u16 pad;
    u32 port;
    u32 status;
    u32 vcpu;
    u32 u[2];
};

/* vcpu.h */
enum { VCPUOP_initialise, VCPUOP_up, VCPUOP_down, VCPUOP_is_up, VCPUOP_get_runstate_info,
       VCPUOP_register_runstate_memory_area, VCPUOP_set_periodic_timer, VCPUOP_stop_periodic_timer,
       VCPUOP_set_singleshot_timer, VCPUOP_stop_singleshot_timer, VCPUOP_register_vcpu_info, VCPUOP_send_nmi,
       VCPUOP_get_physid, VCPUOP_register_vcpu_time_memory_area };
struct runstate_info {
    s32 state;
    u32 pad;
    u64 state_entry_time;
    u64 time[4];
};

/* callback.h */
enum { CALLBACKOP_register, CALLBACKOP_unregister };
enum { CALLBACKTYPE_event, CALLBACKTYPE_failsafe, CALLBACKTYPE_syscall, CALLBACKTYPE_sysenter_old,
       CALLBACKTYPE_nmi, CALLBACKTYPE_sysenter, CALLBACKTYPE_syscall32 = 7 };
#define CALLBACKF_mask_events 1
struct callback_register {
    u16 type;
    u16 flags;
    u32 pad;
    u64 address;
};

/* architecture */
#define PTE_P 0x001ul
#define PTE_W 0x002ul
#define PTE_U 0x004ul
#define PTE_PWT 0x008ul
#define PTE_PCD 0x010ul
#define PTE_A 0x020ul
#define PTE_D 0x040ul
#define PTE_PSE 0x080ul
#define PTE_G 0x100ul
#define PTE_NX (1ul << 63)
#define PTE_MFN 0x000ffffffffff000ul
#define FLAG_CF 0x1ul
#define FLAG_TF 0x100ul
#define FLAG_IF 0x200ul
#define FLAG_DF 0x400ul
#define FLAG_OF 0x800ul
#define FLAG_IOPL 0x3000ul
#define FLAG_NT 0x4000ul
#define FLAG_RF 0x10000ul
#define FLAG_VM 0x20000ul
#define FLAG_AC 0x40000ul
#define FLAG_ID 0x200000ul
#define PAGE 4096ul
