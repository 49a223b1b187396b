/* Event channels: the two-level bits, upcalls, and the two mailboxes between the guest and Dom0's threads.
 * The guest also writes these words, so they change only here, on the vCPU's own thread (event_channel.h). */
#include "core.h"

enum { PORT_FREE, PORT_UNBOUND, PORT_INTERDOMAIN, PORT_VIRQ, PORT_IPI };

#define NMI_VECTOR 2
#define SHARED_PENDING 2048 /* offsets in struct shared_info */
#define SHARED_MASK 2560

static u64 *shared_word(struct domain *d, u64 offset, u32 port)
{
    return word_at(d, d->shared_info + offset + (port % EVTCHN_2L_NR_CHANNELS >> 6) * 8);
}

void wake_all(struct domain *d)
{
    for (u32 i = 0; i < d->nr_vcpus; i++)
        d->platform->wake(&d->vcpus[i]);
}

void wake_pollers(struct domain *d, u32 port)
{
    for (u32 i = 0; i < d->nr_vcpus; i++) {
        struct vcpu *v = &d->vcpus[i];
        for (u32 k = 0; k < v->poll_count; k++)
            if (v->poll_ports[k] == port)
                d->platform->wake(v);
    }
}

void mark_upcall(struct vcpu *v)
{
    if (!swap(&info_of(v)->upcall_pending, 1))
        v->domain->platform->wake(v);
}

static void mark_selector(struct domain *d, u32 port)
{
    struct vcpu *v = &d->vcpus[d->ports[port].vcpu % MAX_VCPUS];
    u64 bit = 1ull << (port >> 6 & 63);
    if (!(fetch_or(&info_of(v)->pending_sel, bit) & bit))
        mark_upcall(v);
}

static void two_level_set_pending(struct domain *d, u32 port)
{
    u64 bit = 1ull << (port & 63);
    if (fetch_or(shared_word(d, SHARED_PENDING, port), bit) & bit)
        return;
    if (!(load(shared_word(d, SHARED_MASK, port)) & bit))
        mark_selector(d, port);
    wake_pollers(d, port);
}

static void two_level_clear_pending(struct domain *d, u32 port)
{
    fetch_and(shared_word(d, SHARED_PENDING, port), ~(1ull << (port & 63)));
}

static int two_level_is_pending(struct domain *d, u32 port)
{
    return load(shared_word(d, SHARED_PENDING, port)) >> (port & 63) & 1;
}

static void two_level_unmask(struct domain *d, u32 port)
{
    u64 bit = 1ull << (port & 63);
    if ((fetch_and(shared_word(d, SHARED_MASK, port), ~bit) & bit) && two_level_is_pending(d, port))
        mark_selector(d, port);
}

static int two_level_is_busy(struct domain *d, u32 port) { return 0; }

static const struct event_ops two_level_ops = {
    .ports = EVTCHN_2L_NR_CHANNELS,
    .set_pending = two_level_set_pending,
    .clear_pending = two_level_clear_pending,
    .unmask = two_level_unmask,
    .is_pending = two_level_is_pending,
    .is_busy = two_level_is_busy,
};

const struct event_ops *event_ops(struct domain *d) { return load(&d->fifo) ? &fifo_ops : &two_level_ops; }

void set_pending(struct domain *d, u32 port) { event_ops(d)->set_pending(d, port); }

void raise_virq(struct vcpu *v, u32 virq)
{
    if (v->virq_port[virq])
        set_pending(v->domain, v->virq_port[virq]);
}

/* What was posted, and then what was left to be done before the guest learns of it. */
void drain_inbox(struct domain *d)
{
    for (u64 words = load(&d->inbox_any) ? swap(&d->inbox_any, 0) : 0; words; words &= words - 1) {
        u32 i = (u32)__builtin_ctzll(words);
        for (u64 bits = swap(&d->inbox[i], 0); bits; bits &= bits - 1) {
            u32 port = i * 64 + (u32)__builtin_ctzll(bits);
            if (d->ports[port].state != PORT_FREE)
                set_pending(d, port);
        }
    }
    see_to_frames(d);
}

int events_deliverable(struct vcpu *v)
{
    struct vcpu_info *info = info_of(v);
    return load(&info->upcall_pending) && !load(&info->upcall_mask);
}

int nmi_deliverable(struct vcpu *v) { return unlikely(load(&v->nmi_pending)) && !v->nmi_masked; }

/* 1: the guest is in its handler. As with Xen, an NMI for which there is no handler is lost. */
static int deliver_nmi(struct vcpu *v)
{
    if (!nmi_deliverable(v))
        return 0;
    swap(&v->nmi_pending, 0); /* one that comes from here on is another */
    if (!v->traps[NMI_VECTOR].address)
        return 0;
    v->nmi_masked = 1;
    inject_exception(v, NMI_VECTOR, 0, 0);
    return 1;
}

/* Before the guest goes on, once it is not paused: show what has come in, and make the upcall if it may be made. */
void deliver_events(struct vcpu *v)
{
    if (unlikely(v->waiting)) {
        wait_for_reason(v);
        if (v->waiting)
            return;
    }
    hold_while_paused(v);
    if (unlikely(load(&v->stopped)))
        return;
    drain_inbox(v->domain);
    check_timers(v);
    if (!deliver_nmi(v) && events_deliverable(v))
        bounce(v, v->event_callback, 0, 0, 1);
}

/* Any thread. */
void tell_dom0(struct domain *d, u32 port)
{
    u64 bit = 1ull << (port & 63);
    u32 word = port % DOM0_PORTS >> 6;
    if (fetch_or(&d->outbox[word], bit) & bit)
        return;
    if (!fetch_or(&d->outbox_any, 1ull << word))
        d->platform->notify_dom0(d);
}

s64 evtchn_send(struct vcpu *v, u64 arg)
{
    struct domain *d = v->domain;
    u32 port;
    if (copy_from_guest(v, &port, arg, sizeof port))
        return -XEN_EFAULT;
    if (port >= event_ops(d)->ports)
        return -XEN_EINVAL;
    struct port p = read_port(d, port);
    switch (p.state) {
    case PORT_INTERDOMAIN:
        if (p.dom0_end)
            tell_dom0(d, port);
        else
            set_pending(d, p.number % MAX_PORTS);
        return 0;
    case PORT_IPI:
        set_pending(d, port);
        return 0;
    case PORT_UNBOUND:
        return 0; /* nobody listens: silently dropped */
    default:
        return -XEN_EINVAL;
    }
}

s64 evtchn_unmask(struct vcpu *v, u64 arg)
{
    struct domain *d = v->domain;
    u32 port;
    if (copy_from_guest(v, &port, arg, sizeof port))
        return -XEN_EFAULT;
    if (port >= event_ops(d)->ports)
        return -XEN_EINVAL;
    if (load(&d->ports[port].state) != PORT_FREE)
        event_ops(d)->unmask(d, port);
    return 0;
}
