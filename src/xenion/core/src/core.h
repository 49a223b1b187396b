/* The hot core: traps, page tables, events, timers and scheduling calls of a PV domain.
 *
 * Every function works on the `struct domain` passed in; there is no other state. It reaches the processor only through
 * `struct platform`. No lock is held across a platform operation; counts, types and page-table entries change by CAS. */
#ifndef XENION_CORE_H
#define XENION_CORE_H

#include "types.h"
#include "xen.h"

#include "state.h"

struct platform {
    u64 (*get_flags)(struct vcpu *);
    void (*set_flags)(struct vcpu *, u64 flags);
    void (*clear_flags)(struct vcpu *, u64 mask); /* of system flags, cheaper than get and set */
    u64 (*get_base)(struct vcpu *, int segbase); /* SEGBASE_FS, or SEGBASE_GS_KERNEL for the active GS */
    void (*set_base)(struct vcpu *, int segbase, u64 base);
    void (*load_cr3)(struct vcpu *, u64 cr3); /* flushes */
    void (*flush_page)(struct vcpu *, u64 address);
    void (*flush_all)(struct domain *);       /* every vCPU's TLB */
    int (*load_selector)(struct vcpu *, int segment, u16 selector); /* 0, or -1: it would fault */
    void (*mode_changed)(struct vcpu *); /* kernel_mode did */
    void (*load_ldt)(struct vcpu *);
    u64 (*tsc)(void);
    void (*arm_timer)(struct vcpu *);         /* the next deadline may have come nearer */
    void (*wait)(struct vcpu *, u64 deadline); /* until kicked, or the system time is DEADLINE (0: no limit) */
    void (*wake)(struct vcpu *);              /* a vCPU has work: kick it out of guest code or `wait` */
    void (*notify_dom0)(struct domain *);
    void (*code_written)(struct domain *, u64 ma, u64 size); /* the VMM wrote guest memory */
    int (*has_code)(struct domain *, u64 mfn); /* any thread: may the processor keep a translation of the frame's bytes? */
    void (*frame_freed)(struct domain *, u64 mfn);
    void (*table_begins)(struct domain *, u64 mfn); /* the frame is about to be used as a page table */
    /* the entry at MA, in a table that may be in use, was present and has become VALUE */
    void (*entry_changed)(struct domain *, u64 ma, u64 old, u64 value);
    void (*set_task_switched)(struct vcpu *);
    void (*load_registers)(struct vcpu *);    /* those of another of the domain's vCPUs, for operations on it */
    s64 (*cold_call)(struct vcpu *, u64 number, const u64 *args); /* hypercalls that are not in the core */
    int (*cold_trap)(struct vcpu *, u32 vector, u32 error); /* 1: emulated; 0: the guest gets the exception */
};

/* segments as `load_selector` numbers them (x86 encoding order) */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS };

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };

#define FLAG_CF 0x1ull
#define FLAG_TF 0x100ull
#define FLAG_IF 0x200ull
#define FLAG_DF 0x400ull
#define FLAG_IOPL 0x3000ull
#define FLAG_NT 0x4000ull
#define FLAG_RF 0x10000ull
#define FLAG_VM 0x20000ull
#define FLAG_AC 0x40000ull

/* a bit for each exception that pushes an error code */
#define EXCEPTIONS_WITH_ERROR (1u << 8 | 0x1fu << 10 | 1u << 17 | 1u << 21)

#define PFEC_PRESENT 1u
#define PFEC_WRITE 2u
#define PFEC_USER 4u

/* --- page-table entries */
#define PTE_P 0x1ull
#define PTE_RW 0x2ull
#define PTE_US 0x4ull
#define PTE_A 0x20ull
#define PTE_D 0x40ull
#define PTE_PSE 0x80ull
#define PTE_NX (1ull << 63)
#define PTE_ADDRESS 0x000ffffffffff000ull
#define PTE_FRAME(e) (((e) & PTE_ADDRESS) >> PAGE_SHIFT)

#define L4_XEN_FIRST 256
#define L4_XEN_LAST 271

