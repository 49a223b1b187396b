/* What the VMM's Python half does with frames, clocks and ports: set-up, ballooning, binding. None of it is hot. */
#include "core.h"

#include "api.h"

/* The domain's own frames, in pseudo-physical order. */
void core_adopt_frames(struct domain *d, u64 first, u64 count)
{
    for (u64 mfn = 0; mfn < d->nr_frames; mfn++)
        if (mfn < first || mfn >= first + count)
            *word_at(d, d->m2p + mfn * 8) = ~0ull;
    for (u64 mfn = first; mfn < first + count && mfn < d->nr_frames; mfn++) {
        d->frames[mfn].count = FRAME_ALLOCATED | 1;
        d->frames[mfn].type = 0;
        *word_at(d, d->m2p + mfn * 8) = mfn - first;
        d->pages++;
    }
}

/* A page of the hypervisor's that the guest may map writable, and that can never become anything else. */
void core_share_frame(struct domain *d, u64 mfn)
{
    d->frames[mfn].count = 2;
    d->frames[mfn].type = TYPE_WRITABLE | TYPE_VALIDATED | 1;
}

void core_map_descriptor_areas(struct domain *d, u64 reserved_page)
{
    d->reserved_gdt = reserved_page;
    for (u64 v = 0; v < d->nr_vcpus; v++)
        for (u64 page = 0; page < TABLE_PAGES; page++) {
            u64 ma = page == FIRST_RESERVED_GDT_PAGE ? reserved_page : d->zero_page;
            *word_at(d, d->gdt_l1 + (v * AREA_PAGES + page) * 8) = ma | PTE_P | PTE_A | PTE_D | PTE_NX;
        }
}

int core_boot_table(struct vcpu *v, u64 mfn)
{
    int rc = pin_table(v->domain, mfn, TYPE_L4);
    return rc ? rc : new_kernel_table(v, mfn);
}

int64_t core_allocate_frame(struct domain *d)
{
    for (u64 n = d->first_frame; n < d->nr_frames; n++) {
        if (d->scan < d->first_frame || d->scan >= d->nr_frames)
            d->scan = d->first_frame;
        u64 mfn = d->scan++;
        u32 none = 0;
        if (cas(&d->frames[mfn].count, &none, FRAME_ALLOCATED | 1)) {
            fetch_add(&d->pages, 1);
            return (int64_t)mfn;
        }
    }
    return -XEN_ENOMEM;
}

/* Gives a frame back; it is freed when its last mapping goes. 0, or -EINVAL: not the domain's to give. */
int core_release_frame(struct domain *d, u64 mfn)
{
    struct frame *f = frame_of(d, mfn);
    if (!f || mfn < d->first_frame || !(fetch_and(&f->count, ~FRAME_ALLOCATED) & FRAME_ALLOCATED))
        return -XEN_EINVAL;
    *word_at(d, d->m2p + mfn * 8) = ~0ull;
    put_frame(d, mfn);
    return 0;
}

int core_owns_frame(struct domain *d, u64 mfn)
{
    struct frame *f = frame_of(d, mfn);
    return f && (load(&f->count) & FRAME_COUNT) != 0;
}

int core_pin(struct domain *d, u64 mfn, int level) { return pin_table(d, mfn, (u64)level << 61); }

int core_get_writable(struct domain *d, u64 mfn) { return get_frame_and_type(d, mfn, TYPE_WRITABLE); }

void core_set_pending(struct domain *d, u32 port)
{
    if (port < event_ops(d)->ports)
        set_pending(d, port);
}

void core_clear_pending(struct domain *d, u32 port)
{
    if (port < event_ops(d)->ports)
        event_ops(d)->clear_pending(d, port);
}

/* How many ports the guest's way of taking events allows. */
uint32_t core_port_limit(struct domain *d) { return event_ops(d)->ports; }

/* The lowest port below LIMIT that can be bound, or 0: none. */
uint32_t core_free_port(struct domain *d, u32 limit)
{
    const struct event_ops *ops = event_ops(d);
    for (u32 port = 1; port < limit && port < ops->ports; port++)
        if (!load(&d->ports[port].state) && !ops->is_busy(d, port))
            return port;
    return 0;
}

