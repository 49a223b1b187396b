/* The constants of Xen's public interface that the core needs; a unit test holds each against xenion.abi.
 * Names and values: xen/include/public/{xen,errno,sched,vcpu,event_channel}.h, arch-x86/xen*.h. */
#ifndef XENION_XEN_H
#define XENION_XEN_H

#define XEN_EPERM 1
#define XEN_ENOENT 2
#define XEN_ESRCH 3
#define XEN_ENOMEM 12
#define XEN_EACCES 13
#define XEN_EFAULT 14
#define XEN_EBUSY 16
#define XEN_EINVAL 22
#define XEN_ENOSPC 28
#define XEN_ENOSYS 38
#define XEN_EOPNOTSUPP 95

#define HYPERCALL_mmu_update 1
#define HYPERCALL_set_gdt 2
#define HYPERCALL_stack_switch 3
#define HYPERCALL_fpu_taskswitch 5
#define HYPERCALL_update_descriptor 10
#define HYPERCALL_multicall 13
#define HYPERCALL_update_va_mapping 14
#define HYPERCALL_set_timer_op 15
#define HYPERCALL_update_va_mapping_otherdomain 22
#define HYPERCALL_iret 23
#define HYPERCALL_vcpu_op 24
#define HYPERCALL_set_segment_base 25
#define HYPERCALL_mmuext_op 26
#define HYPERCALL_sched_op 29
#define HYPERCALL_event_channel_op 32

#define DOMID_SELF 0x7ff0

#define MMU_NORMAL_PT_UPDATE 0
#define MMU_MACHPHYS_UPDATE 1
#define MMU_PT_UPDATE_PRESERVE_AD 2
#define MMU_PT_UPDATE_NO_TRANSLATE 3
#define MMU_UPDATE_PREEMPTED 0x80000000u

#define MMUEXT_PIN_L1_TABLE 0
#define MMUEXT_PIN_L2_TABLE 1
#define MMUEXT_PIN_L3_TABLE 2
#define MMUEXT_PIN_L4_TABLE 3
#define MMUEXT_UNPIN_TABLE 4
#define MMUEXT_NEW_BASEPTR 5
#define MMUEXT_TLB_FLUSH_LOCAL 6
#define MMUEXT_INVLPG_LOCAL 7
#define MMUEXT_TLB_FLUSH_MULTI 8
#define MMUEXT_INVLPG_MULTI 9
#define MMUEXT_TLB_FLUSH_ALL 10
#define MMUEXT_INVLPG_ALL 11
#define MMUEXT_FLUSH_CACHE 12
#define MMUEXT_SET_LDT 13
#define MMUEXT_NEW_USER_BASEPTR 15
#define MMUEXT_CLEAR_PAGE 16
#define MMUEXT_COPY_PAGE 17
#define MMUEXT_FLUSH_CACHE_GLOBAL 18
#define MMUEXT_MARK_SUPER 19
#define MMUEXT_UNMARK_SUPER 20

#define UVMF_NONE 0
#define UVMF_TLB_FLUSH 1
#define UVMF_INVLPG 2
#define UVMF_FLUSHTYPE_MASK 3
#define UVMF_ALL 4

#define SEGBASE_FS 0
#define SEGBASE_GS_USER 1
#define SEGBASE_GS_KERNEL 2
#define SEGBASE_GS_USER_SEL 3

#define SCHEDOP_yield 0
#define SCHEDOP_block 1
#define SCHEDOP_poll 3

#define VCPUOP_is_up 3
#define VCPUOP_set_singleshot_timer 8
#define VCPUOP_stop_singleshot_timer 9
#define VCPU_SSHOTTMR_future 1

#define EVTCHNOP_send 4
#define EVTCHNOP_unmask 9

#define EVTCHN_2L_NR_CHANNELS 4096
#define EVTCHN_FIFO_NR_CHANNELS 131072
#define EVTCHN_FIFO_PENDING 31
#define EVTCHN_FIFO_MASKED 30
#define EVTCHN_FIFO_LINKED 29
#define EVTCHN_FIFO_BUSY 28
#define EVTCHN_FIFO_LINK_MASK 0x1ffff

#define VIRQ_TIMER 0

#define GTF_permit_access 1
#define GTF_transitive 3
#define GTF_type_mask 3
#define GTF_readonly (1u << 2)
#define GTF_reading (1u << 3)
#define GTF_writing (1u << 4)
#define GTF_sub_page (1u << 8)

#define GNTST_okay 0
#define GNTST_general_error -1
#define GNTST_bad_gntref -3
#define GNTST_bad_page -9
#define GNTST_bad_copy_arg -10

#define FLAT_KERNEL_CS64 0xe033
#define FLAT_KERNEL_SS64 0xe02b
#define FLAT_USER_DS32 0xe02b
#define FIRST_RESERVED_GDT_ENTRY 7168
#define FIRST_RESERVED_GDT_PAGE 14

#define HYPERVISOR_VIRT_START 0xffff800000000000ull
#define HYPERVISOR_VIRT_END 0xffff880000000000ull

#define VGCF_IN_SYSCALL 0x100

#define VMASST_TYPE_architectural_iopl 4

#define RUNSTATE_running 0
#define RUNSTATE_runnable 1
#define RUNSTATE_blocked 2
#define RUNSTATE_offline 3
#define XEN_RUNSTATE_UPDATE (1ull << 63)
#define VMASST_TYPE_runstate_update_flag 5

#endif
