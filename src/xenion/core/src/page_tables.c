/* Validation and change of page-table entries: nothing reaches a table that was not checked here.
 *
 * Entries of L1 tables hold a frame reference, and a writable type reference when they allow writing; entries of higher
 * tables hold a reference and a type reference of the next level. Rules and errors are those of get_page_from_lNe and
 * mod_lN_entry in xen/arch/x86/mm.c.
 *
 * A guest's kernel in ring 3 needs the user bit in all that it maps, so every entry gets it, as with Xen. What keeps its
 * applications out of it then is that they have an L4 of their own, whose hole shows them less. */
#include "core.h"

#define AVAILABLE_HIGH (0x7ffull << 52)
/* What entries above L1 may not carry: large pages, the global bit. */
#define UPPER_REFUSED (PTE_PSE | 0x100ull)

/* Changes of these bits alone keep every reference as it is. */
#define HARMLESS (PTE_NX | AVAILABLE_HIGH | 0xe00ull | PTE_D | PTE_A | PTE_US | 0x100ull)

static inline int is_xen_slot(u64 index) { return index >= L4_XEN_FIRST && index <= L4_XEN_LAST; }

static int get_l1_target(struct domain *d, u64 entry)
{
    u64 mfn = PTE_FRAME(entry);
    if (!frame_of(d, mfn))
        return mfn == PTE_ADDRESS >> PAGE_SHIFT ? -XEN_EINVAL : -XEN_EPERM;
    if (!get_frame(d, mfn))
        return -XEN_EBUSY;
    if ((entry & PTE_RW) && get_frame_type(d, mfn, TYPE_WRITABLE)) {
        put_frame(d, mfn);
        return -XEN_EBUSY;
    }
    return 0;
}

static void put_l1_target(struct domain *d, u64 entry)
{
    if (!(entry & PTE_P))
        return;
    if (entry & PTE_RW)
        put_frame_type(d, PTE_FRAME(entry));
    put_frame(d, PTE_FRAME(entry));
}

/* Linear page tables do not chain: a table with such entries (count above zero) is the target of none (below zero).
 * Tables have no use for their frame's stamp, so the count lives there. */
static int count_linear(struct frame *f, int step)
{
    u32 old = load(&f->stamp);
    do {
        if ((s32)old * step < 0 || (s32)old * step == INT32_MAX)
            return 0;
    } while (!cas(&f->stamp, &old, old + (u32)step));
    return 1;
}

static void uncount_linear(struct frame *f, int step) { fetch_add(&f->stamp, (u32)-step); }

static int take_type_if(struct frame *f, u64 type)
{
    u64 old = load(&f->type);
    do {
        if ((old & (TYPE_MASK | TYPE_VALIDATED)) != (type | TYPE_VALIDATED) || (old & TYPE_COUNT) == TYPE_COUNT)
            return 0;
    } while (!cas(&f->type, &old, old + 1));
    return 1;
}

/* A read-only entry that points to a table of its own level: a linear page table. 1 when the reference was taken. */
static int get_linear(struct domain *d, u64 entry, u64 table, u64 type)
{
    u64 mfn = PTE_FRAME(entry);
    if (entry & PTE_RW)
        return 0;
    if (mfn == table)
        return 1;
    if (!get_frame(d, mfn))
        return 0;
    struct frame *f = frame_of(d, mfn), *holder = frame_of(d, table);
    if (count_linear(holder, 1)) {
        if (count_linear(f, -1)) {
            if (take_type_if(f, type))
                return 1;
            uncount_linear(f, -1);
        }
        uncount_linear(holder, 1);
    }
    put_frame(d, mfn);
    return 0;
}

static inline u64 below(u64 type) { return type - TYPE_L1; }

static int get_upper_target(struct domain *d, u64 entry, u64 table, u64 type)
{
    if (entry & UPPER_REFUSED)
        return -XEN_EINVAL;
    int rc = get_frame_and_type(d, PTE_FRAME(entry), below(type));
    if (rc && get_linear(d, entry, table, type))
        rc = 0;
    return rc;
}

static void put_upper_target(struct domain *d, u64 entry, u64 table, u64 type)
{
    u64 mfn = PTE_FRAME(entry);
    if (!(entry & PTE_P) || mfn == table)
        return;
    if ((load(&frame_of(d, mfn)->type) & TYPE_MASK) == type) {
        uncount_linear(frame_of(d, mfn), -1);
        uncount_linear(frame_of(d, table), 1);
    }
    put_frame_and_type(d, mfn);
}

static int get_target(struct domain *d, u64 entry, u64 table, u64 type)
{
    return type == TYPE_L1 ? get_l1_target(d, entry) : get_upper_target(d, entry, table, type);
}

static void put_target(struct domain *d, u64 entry, u64 table, u64 type)
{
    if (type == TYPE_L1)
        put_l1_target(d, entry);
    else
        put_upper_target(d, entry, table, type);
}

