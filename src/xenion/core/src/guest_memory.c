/* The core's door to guest virtual memory: walks the guest kernel's own tables, obeys their permissions. */
#include "core.h"

#define WALK_FAULT (~0ull)

/* Xen's access_ok: user half or above the hypervisor's hole, the whole range. */
int range_okay(u64 address, u64 size, u64 count)
{
    u64 bytes;
    if (__builtin_mul_overflow(size, count, &bytes))
        return 0;
    u64 last = bytes ? address + bytes - 1 : address;
    if (last < address)
        return 0;
    return last < (1ull << 47) || address >= HYPERVISOR_VIRT_END;
}

/* The slot that maps ADDRESS, and what the levels above it allow (PTE_RW, PTE_US): through a linear page table the last
 * level may be any table, and only a level above says that it must not be written. */
static u64 *walk(struct domain *d, u64 cr3, u64 address, u64 *table_mfn, u64 *rights)
{
    u64 table = cr3 >> PAGE_SHIFT;
    *rights = ~0ull;
    for (int shift = 39; shift > 12; shift -= 9) {
        u64 entry = load(table_entry(d, table, address >> shift));
        if (!(entry & PTE_P) || (entry & PTE_PSE) || PTE_FRAME(entry) >= d->nr_frames)
            return NULL;
        *rights &= entry;
        table = PTE_FRAME(entry);
    }
    *table_mfn = table;
    return table_entry(d, table, address >> 12);
}

u64 *l1_entry(struct domain *d, u64 cr3, u64 address, u64 *table_mfn)
{
    u64 table, rights, *slot = walk(d, cr3, address, &table, &rights);
    if (slot && table_mfn)
        *table_mfn = table;
    return slot;
}

static u64 translate(struct vcpu *v, u64 address, u64 need)
{
    struct domain *d = v->domain;
    u64 table, rights, *slot = walk(d, v->kernel_mode ? v->cr3 : v->user_cr3, address, &table, &rights);
    if (!slot)
        return WALK_FAULT;
    u64 entry = load(slot);
    if (!v->kernel_mode)
        need |= PTE_US;
    if ((entry & rights & need) != need || PTE_FRAME(entry) >= d->nr_frames)
        return WALK_FAULT;
    u64 touched = need & PTE_RW ? PTE_A | PTE_D : PTE_A;
    if ((entry & touched) != touched)
        fetch_or(slot, touched);
    return (entry & PTE_ADDRESS) | PAGE_OFFSET(address);
}

int copy_from_guest(struct vcpu *v, void *to, u64 from, u64 size)
{
    if (!range_okay(from, size, 1))
        return -XEN_EFAULT;
    for (u8 *out = to; size;) {
        u64 ma = translate(v, from, PTE_P), part = PAGE_SIZE - PAGE_OFFSET(from);
        if (ma == WALK_FAULT)
            return -XEN_EFAULT;
        if (part > size)
            part = size;
        __builtin_memcpy(out, v->domain->memory + ma, part);
        out += part;
        from += part;
        size -= part;
    }
    return 0;
}

int copy_to_guest(struct vcpu *v, u64 to, const void *from, u64 size)
{
    if (!range_okay(to, size, 1))
        return -XEN_EFAULT;
    for (const u8 *in = from; size;) {
        u64 ma = translate(v, to, PTE_P | PTE_RW), part = PAGE_SIZE - PAGE_OFFSET(to);
        if (ma == WALK_FAULT)
            return -XEN_EFAULT;
        if (part > size)
            part = size;
        __builtin_memcpy(v->domain->memory + ma, in, part);
        v->domain->platform->code_written(v->domain, ma, part);
        in += part;
        to += part;
        size -= part;
    }
    return 0;
}
