/* sched_op: block and poll (sched.h), and pauses. All look for a reason to go on after they have said that they wait, so
 * no wake-up is lost. */
#include "core.h"

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
        swap(&v->kick, 0); /* before the looks below, as in wait_until */
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
static int has_work(struct vcpu *v, int polling, u64 deadline)
{
    int upcall = polling ? events_deliverable(v) : load(&info_of(v)->upcall_pending);
    int late = deadline && system_time(v->domain) >= deadline;
    return upcall || any_pending(v) || nmi_deliverable(v) || load(&v->stopped) || late;
}

static void wait_until(struct vcpu *v, int polling, u64 deadline)
{
    change_runstate(v, RUNSTATE_blocked);
    for (;;) {
        swap(&v->kick, 0); /* before the looks below: a wake-up after it ends the wait */
        hold_while_paused(v);
        drain_inbox(v->domain);
        check_timers(v);
        if (has_work(v, polling, deadline))
            break;
        u64 timer = next_deadline(v);
        v->domain->platform->wait(v, !timer || (deadline && deadline < timer) ? deadline : timer);
    }
    change_runstate(v, RUNSTATE_running);
}

s64 sched_block(struct vcpu *v)
{
    store(&info_of(v)->upcall_mask, 0);
    if (!load(&info_of(v)->upcall_pending))
        wait_until(v, 0, 0);
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
    if (!any_pending(v))
        wait_until(v, 1, poll.timeout);
    v->poll_count = 0;
    return 0;
}