static void put_targets(struct domain *d, u64 mfn, u64 type, u64 count)
{
    for (u64 i = 0; i < count && !load(&d->stopping); i++)
        if (type != TYPE_L4 || !is_xen_slot(i))
            put_target(d, load(table_entry(d, mfn, i)), mfn, type);
}

/* An entry of a table that the hypervisor itself fills. */
void set_hypervisor_entry(struct domain *d, u64 ma, u64 value)
{
    u64 old = swap(word_at(d, ma), value);
    if (old & PTE_P)
        d->platform->entry_changed(d, ma, old, value);
}

static void install_hole(struct domain *d, u64 mfn)
{
    for (u64 i = L4_XEN_FIRST; i <= L4_XEN_LAST; i++)
        store(table_entry(d, mfn, i), 0);
    store(table_entry(d, mfn, d->hole_slot), d->ring_3_kernel ? d->user_hole_entry : d->hole_entry);
}

/* VALUE as it is stored. */
static inline u64 for_ring(struct domain *d, u64 value)
{
    return (value & PTE_P) && d->ring_3_kernel ? value | PTE_US : value;
}

int validate_table(struct domain *d, u64 mfn, u64 type)
{
    d->platform->table_begins(d, mfn);
    for (u64 i = 0; i < 512; i++) {
        if (type == TYPE_L4 && is_xen_slot(i))
            continue;
        u64 entry = load(table_entry(d, mfn, i));
        int rc = load(&d->stopping) ? -XEN_EINVAL : entry & PTE_P ? get_target(d, entry, mfn, type) : 0;
        if (rc) {
            put_targets(d, mfn, type, i);
            return rc;
        }
        if (for_ring(d, entry) != entry)
            fetch_or(table_entry(d, mfn, i), PTE_US);
    }
    if (type == TYPE_L4) {
        install_hole(d, mfn);
        fetch_add(&d->lower_generation, 1);
    }
    return 0;
}

void invalidate_table(struct domain *d, u64 mfn, u64 type)
{
    if (type == TYPE_L4)
        become_user_table(d, mfn);
    put_targets(d, mfn, type, 512);
}

/* Stores an entry, keeping the accessed and dirty bits that the processor set meanwhile if asked to. */
static u64 replace_entry(u64 *slot, u64 value, int preserve_ad)
{
    if (!preserve_ad)
        return swap(slot, value);
    u64 old = load(slot);
    while (!cas(slot, &old, value | (old & (PTE_A | PTE_D))))
        ;
    return old;
}

/* Xen's own L4 slots after the first are never present; four of them remember which kernel-half entries had a user bit. */
#define HELD_FIRST (L4_XEN_FIRST + 1)
#define HELD_BITS 60

static void hold_user(struct domain *d, u64 mfn, u64 index, int held)
{
    u64 n = index - L4_XEN_LAST - 1, bit = 2ull << (n % HELD_BITS);
    u64 *word = table_entry(d, mfn, HELD_FIRST + n / HELD_BITS);
    if (held)
        fetch_or(word, bit);
    else
        fetch_and(word, ~bit);
}

static int is_held(struct domain *d, u64 mfn, u64 index)
{
    u64 n = index - L4_XEN_LAST - 1;
    return (load(table_entry(d, mfn, HELD_FIRST + n / HELD_BITS)) >> (n % HELD_BITS + 1)) & 1;
}

/* The table as the guest has written it, with the user bits that are held back. */
void core_shown_table(struct domain *d, u64 mfn, u64 *entries)
{
    int holds = (load(&frame_of(d, mfn)->type) & TYPE_KERNEL_L4) != 0;
    for (u64 i = 0; i < 512; i++)
        entries[i] = load(table_entry(d, mfn, i)) | (holds && !is_xen_slot(i) && is_held(d, mfn, i) ? PTE_US : 0);
}

/* Is the user bit of this new L4 entry held back? See become_kernel_table. */
static int must_hold(struct domain *d, u64 mfn, u64 index, u64 value)
{
    return (value & (PTE_P | PTE_US)) == (PTE_P | PTE_US) && index > L4_XEN_LAST && !d->ring_3_kernel &&
           (load(&frame_of(d, mfn)->type) & TYPE_KERNEL_L4);
}

/* VALUE has taken the place of OLD: code that was reached through that may be reached no more, by nobody or by applications
 * alone, or another in its place. */
static void note_change(struct domain *d, u64 *slot, u64 old, u64 value)
{
    u64 changed = ((old ^ value) & (PTE_P | PTE_NX | PTE_ADDRESS)) | (old & ~value & PTE_US);
    if (!(old & PTE_P))
        return;
    if (!(old & PTE_NX) && changed)
        store(&d->code_unmapped, 1);
    d->platform->entry_changed(d, (u64)((u8 *)slot - d->memory), old, value);
}

