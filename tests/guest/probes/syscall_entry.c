/* A system call of user mode: the registered callback, its frame, masking, and no callback at all (callback.h). */
#include "xenkit.h"

extern u8 trap_stack_top[];
USER_FN(u_syscall, "mov $0x1122, %ecx\nmov $0x3344, %r11d\nstc\nsyscall");
USER_FN(u_syscall_df, "std\nsyscall");
USER_FN(u_syscall_32, ".code32\nsyscall\n.code64");
USER_FN(u_sysenter, "sysenter");

static void frame(void)
{
    struct trap *t;
    user_init();
    t = user_run(u_syscall, 0x7777);
    CHECK_EQ("syscall.vector", t->vector, VECTOR_SYSCALL);
    CHECK_EQ("syscall.rip", t->cpu.rip, user_address(u_syscall) + 14);
    CHECK_EQ("syscall.cs", t->cpu.cs, USER_CS);
    CHECK_EQ("syscall.ss", t->cpu.ss, USER_SS);
    CHECK_EQ("syscall.rsp", t->cpu.rsp, USER_STACK_TOP);
    CHECK_EQ("syscall.rax", t->cpu.rax, 0x7777);
    CHECK_EQ("syscall.rcx_is_rip", t->cpu.rcx, t->cpu.rip);
    CHECK_EQ("syscall.r11_is_rflags", t->cpu.r11 & (FLAG_IF | FLAG_CF), FLAG_IF | FLAG_CF);
    CHECK_EQ("syscall.rflags", t->cpu.rflags & (FLAG_IF | FLAG_CF), FLAG_IF | FLAG_CF);
    CHECK_EQ("syscall.frame_place", t->frame, (u64)trap_stack_top - 7 * 8);
    CHECK_EQ("syscall.saved_mask", t->saved_mask, 0);
    CHECK_EQ("syscall.mask_kept", t->upcall_mask, 0);
    t = user_run(u_syscall_df, 0);
    CHECK_EQ("syscall.df_in_frame", t->cpu.rflags & FLAG_DF, FLAG_DF);
    events_disable();
}

static void masking(void)
{
    struct callback_register reg = { CALLBACKTYPE_syscall, CALLBACKF_mask_events, 0, STUB(VECTOR_SYSCALL) };
    struct trap *t;
    user_init();
    CHECK_EQ("mask.register", hc_callback(CALLBACKOP_register, &reg), 0);
    t = user_run(u_syscall, 0);
    CHECK_EQ("mask.masked_on_entry", t->upcall_mask, 1);
    CHECK_EQ("mask.saved_mask", t->saved_mask, 0);
    CHECK_EQ("mask.rflags_if", t->cpu.rflags & FLAG_IF, FLAG_IF);
    reg.flags = 0;
    CHECK_EQ("mask.register_open", hc_callback(CALLBACKOP_register, &reg), 0);
    t = user_run(u_syscall, 0);
    CHECK_EQ("mask.open_on_entry", t->upcall_mask, 0);
    events_disable();
}

static void no_callback(void)
{
    struct callback_register reg = { CALLBACKTYPE_syscall, 0, 0, 0 };
    struct trap *t;
    user_init();
    CHECK_EQ("none.register_0", hc_callback(CALLBACKOP_register, &reg), 0);
    t = user_run(u_syscall, 0);
    CHECK_EQ("none.ud", t->vector, 6);
    CHECK_EQ("none.rip_at_syscall", t->cpu.rip, user_address(u_syscall) + 12);
    reg.address = STUB(VECTOR_SYSCALL);
    hc_callback(CALLBACKOP_register, &reg);
    CHECK_EQ("none.back", user_run(u_syscall, 0)->vector, VECTOR_SYSCALL);
    events_disable();
}

/* The 32-bit entries exist on AMD (syscall) or Intel (sysenter) processors only; elsewhere they are #UD. */
static void other_entries(void)
{
    struct cpu cpu = { .rip = 0, .cs = USER_CS32, .ss = USER_SS, .rflags = FLAG_IF | 2, .rsp = USER_STACK_TOP };
    struct trap *t;
    user_init();
    cpu.rip = user_address(u_syscall_32);
    t = user_run_cpu(&cpu, 0);
    CHECK("syscall32.entry_or_ud", t->vector == VECTOR_SYSCALL32 || t->vector == 6);
    CHECK_EQ("syscall32.cs", t->cpu.cs, USER_CS32);
    t = user_run(u_sysenter, 0);
    CHECK("sysenter.entry_or_ud", t->vector == VECTOR_SYSENTER || t->vector == 6 || t->vector == 13);
    printk("# sysenter: vector %u, syscall32 rip +%ld\n", t->vector, t->cpu.rip - user_address(u_sysenter));
    events_disable();
}

PROBE(TEST(frame, 13), TEST(masking, 6), TEST(no_callback, 4), TEST(other_entries, 3));
