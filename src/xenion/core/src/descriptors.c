/* Segment descriptors: GDT and LDT frames are typed, checked descriptor by descriptor, and mapped read-only into the
 * hypervisor's hole. Rules: check_descriptor in xen/arch/x86/pv/descriptor-tables.c. */
#include "core.h"

#define DESC_ACCESSED (1ull << 40)
#define DESC_SYSTEM_TYPE (0xfull << 40)
#define DESC_S (1ull << 44)
#define DESC_DPL (3ull << 45)
#define DESC_P (1ull << 47)

#define GATE_TYPE (0xcull << 40)
#define GATE_RESERVED (0xffull << 32)

/* A call gate may be stored but never used: its DPL goes to its selector's RPL, and zero keeps every guest out. */
static int check_gate(u64 *descriptor)
{
    u64 value = *descriptor, selector = (value >> 16) & 0xffff;
    if ((value & DESC_SYSTEM_TYPE) != GATE_TYPE || (value & GATE_RESERVED))
        return 0;
    if (selector >> 3 >= FIRST_RESERVED_GDT_ENTRY && !(selector & 4) && selector != FLAT_KERNEL_CS64)
        return 0;
    *descriptor = (value & ~DESC_DPL & ~(3ull << 16)) | 3ull << 16;
    return 1;
}

static int check_descriptor(u64 *descriptor)
{
    u64 value = *descriptor;
    if (!(value & DESC_P))
        return 1;
    if (!(value & DESC_S))
        return !(value & DESC_SYSTEM_TYPE) || check_gate(descriptor);
    /* Accessed, or loading it would write to a read-only page. */
    *descriptor = value | DESC_DPL | DESC_ACCESSED;
    return 1;
}

int validate_descriptors(struct domain *d, u64 mfn)
{
    for (u64 i = 0; i < 512; i++) {
        u64 *slot = table_entry(d, mfn, i), value = load(slot);
        if (!check_descriptor(&value))
            return -XEN_EINVAL;
        store(slot, value);
    }
    return 0;
}

/* Page PAGE of the vCPU's descriptor area: 0-15 the GDT, 16-31 the LDT. */
static void set_area(struct vcpu *v, u64 page, u64 entry)
{
    set_hypervisor_entry(v->domain, v->domain->gdt_l1 + ((u64)v->id * AREA_PAGES + page) * 8, entry);
}

static void map_area(struct vcpu *v, u64 page, u64 ma) { set_area(v, page, ma | PTE_P | PTE_A | PTE_D | PTE_NX); }

/* A frame is given back only when no TLB can still hold the hole's mapping of it. */
static void drop_gdt(struct vcpu *v)
{
    for (u32 i = 0; i < FIRST_RESERVED_GDT_PAGE; i++)
        map_area(v, i, v->domain->zero_page);
    v->gdt_entries = 0;
    v->domain->platform->flush_all(v->domain);
    for (u32 i = 0; i < FIRST_RESERVED_GDT_PAGE; i++) {
        if (v->gdt_frames[i])
            put_frame_and_type(v->domain, v->gdt_frames[i]);
        v->gdt_frames[i] = 0;
    }
}

s64 set_gdt(struct vcpu *v, const u64 *frames, u64 entries)
{
    struct domain *d = v->domain;
    u64 pages = (entries + 511) / 512;
    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    for (u64 i = 0; i < pages; i++) {
        if (!get_frame_and_type(d, frames[i], TYPE_SEG))
            continue;
        while (i--)
            put_frame_and_type(d, frames[i]);
        return -XEN_EINVAL;
    }
    drop_gdt(v);
    for (u64 i = 0; i < pages; i++) {
        v->gdt_frames[i] = frames[i];
        map_area(v, i, frames[i] << PAGE_SHIFT);
    }
    v->gdt_entries = (u32)entries;
    d->platform->flush_all(d);
    return 0;
}

s64 set_gdt_op(struct vcpu *v, u64 list, u64 entries)
{
    u64 frames[FIRST_RESERVED_GDT_PAGE] = {0};
    if (entries > FIRST_RESERVED_GDT_ENTRY)
        return -XEN_EINVAL;
    return copy_from_guest(v, frames, list, (entries + 511) / 512 * 8) ? -XEN_EFAULT : set_gdt(v, frames, entries);
}