static int change(struct domain *d, u64 mfn, u64 type, u64 index, u64 value, int preserve_ad)
{
    u64 *slot = table_entry(d, mfn, index), old = load(slot);
    value = for_ring(d, value);
    if ((old & value & PTE_P) && !((old ^ value) & ~HARMLESS) && (type == TYPE_L1 || !(value & UPPER_REFUSED))) {
        while (!cas(slot, &old, preserve_ad ? value | (old & (PTE_A | PTE_D)) : value))
            if (!(old & PTE_P) || ((old ^ value) & ~HARMLESS))
                return -XEN_EBUSY;
        note_change(d, slot, old, value);
        return 0;
    }
    int rc = value & PTE_P ? get_target(d, value, mfn, type) : 0;
    if (rc)
        return rc;
    old = replace_entry(slot, value, preserve_ad);
    note_change(d, slot, old, value);
    put_target(d, old, mfn, type);
    return 0;
}

static int change_l4(struct domain *d, u64 mfn, u64 index, u64 value, int preserve_ad)
{
    if (is_xen_slot(index))
        return -XEN_EINVAL;
    int held = must_hold(d, mfn, index, value);
    int rc = change(d, mfn, TYPE_L4, index, held ? value & ~PTE_US : value, preserve_ad);
    if (!rc && index > L4_XEN_LAST)
        hold_user(d, mfn, index, held);
    if (index < L4_XEN_FIRST)
        fetch_add(&d->lower_generation, 1); /* after the change: whoever compares next sees it */
    return rc;
}

int change_entry(struct domain *d, u64 mfn, u64 type, u64 index, u64 value, int preserve_ad)
{
    return type == TYPE_L4 ? change_l4(d, mfn, index, value, preserve_ad) : change(d, mfn, type, index, value, preserve_ad);
}

/* 1: changed; 0: the entry was not EXPECTED; negative: refused. */
int compare_change_l1(struct domain *d, u64 mfn, u64 index, u64 expected, u64 value)
{
    u64 *slot = table_entry(d, mfn, index);
    int rc = value & PTE_P ? get_l1_target(d, value) : 0;
    if (rc)
        return rc;
    u64 old = expected;
    value = for_ring(d, value);
    if (!cas(slot, &old, value)) {
        put_l1_target(d, value);
        return 0;
    }
    note_change(d, slot, old, value);
    put_l1_target(d, old);
    return 1;
}

static void show_hole(struct domain *d, u64 mfn, u64 entry)
{
    set_hypervisor_entry(d, (mfn << PAGE_SHIFT) + d->hole_slot * sizeof entry, entry);
}

/* While the guest runs applications on its kernel's L4 (no switch: their lower halves agree), nothing of the kernel half
 * may be open to them. So a table in use as a kernel's holds back the user bits of its kernel-half L4 entries; a fault
 * there is taken again on the user's own table, whose answer is the exact one. A table that serves as both keeps them. */
void become_kernel_table(struct domain *d, u64 mfn)
{
    if (fetch_or(&frame_of(d, mfn)->type, TYPE_KERNEL_L4) & TYPE_KERNEL_L4)
        return;
    if (d->ring_3_kernel) {
        show_hole(d, mfn, d->hole_entry);
        return;
    }
    for (u64 i = L4_XEN_LAST + 1; i < 512; i++) {
        u64 *slot = table_entry(d, mfn, i);
        if ((load(slot) & (PTE_P | PTE_US)) == (PTE_P | PTE_US)) {
            hold_user(d, mfn, i, 1);
            fetch_and(slot, ~PTE_US);
        }
    }
}

void become_user_table(struct domain *d, u64 mfn)
{
    if (!(fetch_and(&frame_of(d, mfn)->type, ~TYPE_KERNEL_L4) & TYPE_KERNEL_L4))
        return;
    if (d->ring_3_kernel) {
        show_hole(d, mfn, d->user_hole_entry);
        return;
    }
    for (u64 i = L4_XEN_LAST + 1; i < 512; i++)
        if (is_held(d, mfn, i)) {
            hold_user(d, mfn, i, 0);
            fetch_or(table_entry(d, mfn, i), PTE_US);
        }
    fetch_add(&d->lower_generation, 1);
}

/* May applications run on the kernel's table? */
int lower_halves_equal(struct vcpu *v)
{
    struct domain *d = v->domain;
    u64 generation = load(&d->lower_generation);
    if (v->compared_cr3 == v->cr3 && v->compared_user_cr3 == v->user_cr3 && v->compared_generation == generation)
        return 1;
    if (d->ring_3_kernel || v->cr3 == v->user_cr3 || !(load(&frame_of(d, v->cr3 >> PAGE_SHIFT)->type) & TYPE_KERNEL_L4))
        return 0;
    u64 *kernel = word_at(d, v->cr3), *user = word_at(d, v->user_cr3), differ = 0;
    for (u64 i = 0; i < 256; i++)
        differ |= (kernel[i] ^ user[i]) & ~(PTE_A | PTE_D);
    if (differ)
        return 0;
    v->compared_cr3 = v->cr3;
    v->compared_user_cr3 = v->user_cr3;
    v->compared_generation = generation;
    return 1;
}
