/* HYPERVISOR_sched_op (sched.h): yield, block, poll, watchdog; shutdown is what ends every probe. */
#include "xenkit.h"

#define MS 1000000ul
static u32 ipi, timer;

static void prepare(void)
{
    hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0);
    if (!ipi) {
        ipi = (u32)bind_ipi(0);
        timer = (u32)bind_virq(VIRQ_TIMER, 0);
    }
    events_disable();
    clear_port(ipi);
    clear_port(timer);
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
    events_reset();
}

static void yield(void)
{
    CHECK_EQ("yield", hc_sched(SCHEDOP_yield, 0), 0);
    CHECK_EQ("yield.argument_ignored", hc_sched(SCHEDOP_yield, 0x700000000000), 0);
    CHECK_EQ("compat.yield", HC(NR_sched_op_compat, SCHEDOP_yield, 0, 0, 0), 0);
    CHECK_EQ("compat.bad", HC(NR_sched_op_compat, 99, 0, 0, 0), -ENOSYS);
    CHECK_EQ("bad_number", hc_sched(99, 0), -ENOSYS);
}

static void block(void)
{
    u64 start;
    prepare();
    evtchn_send(ipi);
    CHECK_EQ("block.pending", hc_sched(SCHEDOP_block, 0), 0);
    CHECK_EQ("block.pending.delivered", event_count[ipi], 1);
    CHECK_EQ("block.unmasks", VCPU0->upcall_mask, 0);
    prepare();
    start = now_ns();
    HC(NR_set_timer_op, start + 20 * MS, 0, 0, 0);
    CHECK_EQ("block.timer", hc_sched(SCHEDOP_block, 0), 0);
    CHECK("block.timer.slept", now_ns() - start >= 15 * MS);
    CHECK_EQ("block.timer.delivered", event_count[timer], 1);
    prepare();
    start = now_ns();
    HC(NR_set_timer_op, start + 20 * MS, 0, 0, 0);
    VCPU0->upcall_pending = 1; /* no port: still an upcall, and no sleep */
    CHECK_EQ("block.upcall_pending_alone", hc_sched(SCHEDOP_block, 0), 0);
    CHECK("block.upcall_pending_alone.no_sleep", upcalls == 1 && now_ns() - start < 15 * MS);
    HC(NR_set_timer_op, 0, 0, 0, 0);
    events_disable();
}

static void poll(void)
{
    u32 ports[130] = { 0 };
    struct sched_poll p = { ports, 1, 0, 0 };
    u64 start;
    prepare();
    ports[0] = ipi;
    mask_port(ipi);
    evtchn_send(ipi);
    CHECK_EQ("poll.pending", hc_sched(SCHEDOP_poll, &p), 0);
    CHECK("poll.pending.stays_pending", port_pending(ipi));
    CHECK_EQ("poll.keeps_mask", VCPU0->upcall_mask, 1);
    clear_port(ipi);
    start = now_ns();
    p.timeout = start + 20 * MS;
    CHECK_EQ("poll.timeout", hc_sched(SCHEDOP_poll, &p), 0);
    CHECK("poll.timeout.slept", now_ns() - start >= 15 * MS);
    CHECK("poll.timeout.not_pending", !port_pending(ipi));
    p.timeout = 1;
    CHECK_EQ("poll.timeout_past", hc_sched(SCHEDOP_poll, &p), 0);
    p.nr_ports = 0;
    p.timeout = now_ns() + 5 * MS;
    CHECK_EQ("poll.no_ports", hc_sched(SCHEDOP_poll, &p), 0);
    p.nr_ports = 129;
    CHECK_EQ("poll.129_ports", hc_sched(SCHEDOP_poll, &p), -EINVAL);
    p.nr_ports = 128;
    evtchn_send(ipi);
    for (int i = 0; i < 128; i++)
        ports[i] = ipi;
    CHECK_EQ("poll.128_ports", hc_sched(SCHEDOP_poll, &p), 0);
    clear_port(ipi);
    p.nr_ports = 1;
    ports[0] = 100000;
    CHECK_EQ("poll.bad_port", hc_sched(SCHEDOP_poll, &p), -EINVAL);
    p.ports = (u32 *)0x700000000000;
    CHECK_EQ("poll.wild_ports", hc_sched(SCHEDOP_poll, &p), -EFAULT);
    CHECK_EQ("poll.wild", hc_sched(SCHEDOP_poll, 0x700000000000), -EFAULT);
    unmask_port(ipi);
}

