/* Wild pointers and absurd values to every hypercall: each is answered with an error, none kills the domain. */
#include "xenkit.h"

#define UNMAPPED 0x700000000000ul
#define NONCANONICAL 0x800000000000ul
#define HIDDEN 0xffff830000000000ul /* inside the hypervisor's range, not the guest's to see */

static void everywhere(const char *name, u64 nr, u64 a, u64 b, int at, u64 want)
{
    const u64 addresses[4] = { UNMAPPED, NONCANONICAL, HIDDEN, ~0ul };
    int good = 1;
    for (int i = 0; i < 4; i++) {
        u64 args[3] = { a, b, nr == NR_grant_table_op };
        args[at] = addresses[i];
        s64 rc = HC(nr, args[0], args[1], args[2], DOMID_SELF);
        if (rc != (s64)want) {
            printk("# %s with 0x%lx answered %ld\n", name, addresses[i], rc);
            good = 0;
        }
    }
    check(name, good);
}

static void pointers(void)
{
    everywhere("set_trap_table", NR_set_trap_table, 0, 0, 0, -EFAULT);
    everywhere("mmu_update", NR_mmu_update, 0, 1, 0, -EFAULT);
    everywhere("mmuext_op", NR_mmuext_op, 0, 1, 0, -EFAULT);
    everywhere("set_gdt", NR_set_gdt, 0, 8, 0, -EFAULT);
    everywhere("multicall", NR_multicall, 0, 1, 0, -EFAULT);
    everywhere("xen_version", NR_xen_version, 3, 0, 1, -EFAULT);
    everywhere("console_io", NR_console_io, 0, 8, 2, -EFAULT);
    everywhere("sched_poll", NR_sched_op, SCHEDOP_poll, 0, 1, -EFAULT);
    everywhere("sched_shutdown", NR_sched_op, SCHEDOP_shutdown, 0, 1, -EFAULT);
    everywhere("event_channel_op", NR_event_channel_op, EVTCHNOP_send, 0, 1, -EFAULT);
    everywhere("callback_register", NR_callback_op, CALLBACKOP_register, 0, 1, -EFAULT);
    everywhere("grant_query_size", NR_grant_table_op, 6, 0, 1, -EFAULT);
    everywhere("vcpu_runstate", NR_vcpu_op, VCPUOP_get_runstate_info, 0, 2, -EFAULT);
    everywhere("vcpu_register_info", NR_vcpu_op, VCPUOP_register_vcpu_info, 0, 2, -EFAULT);
    everywhere("vcpu_singleshot", NR_vcpu_op, VCPUOP_set_singleshot_timer, 0, 2, -EFAULT);
    /* These three answer how many extents were done: none. */
    everywhere("memory_increase", NR_memory_op, 0, 0, 1, 0);
    everywhere("memory_decrease", NR_memory_op, 1, 0, 1, 0);
    everywhere("memory_populate", NR_memory_op, 6, 0, 1, 0);
    everywhere("memory_exchange", NR_memory_op, 11, 0, 1, -EFAULT);
    everywhere("memory_reservation", NR_memory_op, 3, 0, 1, -EFAULT);
    everywhere("memory_machphys_mapping", NR_memory_op, 12, 0, 1, -EFAULT);
    everywhere("physdev_set_iopl", NR_physdev_op, 6, 0, 1, -EFAULT);
    everywhere("nmi_op", NR_nmi_op, 0, 0, 1, -EFAULT);
}

