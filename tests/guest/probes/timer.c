/* set_timer_op, vcpu timers and the clock page (vcpu.h, xen.h struct vcpu_time_info). */
#include "xenkit.h"

#define MS 1000000ul
struct singleshot { u64 timeout; u32 flags; u32 pad; };
static u32 port;
#define ARRIVED (&event_count[port])

static void stop_periodic(void)
{
    hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0);
    events_reset();
}

static void clock(void)
{
    struct vcpu_time_info *t = &VCPU0->time;
    u64 last = now_ns();
    int steps_back = 0;
    CHECK_EQ("clock.version_even", t->version & 1, 0);
    CHECK("clock.version_not_0", t->version != 0);
    CHECK("clock.scale_not_0", t->tsc_to_system_mul != 0);
    CHECK("clock.running", last > 0);
    for (int i = 0; i < 20000; i++) {
        u64 now = now_ns();
        steps_back += now < last;
        last = now;
    }
    CHECK_EQ("clock.monotonic", steps_back, 0);
    steps_back = 0;
    for (int i = 0; i < 2000; i++) {
        u64 now;
        hc_sched(SCHEDOP_yield, 0);
        now = now_ns();
        steps_back += now < last;
        last = now;
    }
    CHECK_EQ("clock.monotonic_across_hypercalls", steps_back, 0);
    CHECK("clock.less_than_a_year", last < 365ul * 86400 * 1000 * MS);
    CHECK_EQ("wallclock.version_even", shared_info->wc_version & 1, 0);
    CHECK("wallclock.this_century", shared_info->wc_sec > 946684800u);
    CHECK("wallclock.nsec", shared_info->wc_nsec < 1000000000u);
}

/* A PV vcpu starts with a tick of 100 Hz. */
static void periodic(void)
{
    struct { u64 period; } set = { 2 * MS };
    port = (u32)bind_virq(VIRQ_TIMER, 0);
    events_reset();
    events_enable();
    CHECK("periodic.default_tick", wait_for(ARRIVED, 500 * MS));
    CHECK_EQ("periodic.stop", hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0), 0);
    events_reset();
    CHECK("periodic.stopped", !wait_for(ARRIVED, 40 * MS));
    CHECK_EQ("periodic.set", hc_vcpu(VCPUOP_set_periodic_timer, 0, &set), 0);
    CHECK("periodic.ticks", wait_for(ARRIVED, 500 * MS));
    events_reset();
    CHECK("periodic.ticks_again", wait_for(ARRIVED, 500 * MS));
    set.period = MS - 1;
    CHECK_EQ("periodic.too_short", hc_vcpu(VCPUOP_set_periodic_timer, 0, &set), -EINVAL);
    set.period = ~0ul;
    CHECK_EQ("periodic.too_long", hc_vcpu(VCPUOP_set_periodic_timer, 0, &set), -EINVAL);
    CHECK_EQ("periodic.wild", hc_vcpu(VCPUOP_set_periodic_timer, 0, 0x700000000000), -EFAULT);
    stop_periodic();
}

static void set_timer(void)
{
    u64 start;
    events_disable();
    stop_periodic();
    CHECK_EQ("set_timer.answer", HC(NR_set_timer_op, now_ns() + 20 * MS, 0, 0, 0), 0);
    CHECK_EQ("set_timer.not_yet", event_count[port], 0);
    start = now_ns();
    events_enable();
    CHECK("set_timer.arrives", wait_for(ARRIVED, 1000 * MS));
    CHECK("set_timer.not_early", now_ns() - start >= 15 * MS);
    events_reset();
    CHECK("set_timer.once", !wait_for(ARRIVED, 50 * MS));
    CHECK_EQ("set_timer.past", HC(NR_set_timer_op, 1, 0, 0, 0), 0);
    CHECK("set_timer.past.arrives", wait_for(ARRIVED, 1000 * MS));
    events_reset();
    HC(NR_set_timer_op, now_ns() + 20 * MS, 0, 0, 0);
    CHECK_EQ("set_timer.cancel", HC(NR_set_timer_op, 0, 0, 0, 0), 0);
    CHECK("set_timer.cancelled", !wait_for(ARRIVED, 60 * MS));
    HC(NR_set_timer_op, now_ns() + 20 * MS, 0, 0, 0);
    HC(NR_set_timer_op, now_ns() + 3600000 * MS, 0, 0, 0);
    CHECK("set_timer.replaced", !wait_for(ARRIVED, 60 * MS));
    CHECK_EQ("set_timer.negative", HC(NR_set_timer_op, ~0ul, 0, 0, 0), 0);
    CHECK("set_timer.negative.arrives_in_100_ms", wait_for(ARRIVED, 2000 * MS));
    HC(NR_set_timer_op, 0, 0, 0, 0);
}

/* Real Xen ignores VCPU_SSHOTTMR_future (1), whatever vcpu.h says of -ETIME: a time gone by is an event at once. */
static void singleshot(void)
{
    struct singleshot set = { 0, 0, 0 };
    stop_periodic();
    events_enable();
    set.timeout = now_ns() + 10 * MS;
    CHECK_EQ("singleshot.answer", hc_vcpu(VCPUOP_set_singleshot_timer, 0, &set), 0);
    CHECK("singleshot.arrives", wait_for(ARRIVED, 1000 * MS));
    events_reset();
    set.timeout = 5;
    CHECK_EQ("singleshot.past", hc_vcpu(VCPUOP_set_singleshot_timer, 0, &set), 0);
    CHECK_EQ("singleshot.past.at_once", event_count[port], 1);
    events_reset();
    set.flags = 1;
    CHECK_EQ("singleshot.past_future_flag", hc_vcpu(VCPUOP_set_singleshot_timer, 0, &set), 0);
    CHECK_EQ("singleshot.past_future_flag.at_once", event_count[port], 1);
    events_reset();
    set.timeout = now_ns() + 20 * MS;
    hc_vcpu(VCPUOP_set_singleshot_timer, 0, &set);
    CHECK_EQ("singleshot.stop", hc_vcpu(VCPUOP_stop_singleshot_timer, 0, 0), 0);
    CHECK("singleshot.stopped", !wait_for(ARRIVED, 60 * MS));
    hc_vcpu(VCPUOP_set_singleshot_timer, 0, &set);
    CHECK_EQ("singleshot.set_timer_op_shares_it", HC(NR_set_timer_op, 0, 0, 0, 0), 0);
    CHECK_EQ("singleshot.bad_vcpu", hc_vcpu(VCPUOP_set_singleshot_timer, 4000, &set), -ENOENT);
    CHECK_EQ("singleshot.wild", hc_vcpu(VCPUOP_set_singleshot_timer, 0, 0x700000000000), -EFAULT);
    events_disable();
    evtchn_close(port);
}

/* With no port bound a timer passes silently. */
static void unbound(void)
{
    events_reset();
    CHECK_EQ("unbound.set", HC(NR_set_timer_op, now_ns() + MS, 0, 0, 0), 0);
    events_enable();
    wait_for(ARRIVED, 20 * MS);
    CHECK_EQ("unbound.silent", upcalls, 0);
    events_disable();
}

PROBE(TEST(clock, 10), TEST(periodic, 9), TEST(set_timer, 12), TEST(singleshot, 11), TEST(unbound, 2));
