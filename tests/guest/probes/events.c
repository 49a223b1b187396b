/* Event channels (event_channel.h): binding, sending, masking, upcalls, and the refusals. */
#include "xenkit.h"

static u32 port_a, port_b;

static void bind_virqs(void)
{
    u32 arg[3] = { VIRQ_TIMER, 0, 0 };
    s64 rc;
    rc = hc_event(EVTCHNOP_bind_virq, arg);
    CHECK_EQ("virq.timer", rc, 0);
    CHECK("virq.port_not_0", arg[2] > 0 && arg[2] < 4096);
    CHECK_EQ("virq.twice", bind_virq(VIRQ_TIMER, 0), -EEXIST);
    CHECK_EQ("virq.24", bind_virq(24, 0), -EINVAL);
    CHECK_EQ("virq.huge", bind_virq(0x80000000, 0), -EINVAL);
    CHECK_EQ("virq.vcpu_beyond", bind_virq(VIRQ_DEBUG, 4000), -ENOENT);
    CHECK_EQ("virq.global_on_vcpu_1", bind_virq(4, 1), -EINVAL); /* VIRQ_... DOM_EXC is global */
    CHECK_EQ("virq.close", evtchn_close(arg[2]), 0);
    CHECK_EQ("virq.close_twice", evtchn_close(arg[2]), -EINVAL);
    rc = bind_virq(VIRQ_DEBUG, 0);
    CHECK_EQ("virq.lowest_port_again", rc, arg[2]);
    evtchn_close((u32)rc);
}

static void bind_ipis(void)
{
    s64 rc = bind_ipi(0);
    CHECK("ipi.port", rc > 0);
    port_a = (u32)rc;
    rc = bind_ipi(0);
    CHECK("ipi.second_is_another", rc > 0 && rc != port_a);
    port_b = (u32)rc;
    CHECK_EQ("ipi.vcpu_beyond", bind_ipi(4000), -ENOENT);
    CHECK_EQ("ipi.unmasked_after_bind", shared_info->evtchn_mask[port_a / 64] >> port_a % 64 & 1, 0);
}

static void send_while_masked(void)
{
    events_disable();
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
    events_reset();
    CHECK_EQ("send.answer", evtchn_send(port_a), 0);
    CHECK("send.pending_bit", port_pending(port_a));
    CHECK_EQ("send.selector_bit", VCPU0->pending_sel, 1ul << port_a / 64);
    CHECK_EQ("send.upcall_pending", VCPU0->upcall_pending, 1);
    CHECK_EQ("send.no_upcall_while_masked", upcalls, 0);
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
    CHECK_EQ("send.again.answer", evtchn_send(port_a), 0);
    CHECK_EQ("send.again.no_edge", VCPU0->upcall_pending, 0); /* the bit was set already */
    CHECK_EQ("send.again.no_selector", VCPU0->pending_sel, 0);
    clear_port(port_a);
    mask_port(port_a);
    CHECK_EQ("send.port_masked.answer", evtchn_send(port_a), 0);
    CHECK("send.port_masked.pending_bit", port_pending(port_a));
    CHECK_EQ("send.port_masked.no_selector", VCPU0->pending_sel, 0);
    CHECK_EQ("send.port_masked.no_upcall_pending", VCPU0->upcall_pending, 0);
    CHECK_EQ("unmask.answer", hc_event(EVTCHNOP_unmask, &port_a), 0);
    CHECK_EQ("unmask.mask_bit_cleared", shared_info->evtchn_mask[port_a / 64] >> port_a % 64 & 1, 0);
    CHECK_EQ("unmask.selector_bit", VCPU0->pending_sel, 1ul << port_a / 64);
    CHECK_EQ("unmask.upcall_pending", VCPU0->upcall_pending, 1);
    clear_port(port_a);
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
    CHECK_EQ("unmask.nothing_pending", hc_event(EVTCHNOP_unmask, &port_a), 0);
    CHECK_EQ("unmask.nothing_pending.quiet", VCPU0->upcall_pending, 0);
}

