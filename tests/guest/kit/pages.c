/* Own page tables and frames. The boot mapping shows pfn N at VIRT_BASE + N * 4096, page tables included (read-only). */
#include "xenkit.h"

#define POOL_PAGES 192
static u8 pool[POOL_PAGES][PAGE] __attribute__((aligned(4096)));
static u32 pool_used;

u64 pfn_of(const volatile void *va)
{
    return ((u64)va - VIRT_BASE) / PAGE;
}

u64 mfn_of(const volatile void *va)
{
    return ((const u64 *)start_info->mfn_list)[pfn_of(va)];
}

void *va_of_mfn(u64 mfn)
{
    return (void *)(VIRT_BASE + M2P[mfn] * PAGE);
}

void *page_alloc(void)
{
    if (pool_used == POOL_PAGES) {
        printk("# page pool exhausted\n");
        shutdown(SHUTDOWN_crash);
    }
    return pool[pool_used++];
}

u64 *kernel_l4(void)
{
    return (u64 *)start_info->pt_base;
}

volatile u64 *pte_of(u64 *l4, const volatile void *va, int level)
{
    volatile u64 *table = l4;
    for (int at = 4;; at--) {
        volatile u64 *entry = table + ((u64)va >> (12 + 9 * (at - 1)) & 511);
        if (at == level)
            return entry;
        if (!(*entry & PTE_P))
            return 0;
        table = va_of_mfn((*entry & PTE_MFN) / PAGE);
    }
}

u64 pte_ma(volatile u64 *pte)
{
    return mfn_of(pte) * PAGE + ((u64)pte & (PAGE - 1));
}

s64 pte_write(volatile u64 *pte, u64 value)
{
    struct mmu_update req = { pte_ma(pte) | MMU_NORMAL_PT_UPDATE, value };
    return hc_mmu_update(&req, 1, 0, DOMID_SELF);
}

s64 map_page(const volatile void *va, u64 value)
{
    return hc_va_map(va, value, UVMF_INVLPG | UVMF_ALL);
}

s64 make_ro(const volatile void *va)
{
    return map_page(va, mfn_of(va) * PAGE | PTE_P | PTE_A | PTE_D);
}

s64 make_rw(const volatile void *va)
{
    return map_page(va, mfn_of(va) * PAGE | PTE_P | PTE_A | PTE_D | PTE_W);
}

s64 mmuext(u32 cmd, u64 arg1, u64 arg2)
{
    struct mmuext_op op = { cmd, 0, arg1, arg2 };
    return hc_mmuext(&op, 1, 0, DOMID_SELF);
}

void *table_alloc(void)
{
    void *page = page_alloc();
    make_ro(page);
    return page;
}
