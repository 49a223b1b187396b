/* The way in from a hypercall: hot calls are answered here, the rest by the domain's table in Python. */
#include "core.h"

#include "api.h"

struct multicall_entry {
    u64 op;
    s64 result;
    u64 args[6];
};

/* Only the first reason counts: what follows a crash is its consequence. */
void crash_domain(struct domain *d, const char *reason)
{
    if (!d->crashed) {
        d->crashed = 1;
        for (size_t i = 0; i + 1 < sizeof d->crash_reason && (d->crash_reason[i] = reason[i]); i++)
            ;
    }
    store(&d->stopping, 1);
    for (u32 i = 0; i < d->nr_vcpus; i++) {
        d->vcpus[i].stopped = 1;
        d->platform->wake(&d->vcpus[i]);
    }
}

int preempted(struct vcpu *v)
{
    if (likely(!load(&v->kick)))
        return 0;
    swap(&v->kick, 0); /* before the looks below, on every processor */
    drain_inbox(v->domain);
    check_timers(v);
    return v->stopped || load(&v->domain->paused) || load(&v->domain->give_way) || nmi_deliverable(v) || events_deliverable(v);
}

static s64 multicall(struct vcpu *v, u64 *args)
{
    u64 count = (u32)args[1], i;
    s64 rc = 0;
    if (v->in_multicall)
        return -XEN_EINVAL;
    if (!range_okay(args[0], sizeof(struct multicall_entry), count))
        return -XEN_EFAULT;
    v->in_multicall = 1;
    for (i = 0; i < count && !rc && !v->stopped; i++) {
        struct multicall_entry e;
        u64 at = args[0] + i * sizeof e;
        if (i && preempted(v)) {
            rc = CALL_CONTINUES;
            break;
        }
        if ((rc = copy_from_guest(v, &e, at, sizeof e)))
            break;
        e.result = hypercall(v, e.op, e.args);
        if (e.result == CALL_CONTINUES) {
            rc = copy_to_guest(v, at, &e, sizeof e);
            rc = rc ? rc : CALL_CONTINUES;
            break;
        }
        rc = copy_to_guest(v, at + offsetof(struct multicall_entry, result), &e.result, sizeof e.result);
    }
    v->in_multicall = 0;
    if (rc == CALL_CONTINUES) {
        args[0] += i * sizeof(struct multicall_entry);
        args[1] = count - i;
    }
    return rc;
}

static s64 set_segment_base(struct vcpu *v, u64 which, u64 base)
{
    const struct platform *p = v->domain->platform;
    if (which < SEGBASE_GS_USER_SEL && (u64)((s64)(base << 16) >> 16) != base)
        return -XEN_EINVAL;
    switch (which) {
    case SEGBASE_FS:
        p->set_base(v, SEGBASE_FS, base);
        return 0;
    case SEGBASE_GS_USER:
        v->gs_user = base;
        return 0;
    case SEGBASE_GS_KERNEL:
        p->set_base(v, SEGBASE_GS_KERNEL, base);
        return 0;
    case SEGBASE_GS_USER_SEL: {
        u64 kernel = p->get_base(v, SEGBASE_GS_KERNEL);
        u16 selector = (u16)base > 3 ? (u16)base | 3 : (u16)base;
        if (p->load_selector(v, SEG_GS, selector))
            p->load_selector(v, SEG_GS, 0);
        v->gs_user = p->get_base(v, SEGBASE_GS_KERNEL);
        p->set_base(v, SEGBASE_GS_KERNEL, kernel);
        return 0;
    }
    default:
        return -XEN_EINVAL;
    }
}

static s64 vcpu_op(struct vcpu *v, u64 *args)
{
    u32 cmd = (u32)args[0];
    if ((u32)args[1] >= v->domain->nr_vcpus)
        return -XEN_ENOENT;
    if (cmd == VCPUOP_set_singleshot_timer)
        return (u32)args[1] == v->id ? set_singleshot(v, args[2]) : -XEN_EINVAL;
    if (cmd == VCPUOP_stop_singleshot_timer)
        return (u32)args[1] == v->id ? stop_singleshot(v) : -XEN_EINVAL;
    return v->domain->platform->cold_call(v, HYPERCALL_vcpu_op, args);
}

static s64 sched_op(struct vcpu *v, u64 *args)
{
    switch ((u32)args[0]) {
    case SCHEDOP_yield:
        core_yield(v->domain);
        return 0;
    case SCHEDOP_block:
        return sched_block(v);
    case SCHEDOP_poll:
        return sched_poll(v, args[1]);
    default:
        return v->domain->platform->cold_call(v, HYPERCALL_sched_op, args);
    }
}

static s64 event_channel_op(struct vcpu *v, u64 *args)
{
    if ((u32)args[0] == EVTCHNOP_send)
        return evtchn_send(v, args[1]);
    if ((u32)args[0] == EVTCHNOP_unmask)
        return evtchn_unmask(v, args[1]);
    return v->domain->platform->cold_call(v, HYPERCALL_event_channel_op, args);
}

static s64 fpu_taskswitch(struct vcpu *v, u64 set)
{
    v->task_switched = set != 0;
    v->domain->platform->set_task_switched(v);
    return 0;
}

static s64 dispatch(struct vcpu *v, u64 number, u64 *args)
{
    switch (number) {
    case HYPERCALL_iret: /* not inside a multicall */
        return -XEN_ENOSYS;
    case HYPERCALL_mmu_update:
        return mmu_update(v, args);
    case HYPERCALL_set_gdt:
        return set_gdt_op(v, args[0], (u32)args[1]);
    case HYPERCALL_stack_switch:
        v->kernel_sp = args[1];
        return 0;
    case HYPERCALL_fpu_taskswitch:
        return fpu_taskswitch(v, (u32)args[0]);
    case HYPERCALL_update_descriptor:
        return update_descriptor(v, args[0], args[1]);
    case HYPERCALL_multicall:
        return multicall(v, args);
    case HYPERCALL_update_va_mapping:
        return update_va_mapping(v, args[0], args[1], args[2], DOMID_SELF);
    case HYPERCALL_update_va_mapping_otherdomain:
        return update_va_mapping(v, args[0], args[1], args[2], args[3]);
    case HYPERCALL_set_timer_op:
        return set_timer_op(v, args[0]);
    case HYPERCALL_vcpu_op:
        return vcpu_op(v, args);
    case HYPERCALL_set_segment_base:
        return set_segment_base(v, (u32)args[0], args[1]);
    case HYPERCALL_mmuext_op:
        return mmuext_op(v, args);
    case HYPERCALL_sched_op:
        return sched_op(v, args);
    case HYPERCALL_event_channel_op:
        return event_channel_op(v, args);
    default:
        return v->domain->platform->cold_call(v, number, args);
    }
}

s64 hypercall(struct vcpu *v, u64 number, u64 *args)
{
    struct call_record *r = &v->calls[v->call_count++ % CALL_RECORDS];
    r->number = number;
    r->rip = v->rip;
    for (int i = 0; i < 4; i++)
        r->args[i] = args[i];
    u64 *outer = v->call_args;
    v->call_args = args;
    s64 rc = dispatch(v, number, args);
    v->call_args = outer;
    r->result = rc; /* of a multicall: its own record may have been used again by then, which is fine */
    return rc;
}