static int first_upcall(struct trap *trap, struct cpu *cpu)
{
    (void)cpu;
    return trap->vector == VECTOR_EVENT;
}

static void upcall_rules(void)
{
    u64 after;
    events_disable();
    events_reset();
    trap_reset();
    events_enable();
    CHECK_EQ("upcall.at_send", evtchn_send(port_a), 0);
    CHECK_EQ("upcall.once", upcalls, 1);
    CHECK_EQ("upcall.port", event_count[port_a], 1);
    CHECK_EQ("upcall.mask_restored", VCPU0->upcall_mask, 0);
    trap_hook = first_upcall;
    asm volatile("mov %1, %%rsi; mov %2, %%edi; mov %3, %%eax; syscall; l_after: mov %%rax, %0"
                 : "=r"(after)
                 : "r"(&port_a), "i"(EVTCHNOP_send), "i"(NR_event_channel_op)
                 : "rax", "rcx", "rsi", "rdi", "r11", "memory");
    trap_hook = 0;
    CHECK_EQ("upcall.result_survives", after, 0);
    CHECK_EQ("upcall.frame.rip_after_syscall", traps[0].cpu.rip, RIP_OF(l_after));
    CHECK_EQ("upcall.frame.rax_is_result", traps[0].cpu.rax, 0);
    CHECK_EQ("upcall.frame.saved_mask", traps[0].saved_mask, 0);
    CHECK_EQ("upcall.frame.if", traps[0].cpu.rflags & FLAG_IF, FLAG_IF);
    CHECK_EQ("upcall.frame.cs", traps[0].cpu.cs, 0xe030);
    CHECK_EQ("upcall.masks_itself", traps[0].upcall_mask, 1);
    CHECK_EQ("upcall.frame_place", traps[0].frame, (traps[0].cpu.rsp & ~15ul) - 7 * 8);
    events_disable();
    events_reset();
    evtchn_send(port_a);
    evtchn_send(port_b);
    CHECK_EQ("unmask_vcpu.nothing_yet", upcalls, 0);
    events_enable(); /* by a plain store: the VMM learns of it at the next entry */
    hc_version(0, 0);
    CHECK_EQ("unmask_vcpu.upcall_at_next_hypercall", upcalls, 1);
    CHECK_EQ("unmask_vcpu.both_ports", event_count[port_a] + event_count[port_b], 2);
    events_disable();
    events_reset();
    evtchn_send(port_a);
    TRY("ud2", ::: "memory");
    CHECK_EQ("unmask_by_iret.masked_stays", upcalls, 0);
    trap_reset();
    events_enable();
    TRY("ud2", ::: "memory");
    CHECK_EQ("unmask_by_trap_or_iret", upcalls, 1);
    events_disable();
}

/* The upcall leaves its port pending: it must not be repeated without a new edge. */
static void level_is_not_repeated(void)
{
    events_disable();
    events_reset();
    events_leave = 1;
    events_enable();
    evtchn_send(port_a);
    hc_version(0, 0);
    CHECK_EQ("no_edge_no_upcall", upcalls, 1);
    VCPU0->upcall_pending = 1; /* the guest's own doing counts all the same */
    hc_version(0, 0);
    CHECK_EQ("guest_sets_upcall_pending", upcalls, 2);
    events_leave = 0;
    VCPU0->upcall_pending = 1;
    hc_version(0, 0);
    CHECK_EQ("selector_survived", event_count[port_a], 1);
    events_disable();
}

static void status_of(const char *name, u32 port, u32 want)
{
    struct evtchn_status st = { .dom = DOMID_SELF, .port = port };
    s64 rc = hc_event(EVTCHNOP_status, &st);
    CHECK_EQ(name, rc ? (u64)rc : st.status, want);
}

