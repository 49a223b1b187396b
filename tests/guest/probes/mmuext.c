/* HYPERVISOR_mmuext_op: everything but pins and base pointers (xen.h). */
#include "xenkit.h"

#define RAM (PTE_P | PTE_A | PTE_D)

static void flushes(void)
{
    u64 mask = 1, va = (u64)page_alloc();
    CHECK_EQ("tlb_flush_local", mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0), 0);
    CHECK_EQ("tlb_flush_all", mmuext(MMUEXT_TLB_FLUSH_ALL, 0, 0), 0);
    CHECK_EQ("tlb_flush_multi", mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, (u64)&mask), 0);
    CHECK_EQ("tlb_flush_multi.wild", mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, 0x700000000000), -EINVAL);
    mask = ~0ul;
    CHECK_EQ("tlb_flush_multi.vcpus_beyond", mmuext(MMUEXT_TLB_FLUSH_MULTI, 0, (u64)&mask), 0);
    CHECK_EQ("invlpg_local", mmuext(MMUEXT_INVLPG_LOCAL, va, 0), 0);
    CHECK_EQ("invlpg_all", mmuext(MMUEXT_INVLPG_ALL, va, 0), 0);
    CHECK_EQ("invlpg_multi", mmuext(MMUEXT_INVLPG_MULTI, va, (u64)&mask), 0);
    CHECK_EQ("invlpg_multi.wild", mmuext(MMUEXT_INVLPG_MULTI, va, 0x700000000000), -EINVAL);
    CHECK_EQ("invlpg.noncanonical", mmuext(MMUEXT_INVLPG_LOCAL, 0x800000000000, 0), 0);
    CHECK_EQ("invlpg.hypervisor", mmuext(MMUEXT_INVLPG_ALL, HYPERVISOR_START, 0), 0);
    /* A domain without a device has no cached I/O to flush: refused to it, allowed to domain 0. */
    CHECK_EQ("flush_cache", mmuext(MMUEXT_FLUSH_CACHE, 0, 0), oracle ? 0 : -EACCES);
    CHECK_EQ("flush_cache_global", mmuext(MMUEXT_FLUSH_CACHE_GLOBAL, 0, 0), oracle ? 0 : -EINVAL);
}

static void pages(void)
{
    u8 *a = page_alloc(), *b = page_alloc();
    u64 l1 = mfn_of(pte_of(kernel_l4(), a, 1));
    a[0] = a[4095] = 9;
    CHECK_EQ("copy", mmuext(MMUEXT_COPY_PAGE, mfn_of(b), mfn_of(a)), 0);
    CHECK("copy.whole_page", b[0] == 9 && b[4095] == 9);
    CHECK_EQ("clear", mmuext(MMUEXT_CLEAR_PAGE, mfn_of(a), 0), 0);
    CHECK("clear.whole_page", a[0] == 0 && a[4095] == 0);
    CHECK_EQ("clear.page_table", mmuext(MMUEXT_CLEAR_PAGE, l1, 0), -EINVAL);
    CHECK_EQ("clear.bad_mfn", mmuext(MMUEXT_CLEAR_PAGE, 0x7ffffff, 0), -EINVAL);
    CHECK_EQ("copy.to_page_table", mmuext(MMUEXT_COPY_PAGE, l1, mfn_of(a)), -EINVAL);
    CHECK_EQ("copy.from_page_table", mmuext(MMUEXT_COPY_PAGE, mfn_of(b), l1), 0);
    CHECK("copy.from_page_table.content", !memcmp(b, (void *)((u64)pte_of(kernel_l4(), a, 1) & ~(PAGE - 1)), PAGE));
    CHECK_EQ("copy.from_bad_mfn", mmuext(MMUEXT_COPY_PAGE, mfn_of(b), 0x7ffffff), -EINVAL);
    CHECK_EQ("copy.to_bad_mfn", mmuext(MMUEXT_COPY_PAGE, 0x7ffffff, mfn_of(b)), -EINVAL);
    make_ro(b);
    CHECK_EQ("clear.read_only_mapped_page", mmuext(MMUEXT_CLEAR_PAGE, mfn_of(b), 0), 0);
    CHECK_EQ("clear.read_only_mapped_page.content", b[0], 0);
    make_rw(b);
}

static void answers(void)
{
    CHECK_EQ("mark_super", mmuext(MMUEXT_MARK_SUPER, 0, 0), -EOPNOTSUPP);
    CHECK_EQ("unmark_super", mmuext(MMUEXT_UNMARK_SUPER, 0, 0), -EOPNOTSUPP);
    CHECK_EQ("number_14", mmuext(MMUEXT_UNKNOWN14, 0, 0), -ENOSYS);
    CHECK_EQ("number_21", mmuext(21, 0, 0), -ENOSYS);
    CHECK_EQ("number_all_ones", mmuext(~0u, 0, 0), -ENOSYS);
}

static void ldt_arguments(void)
{
    u64 page = (u64)page_alloc();
    CHECK_EQ("set_ldt.unaligned", mmuext(MMUEXT_SET_LDT, page + 8, 4), -EINVAL);
    CHECK_EQ("set_ldt.too_many", mmuext(MMUEXT_SET_LDT, page, 8193), -EINVAL);
    CHECK_EQ("set_ldt.hypervisor", mmuext(MMUEXT_SET_LDT, HYPERVISOR_START, 4), -EINVAL);
    CHECK_EQ("set_ldt.none", mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK_EQ("set_ldt.none_any_address", mmuext(MMUEXT_SET_LDT, 123, 0), 0);
    CHECK_EQ("set_ldt.good", mmuext(MMUEXT_SET_LDT, page, 4), 0);
    CHECK_EQ("set_ldt.unmapped_is_accepted", mmuext(MMUEXT_SET_LDT, 0x700000000000, 4), 0);
    mmuext(MMUEXT_SET_LDT, 0, 0);
}

static void counts(void)
{
    struct mmuext_op ops[3] = { { MMUEXT_TLB_FLUSH_LOCAL, 0, 0, 0 }, { 99, 0, 0, 0 }, { MMUEXT_TLB_FLUSH_LOCAL, 0, 0, 0 } };
    u32 done = 77;
    CHECK_EQ("count.stops_at_error", hc_mmuext(ops, 3, &done, DOMID_SELF), -ENOSYS);
    CHECK_EQ("count.done", done, 1);
    CHECK_EQ("count.zero", hc_mmuext(ops, 0, &done, DOMID_SELF), 0);
    CHECK_EQ("count.zero.done", done, 0);
    CHECK_EQ("count.wild", hc_mmuext(0x700000000000, 1, &done, DOMID_SELF), -EFAULT);
    CHECK_EQ("count.wild_done_ignored", hc_mmuext(ops, 1, 0x700000000000, DOMID_SELF), 0);
    CHECK_EQ("count.absurd", hc_mmuext(0x700000000000, 0x7fffffff, 0, DOMID_SELF), -EFAULT);
    CHECK_EQ("count.bad_domain", hc_mmuext(ops, 1, 0, 77), -ESRCH);
}

PROBE(TEST(flushes, 13), TEST(pages, 13), TEST(answers, 5), TEST(ldt_arguments, 7), TEST(counts, 8));
