/* System time, the guest's timers and its runstate (vcpu.h). One scaling of the TSC serves clock and timers alike. */
#include "core.h"

#define TOO_FAR (1ull << 50)
#define FALLBACK_NS 100000000ull

u64 system_time(struct domain *d)
{
    u64 delta = d->platform->tsc() + d->tsc_offset - d->tsc_base;
    delta = d->tsc_shift < 0 ? delta >> -d->tsc_shift : delta << d->tsc_shift;
    return d->time_base + (u64)(((unsigned __int128)delta * d->tsc_mul) >> 32);
}

void check_timers(struct vcpu *v)
{
    if ((!v->deadline && !v->period_due) || v->waiting == WAITS_DOWN)
        return;
    u64 now = system_time(v->domain);
    if (v->deadline && now >= v->deadline) {
        v->deadline = 0;
        raise_virq(v, VIRQ_TIMER);
    }
    if (v->period_due && now >= v->period_due) {
        v->period_due = now + v->period - (now - v->period_due) % v->period;
        raise_virq(v, VIRQ_TIMER);
        v->domain->platform->arm_timer(v);
    }
}

u64 next_deadline(struct vcpu *v)
{
    u8 waiting = load(&v->waiting);
    u64 due[3] = {load(&v->deadline), load(&v->period_due), waiting == WAITS_POLLING ? load(&v->poll_until) : 0}, first = 0;
    for (int i = 0; i < 3 && waiting != WAITS_DOWN; i++)
        if (due[i] && (!first || due[i] < first))
            first = due[i];
    return first;
}

static void set_deadline(struct vcpu *v, u64 deadline)
{
    store(&v->deadline, deadline);
    v->domain->platform->arm_timer(v);
}

/* A time that is absurdly far is taken for a wrapped one: the timer then fires soon, as Xen does for old Linux. */
s64 set_timer_op(struct vcpu *v, u64 timeout)
{
    u64 now = system_time(v->domain);
    if (timeout && ((s64)timeout < 0 || ((s64)(timeout - now) > 0 && timeout - now >= TOO_FAR)))
        timeout = now + FALLBACK_NS;
    set_deadline(v, timeout);
    return 0;
}

s64 set_singleshot(struct vcpu *v, u64 arg)
{
    struct {
        u64 timeout;
        u32 flags;
        u32 pad;
    } set;
    if (copy_from_guest(v, &set, arg, sizeof set))
        return -XEN_EFAULT;
    set_deadline(v, set.timeout ? set.timeout : 1); /* VCPU_SSHOTTMR_future is ignored, as Xen does now */
    return 0;
}

s64 stop_singleshot(struct vcpu *v)
{
    v->deadline = 0;
    return 0;
}

/* Writes the guest's registered area (struct vcpu_runstate_info); the update flag as vm_assist asks. */
static void publish_runstate(struct vcpu *v)
{
    struct {
        u32 state, pad;
        u64 entry;
        u64 time[4];
    } area = {v->runstate, 0, v->runstate_entry, {0}};
    u8 mode = v->kernel_mode;
    u64 at = v->runstate_area, flagged = v->domain->vm_assist & (1u << VMASST_TYPE_runstate_update_flag);
    for (int i = 0; i < 4; i++)
        area.time[i] = v->runstate_time[i];
    v->kernel_mode = 1; /* the area is its kernel's */
    if (flagged) {
        area.entry |= XEN_RUNSTATE_UPDATE;
        copy_to_guest(v, at + 8, &area.entry, 8);
        fence();
    }
    copy_to_guest(v, at, &area, sizeof area);
    if (flagged) {
        fence();
        copy_to_guest(v, at + 8, &v->runstate_entry, 8);
    }
    v->kernel_mode = mode;
}

void change_runstate(struct vcpu *v, u32 state)
{
    u64 now = system_time(v->domain);
    v->runstate_time[v->runstate & 3] += now - v->runstate_entry;
    v->runstate_entry = now;
    v->runstate = state;
    if (v->runstate_area && state <= RUNSTATE_runnable)
        publish_runstate(v);
}