static void statuses(void)
{
    u32 unbound[2] = { DOMID_SELF | 0x7ff0u << 16, 0 };
    struct evtchn_status st = { .dom = DOMID_SELF, .port = port_a };
    s64 timer = bind_virq(VIRQ_TIMER, 0);
    status_of("status.ipi", port_a, EVTCHNSTAT_ipi);
    status_of("status.virq", (u32)timer, EVTCHNSTAT_virq);
    st.port = (u32)timer;
    hc_event(EVTCHNOP_status, &st);
    CHECK_EQ("status.virq_number", st.u[0], VIRQ_TIMER);
    CHECK_EQ("status.vcpu", st.vcpu, 0);
    evtchn_close((u32)timer);
    status_of("status.closed", (u32)timer, EVTCHNSTAT_closed);
    CHECK_EQ("alloc_unbound", hc_event(EVTCHNOP_alloc_unbound, unbound), 0);
    status_of("status.unbound", unbound[1], EVTCHNSTAT_unbound);
    CHECK_EQ("unbound.send_is_dropped", evtchn_send(unbound[1]), 0);
    CHECK_EQ("unbound.not_pending", port_pending(unbound[1]), 0);
    status_of("status.port_0_is_reserved", 0, EVTCHNSTAT_closed);
    st.port = 100000;
    CHECK_EQ("status.bad_port", hc_event(EVTCHNOP_status, &st), -EINVAL);
    st.port = port_a;
    st.dom = DOMID_INVALID;
    CHECK_EQ("status.bad_domain", hc_event(EVTCHNOP_status, &st), -ESRCH);
    evtchn_close(unbound[1]);
}

/* A channel of a domain with itself. */
static void interdomain_self(void)
{
    u32 unbound[2] = { DOMID_SELF | 0x7ff0u << 16, 0 };
    struct { u16 dom; u16 pad; u32 remote; u32 local; } bind = { DOMID_SELF, 0, 0, 0 };
    struct evtchn_status st = { .dom = DOMID_SELF };
    events_disable();
    CHECK_EQ("self.alloc", hc_event(EVTCHNOP_alloc_unbound, unbound), 0);
    bind.remote = unbound[1];
    CHECK_EQ("self.bind", hc_event(EVTCHNOP_bind_interdomain, &bind), 0);
    CHECK("self.pending_at_bind", port_pending(bind.local));
    clear_port(bind.local);
    CHECK_EQ("self.bind_again", hc_event(EVTCHNOP_bind_interdomain, &bind), -EINVAL);
    st.port = bind.local;
    CHECK_EQ("self.status", hc_event(EVTCHNOP_status, &st) ?: st.status, EVTCHNSTAT_interdomain);
    CHECK_EQ("self.status_port", st.u[1], unbound[1]);
    CHECK_EQ("self.send", evtchn_send(bind.local), 0);
    CHECK("self.arrives_at_the_other_end", port_pending(unbound[1]) && !port_pending(bind.local));
    clear_port(unbound[1]);
    CHECK_EQ("self.close_one", evtchn_close(bind.local), 0);
    status_of("self.other_becomes_unbound", unbound[1], EVTCHNSTAT_unbound);
    CHECK_EQ("self.close_other", evtchn_close(unbound[1]), 0);
    bind.remote = 100000;
    CHECK_EQ("self.bad_remote_port", hc_event(EVTCHNOP_bind_interdomain, &bind), -EINVAL);
    bind.dom = 77;
    CHECK_EQ("bind.no_such_domain", hc_event(EVTCHNOP_bind_interdomain, &bind), -ESRCH);
}

static void bind_vcpu(void)
{
    u32 arg[2] = { 0, 0 };
    u32 unbound[2] = { DOMID_SELF | 0x7ff0u << 16, 0 };
    hc_event(EVTCHNOP_alloc_unbound, unbound);
    arg[0] = unbound[1];
    CHECK_EQ("bind_vcpu.unbound", hc_event(EVTCHNOP_bind_vcpu, arg), 0);
    arg[1] = 4000;
    CHECK_EQ("bind_vcpu.beyond", hc_event(EVTCHNOP_bind_vcpu, arg), -ENOENT);
    arg[0] = port_a;
    arg[1] = 0;
    CHECK_EQ("bind_vcpu.ipi", hc_event(EVTCHNOP_bind_vcpu, arg), -EINVAL);
    arg[0] = 100000;
    CHECK_EQ("bind_vcpu.bad_port", hc_event(EVTCHNOP_bind_vcpu, arg), -EINVAL);
    s64 timer = bind_virq(VIRQ_TIMER, 0);
    arg[0] = (u32)timer;
    CHECK_EQ("bind_vcpu.percpu_virq", hc_event(EVTCHNOP_bind_vcpu, arg), -EINVAL);
    evtchn_close((u32)timer);
    evtchn_close(unbound[1]);
    arg[0] = unbound[1];
    CHECK_EQ("bind_vcpu.closed", hc_event(EVTCHNOP_bind_vcpu, arg), -EINVAL);
}

