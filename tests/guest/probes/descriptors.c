/* set_gdt, update_descriptor and LDTs (xen.h, descriptor rules of a 64-bit PV guest). */
#include "xenkit.h"

#define DATA3 0x00cff3000000ffffull  /* flat, DPL 3, present */
#define DATA0 0x00cf93000000ffffull  /* the same with DPL 0 */
#define CODE3 0x00affb000000ffffull  /* 64-bit code, DPL 3 */
#define TSS 0x0000890000000067ull
#define CALL_GATE 0x0000ec00e0330000ull /* to the guest kernel's code selector, DPL 3 */
#define INT_GATE 0x00008e00e0330000ull
#define LDT_SEG 0x0000820000000fffull
static u64 *gdt;

static s64 set_gdt(const void *page, u32 entries)
{
    u64 frame = mfn_of(page);
    return HC(NR_set_gdt, &frame, entries, 0, 0);
}

static s64 describe(const void *entry, u64 value)
{
    return HC(NR_update_descriptor, mfn_of((void *)((u64)entry & ~(PAGE - 1))) * PAGE + ((u64)entry & (PAGE - 1)), value, 0, 0);
}

static void setting(void)
{
    gdt = page_alloc();
    gdt[1] = DATA3;
    gdt[2] = DATA0;
    CHECK_EQ("gdt.writable_page", set_gdt(gdt, 512), -EINVAL);
    make_ro(gdt);
    CHECK_EQ("gdt.set", set_gdt(gdt, 512), 0);
    CHECK_EQ("gdt.page_cannot_be_writable", make_rw(gdt), -EBUSY);
    CHECK_EQ("gdt.cannot_become_a_table", mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(gdt), 0), -EINVAL);
    CHECK_EQ("gdt.dpl_0_raised", (gdt[2] >> 45) & 3, 3); /* in the guest's own page, when it is validated */
    TRY("mov %0, %%ds; mov %0, %%es", ::"r"(0x0b) : "memory");
    CHECK_EQ("gdt.use", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%ds", ::"r"(0x13) : "memory");
    CHECK_EQ("gdt.use_raised", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%ds", ::"r"(0x1b) : "memory");
    CHECK_EQ("gdt.empty_entry.vector", trap_vector(), 13);
    CHECK_EQ("gdt.empty_entry.error", trap_error(), 0x18);
    asm volatile("mov %0, %%ds; mov %0, %%es" ::"r"(0));
    CHECK_EQ("gdt.too_many", set_gdt(gdt, 7169), -EINVAL);
    u64 bad = 0x7ffffff;
    CHECK_EQ("gdt.bad_mfn", HC(NR_set_gdt, &bad, 512, 0, 0), -EINVAL);
    CHECK_EQ("gdt.wild", HC(NR_set_gdt, 0x700000000000, 512, 0, 0), -EFAULT);
    TRY("mov %0, %%ds", ::"r"(0x0b) : "memory");
    CHECK_EQ("gdt.old_one_stays_after_refusal", trap_vector(), VECTOR_NONE);
    asm volatile("mov %0, %%ds" ::"r"(0));
    CHECK_EQ("gdt.reserved_selectors_there", ({ u32 l; asm volatile("lsl %1, %0" : "=r"(l) : "r"(0xe033)); l; }), 0xffffffff);
}

static void refused_contents(void)
{
    static const struct { const char *name; u64 value; } bad[] = {
        { "content.tss", TSS }, { "content.int_gate", INT_GATE }, { "content.ldt", LDT_SEG },
        { "content.call_gate_low_bits", CALL_GATE | 1ul << 32 },
    };
    for (u32 i = 0; i < 4; i++) {
        u64 *page = page_alloc();
        page[7] = bad[i].value;
        make_ro(page);
        CHECK_EQ(bad[i].name, set_gdt(page, 512), -EINVAL);
    }
}

static void updating(void)
{
    u64 *plain = page_alloc();
    CHECK_EQ("update.data", describe(&gdt[4], DATA3), 0);
    CHECK_EQ("update.data.there", gdt[4], DATA3);
    CHECK_EQ("update.dpl_0", describe(&gdt[5], DATA0), 0);
    CHECK_EQ("update.dpl_0.raised", gdt[5], DATA3);
    CHECK_EQ("update.code", describe(&gdt[6], CODE3), 0);
    CHECK_EQ("update.clear", describe(&gdt[6], 0), 0);
    CHECK_EQ("update.not_present", describe(&gdt[6], TSS & ~(1ul << 47)), 0);
    CHECK_EQ("update.tss", describe(&gdt[6], TSS), -EINVAL);
    CHECK_EQ("update.int_gate", describe(&gdt[6], INT_GATE), -EINVAL);
    CHECK_EQ("update.ldt", describe(&gdt[6], LDT_SEG), -EINVAL);
    CHECK_EQ("update.call_gate", describe(&gdt[6], CALL_GATE), 0);
    CHECK_EQ("update.call_gate.dpl_in_rpl", gdt[6], (CALL_GATE & ~(3ul << 45)) | 3ul << 16);
    CHECK_EQ("update.call_gate_null", describe(&gdt[6], CALL_GATE & ~(0xfffful << 16)), 0);
    CHECK_EQ("update.call_gate_hypervisor", describe(&gdt[6], (CALL_GATE & ~(0xfffful << 16)) | 0xe008ul << 16), -EINVAL);
    describe(&gdt[6], 0);
    CHECK_EQ("update.misaligned", HC(NR_update_descriptor, mfn_of(gdt) * PAGE + 4, DATA3, 0, 0), -EINVAL);
    CHECK_EQ("update.bad_mfn", HC(NR_update_descriptor, 0x7ffffff000, DATA3, 0, 0), -EINVAL);
    CHECK_EQ("update.ordinary_page", describe(&plain[3], DATA0), 0);
    CHECK_EQ("update.ordinary_page.there", plain[3], DATA3);
    volatile u64 *pte = pte_of(kernel_l4(), plain, 1);
    CHECK_EQ("update.page_table", HC(NR_update_descriptor, pte_ma(pte), DATA3, 0, 0), -EINVAL);
    TRY("movq $0, (%0)", ::"r"(&gdt[1]) : "memory");
    CHECK_EQ("update.direct_write_faults", trap_vector(), 14);
}

static void replacing(void)
{
    u64 *second = page_alloc();
    second[1] = DATA3 | 0x12ul << 16;
    make_ro(second);
    CHECK_EQ("replace", set_gdt(second, 512), 0);
    CHECK_EQ("replace.old_page_free", make_rw(gdt), 0);
    CHECK_EQ("replace.none", HC(NR_set_gdt, 0, 0, 0, 0), 0);
    CHECK_EQ("replace.none.page_free", make_rw(second), 0);
    TRY("mov %0, %%ds", ::"r"(0x0b) : "memory");
    CHECK_EQ("replace.none.selector_refused", trap_vector(), 13);
}

static void ldt(void)
{
    u64 *table = page_alloc(), *target = page_alloc(), value = 0;
    u64 base = 0x500000; /* a 32-bit base, mapped below */
    user_init();
    table[0] = DATA3 & ~(0xful << 48) & ~0xfffful;
    table[1] = (DATA3 & 0xff0000000000ffff) | 0x00cff300ul << 32 | (base & 0xffff) << 16 | (base >> 16 & 0xff) << 32;
    target[0] = 0;
    *(volatile u64 *)user_data = 0xabcdef;
    make_ro(table);
    CHECK_EQ("ldt.set", mmuext(MMUEXT_SET_LDT, (u64)table, 4), 0);
    TRY("mov %1, %%fs; mov %%fs:0, %0", : "=r"(value) : "r"(0x0f) : "memory");
    CHECK_EQ("ldt.use", trap_vector(), VECTOR_NONE);
    CHECK_EQ("ldt.base", value, 0xabcdef);
    CHECK_EQ("ldt.page_typed_by_use", make_rw(table), -EBUSY);
    TRY("mov %0, %%fs", ::"r"(0x17) : "memory");
    CHECK_EQ("ldt.empty_entry.vector", trap_vector(), 13);
    CHECK_EQ("ldt.empty_entry.error", trap_error(), 0x14);
    TRY("mov %0, %%fs", ::"r"(0x27) : "memory");
    CHECK_EQ("ldt.beyond.vector", trap_vector(), 13);
    CHECK_EQ("ldt.beyond.error", trap_error(), 0x24);
    CHECK_EQ("ldt.update_descriptor", describe(&table[2], DATA3), 0);
    TRY("mov %0, %%fs", ::"r"(0x17) : "memory");
    CHECK_EQ("ldt.updated_entry", trap_vector(), VECTOR_NONE);
    asm volatile("mov %0, %%fs" ::"r"(0));
    CHECK_EQ("ldt.none", mmuext(MMUEXT_SET_LDT, 0, 0), 0);
    CHECK_EQ("ldt.none.page_free", make_rw(table), 0);
    TRY("mov %0, %%fs", ::"r"(0x0f) : "memory");
    CHECK_EQ("ldt.none.selector_refused", trap_vector(), 13);
    CHECK_EQ("ldt.writable_page", mmuext(MMUEXT_SET_LDT, (u64)table, 4), 0); /* found out at the first use, a page fault at the descriptor */
    TRY("mov %0, %%fs", ::"r"(0x0f) : "memory");
    CHECK_EQ("ldt.writable_page.vector", trap_vector(), 14);
    CHECK_EQ("ldt.writable_page.cr2", traps[0].cr2, (u64)table + 8);
    mmuext(MMUEXT_SET_LDT, 0x700000000000, 4);
    TRY("mov %0, %%fs", ::"r"(0x0f) : "memory");
    CHECK_EQ("ldt.unmapped.vector", trap_vector(), 14);
    CHECK_EQ("ldt.unmapped.error", trap_error(), 0);
    CHECK_EQ("ldt.unmapped.cr2", traps[0].cr2, 0x700000000008);
    mmuext(MMUEXT_SET_LDT, 0, 0);
}

PROBE(TEST(setting, 14), TEST(refused_contents, 4), TEST(updating, 20), TEST(replacing, 5), TEST(ldt, 19));
