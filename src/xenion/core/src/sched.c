/* sched_op: block and poll (sched.h), vCPUs that are down, and pauses. Hypercalls only mark a vCPU that is to wait; it waits
 * on its way back to the guest. All look for a reason to go on after they have said that they wait, so no wake-up is lost. */
#include "core.h"

#include "api.h"

static int must_hold(struct vcpu *v) { return load(&v->domain->paused) && !load(&v->stopped); }

/* Who pauses sets `paused` and then reads `parked`; this clears `parked` and then reads `paused`. So a vCPU that leaves
 * while it is paused anew is never taken for a held one. */
static int may_leave(struct vcpu *v)
{
    swap(&v->parked, 0);
    return !must_hold(v);
}

/* The vCPU's own thread, before it touches anything of the guest's: returns once the domain is not paused, or stops. */
void hold_while_paused(struct vcpu *v)
{
    u32 state = v->runstate;
    if (likely(!must_hold(v)))
        return;
    change_runstate(v, RUNSTATE_offline);
    for (;;) {
        swap(&v->kick, 0); /* before the looks below, as in wait_for_reason */
        if (!must_hold(v) && may_leave(v))
            break;
        if (!swap(&v->parked, 1))
            v->domain->platform->notify_dom0(v->domain);
        v->domain->platform->wait(v, 0);
    }
    change_runstate(v, state);
}

static int any_pending(struct vcpu *v)
{
    const struct event_ops *ops = event_ops(v->domain);
    for (u32 i = 0; i < v->poll_count; i++)
        if (ops->is_pending(v->domain, v->poll_ports[i]))
            return 1;
    return 0;
}

/* Is there a reason not to wait? A blocked vCPU wakes for any pending upcall, a polling one for those that are due; both
 * for an NMI. */
static int has_reason(struct vcpu *v)
{
    if (load(&v->stopped))
        return 1;
    if (v->waiting == WAITS_DOWN)
        return v->online;
    int upcall = v->waiting == WAITS_POLLING ? events_deliverable(v) : load(&info_of(v)->upcall_pending);
    int late = v->waiting == WAITS_POLLING && v->poll_until && system_time(v->domain) >= v->poll_until;
    return upcall || any_pending(v) || nmi_deliverable(v) || late;
}

/* The vCPU's thread, after what was posted has been shown: 1 if it waits no more. */
int ends_wait(struct vcpu *v)
{
    check_timers(v);
    if (!has_reason(v))
        return 0;
    v->waiting = WAITS_NOT;
    v->poll_count = 0;
    change_runstate(v, v->domain->takes_turns ? RUNSTATE_runnable : RUNSTATE_running);
    return 1;
}

/* On its way back to the guest: one that is to wait does. Where vCPUs take turns, the processor sees to that. */
void wait_for_reason(struct vcpu *v)
{
    while (!v->domain->takes_turns) {
        swap(&v->kick, 0); /* before the looks below: a wake-up after it ends the wait */
        hold_while_paused(v);
        drain_inbox(v->domain);
        if (ends_wait(v))
            break;
        v->domain->platform->wait(v, next_deadline(v));
    }
}

void begin_wait(struct vcpu *v, u8 how)
{
    v->waiting = how;
    change_runstate(v, how == WAITS_DOWN ? RUNSTATE_offline : RUNSTATE_blocked);
    if (how == WAITS_POLLING && v->domain->takes_turns)
        v->domain->platform->arm_timer(v);
}

s64 sched_block(struct vcpu *v)
{
    store(&info_of(v)->upcall_mask, 0);
    if (!load(&info_of(v)->upcall_pending))
        begin_wait(v, WAITS_BLOCKED);
    return 0;
}

s64 sched_poll(struct vcpu *v, u64 arg)
{
    struct {
        u64 ports;
        u32 nr_ports, pad;
        u64 timeout;
    } poll;
    if (copy_from_guest(v, &poll, arg, sizeof poll))
        return -XEN_EFAULT;
    if (poll.nr_ports > POLL_PORTS)
        return -XEN_EINVAL;
    if (!range_okay(poll.ports, 4, poll.nr_ports))
        return -XEN_EFAULT;
    if (copy_from_guest(v, v->poll_ports, poll.ports, poll.nr_ports * 4ull))
        return -XEN_EFAULT;
    for (u32 i = 0; i < poll.nr_ports; i++)
        if (v->poll_ports[i] >= event_ops(v->domain)->ports)
            return -XEN_EINVAL;
    v->poll_count = poll.nr_ports;
    v->poll_until = poll.timeout;
    if (any_pending(v))
        v->poll_count = 0;
    else
        begin_wait(v, WAITS_POLLING);
    return 0;
}

void core_yield(struct domain *d)
{
    if (d->takes_turns)
        fetch_or(&d->give_way, GIVE_WAY_OVER);
}