/* Any thread: have the guest see an event. 0, or -EINVAL. */
int core_post_event(struct domain *d, u32 port)
{
    if (port >= DOM0_PORTS || !load(&d->ports[port].state))
        return -XEN_EINVAL;
    fetch_or(&d->inbox[port >> 6], 1ull << (port & 63));
    fetch_or(&d->inbox_any, 1ull << (port >> 6));
    d->platform->wake(&d->vcpus[d->ports[port].vcpu % MAX_VCPUS]);
    return 0;
}

/* Any thread: have Dom0's handler of a port called. */
void core_notify_dom0(struct domain *d, u32 port)
{
    if (port < DOM0_PORTS)
        tell_dom0(d, port);
}

/* The words of the outbox that may have a bit; the guest's next notification wakes Dom0 again. */
uint64_t core_outbox_words(struct domain *d) { return swap(&d->outbox_any, 0); }

uint64_t core_take_outbox(struct domain *d, u32 word) { return word < DOM0_PORT_WORDS ? swap(&d->outbox[word], 0) : 0; }

/* What a port is changes in one store: whoever looks from another thread sees it as it was or as it is. */
void core_set_port(struct domain *d, u32 port, u8 state, int dom0_end, u32 number)
{
    if (port >= MAX_PORTS)
        return;
    struct port p = read_port(d, port);
    p.state = state;
    p.dom0_end = dom0_end != 0;
    p.number = number;
    u64 word;
    __builtin_memcpy(&word, &p, sizeof word);
    store((u64 *)&d->ports[port], word);
}

struct time_info { /* struct vcpu_time_info */
    u32 version, pad0;
    u64 tsc_timestamp, system_time;
    u32 tsc_to_system_mul;
    signed char tsc_shift;
    u8 flags, pad1[2];
};

void core_publish_time(struct vcpu *v)
{
    struct domain *d = v->domain;
    volatile struct time_info *t = (volatile struct time_info *)(d->memory + v->info + 32);
    u32 version = t->version | 1;
    t->version = version;
    fence();
    t->tsc_timestamp = d->tsc_base;
    t->system_time = d->time_base;
    t->tsc_to_system_mul = d->tsc_mul;
    t->tsc_shift = (signed char)d->tsc_shift;
    t->flags = 1; /* XEN_PVCLOCK_TSC_STABLE_BIT: one TSC, one scaling for every vCPU */
    fence();
    t->version = version + 1;
}

/* WALL_NS: the time of day at system time zero. */
void core_publish_wallclock(struct domain *d, u64 wall_ns)
{
    volatile u32 *wc = (volatile u32 *)(d->memory + d->shared_info + 3072);
    u32 version = wc[0] | 1;
    wc[0] = version;
    fence();
    wc[1] = (u32)(wall_ns / 1000000000u);
    wc[2] = (u32)(wall_ns % 1000000000u);
    wc[3] = (u32)(wall_ns / 1000000000u >> 32);
    fence();
    wc[0] = version + 1;
}

/* Moves the vcpu_info: contents first, then everything pending, so that no event is lost meanwhile. */
void core_register_info(struct vcpu *v, u64 ma)
{
    struct domain *d = v->domain;
    __builtin_memcpy(d->memory + ma, d->memory + v->info, 64);
    v->info = ma;
    fence();
    store(&info_of(v)->pending_sel, ~0ull);
    store(&info_of(v)->upcall_pending, 1);
}

void core_change_runstate(struct vcpu *v, u32 state) { change_runstate(v, state); }

void core_arm_timer(struct vcpu *v) { v->domain->platform->arm_timer(v); }

/* Any thread: every vCPU leaves guest code and its run loop ends. */
void core_stop(struct domain *d)
{
    store(&d->stopping, 1);
    for (u32 i = 0; i < d->nr_vcpus; i++) {
        store(&d->vcpus[i].stopped, 1);
        d->platform->wake(&d->vcpus[i]);
    }
}

/* Any thread: every vCPU is held soon, before its next instruction; Dom0 is notified when one is. */
void core_pause(struct domain *d)
{
    if (!swap(&d->paused, 1))
        wake_all(d);
}

