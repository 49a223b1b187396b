/* HYPERVISOR_multicall (xen.h struct multicall_entry). */
#include "xenkit.h"

#define MC(n, count) HC(NR_multicall, n, count, 0, 0)
static struct multicall_entry calls[256] __attribute__((aligned(4096)));

static void set(u32 at, u64 op, u64 a, u64 b)
{
    calls[at] = (struct multicall_entry){ op, 0x5555, { a, b, 0, 0, 0, 0 } };
}

static void results(void)
{
    u32 port = 0x7fffffff;
    set(0, NR_xen_version, 0, 0);
    set(1, 1000, 0, 0);
    set(2, NR_event_channel_op, EVTCHNOP_close, (u64)&port);
    set(3, NR_multicall, (u64)calls, 1);
    set(4, NR_xen_version, 7, 0);
    CHECK_EQ("answer", MC(calls, 5), 0);
    CHECK_EQ("result.version", calls[0].result >> 16, 4);
    CHECK_EQ("result.bad_number", calls[1].result, -ENOSYS);
    CHECK_EQ("result.refused", calls[2].result, -EINVAL);
    CHECK_EQ("result.nested", calls[3].result, -EINVAL);
    CHECK_EQ("result.goes_on", calls[4].result, 4096);
    CHECK_EQ("entry.op_kept", calls[4].op, NR_xen_version);
    CHECK_EQ("entry.args_kept", calls[4].args[0], 7);
    for (u32 i = 0; i < 256; i++)
        set(i, NR_xen_version, 7, 0);
    CHECK_EQ("many.answer", MC(calls, 256), 0);
    CHECK_EQ("many.last", calls[255].result, 4096);
    set(3, NR_xen_version, 7, 0);
    CHECK_EQ("zero.answer", MC(calls, 0), 0);
    CHECK_EQ("zero.untouched", calls[3].result, 0x5555);
}

static void special(void)
{
    set(0, 6, 0, 0); /* sched_op_compat's number with a bad command */
    calls[0].args[0] = 99;
    set(1, ~0ul, 0, 0);
    set(2, 63, 0, 0);
    set(3, 1ul << 32 | NR_xen_version, 7, 0);
    CHECK_EQ("special.answer", MC(calls, 4), 0);
    CHECK_EQ("special.compat_bad_command", calls[0].result, -ENOSYS);
    CHECK_EQ("special.all_ones", calls[1].result, -ENOSYS);
    CHECK_EQ("special.63", calls[2].result, -ENOSYS);
    CHECK_EQ("special.wide_number", calls[3].result, -ENOSYS);
}

static void effects(void)
{
    u8 *page = page_alloc();
    u64 entry = mfn_of(page) * PAGE | PTE_P | PTE_A | PTE_D;
    page[0] = 7;
    set(0, NR_update_va_mapping, (u64)page, 0);
    calls[0].args[2] = UVMF_INVLPG;
    set(1, NR_update_va_mapping, (u64)page, entry | PTE_W);
    calls[1].args[2] = UVMF_INVLPG;
    CHECK_EQ("effects.answer", MC(calls, 2), 0);
    CHECK_EQ("effects.first", calls[0].result, 0);
    CHECK_EQ("effects.second", calls[1].result, 0);
    CHECK_EQ("effects.page_is_back", page[0], 7);
}

static void faults(void)
{
    u8 *page = page_alloc();
    struct multicall_entry *ro = (struct multicall_entry *)page;
    struct multicall_entry *edge = (struct multicall_entry *)(page + PAGE - sizeof(*edge));
    CHECK_EQ("wild.array", MC(0x700000000000, 1), -EFAULT);
    CHECK_EQ("wild.null", MC(0, 1), -EFAULT);
    CHECK_EQ("wild.null_count_0", MC(0, 0), 0);
    CHECK_EQ("wild.noncanonical", MC(0x800000000000, 1), -EFAULT);
    CHECK_EQ("wild.hypervisor", MC(0xffff830000000000, 1), -EFAULT);
    CHECK_EQ("absurd.count", MC(0x700000000000, 0xffffffff), -EFAULT);
    ro[0] = (struct multicall_entry){ NR_xen_version, 0x5555, { 7 } };
    make_ro(page);
    CHECK_EQ("read_only.answer", MC(ro, 1), -EFAULT);
    make_rw(page);
    CHECK_EQ("read_only.result_unwritten", ro[0].result, 0x5555);
    *edge = (struct multicall_entry){ NR_xen_version, 0x5555, { 7 } };
    map_page(page + PAGE, 0);
    CHECK_EQ("edge.answer", MC(edge, 2), -EFAULT);
    CHECK_EQ("edge.first_was_done", edge->result, 4096);
    make_rw(page + PAGE);
}

/* Interrupted between two of its elements again and again: nothing of it is lost or done twice. */
static void long_call(void)
{
    static struct { u64 host_addr, dev_bus_addr; u32 handle; s16 status, pad; } unmap[1000];
    struct { u64 period; } tick = { 1000000 };
    enum { LONG = 50 }; /* calls, each of a millisecond or so */
    u32 port = (u32)bind_virq(VIRQ_TIMER, 0), bad = 0, refused = 0;
    for (u32 i = 0; i < 1000; i++) {
        unmap[i].handle = 0x7fffffff;
        unmap[i].status = 0x5555;
    }
    events_reset();
    events_enable();
    hc_vcpu(VCPUOP_set_periodic_timer, 0, &tick);
    set(0, NR_xen_version, 7, 0);
    for (u32 i = 1; i <= LONG; i++) {
        set(i, NR_grant_table_op, 1 /* unmap_grant_ref */, (u64)unmap);
        calls[i].args[2] = 1000;
    }
    set(LONG + 1, NR_xen_version, 7, 0);
    CHECK_EQ("long.answer", MC(calls, LONG + 2), 0);
    hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0);
    for (u32 i = 0; i < 1000; i++)
        bad += unmap[i].status != -4 /* GNTST_bad_handle */;
    CHECK_EQ("long.before", calls[0].result, 4096);
    for (u32 i = 1; i <= LONG; i++)
        refused += calls[i].result != 0;
    CHECK_EQ("long.result", refused, 0);
    CHECK_EQ("long.each", bad, 0);
    CHECK_EQ("long.after", calls[LONG + 1].result, 4096);
    CHECK("long.interrupted", event_count[port] > 1); /* what comes at its end is one event, however long it took */
}

PROBE(TEST(results, 12), TEST(special, 5), TEST(effects, 4), TEST(faults, 10), TEST(long_call, 6));