/* --- frames.c */
#define TYPE_NONE (0ull << 61)
#define TYPE_L1 (1ull << 61)
#define TYPE_L2 (2ull << 61)
#define TYPE_L3 (3ull << 61)
#define TYPE_L4 (4ull << 61)
#define TYPE_SEG (5ull << 61)
#define TYPE_WRITABLE (7ull << 61)
#define TYPE_MASK (7ull << 61)
#define TYPE_PINNED (1ull << 60)
#define TYPE_VALIDATED (1ull << 59)
#define TYPE_KERNEL_L4 (1ull << 58) /* its kernel half holds the user bits back */
#define TYPE_COUNT 0xffffffffull
#define FRAME_ALLOCATED 0x80000000u
#define FRAME_COUNT 0x7fffffffu

struct frame *frame_of(struct domain *d, u64 mfn); /* NULL when out of range */
int get_frame(struct domain *d, u64 mfn);          /* 1, or 0: not the domain's */
void put_frame(struct domain *d, u64 mfn);
int get_frame_type(struct domain *d, u64 mfn, u64 type); /* 0, -EINVAL, -EBUSY ...; needs a frame reference */
void put_frame_type(struct domain *d, u64 mfn);
int get_frame_and_type(struct domain *d, u64 mfn, u64 type);
void put_frame_and_type(struct domain *d, u64 mfn);
int pin_table(struct domain *d, u64 mfn, u64 type);
int unpin_table(struct domain *d, u64 mfn);

/* --- frame_sets.c */
void frame_set_add(struct frame_set *s, u64 mfn);
int frame_set_has(struct frame_set *s, u64 mfn);
void frame_set_drain(struct domain *d, struct frame_set *s, void (*act)(struct domain *, u64 mfn));
void note_host_write(struct domain *d, u64 mfn, int *stale); /* sets *stale if translated code may be: then host_wrote_code */
void host_wrote_code(struct domain *d);
void see_to_frames(struct domain *d);

/* --- page_tables.c */
int validate_table(struct domain *d, u64 mfn, u64 type);
void invalidate_table(struct domain *d, u64 mfn, u64 type);
int change_entry(struct domain *d, u64 mfn, u64 type, u64 index, u64 value, int preserve_ad);
int compare_change_l1(struct domain *d, u64 mfn, u64 index, u64 expected, u64 value);
void become_kernel_table(struct domain *d, u64 mfn);
void become_user_table(struct domain *d, u64 mfn);
int lower_halves_equal(struct vcpu *v);
void set_hypervisor_entry(struct domain *d, u64 ma, u64 value);

/* --- guest_memory.c */
u64 *l1_entry(struct domain *d, u64 cr3, u64 address, u64 *table_mfn); /* NULL: no L1 table there */
int copy_from_guest(struct vcpu *v, void *to, u64 from, u64 size);     /* 0 or -EFAULT */
int copy_to_guest(struct vcpu *v, u64 to, const void *from, u64 size);
int range_okay(u64 address, u64 size, u64 count);

/* --- descriptors.c
 * Each vCPU has a window of pages for its GDT, with Xen's own descriptors at the end, and behind it one for its LDT. */
#define TABLE_PAGES 16u
#define AREA_PAGES (2 * TABLE_PAGES)
static inline u64 gdt_of(const struct vcpu *v) { return v->domain->gdt_area + (u64)v->id * AREA_PAGES * PAGE_SIZE; }
static inline u64 ldt_window_of(const struct vcpu *v) { return gdt_of(v) + TABLE_PAGES * PAGE_SIZE; }
s64 set_gdt(struct vcpu *v, const u64 *list, u64 entries);
s64 set_gdt_op(struct vcpu *v, u64 list, u64 entries);
s64 update_descriptor(struct vcpu *v, u64 ma, u64 descriptor);
s64 set_ldt(struct vcpu *v, u64 base, u64 entries);
int validate_descriptors(struct domain *d, u64 mfn);
int map_ldt_page(struct vcpu *v, u64 offset);
void drop_ldt(struct vcpu *v);
u64 read_descriptor(struct vcpu *v, u16 selector, int *okay);
int may_load(int segment, u64 descriptor);