static void numbers(void)
{
    CHECK_EQ("number.11", HC(11, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.43", HC(43, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.47", HC(47, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.55", HC(55, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.56", HC(56, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.64", HC(64, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.1000000", HC(1000000, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.all_ones", HC(~0ul, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.bit_32", HC(1ul << 32 | NR_xen_version, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.tmem_op", HC(NR_tmem_op, 0, 0, 0, 0), -ENOSYS);
    CHECK_EQ("number.xenoprof_op_wild", ({ s64 rc = HC(NR_xenoprof_op, 0, UNMAPPED, 0, 0); rc < 0; }), 1);
}

/* A structure that straddles the end of a mapping is refused as a whole. */
static void edges(void)
{
    u8 *page = page_alloc(), *next = page_alloc();
    u32 *last = (u32 *)(page + PAGE - 4);
    CHECK_EQ("edge.pages_adjacent", next, page + PAGE);
    map_page(next, 0);
    *last = 0;
    CHECK_EQ("edge.fits", hc_event(EVTCHNOP_close, last), -EINVAL);
    CHECK_EQ("edge.straddles", hc_event(EVTCHNOP_bind_ipi, last), -EFAULT);
    CHECK_EQ("edge.poll_straddles", hc_sched(SCHEDOP_poll, page + PAGE - 8), -EFAULT);
    CHECK_EQ("edge.console", HC(NR_console_io, 0, 64, page + PAGE - 1, 0), -EFAULT);
    make_rw(next);
    make_ro(page);
    CHECK_EQ("read_only.out_argument", hc_event(EVTCHNOP_bind_ipi, page), -EFAULT);
    CHECK_EQ("read_only.version", hc_version(3, page), -EFAULT);
    make_rw(page);
}

/* Structures need no alignment. */
static void misaligned(void)
{
    u8 *page = page_alloc();
    u32 port = 0;
    memcpy(page + 1, &port, 4);
    CHECK_EQ("misaligned.port", hc_event(EVTCHNOP_close, page + 1), -EINVAL);
    struct mmu_update req = { mfn_of(page) * PAGE + 64, 0x1122 };
    memcpy(page + 3, &req, sizeof(req));
    CHECK_EQ("misaligned.mmu_update", hc_mmu_update(page + 3, 1, 0, DOMID_SELF), 0);
    CHECK_EQ("misaligned.mmu_update.applied", *(volatile u64 *)(page + 64), 0x1122);
}

/* The M2P is readable to the guest's kernel but not the guest's: arguments there are refused all the same. */
static void hypervisor_readable(void)
{
    CHECK_EQ("m2p.as_argument", hc_event(EVTCHNOP_send, HYPERVISOR_START), -EFAULT);
    CHECK_EQ("m2p.as_result", hc_version(3, HYPERVISOR_START), -EFAULT);
    CHECK_EQ("m2p.as_text", HC(NR_console_io, 0, 8, HYPERVISOR_START, 0), -EFAULT);
}

static void absurd(void)
{
    u8 *page = page_alloc();
    CHECK_EQ("absurd.console_subop", HC(NR_console_io, 77, 8, page, 0), -ENOSYS);
    CHECK_EQ("absurd.set_gdt_513", HC(NR_set_gdt, page, 8193, 0, 0), -EINVAL);
    CHECK_EQ("absurd.memory_subop", hc_memory(55, page), -ENOSYS);
    CHECK_EQ("absurd.vcpu_subop", hc_vcpu(99, 0, page), -ENOSYS);
    CHECK_EQ("absurd.vcpu_number", hc_vcpu(VCPUOP_is_up, 0xffffffff, 0), -ENOENT);
    CHECK_EQ("absurd.sched_subop", hc_sched(99, page), -ENOSYS);
    CHECK_EQ("absurd.grant_subop", HC(NR_grant_table_op, 99, page, 1, 0), -ENOSYS);
    CHECK_EQ("absurd.grant_count", HC(NR_grant_table_op, 0, page, -1, 0), -EINVAL);
    CHECK_EQ("absurd.physdev_subop", HC(NR_physdev_op, 99, page, 0, 0), -ENOSYS);
    CHECK_EQ("absurd.callback_subop", hc_callback(99, page), -ENOSYS);
    CHECK_EQ("absurd.vm_assist", HC(NR_vm_assist, 0, 63, 0, 0), -EINVAL);
    CHECK_EQ("absurd.segment", HC(NR_set_segment_base, 9, 0, 0, 0), -EINVAL);
    CHECK_EQ("absurd.debugreg", HC(NR_set_debugreg, 9, 0, 0, 0), -ENODEV);
}

PROBE(TEST(pointers, 23), TEST(numbers, 11), TEST(edges, 7), TEST(misaligned, 3), TEST(hypervisor_readable, 3),
      TEST(absurd, 13));
