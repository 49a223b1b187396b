/* HYPERVISOR_mmu_update and update_va_mapping: what is applied, what is refused and how (xen.h). */
#include "xenkit.h"

#define RAM (PTE_P | PTE_A | PTE_D)

static s64 update(u64 ptr, u64 val)
{
    struct mmu_update req = { ptr, val };
    return hc_mmu_update(&req, 1, 0, DOMID_SELF);
}

static void normal(void)
{
    u8 *a = page_alloc(), *b = page_alloc();
    volatile u64 *pte = pte_of(kernel_l4(), a, 1);
    u64 old = *pte;
    a[0] = 1;
    b[0] = 2;
    CHECK_EQ("normal.remap", update(pte_ma(pte), mfn_of(b) * PAGE | RAM | PTE_W), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (u64)a, 0);
    CHECK_EQ("normal.sees_other_page", a[0], 2);
    CHECK_EQ("normal.mfn_in_entry", (*pte & PTE_MFN) / PAGE, mfn_of(b));
    CHECK_EQ("normal.clear", update(pte_ma(pte), 0), 0);
    CHECK_EQ("normal.entry_is_0", *pte, 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (u64)a, 0);
    TRY("movb (%0), %%al", ::"r"(a) : "rax", "memory");
    CHECK_EQ("normal.clear.faults", trap_vector(), 14);
    CHECK_EQ("normal.not_present_content", update(pte_ma(pte), 0x123456789000 | 2), 0);
    CHECK_EQ("normal.not_present_content.kept", *pte, 0x123456789002);
    CHECK_EQ("normal.restore", update(pte_ma(pte), (old & PTE_MFN) | RAM | PTE_W), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (u64)a, 0);
    CHECK_EQ("normal.restored", a[0], 1);
    CHECK_EQ("normal.nx", update(pte_ma(pte), (old & PTE_MFN) | RAM | PTE_W | PTE_NX), 0);
    CHECK_EQ("normal.nx_kept", *pte >> 63, 1);
    CHECK_EQ("normal.avail_bits", update(pte_ma(pte), (old & PTE_MFN) | RAM | PTE_W | 0xe00), 0);
    CHECK_EQ("normal.avail_bits_kept", *pte & 0xe00, 0xe00);
    update(pte_ma(pte), (old & PTE_MFN) | RAM | PTE_W);
}

