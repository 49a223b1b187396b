/* INIT_P2M puts the p2m at an address of the kernel's choice, outside the boot mapping (elfnote.h). */
#include "xenkit.h"

#define P2M_AT 0x8000000000ul
asm(".pushsection .note.Xen, \"a\", @note\n.balign 4\n.long 4, 8, 15\n.asciz \"Xen\"\n.quad 0x8000000000\n.popsection");

static void place(void)
{
    const u64 *p2m = (const u64 *)start_info->mfn_list;
    u64 wrong = 0;
    CHECK_EQ("mfn_list", start_info->mfn_list, P2M_AT);
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++)
        wrong += M2P[p2m[pfn]] != pfn;
    CHECK_EQ("agrees_with_m2p", wrong, 0);
    CHECK("nr_p2m_frames", start_info->nr_p2m_frames >= (start_info->nr_pages * 8 + PAGE - 1) / PAGE);
    u64 first = start_info->first_p2m_pfn, end = first + start_info->nr_p2m_frames, wrong_table = 0;
    u64 at = M2P[(kernel_l4()[1] & PTE_MFN) / PAGE]; /* its tables count as frames of the p2m */
    wrong_table = at < first || at >= end;
    CHECK_EQ("tables_within_p2m_frames", wrong_table, 0);
    TRY("mov (%0), %%rax; mov %%rax, (%0)", ::"r"(P2M_AT) : "rax", "memory");
    CHECK_EQ("writable", trap_vector(), VECTOR_NONE);
    CHECK_EQ("boot_mapping_without_it", mfn_of(kernel_l4()), p2m[pfn_of(kernel_l4())]);
}

PROBE(TEST(place, 6));