s64 update_descriptor(struct vcpu *v, u64 ma, u64 descriptor)
{
    struct domain *d = v->domain;
    u64 mfn = ma >> PAGE_SHIFT;
    if ((ma & 7) || !check_descriptor(&descriptor) || !get_frame(d, mfn))
        return -XEN_EINVAL;
    u64 type = load(&frame_of(d, mfn)->type) & TYPE_MASK;
    int rc = get_frame_type(d, mfn, type == TYPE_SEG ? TYPE_SEG : TYPE_WRITABLE);
    if (!rc) {
        store(word_at(d, ma), descriptor);
        d->platform->code_written(d, ma, sizeof descriptor);
        put_frame_type(d, mfn);
    }
    put_frame(d, mfn);
    return rc ? -XEN_EINVAL : 0;
}

void drop_ldt(struct vcpu *v)
{
    int mapped = 0;
    for (u32 i = 0; i < 16; i++) {
        mapped |= v->ldt_frames[i] != 0;
        set_area(v, 16 + i, 0);
    }
    if (!mapped)
        return;
    v->domain->platform->flush_all(v->domain);
    for (u32 i = 0; i < 16; i++) {
        if (v->ldt_frames[i])
            put_frame_and_type(v->domain, v->ldt_frames[i]);
        v->ldt_frames[i] = 0;
    }
}

s64 set_ldt(struct vcpu *v, u64 base, u64 entries)
{
    if (!entries)
        base = 0;
    if (entries > 8192 || (entries && (PAGE_OFFSET(base) || !range_okay(base, 8, entries))))
        return -XEN_EINVAL;
    if (v->ldt_base == base && v->ldt_entries == entries)
        return 0;
    drop_ldt(v);
    v->ldt_base = base;
    v->ldt_entries = (u32)entries;
    v->domain->platform->load_ldt(v);
    return 0;
}

/* A fault at OFFSET of the vCPU's LDT area: map the guest's page there if it is a good one. */
int map_ldt_page(struct vcpu *v, u64 offset)
{
    u64 page = offset >> PAGE_SHIFT, table;
    if (page >= 16 || (offset >> 3) >= v->ldt_entries || v->ldt_frames[page])
        return 0;
    u64 *slot = l1_entry(v->domain, v->cr3, v->ldt_base + (page << PAGE_SHIFT), &table);
    u64 entry = slot ? load(slot) : 0;
    if (!(entry & PTE_P) || get_frame_and_type(v->domain, PTE_FRAME(entry), TYPE_SEG))
        return 0;
    v->ldt_frames[page] = PTE_FRAME(entry);
    map_area(v, 16 + page, entry & PTE_ADDRESS);
    return 1;
}

/* The descriptor behind a selector, read from the checked frames; *okay is 0 when it lies beyond its table. */
u64 read_descriptor(struct vcpu *v, u16 selector, int *okay)
{
    struct domain *d = v->domain;
    u64 index = selector >> 3, page = index >> 9;
    *okay = 1;
    if (selector & 4) {
        if (index < v->ldt_entries && (v->ldt_frames[page] || map_ldt_page(v, index * 8)))
            return load(table_entry(d, v->ldt_frames[page], index));
    } else if (page == FIRST_RESERVED_GDT_PAGE) {
        return load(table_entry(d, d->reserved_gdt >> PAGE_SHIFT, index));
    } else if (page < FIRST_RESERVED_GDT_PAGE && v->gdt_frames[page]) {
        return load(table_entry(d, v->gdt_frames[page], index));
    }
    *okay = 0;
    return 0;
}

#define TYPE_CODE (1ull << 43)
#define TYPE_CONFORMING (1ull << 42)
#define TYPE_READS (1ull << 41) /* of data: writable; of code: readable */
#define DESC_L (1ull << 53)
#define DESC_B (1ull << 54)

/* Does ring 3 load the segment register with this descriptor, or does it fault? */
int may_load(int segment, u64 descriptor)
{
    u64 conforming = TYPE_CODE | TYPE_CONFORMING, kind = descriptor & (TYPE_CODE | TYPE_READS);
    if ((descriptor & (DESC_S | DESC_P)) != (DESC_S | DESC_P))
        return 0;
    if (segment != SEG_CS && segment != SEG_SS && (descriptor & conforming) == conforming)
        return (descriptor & TYPE_READS) != 0;
    if ((descriptor & DESC_DPL) != DESC_DPL)
        return 0;
    if (segment == SEG_CS)
        return (descriptor & TYPE_CODE) && (descriptor & (DESC_L | DESC_B)) != (DESC_L | DESC_B);
    return segment == SEG_SS ? kind == TYPE_READS : kind != TYPE_CODE;
}