/* --- mmu_hypercalls.c */
s64 mmu_update(struct vcpu *v, u64 *args);
s64 update_va_mapping(struct vcpu *v, u64 address, u64 value, u64 flags, u64 domid);
s64 mmuext_op(struct vcpu *v, u64 *args);
int new_kernel_table(struct vcpu *v, u64 mfn);
int new_user_table(struct vcpu *v, u64 mfn);

/* --- bounce.c */
void enter_kernel(struct vcpu *v);
void enter_user(struct vcpu *v);
void bounce(struct vcpu *v, u64 address, int has_error, u32 error, int mask);
void inject_exception(struct vcpu *v, u32 vector, int has_error, u32 error);
s64 guest_iret(struct vcpu *v);
void guest_syscall(struct vcpu *v, int compat);

/* --- events.c */
/* How events are shown to the guest: as two levels of bits, or in queues. */
struct event_ops {
    u32 ports; /* how many there can be */
    void (*set_pending)(struct domain *d, u32 port);
    void (*clear_pending)(struct domain *d, u32 port);
    void (*unmask)(struct domain *d, u32 port);
    int (*is_pending)(struct domain *d, u32 port);
    int (*is_busy)(struct domain *d, u32 port); /* closed, but not yet out of the guest's hands */
};
const struct event_ops *event_ops(struct domain *d);
void mark_upcall(struct vcpu *v);
void wake_all(struct domain *d);
void wake_pollers(struct domain *d, u32 port);
void set_pending(struct domain *d, u32 port);
void raise_virq(struct vcpu *v, u32 virq);
void drain_inbox(struct domain *d);
void tell_dom0(struct domain *d, u32 port);
int events_deliverable(struct vcpu *v);
int nmi_deliverable(struct vcpu *v);
void deliver_events(struct vcpu *v);
s64 evtchn_send(struct vcpu *v, u64 arg);
s64 evtchn_unmask(struct vcpu *v, u64 arg);

/* --- events_fifo.c */
extern const struct event_ops fifo_ops;

/* --- time.c */
u64 system_time(struct domain *d);
void check_timers(struct vcpu *v);
u64 next_deadline(struct vcpu *v);
s64 set_timer_op(struct vcpu *v, u64 timeout);
s64 set_singleshot(struct vcpu *v, u64 arg);
s64 stop_singleshot(struct vcpu *v);
void change_runstate(struct vcpu *v, u32 state);

/* --- sched.c */
void hold_while_paused(struct vcpu *v);
void wait_for_reason(struct vcpu *v);
int ends_wait(struct vcpu *v);
void begin_wait(struct vcpu *v, u8 how);
s64 sched_block(struct vcpu *v);
s64 sched_poll(struct vcpu *v, u64 arg);

/* --- hypercalls.c */
#define CALL_CONTINUES INT64_MIN /* preempted: arguments updated, the call is made again */
s64 hypercall(struct vcpu *v, u64 number, u64 *args);
int preempted(struct vcpu *v); /* should a long call give way now? */
void crash_domain(struct domain *d, const char *reason);

/* --- ptwr.c */
int emulate_table_write(struct vcpu *v, u64 address);

/* The first eight bytes of a port, as they were at one time. */
static inline struct port read_port(struct domain *d, u32 port)
{
    struct port p = {0};
    u64 word = load((u64 *)&d->ports[port]);
    __builtin_memcpy(&p, &word, sizeof word);
    return p;
}

static inline u64 *word_at(struct domain *d, u64 ma) { return (u64 *)(d->memory + ma); }
static inline u64 *table_entry(struct domain *d, u64 mfn, u64 index)
{
    return word_at(d, (mfn << PAGE_SHIFT) + ((index & 511) << 3));
}

/* struct vcpu_info of xen.h, the fields that the core touches. */
struct vcpu_info {
    u8 upcall_pending;
    u8 upcall_mask;
    u8 pad[6];
    u64 pending_sel;
    u64 cr2;
};

static inline struct vcpu_info *info_of(struct vcpu *v) { return (struct vcpu_info *)(v->domain->memory + v->info); }

#endif