static void preserve_ad(void)
{
    u8 *a = page_alloc();
    volatile u64 *pte = pte_of(kernel_l4(), a, 1);
    u64 frame = *pte & PTE_MFN;
    update(pte_ma(pte), frame | PTE_P | PTE_W);
    CHECK_EQ("ad.cleared_by_normal", *pte & (PTE_A | PTE_D), 0);
    mmuext(MMUEXT_INVLPG_LOCAL, (u64)a, 0);
    *(volatile u8 *)a;
    CHECK_EQ("ad.accessed_set_by_processor", *pte & (PTE_A | PTE_D), PTE_A);
    *(volatile u8 *)a = 1;
    CHECK_EQ("ad.dirty_set_by_processor", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_EQ("ad.preserve", update(pte_ma(pte) | MMU_PT_UPDATE_PRESERVE_AD, frame | PTE_P | PTE_W), 0);
    CHECK_EQ("ad.kept_by_preserve", *pte & (PTE_A | PTE_D), PTE_A | PTE_D);
    CHECK_EQ("ad.no_translate", update(pte_ma(pte) | MMU_PT_UPDATE_NO_TRANSLATE, frame | RAM | PTE_W), 0);
}

static void machphys(void)
{
    u8 *a = page_alloc();
    u64 ma = mfn_of(a) * PAGE;
    u64 pfn = pfn_of(a);
    CHECK_EQ("m2p.agrees_with_p2m", M2P[mfn_of(a)], pfn);
    CHECK_EQ("m2p.update", update(ma | MMU_MACHPHYS_UPDATE, 0x123456), 0);
    CHECK_EQ("m2p.updated", M2P[mfn_of(a)], 0x123456);
    CHECK_EQ("m2p.restore", update(ma | MMU_MACHPHYS_UPDATE, pfn), 0);
    CHECK_EQ("m2p.restored", M2P[mfn_of(a)], pfn);
    CHECK_EQ("m2p.bad_mfn", update(0x7ffffffff000 | MMU_MACHPHYS_UPDATE, 1), -EINVAL);
}

/*
 * A frame that is no RAM at all is I/O space that the domain has no right to: -EPERM. Real Xen shows its own form of an entry (U, and
 * bit 52 or G to tell the kernel's from user entries); only what the guest gave is compared.
 */
#define GIVEN(entry) ((entry) & ~(PTE_U | PTE_G | 1ul << 52))

static void bad_values(void)
{
    u8 *a = page_alloc();
    volatile u64 *pte = pte_of(kernel_l4(), a, 1);
    u64 at = pte_ma(pte), old = *pte, frame = old & PTE_MFN;
    CHECK_EQ("bad.mfn", update(at, 0x7fffff000000 | RAM), -EPERM);
    CHECK_EQ("bad.entry_kept", *pte, old);
    CHECK_EQ("bad.reserved_bit_51", update(at, frame | RAM | PTE_W | 1ul << 51), -EPERM); /* it is a frame number's bit */
    CHECK_EQ("value.pat", update(at, frame | RAM | PTE_W | PTE_PSE), 0); /* at level 1 the PSE bit is PAT */
    CHECK_EQ("value.pat_kept", GIVEN(*pte), frame | RAM | PTE_W | PTE_PSE);
    CHECK_EQ("value.global", update(at, frame | RAM | PTE_W | PTE_G), 0);
    CHECK_EQ("value.bit_59", update(at, frame | RAM | PTE_W | 1ul << 59), 0);
    CHECK_EQ("value.bit_59_kept", GIVEN(*pte), frame | RAM | PTE_W | 1ul << 59);
    CHECK_EQ("value.plain", update(at, frame | RAM | PTE_W), 0);
    CHECK_EQ("value.plain_kept", GIVEN(*pte), frame | RAM | PTE_W);
    CHECK_EQ("value.user", update(at, frame | RAM | PTE_W | PTE_U), 0);
    CHECK_EQ("value.user_kept", *pte & PTE_U, PTE_U);
    update(at, frame | RAM | PTE_W);
}

static void page_table_pages(void)
{
    u8 *a = page_alloc();
    volatile u64 *pte = pte_of(kernel_l4(), a, 1);
    u64 at = pte_ma(pte), l1 = mfn_of(pte), l2 = mfn_of(pte_of(kernel_l4(), a, 2));
    u64 l4 = mfn_of(kernel_l4());
    CHECK_EQ("pt.writable_l1", update(at, l1 * PAGE | RAM | PTE_W), -EBUSY);
    CHECK_EQ("pt.writable_l2", update(at, l2 * PAGE | RAM | PTE_W), -EBUSY);
    CHECK_EQ("pt.writable_l4", update(at, l4 * PAGE | RAM | PTE_W), -EBUSY);
    CHECK_EQ("pt.read_only_l1", update(at, l1 * PAGE | RAM), 0);
    CHECK_EQ("pt.read_only_l4", update(at, l4 * PAGE | RAM), 0);
    make_rw(a);
}

static void targets(void)
{
    u8 *a = page_alloc();
    u64 ma = mfn_of(a) * PAGE;
    *(u64 *)a = 5;
    CHECK_EQ("target.ordinary_page", update(ma + 8, 0x1234567), 0); /* a plain page is written, unvalidated */
    CHECK_EQ("target.ordinary_page.written", ((volatile u64 *)a)[1], 0x1234567);
    CHECK_EQ("target.bad_mfn", update(0x7ffffffff000, 0), -EINVAL);
    CHECK_EQ("target.bad_command", update(ma | 4, 0), -ENOSYS);
    CHECK_EQ("target.bad_command_7", update(ma | 7, 0), -ENOSYS);
}

static void counts(void)
{
    u8 *a = page_alloc();
    struct mmu_update req[4] = { { mfn_of(a) * PAGE, 1 }, { mfn_of(a) * PAGE + 8, 2 }, { mfn_of(a) * PAGE | 5, 0 },
                                 { mfn_of(a) * PAGE + 16, 3 } };
    u32 done = 99;
    CHECK_EQ("count.stops_at_error", hc_mmu_update(req, 4, &done, DOMID_SELF), -ENOSYS);
    CHECK_EQ("count.done", done, 2);
    CHECK_EQ("count.first_two_applied", ((volatile u64 *)a)[1], 2);
    CHECK_EQ("count.later_not_applied", ((volatile u64 *)a)[2], 0);
    CHECK_EQ("count.all", hc_mmu_update(req, 2, &done, DOMID_SELF), 0);
    CHECK_EQ("count.all.done", done, 2);
    CHECK_EQ("count.zero", hc_mmu_update(req, 0, &done, DOMID_SELF), 0);
    CHECK_EQ("count.zero.done", done, 0);
    CHECK_EQ("count.zero_null", hc_mmu_update(0, 0, 0, DOMID_SELF), 0);
    CHECK_EQ("count.wild_array", hc_mmu_update(0x700000000000, 1, &done, DOMID_SELF), -EFAULT);
    CHECK_EQ("count.wild_array.done", done, 0);
    CHECK_EQ("count.wild_done", hc_mmu_update(req, 1, 0x700000000000, DOMID_SELF), 0);
    CHECK_EQ("count.bad_domain", hc_mmu_update(req, 1, 0, 77), -ESRCH);
    CHECK_EQ("count.bad_table_domain", hc_mmu_update(req, 1, 0, 78 << 16 | DOMID_SELF), -ESRCH);
    CHECK_EQ("count.own_table_domain", hc_mmu_update(req, 1, 0, (own_domid() + 1u) << 16 | DOMID_SELF), 0);
    CHECK_EQ("count.absurd", hc_mmu_update(0x700000000000, 0x7fffffff, 0, DOMID_SELF), -EFAULT);
}

static void va_mapping(void)
{
    u8 *a = page_alloc(), *b = page_alloc();
    u64 va = (u64)a, entry = mfn_of(b) * PAGE | RAM | PTE_W;
    a[0] = 1;
    b[0] = 2;
    CHECK_EQ("va.map", hc_va_map(a, entry, UVMF_INVLPG), 0);
    CHECK_EQ("va.mapped", a[0], 2);
    CHECK_EQ("va.flush_local", hc_va_map(a, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_TLB_FLUSH), 0);
    CHECK_EQ("va.flush_local.works", a[0], 1);
    CHECK_EQ("va.flush_all", hc_va_map(a, entry, UVMF_TLB_FLUSH | UVMF_ALL), 0);
    CHECK_EQ("va.flush_all.works", a[0], 2);
    CHECK_EQ("va.invlpg_all", hc_va_map(a, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_INVLPG | UVMF_ALL), 0);
    CHECK_EQ("va.invlpg_all.works", a[0], 1);
    u64 mask = 1;
    CHECK_EQ("va.vcpu_mask", hc_va_map(a, entry, UVMF_INVLPG | (u64)&mask), 0);
    CHECK_EQ("va.vcpu_mask.works", a[0], 2);
    CHECK_EQ("va.none", hc_va_map(a, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_NONE), 0);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
    CHECK_EQ("va.none.after_flush", a[0], 1);
    CHECK_EQ("va.flush_type_3_ignored", hc_va_map(a, mfn_of(a) * PAGE | RAM | PTE_W, 3), 0);
    CHECK_EQ("va.bad_mfn", hc_va_map(a, 0x7fffff000000 | RAM, UVMF_INVLPG), -EPERM);
    CHECK_EQ("va.no_table", hc_va_map(0x700000000000, entry, UVMF_INVLPG), -EINVAL);
    CHECK_EQ("va.hypervisor", hc_va_map(HYPERVISOR_START, entry, UVMF_INVLPG), -EINVAL);
    CHECK_EQ("va.noncanonical", hc_va_map(0x800000000000, entry, UVMF_INVLPG), -EINVAL);
    CHECK_EQ("va.unaligned", hc_va_map(va + 123, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_INVLPG), 0);
    CHECK_EQ("va.still_there", a[0], 1);
    CHECK_EQ("va.otherdomain_self", HC(NR_update_va_mapping_otherdomain, a, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_INVLPG, DOMID_SELF), 0);
    CHECK_EQ("va.otherdomain_none", HC(NR_update_va_mapping_otherdomain, a, mfn_of(a) * PAGE | RAM | PTE_W, UVMF_INVLPG, 77), -ESRCH);
}

PROBE(TEST(normal, 14), TEST(preserve_ad, 6), TEST(machphys, 6), TEST(bad_values, 12), TEST(page_table_pages, 5),
      TEST(targets, 5), TEST(counts, 16), TEST(va_mapping, 21));
