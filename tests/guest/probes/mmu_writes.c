/* Direct writes to page tables in use: level 1 is validated and applied, anything refused is a page fault. */
#include "xenkit.h"

#define RAM (PTE_P | PTE_A | PTE_D)
static u8 *page, *other;
static volatile u64 *pte;
static u64 frame, other_frame;

static void prepare(void)
{
    page = page_alloc();
    other = page_alloc();
    page[0] = 1;
    other[0] = 2;
    pte = pte_of(kernel_l4(), page, 1);
    frame = mfn_of(page) * PAGE;
    other_frame = mfn_of(other) * PAGE;
}

static void flush(void)
{
    mmuext(MMUEXT_INVLPG_LOCAL, (u64)page, 0);
}

#define SHOWS(value) ({ flush(); *(volatile u8 *)page == (value); })

static void plain_stores(void)
{
    prepare();
    TRY("mov %1, (%0)", ::"r"(pte), "r"(other_frame | RAM | PTE_W) : "memory");
    CHECK_EQ("mov.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("mov.entry", *pte & PTE_MFN, other_frame);
    CHECK("mov.page_seen", SHOWS(2));
    TRY("movq $0, (%0)", ::"r"(pte) : "memory");
    CHECK_EQ("mov_imm.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("mov_imm.entry", *pte, 0);
    TRY("mov %1, (%0)", ::"r"(pte), "r"(frame | RAM | PTE_W) : "memory");
    CHECK("mov.back", trap_vector() == VECTOR_NONE && SHOWS(1));
    TRY("movl %1, (%0)", ::"r"(pte), "r"((u32)(frame | RAM)) : "memory");
    CHECK_EQ("movl.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("movl.read_only_now", *pte & (PTE_W | PTE_P), PTE_P);
    TRY("movb %1, (%0)", ::"r"(pte), "r"((u8)(RAM | PTE_W)) : "memory");
    CHECK_EQ("movb.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("movb.writable_now", *pte & (PTE_W | PTE_P), PTE_P | PTE_W);
    TRY("mov %1, %%rdi; mov %0, %%rax; cld; stosq", ::"r"(frame | RAM | PTE_W), "r"(pte) : "rax", "rdi", "memory");
    CHECK("stos.applied", trap_vector() == VECTOR_NONE && SHOWS(1));
}

static void read_modify_write(void)
{
    u64 old, flags;
    prepare();
    old = other_frame | RAM | PTE_W;
    TRY("xchg %0, (%1)", : "+r"(old) : "r"(pte) : "memory");
    CHECK_EQ("xchg.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("xchg.returns_old", old & PTE_MFN, frame);
    CHECK("xchg.page_seen", SHOWS(2));
    old = *pte;
    TRY("lock cmpxchg %3, (%2); pushf; pop %1", : "+a"(old), "=r"(flags) : "r"(pte), "r"(frame | RAM | PTE_W) : "memory", "cc");
    CHECK_EQ("cmpxchg.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("cmpxchg.zf", flags & 0x40, 0x40);
    CHECK("cmpxchg.page_seen", SHOWS(1));
    old = 0x1234;
    flags = 0;
    TRY("lock cmpxchg %3, (%2); pushf; pop %1", : "+a"(old), "=r"(flags) : "r"(pte), "r"(other_frame | RAM) : "memory", "cc");
    CHECK_EQ("cmpxchg.mismatch.zf", flags & 0x40, 0);
    CHECK_EQ("cmpxchg.mismatch.rax", old & PTE_MFN, frame);
    CHECK_EQ("cmpxchg.mismatch.kept", *pte & PTE_MFN, frame);
    TRY("lock andb $0xfd, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("lock_andb.applied", trap_vector(), VECTOR_NONE);
    CHECK_EQ("lock_andb.read_only_now", *pte & PTE_W, 0);
    TRY("lock orb $2, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("lock_orb.writable_now", *pte & PTE_W, PTE_W);
    TRY("lock andq $~0x40, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("lock_andq.dirty_cleared", *pte & PTE_D, 0);
    TRY("lock btrq $1, (%0); setc %%al", ::"r"(pte) : "rax", "memory", "cc");
    CHECK_EQ("lock_btr.read_only_now", *pte & PTE_W, 0);
    TRY("lock btsq $1, (%1); setc %b0", : "=&q"(flags) : "r"(pte) : "memory", "cc");
    CHECK_EQ("lock_bts.writable_now", *pte & PTE_W, PTE_W);
    CHECK_EQ("lock_bts.carry_was_0", flags & 1, 0);
    TRY("orq $0x200, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("orq.avail_bit", *pte & 0x200, 0x200);
    TRY("andl $~0x200, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("andl.avail_bit", *pte & 0x200, 0);
    TRY("addq $0x200, (%0)", ::"r"(pte) : "memory", "cc");
    CHECK_EQ("addq.applied", *pte & 0x200, 0x200);
    TRY("notb 1(%0)", ::"r"(pte) : "memory", "cc");
    CHECK("notb.second_byte", trap_vector() == VECTOR_NONE);
    TRY("notb 1(%0)", ::"r"(pte) : "memory", "cc");
    pte_write(pte, frame | RAM | PTE_W);
    flush();
    CHECK_EQ("registers.page_back", page[0], 1);
}

static void refused(const char *name, u64 value)
{
    u64 old = *pte;
    TRY("mov %1, (%0)", ::"r"(pte), "r"(value) : "memory");
    CHECK(name, trap_vector() == 14 && trap_error() == 3 && traps[0].cr2 == (u64)pte && *pte == old);
    if (trap_vector() != 14 || trap_error() != 3)
        printk("# %s vector %u error 0x%lx cr2 0x%lx entry 0x%lx\n", name, trap_vector(), trap_error(), traps[0].cr2, *pte);
}

static void refusals(void)
{
    prepare();
    refused("refused.bad_mfn", 0x7fffff000000 | RAM);
    refused("refused.writable_table", mfn_of(pte) * PAGE | RAM | PTE_W);
    refused("refused.reserved_bit", frame | RAM | 1ul << 51);
    refused("refused.writable_l4", mfn_of(kernel_l4()) * PAGE | RAM | PTE_W);
    u64 value = mfn_of(pte) * PAGE | RAM | PTE_W;
    TRY("xchg %0, (%1)", : "+r"(value) : "r"(pte) : "memory");
    CHECK_EQ("refused.xchg.vector", trap_vector(), 14);
    CHECK_EQ("refused.xchg.register_kept", value, mfn_of(pte) * PAGE | RAM | PTE_W);
    TRY("mov %1, 4(%0)", ::"r"(pte), "r"(0ul) : "memory");
    CHECK_EQ("refused.unaligned", trap_vector(), 14);
}

/* Levels 2 to 4 are not emulated: Linux uses hypercalls there. */
static void upper_levels(void)
{
    for (int level = 2; level <= 4; level++) {
        char name[] = "upper.level0.vector";
        volatile u64 *entry = pte_of(kernel_l4(), page_alloc(), level) + 1;
        name[11] = (char)('0' + level);
        if (level == 4)
            entry = &kernel_l4()[9];
        TRY("movq $0, (%0)", ::"r"(entry) : "memory");
        CHECK_EQ(name, trap_vector(), 14);
    }
}

/* A read-only mapping of an ordinary page is just read-only. */
static void ordinary_pages(void)
{
    u8 *plain = page_alloc();
    make_ro(plain);
    TRY("movq $0, (%0)", ::"r"(plain) : "memory");
    CHECK_EQ("ordinary.read_only.vector", trap_vector(), 14);
    CHECK_EQ("ordinary.read_only.error", trap_error(), 3);
    CHECK_EQ("ordinary.read_only.cr2", traps[0].cr2, plain);
}

/* Through another read-only alias of the table the write is emulated all the same. */
static void through_an_alias(void)
{
    u8 *window = page_alloc();
    prepare();
    map_page(window, mfn_of(pte) * PAGE | RAM);
    volatile u64 *alias = (volatile u64 *)(window + ((u64)pte & (PAGE - 1)));
    TRY("mov %1, (%0)", ::"r"(alias), "r"(other_frame | RAM | PTE_W) : "memory");
    CHECK_EQ("alias.applied", trap_vector(), VECTOR_NONE);
    CHECK("alias.page_seen", SHOWS(2));
    pte_write(pte, frame | RAM | PTE_W);
    flush();
    make_rw(window);
}

USER_FN(u_store, "mov %rbx, (%rax)");

/* User mode's writes are never emulated. */
static void from_user_mode(void)
{
    struct trap *t;
    prepare();
    user_init();
    user_map(0x540000, (void *)((u64)pte & ~(PAGE - 1)), RAM | PTE_U);
    t = user_run(u_store, 0x540000 + ((u64)pte & (PAGE - 1)));
    CHECK_EQ("user.vector", t->vector, 14);
    CHECK_EQ("user.error", t->error, 7);
    user_map(0x540000, user_data, 0);
}

PROBE(TEST(plain_stores, 11), TEST(read_modify_write, 21), TEST(refusals, 7), TEST(upper_levels, 3), TEST(ordinary_pages, 3),
      TEST(through_an_alias, 2), TEST(from_user_mode, 2));
