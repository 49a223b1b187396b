/* Page types: pinning, levels, base pointers, linear tables, hypervisor slots, descriptor pages (mmuext_op in xen.h). */
#include "xenkit.h"

#define RAM (PTE_P | PTE_A | PTE_D)
#define LINK (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)
#define PIN(level, page) mmuext(MMUEXT_PIN_L1_TABLE + (level) - 1, mfn_of(page), 0)
#define UNPIN(page) mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page), 0)

static void pinning(void)
{
    u64 *writable = page_alloc(), *table = page_alloc();
    CHECK_EQ("pin.writable_page", PIN(1, writable), -EINVAL);
    make_ro(table);
    CHECK_EQ("pin.l1", PIN(1, table), 0);
    CHECK_EQ("pin.l1_twice", PIN(1, table), -EINVAL);
    CHECK_EQ("pin.as_other_level", PIN(2, table), -EINVAL);
    CHECK_EQ("pin.l1_as_l4", PIN(4, table), -EINVAL);
    CHECK_EQ("pin.cannot_map_writable", make_rw(table), -EBUSY);
    CHECK_EQ("unpin", UNPIN(table), 0);
    CHECK_EQ("unpin.twice", UNPIN(table), -EINVAL);
    CHECK_EQ("unpin.never_pinned", UNPIN(writable), -EINVAL);
    CHECK_EQ("unpin.now_writable", make_rw(table), 0);
    CHECK_EQ("pin.bad_mfn", mmuext(MMUEXT_PIN_L1_TABLE, 0x7ffffff, 0), -EINVAL);
    CHECK_EQ("unpin.bad_mfn", mmuext(MMUEXT_UNPIN_TABLE, 0x7ffffff, 0), -EINVAL);
    CHECK_EQ("pin.boot_l4_twice", PIN(4, kernel_l4()), -EINVAL); /* the builder pinned it */
}

static void contents_are_checked(void)
{
    u64 *data = page_alloc(), *l1 = page_alloc(), *l2 = page_alloc(), *l3 = page_alloc(), *l4 = page_alloc();
    l1[3] = 0x7fffff000000 | RAM;
    make_ro(l1);
    CHECK_EQ("l1.bad_mfn_inside", PIN(1, l1), -EPERM);
    make_rw(l1);
    l1[3] = mfn_of(data) * PAGE | RAM | PTE_W;
    l1[4] = mfn_of(l1) * PAGE | RAM | PTE_W;
    make_ro(l1);
    CHECK_EQ("l1.maps_itself_writable", PIN(1, l1), -EBUSY);
    make_rw(l1);
    l1[4] = mfn_of(l1) * PAGE | RAM;
    make_ro(l1);
    CHECK_EQ("l1.maps_itself_read_only", PIN(1, l1), 0);
    l2[0] = mfn_of(l1) * PAGE | LINK;
    l2[1] = mfn_of(data) * PAGE | LINK;
    make_ro(l2);
    CHECK("l2.entry_is_a_writable_page", PIN(2, l2) < 0);
    make_rw(l2);
    l2[1] = mfn_of(data) * PAGE | LINK | PTE_PSE;
    make_ro(l2);
    CHECK_EQ("l2.pse", PIN(2, l2), -EINVAL);
    make_rw(l2);
    l2[1] = 0;
    make_ro(l2);
    CHECK_EQ("l2.good", PIN(2, l2), 0);
    l3[0] = mfn_of(l1) * PAGE | LINK;
    make_ro(l3);
    CHECK("l3.entry_is_an_l1", PIN(3, l3) < 0);
    make_rw(l3);
    l3[0] = mfn_of(l2) * PAGE | LINK;
    make_ro(l3);
    CHECK_EQ("l3.good", PIN(3, l3), 0);
    l4[0] = mfn_of(l3) * PAGE | LINK;
    make_ro(l4);
    CHECK_EQ("l4.good", PIN(4, l4), 0);
    CHECK_EQ("l4.update_hypervisor_slot", pte_write(&l4[256], mfn_of(l3) * PAGE | LINK), -EINVAL);
    CHECK_EQ("l4.clear_hypervisor_slot", pte_write(&l4[256], 0), -EINVAL);
    CHECK_EQ("l4.slot_271", pte_write(&l4[271], mfn_of(l3) * PAGE | LINK), -EINVAL);
    CHECK_EQ("l4.slot_272", pte_write(&l4[272], mfn_of(l3) * PAGE | LINK), 0);
    CHECK_EQ("l4.slot_255", pte_write(&l4[255], mfn_of(l3) * PAGE | LINK), 0);
    CHECK("l4.entry_is_an_l1", pte_write(&l4[1], mfn_of(l1) * PAGE | LINK) < 0);
    CHECK_EQ("l4.reserved_bit", pte_write(&l4[1], mfn_of(l3) * PAGE | LINK | 1ul << 51), -EINVAL);
    CHECK_EQ("l4.pse", pte_write(&l4[1], mfn_of(l3) * PAGE | LINK | PTE_PSE), -EINVAL);
    CHECK_EQ("l3.pse", pte_write(&l3[1], mfn_of(l2) * PAGE | LINK | PTE_PSE), -EINVAL);
    CHECK_EQ("l2.pse_update", pte_write(&l2[1], mfn_of(data) * PAGE | LINK | PTE_PSE), -EINVAL);
    CHECK_EQ("l2.bad_mfn", pte_write(&l2[1], 0x7fffff000000 | LINK), -EINVAL);
    CHECK("unpin.still_referenced", !UNPIN(l1) && make_rw(l1) == -EBUSY);
    CHECK_EQ("l2.drop", pte_write(&l2[0], 0), 0);
    CHECK_EQ("l1.free_again", make_rw(l1), 0);
    CHECK_EQ("l4.unpin", UNPIN(l4), 0);
    CHECK_EQ("l4.writable_after", make_rw(l4), 0);
    CHECK_EQ("l3.unpin", UNPIN(l3), 0);
    CHECK_EQ("l2.unpin", UNPIN(l2), 0);
}

