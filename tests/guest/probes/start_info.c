/* What the domain builder leaves: start_info, the boot mapping, first registers, shared pages (xen.h "Start-of-day memory layout"). */
#include "xenkit.h"

extern u8 _start[], boot_stack_top[];

static void registers(void)
{
    CHECK_EQ("rsi_is_start_info", boot_rsi, start_info);
    CHECK_EQ("start_info_page_aligned", (u64)start_info & (PAGE - 1), 0);
    CHECK("rsp_in_the_boot_mapping", boot_rsp > VIRT_BASE && boot_rsp <= VIRT_BASE + start_info->nr_pages * PAGE);
    CHECK("rsp_above_start_info", boot_rsp > (u64)start_info);
    CHECK_EQ("rflags_if", boot_rflags & FLAG_IF, FLAG_IF);
    CHECK_EQ("rflags_df", boot_rflags & FLAG_DF, 0);
    CHECK_EQ("rflags_iopl", boot_rflags & FLAG_IOPL, 0);
    u64 *stack = (u64 *)boot_rsp;
    TRY("mov (%0), %%rax; mov %%rax, (%0)", ::"r"(stack - 1) : "rax", "memory");
    CHECK_EQ("boot_stack_writable", trap_vector(), VECTOR_NONE);
}

static void contents(void)
{
    CHECK("magic", !memcmp(start_info->magic, "xen-3.0-x86_64", 15) || contains(start_info->magic, "xen-3."));
    CHECK("nr_pages", start_info->nr_pages >= 2048);
    CHECK_EQ("shared_info_aligned", start_info->shared_info & (PAGE - 1), 0);
    CHECK_EQ("flags.privileged_initdomain", start_info->flags & 3, oracle ? 3 : 0);
    CHECK_EQ("pt_base_aligned", start_info->pt_base & (PAGE - 1), 0);
    CHECK("nr_pt_frames", start_info->nr_pt_frames >= 4 && start_info->nr_pt_frames < 1000);
    CHECK("mod_start_0_without_module", !start_info->mod_len);
    CHECK("cmd_line_terminated", strlen(start_info->cmd_line) < 1024);
    CHECK_EQ_UNPRIVILEGED("console_mfn_is_ours", M2P[start_info->console_mfn] < start_info->nr_pages, 1, "domain 0 has no ring");
    CHECK_EQ_UNPRIVILEGED("store_mfn_is_ours", M2P[start_info->store_mfn] < start_info->nr_pages, 1, "domain 0 has no ring");
    CHECK_EQ_UNPRIVILEGED("console_evtchn", start_info->console_evtchn > 0, 1, "domain 0 has no ring");
    CHECK_EQ_UNPRIVILEGED("store_evtchn", start_info->store_evtchn > 0 && start_info->store_evtchn != start_info->console_evtchn,
                          1, "domain 0 has no ring");
}

static void tables(void)
{
    const u64 *p2m = (const u64 *)start_info->mfn_list;
    u64 wrong = 0, same = 0, cr3;
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++) {
        wrong += M2P[p2m[pfn]] != pfn;
        same += p2m[pfn] == pfn;
    }
    CHECK_EQ("p2m_and_m2p_agree", wrong, 0);
    CHECK("pfns_are_not_mfns", same < start_info->nr_pages / 2);
    asm volatile("mov %%cr3, %0" : "=r"(cr3));
    CHECK_EQ("cr3_is_pt_base", cr3, mfn_of(kernel_l4()) * PAGE);
    int writable = 0, mapped = 1, foreign = 0;
    for (u64 i = 0; i < start_info->nr_pt_frames; i++) {
        volatile u64 *pte = pte_of(kernel_l4(), (void *)(start_info->pt_base + i * PAGE), 1);
        mapped &= pte && (*pte & PTE_P);
        writable |= pte && (*pte & PTE_W);
    }
    CHECK("page_tables_mapped", mapped);
    CHECK("page_tables_read_only", !writable);
    for (u64 va = VIRT_BASE + 0x100000; va < start_info->pt_base; va += PAGE) {
        volatile u64 *pte = pte_of(kernel_l4(), (void *)va, 1);
        foreign += va != (u64)shared_info /* mapped there by the kit */ &&
                   (!pte || !(*pte & PTE_P) || (*pte & PTE_MFN) / PAGE != p2m[pfn_of((void *)va)]);
    }
    CHECK_EQ("boot_mapping_is_linear", foreign, 0);
    u64 end = start_info->pt_base + start_info->nr_pt_frames * PAGE + 0x80000;
    volatile u64 *pte = pte_of(kernel_l4(), (void *)(end - PAGE), 1);
    CHECK("512_kib_behind_are_mapped", pte && (*pte & PTE_P));
    CHECK("l4_pinned", mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(kernel_l4()), 0) == -EINVAL);
    TRY("mov %0, %%rax; mov (%%rax), %%rax", ::"i"(0) : "rax", "memory");
    CHECK_EQ("null_faults", trap_vector(), 14);
}

static void shared(void)
{
    u64 masks = 0;
    CHECK_EQ("upcall_mask_at_start", VCPU0->upcall_mask, 1);
    for (int i = 0; i < 64; i++)
        masks |= shared_info->evtchn_mask[i];
    CHECK_EQ("no_port_masked", masks, 0);
    CHECK_EQ("version_even", VCPU0->time.version & 1, 0);
    CHECK("wallclock_set", shared_info->wc_sec > 0);
    CHECK_EQ("shared_info_is_not_a_pfn_of_ours", M2P[start_info->shared_info / PAGE] >= start_info->nr_pages, 1);
    CHECK_EQ("bss_is_zero", ({ static u64 zeros[512]; u64 sum = 0; for (int i = 0; i < 512; i++) sum |= zeros[i]; sum; }), 0);
}

PROBE(TEST(registers, 8), TEST(contents, 12), TEST(tables, 9), TEST(shared, 6));