/* The timer's port is masked and polled for: how Linux's spinlocks wait. */
static void poll_wakes(void)
{
    u32 port;
    struct sched_poll p = { &port, 1, 0, 0 };
    u64 start;
    prepare();
    port = timer;
    mask_port(timer);
    start = now_ns();
    HC(NR_set_timer_op, start + 20 * MS, 0, 0, 0);
    p.timeout = start + 2000 * MS;
    CHECK_EQ("poll_wakes", hc_sched(SCHEDOP_poll, &p), 0);
    CHECK("poll_wakes.slept", now_ns() - start >= 15 * MS);
    CHECK("poll_wakes.woken_early", now_ns() - start < 1500 * MS);
    CHECK("poll_wakes.pending", port_pending(timer));
    clear_port(timer);
    unmask_port(timer);
    prepare();
    events_enable();
    HC(NR_set_timer_op, now_ns() + 20 * MS, 0, 0, 0);
    port = ipi;
    p.timeout = now_ns() + 2000 * MS;
    start = now_ns();
    CHECK_EQ("poll_wakes.by_other_event", hc_sched(SCHEDOP_poll, &p), 0);
    CHECK("poll_wakes.by_other_event.early", now_ns() - start < 1500 * MS);
    CHECK_EQ("poll_wakes.by_other_event.delivered", event_count[timer], 1);
    events_disable();
}

static void watchdog(void)
{
    struct { u32 id; u32 timeout; } dog = { 0, 1000 };
    s64 first = hc_sched(SCHEDOP_watchdog, &dog);
    CHECK_EQ("watchdog.first", first, 1);
    CHECK_EQ("watchdog.second", hc_sched(SCHEDOP_watchdog, &dog), 2);
    CHECK_EQ("watchdog.third", (s32)hc_sched(SCHEDOP_watchdog, &dog), -ENOSPC); /* Xen forgets the upper half of the sign */
    dog.id = 1;
    CHECK_EQ("watchdog.kick", hc_sched(SCHEDOP_watchdog, &dog), 0);
    dog.timeout = 0;
    CHECK_EQ("watchdog.stop", hc_sched(SCHEDOP_watchdog, &dog), 0);
    CHECK_EQ("watchdog.stop_twice", hc_sched(SCHEDOP_watchdog, &dog), -EINVAL);
    dog.id = 2;
    hc_sched(SCHEDOP_watchdog, &dog);
    dog.id = 3;
    CHECK_EQ("watchdog.bad_id", hc_sched(SCHEDOP_watchdog, &dog), -EINVAL);
    CHECK_EQ("watchdog.wild", hc_sched(SCHEDOP_watchdog, 0x700000000000), -EFAULT);
}

static void others(void)
{
    struct { u16 domid; u16 pad; u32 reason; } remote = { 77, 0, 0 };
    /* Only a privileged domain may name another; whether 77 exists is asked first. */
    CHECK_EQ("remote_shutdown.no_such_domain", hc_sched(SCHEDOP_remote_shutdown, &remote), -ESRCH);
    CHECK_EQ("shutdown.wild", hc_sched(SCHEDOP_shutdown, 0x700000000000), -EFAULT);
    CHECK_EQ("shutdown_code.wild", hc_sched(SCHEDOP_shutdown_code, 0x700000000000), -EFAULT);
    s32 cpu = -1;
    CHECK_EQ("pin_override", hc_sched(SCHEDOP_pin_override, &cpu), oracle ? -EINVAL : -EPERM);
}

PROBE(TEST(yield, 5), TEST(block, 8), TEST(poll, 13), TEST(poll_wakes, 7), TEST(watchdog, 8), TEST(others, 4));