/* A table may be linked without a pin: the link validates it and holds the type. */
static void implicit_types(void)
{
    u64 *l1 = page_alloc(), *l2 = page_alloc(), *l3 = page_alloc();
    volatile u64 *slot = &kernel_l4()[5];
    l2[0] = mfn_of(l1) * PAGE | LINK;
    l3[0] = mfn_of(l2) * PAGE | LINK;
    CHECK("implicit.l3_still_writable", pte_write(slot, mfn_of(l3) * PAGE | LINK) < 0);
    make_ro(l3);
    CHECK("implicit.l2_still_writable", pte_write(slot, mfn_of(l3) * PAGE | LINK) < 0);
    make_ro(l2);
    make_ro(l1);
    CHECK_EQ("implicit.link", pte_write(slot, mfn_of(l3) * PAGE | LINK), 0);
    CHECK_EQ("implicit.l1_now_typed", make_rw(l1), -EBUSY);
    CHECK_EQ("implicit.use", pte_write(&l1[7], mfn_of(l1) * PAGE | RAM), 0);
    CHECK_EQ("implicit.reach", *(volatile u64 *)(5ul << 39 | 7ul << 12 | 56) & PTE_MFN, mfn_of(l1) * PAGE);
    CHECK_EQ("implicit.unlink", pte_write(slot, 0), 0);
    CHECK_EQ("implicit.l1_free", make_rw(l1), 0);
    CHECK_EQ("implicit.l2_free", make_rw(l2), 0);
    CHECK_EQ("implicit.l3_free", make_rw(l3), 0);
}

/* An L4 slot that shows the tables themselves: allowed read-only only. */
static void linear_tables(void)
{
    volatile u64 *l4 = kernel_l4();
    u64 self = mfn_of(kernel_l4()) * PAGE;
    s64 writable = pte_write(&l4[6], self | LINK), ro = pte_write(&l4[6], self | PTE_P | PTE_U | PTE_A);
    CHECK_EQ("linear.writable", writable, -EINVAL);
    CHECK_EQ("linear.read_only", ro, 0);
    u64 view = 6ul << 39 | 6ul << 30 | 6ul << 21 | 6ul << 12 | 6 * 8;
    CHECK_EQ("linear.reads_own_entry", *(volatile u64 *)(view | 0xffff000000000000ul * 0) & PTE_MFN, self);
    CHECK_EQ("linear.clear", pte_write(&l4[6], 0), 0);
}

static void base_pointers(void)
{
    u64 *l4 = page_alloc(), *data = page_alloc(), *boot = kernel_l4();
    for (int i = 0; i < 512; i++)
        l4[i] = i < 256 || i > 271 ? boot[i] : 0;
    make_ro(l4);
    CHECK_EQ("base.bad_mfn", mmuext(MMUEXT_NEW_BASEPTR, 0x7ffffff, 0), -EINVAL);
    CHECK_EQ("base.data_page", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(data), 0), -EINVAL);
    CHECK_EQ("base.unpinned_l4", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    data[0] = 77;
    CHECK_EQ("base.runs_on_it", data[0], 77);
    CHECK_EQ("base.m2p_visible", M2P[mfn_of(data)], pfn_of(data));
    CHECK_EQ("base.same_again", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(l4), 0), 0);
    CHECK_EQ("base.in_use_is_typed", make_rw(l4), -EBUSY);
    u64 cr3;
    asm volatile("mov %%cr3, %0" : "=r"(cr3));
    CHECK_EQ("base.cr3_reads_back", cr3 >> 12, mfn_of(l4));
    CHECK_EQ("base.back", mmuext(MMUEXT_NEW_BASEPTR, mfn_of(boot), 0), 0);
    CHECK_EQ("base.free_again", make_rw(l4), 0);
    CHECK_EQ("user_base.data_page", mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(data), 0), -EINVAL);
    CHECK_EQ("user_base.bad_mfn", mmuext(MMUEXT_NEW_USER_BASEPTR, 0x7ffffff, 0), -EINVAL);
    make_ro(l4);
    CHECK_EQ("user_base.l4", mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(l4), 0), 0);
    CHECK_EQ("user_base.typed", make_rw(l4), -EBUSY);
    CHECK_EQ("user_base.none", mmuext(MMUEXT_NEW_USER_BASEPTR, 0, 0), 0);
    CHECK_EQ("user_base.free_again", make_rw(l4), 0);
}

PROBE(TEST(pinning, 13), TEST(contents_are_checked, 27), TEST(implicit_types, 10), TEST(linear_tables, 4),
      TEST(base_pointers, 16));
