/* The hardware processor as the core's platform. */
#define _GNU_SOURCE
#include "hardware.h"

#include <signal.h>
#include <x86intrin.h>

static u64 get_flags(struct vcpu *v) { return hardware_of(v)->rflags | 2; }

static void set_flags(struct vcpu *v, u64 flags) { hardware_of(v)->rflags = (flags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2; }

static void clear_flags(struct vcpu *v, u64 mask) { hardware_of(v)->rflags &= ~mask; }

static __u64 *base_of(struct hardware *h, int segbase)
{
    return segbase == SEGBASE_FS ? &system_registers(h)->fs.base : &system_registers(h)->gs.base;
}

static u64 get_base(struct vcpu *v, int segbase) { return *base_of(hardware_of(v), segbase); }

static void set_base(struct vcpu *v, int segbase, u64 base)
{
    struct hardware *h = hardware_of(v);
    h->changed |= *base_of(h, segbase) != base;
    *base_of(h, segbase) = base;
}

static void flush_all(struct domain *d)
{
    fetch_add(&d->tlb_clock, 1);
    hardware_of(&d->vcpus[0])->flush = 1;
}

static void flush_page(struct vcpu *v, u64 address)
{
    (void)address;
    hardware_of(v)->flush = 1;
}

static void load_cr3(struct vcpu *v, u64 cr3)
{
    struct hardware *h = hardware_of(v);
    system_registers(h)->cr3 = cr3;
    h->changed = 1;
    v->loaded_cr3 = cr3;
    flush_all(v->domain);
}

static int load_selector(struct vcpu *v, int segment, u16 selector) { return set_segment(hardware_of(v), segment, selector); }

/* Ring 3 in either mode. */
static void mode_changed(struct vcpu *v) { (void)v; }

static void load_ldt(struct vcpu *v)
{
    struct hardware *h = hardware_of(v);
    system_registers(h)->ldt = (struct kvm_segment){.base = ldt_window_of(v),
                                                    .limit = v->ldt_entries ? v->ldt_entries * 8 - 1 : 0,
                                                    .type = 2,
                                                    .present = v->ldt_entries != 0,
                                                    .unusable = !v->ldt_entries};
    h->changed = 1;
}

static u64 tsc(void) { return __rdtsc(); }

u64 hardware_tsc(void) { return tsc(); }

/* A signal interrupts the thread in the virtual machine; the flag, one that is about to enter it. */
static void interrupt(struct vcpu *v)
{
    struct hardware *h = hardware_of(v);
    store(&h->run->immediate_exit, (u8)1);
    pthread_kill(h->thread, SIGRTMIN);
}

/* Leaving the virtual machine takes longer than to ask for it, so a guest that is asked all the time would never get to its
 * next instruction: an interruption that follows too soon on another is left to the timer. */
static void wake(struct vcpu *v)
{
    struct hardware *h = hardware_of(v);
    if (pthread_equal(pthread_self(), h->thread) || !end_wait(v) || !load(&h->runs))
        return; /* it looks for work before it goes on */
    u64 now = system_time(v->domain), last = load(&h->interrupted), apart = load(&h->apart);
    if (now - last < apart) {
        timer_late(&h->timer, last + apart);
    } else {
        store(&h->interrupted, now);
        interrupt(v);
    }
}

static void arm_timer(struct vcpu *v) { timer_arm(&hardware_of(v)->timer, v); }

static void notify_dom0(struct domain *d) { write_eventfd(hardware_of(&d->vcpus[0])->notify_fd); }

/* The processor sees to its caches. */
static void code_written(struct domain *d, u64 ma, u64 size) { (void)d, (void)ma, (void)size; }

static int has_code(struct domain *d, u64 mfn)
{
    (void)d, (void)mfn;
    return 0;
}

static void frame_freed(struct domain *d, u64 mfn)
{
    flush_all(d);
    forget_frame(d, mfn);
}

static void table_begins(struct domain *d, u64 mfn) { note_table(hardware_of(&d->vcpus[0]), mfn << PAGE_SHIFT); }

static void entry_changed(struct domain *d, u64 ma, u64 old, u64 value)
{
    note_entry(hardware_of(&d->vcpus[0]), ma, old, value);
}

static void load_registers(struct vcpu *v) { (void)v; }

#define CR0_TS 8ull

static void set_task_switched(struct vcpu *v)
{
    struct hardware *h = hardware_of(v);
    struct kvm_sregs *s = system_registers(h);
    s->cr0 = v->task_switched ? s->cr0 | CR0_TS : s->cr0 & ~CR0_TS;
    h->changed = 1;
}

void hardware_platform(struct hardware *h)
{
    timer_init(&h->timer, h->vcpu, 1, wake);
    h->timer.late = interrupt;
    h->platform = (struct platform){
        .get_flags = get_flags,
        .set_flags = set_flags,
        .clear_flags = clear_flags,
        .get_base = get_base,
        .set_base = set_base,
        .load_cr3 = load_cr3,
        .flush_page = flush_page,
        .flush_all = flush_all,
        .load_selector = load_selector,
        .mode_changed = mode_changed,
        .load_ldt = load_ldt,
        .tsc = tsc,
        .arm_timer = arm_timer,
        .wait = wait_for_work,
        .wake = wake,
        .notify_dom0 = notify_dom0,
        .code_written = code_written,
        .has_code = has_code,
        .frame_freed = frame_freed,
        .table_begins = table_begins,
        .entry_changed = entry_changed,
        .set_task_switched = set_task_switched,
        .load_registers = load_registers,
        .cold_call = h->callbacks.cold_call,
        .cold_trap = h->callbacks.cold_trap,
    };
}