/* Any thread: and goes on. */
void core_unpause(struct domain *d)
{
    if (swap(&d->paused, 0))
        wake_all(d);
}

/* Any thread: is every vCPU held? One that is stays so until core_unpause or core_stop. */
int core_parked(struct domain *d)
{
    for (u32 i = 0; i < d->nr_vcpus; i++)
        if (!load(&d->vcpus[i].parked))
            return 0;
    return 1;
}

/* Any thread: one is kept until it can be delivered, however many are sent. */
void core_send_nmi(struct vcpu *v)
{
    if (!swap(&v->nmi_pending, 1))
        v->domain->platform->wake(v);
}

void core_fence(void) { fence(); }

/* For the emulation of privileged instructions. */

uint64_t core_get_base(struct vcpu *v, int segbase) { return v->domain->platform->get_base(v, segbase); }

void core_set_base(struct vcpu *v, int segbase, u64 base) { v->domain->platform->set_base(v, segbase, base); }

void core_task_switched(struct vcpu *v, int set)
{
    v->task_switched = set != 0;
    v->domain->platform->set_task_switched(v);
}

int core_new_kernel_table(struct vcpu *v, u64 mfn) { return new_kernel_table(v, mfn); }

int core_load_stack_selector(struct vcpu *v, u16 selector) { return v->domain->platform->load_selector(v, SEG_SS, selector); }

void core_code_written(struct domain *d, u64 ma, u64 size) { d->platform->code_written(d, ma, size); }

/* For grants: words and entries that the guest changes too, and references that Dom0 or a mapping holds. */

static int in_memory(struct domain *d, u64 ma, u64 size) { return !(ma & (size - 1)) && ma < d->nr_frames << PAGE_SHIFT; }

/* What was found: EXPECTED when the word was replaced. */
uint32_t core_compare_swap32(struct domain *d, u64 ma, u32 expected, u32 value)
{
    if (in_memory(d, ma, sizeof value))
        cas((u32 *)(d->memory + ma), &expected, value);
    return expected;
}

/* What was there before. */
uint16_t core_or16(struct domain *d, u64 ma, u16 bits)
{
    return in_memory(d, ma, sizeof bits) ? fetch_or((u16 *)(d->memory + ma), bits) : 0;
}

int core_get_frame(struct domain *d, u64 mfn) { return get_frame(d, mfn) ? 0 : -XEN_EINVAL; }

/* The machine address of the guest kernel's L1 entry for a linear ADDRESS; 0: there is no such table. */
uint64_t core_l1_entry(struct vcpu *v, u64 address)
{
    u64 mfn, *slot = range_okay(address, 1, 1) ? l1_entry(v->domain, v->cr3, address, &mfn) : NULL;
    return slot ? (u64)((u8 *)slot - v->domain->memory) : 0;
}

/* Replaces an entry of one of the domain's L1 tables, checked and counted like any, and flushes.
 * 1: done; 0: it was not EXPECTED; negative: refused. */
int core_change_l1(struct domain *d, u64 ma, u64 expected, u64 value)
{
    u64 mfn = ma >> PAGE_SHIFT;
    int rc = -XEN_EINVAL;
    if ((ma & 7) || !get_frame(d, mfn))
        return rc;
    if ((load(&frame_of(d, mfn)->type) & TYPE_MASK) == TYPE_L1 && !get_frame_type(d, mfn, TYPE_L1)) {
        rc = compare_change_l1(d, mfn, PAGE_OFFSET(ma) >> 3, expected, value);
        if (rc == 1 && (expected & PTE_P))
            d->platform->flush_all(d);
        put_frame_type(d, mfn);
    }
    put_frame(d, mfn);
    return rc;
}

/* Should a long cold call stop here? Then it ends with core_continue. */
int core_gives_way(struct vcpu *v) { return load(&v->stopped) || preempted(v); }

/* The call is made again, with these arguments, when the vCPU goes on; the caller returns what this returns. */
int64_t core_continue(struct vcpu *v, u64 first, u64 second, u64 third)
{
    v->call_args[0] = first;
    v->call_args[1] = second;
    v->call_args[2] = third;
    return CALL_CONTINUES;
}