static void refusals(void)
{
    u32 port = 100000;
    s64 timer = bind_virq(VIRQ_TIMER, 0);
    CHECK_EQ("bad.send", evtchn_send(port), -EINVAL);
    CHECK_EQ("bad.close", evtchn_close(port), -EINVAL);
    CHECK_EQ("bad.unmask", hc_event(EVTCHNOP_unmask, &port), -EINVAL);
    CHECK_EQ("bad.close_port_0", evtchn_close(0), -EINVAL);
    CHECK_EQ("bad.send_port_0", evtchn_send(0), -EINVAL);
    CHECK_EQ("bad.send_virq", evtchn_send((u32)timer), -EINVAL);
    evtchn_close((u32)timer);
    CHECK_EQ("bad.send_closed", evtchn_send((u32)timer), -EINVAL);
    CHECK_EQ("bad.subop", hc_event(100, &port), -ENOSYS);
    CHECK_EQ("bad.negative_port", evtchn_send(0xffffffff), -EINVAL);
    u32 pirq[3] = { 0xfffff, 0, 0 };
    CHECK_EQ("bad.pirq", hc_event(EVTCHNOP_bind_pirq, pirq), -EINVAL);
}

static void close_clears(void)
{
    s64 port = bind_ipi(0);
    events_disable();
    evtchn_send((u32)port);
    CHECK("close.pending_before", port_pending((u32)port));
    evtchn_close((u32)port);
    CHECK("close.pending_cleared", !port_pending((u32)port));
    s64 again = bind_ipi(0);
    CHECK_EQ("close.port_reused", again, port);
    CHECK("close.not_pending_after_rebind", !port_pending((u32)port));
    mask_port((u32)port);
    evtchn_close((u32)port);
    again = bind_ipi(0);
    CHECK_EQ("close.mask_bit_after_rebind", shared_info->evtchn_mask[port / 64] >> port % 64 & 1, 1);
    unmask_port((u32)port);
    evtchn_close((u32)port);
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
}

static void wild(void)
{
    for (u32 op = 0; op <= 13; op++) {
        char name[] = "wild.op00";
        name[7] = (char)('0' + op / 10);
        name[8] = (char)('0' + op % 10);
        CHECK_EQ(name, hc_event(op, 0x700000000000), -EFAULT);
    }
}

/* 4096 ports are all there are without FIFO. */
static void exhaustion(void)
{
    s64 rc = 0;
    u32 first = 0, last = 0, count = 0;
    while ((rc = bind_ipi(0)) > 0 && count < 5000) {
        if (!first)
            first = (u32)rc;
        last = (u32)rc;
        count++;
    }
    CHECK_EQ("exhaust.answer", rc, -ENOSPC);
    CHECK_EQ("exhaust.last_port", last, 4095);
    events_reset();
    CHECK_EQ("exhaust.send_last", evtchn_send(4095), 0);
    events_enable();
    hc_version(0, 0);
    events_disable();
    CHECK_EQ("exhaust.last_arrives", event_count[4095], 1);
    for (u32 p = first; p <= last; p++)
        evtchn_close(p);
}

PROBE(TEST(bind_virqs, 10), TEST(bind_ipis, 4), TEST(send_while_masked, 18), TEST(upcall_rules, 17),
      TEST(level_is_not_repeated, 3), TEST(statuses, 12), TEST(interdomain_self, 13), TEST(bind_vcpu, 6),
      TEST(refusals, 10), TEST(close_clears, 5), TEST(wild, 14), TEST(exhaustion, 4));
