/* HYPERVISOR_iret: to the kernel, to user mode, to 32-bit user code; what of the flags survives (xen-x86_64.h). */
#include "xenkit.h"

static struct jump landed;
static u8 scratch[4096] __attribute__((aligned(4096)));
#define SCRATCH_TOP ((u64)scratch + 4096)

/* Lands with the flags it sees in rax (pushf), then traps; the recorded registers are the verdict. */
asm(".globl k_land\nk_land: pushf\npop %rax\n.globl k_land_ud\nk_land_ud: ud2\n"
    ".globl k_land_rax\nk_land_rax: ud2\n");

static int back(struct trap *trap, struct cpu *cpu)
{
    (void)trap, (void)cpu;
    jump_to(&landed);
}

static struct trap *run(struct cpu *cpu, u64 flags)
{
    trap_reset();
    trap_hook = back;
    if (!jump_save(&landed))
        resume(cpu, flags);
    trap_hook = 0;
    return &traps[0];
}

static struct cpu kernel_cpu(u64 rflags)
{
    return (struct cpu){ .rax = 0x1000, .rcx = 0x1001, .rdx = 0x1002, .rbx = 0x1003, .rsp = SCRATCH_TOP - 40, .rbp = 0x1005,
                         .r11 = 0x100b, .r15 = 0x100f, .rip = RIP_OF(k_land), .cs = 0xe030, .rflags = rflags, .ss = KERNEL_SS };
}

static void to_kernel(void)
{
    struct cpu cpu = kernel_cpu(2);
    struct trap *t = run(&cpu, 0);
    CHECK_EQ("kernel.vector", t->vector, 6);
    CHECK_EQ("kernel.rip", t->cpu.rip, RIP_OF(k_land_ud));
    CHECK_EQ("kernel.rcx_from_frame", t->cpu.rcx, 0x1001);
    CHECK_EQ("kernel.r11_from_frame", t->cpu.r11, 0x100b);
    CHECK_EQ("kernel.rdx", t->cpu.rdx, 0x1002);
    CHECK_EQ("kernel.r15", t->cpu.r15, 0x100f);
    CHECK_EQ("kernel.rsp", t->cpu.rsp, SCRATCH_TOP - 40);
    CHECK_EQ("kernel.cs_still_kernel", t->cpu.cs, 0xe030);
    CHECK_EQ("kernel.if_0_masks", t->saved_mask, 1);
    CHECK_EQ("kernel.if_0_but_flag_reads_1", t->cpu.rax & FLAG_IF, FLAG_IF);
    cpu = kernel_cpu(2 | FLAG_IF);
    t = run(&cpu, 0);
    CHECK_EQ("kernel.if_1_opens", t->saved_mask, 0);
    events_disable();
    cpu = kernel_cpu(2);
    cpu.rip = RIP_OF(k_land_rax);
    CHECK_EQ("kernel.rax_from_frame", run(&cpu, 0)->cpu.rax, 0x1000);
    cpu.cs = 0xe031; /* RPL 1 and 2 count as the kernel too */
    t = run(&cpu, 0);
    CHECK_EQ("kernel.rpl1", t->cpu.cs, 0xe030);
    cpu.cs = 0xe032;
    CHECK_EQ("kernel.rpl2", run(&cpu, 0)->cpu.cs, 0xe030);
    cpu = kernel_cpu(2);
    cpu.ss = 0xe028;
    t = run(&cpu, 0);
    CHECK_EQ("kernel.ss_rpl_forced", t->cpu.ss, KERNEL_SS);
    cpu.ss = 0;
    t = run(&cpu, 0);
    CHECK_EQ("kernel.ss_null.vector", t->vector, 13);
    CHECK_EQ("kernel.ss_null.ss", t->cpu.ss, 3);
}

static void flags_to_kernel(void)
{
    struct cpu cpu = kernel_cpu(2 | FLAG_IOPL);
    CHECK_EQ("flags.iopl_dropped", run(&cpu, 0)->cpu.rax & FLAG_IOPL, 0);
    cpu = kernel_cpu(2 | FLAG_VM);
    CHECK_EQ("flags.vm_dropped", run(&cpu, 0)->cpu.rax & FLAG_VM, 0);
    cpu = kernel_cpu(2 | FLAG_NT);
    CHECK_EQ("flags.nt_kept", run(&cpu, 0)->cpu.rax & FLAG_NT, FLAG_NT);
    cpu = kernel_cpu(2 | FLAG_DF);
    CHECK_EQ("flags.df_kept", run(&cpu, 0)->cpu.rax & FLAG_DF, FLAG_DF);
    cpu = kernel_cpu(2 | FLAG_AC);
    CHECK_EQ("flags.ac_kept", run(&cpu, 0)->cpu.rax & FLAG_AC, FLAG_AC);
    cpu = kernel_cpu(2 | FLAG_ID);
    CHECK_EQ("flags.id_kept", run(&cpu, 0)->cpu.rax & FLAG_ID, FLAG_ID);
    cpu = kernel_cpu(FLAG_CF);
    CHECK_EQ("flags.bit1_always", run(&cpu, 0)->cpu.rax & 3, 3);
    cpu = kernel_cpu(2 | FLAG_TF);
    cpu.rip = RIP_OF(k_land);
    struct trap *t = run(&cpu, 0);
    CHECK_EQ("flags.tf_steps.vector", t->vector, 1);
    CHECK_EQ("flags.tf_steps.rip", t->cpu.rip, RIP_OF(k_land) + 1);
}

/* With VGCF_in_syscall rcx and r11 are not taken from the frame: they hold what SYSRET leaves there. */
static void in_syscall(void)
{
    struct cpu cpu = kernel_cpu(2 | FLAG_CF);
    struct trap *t;
    cpu.rip = RIP_OF(k_land_rax);
    t = run(&cpu, VGCF_in_syscall);
    CHECK_EQ("in_syscall.rcx_is_rip", t->cpu.rcx, RIP_OF(k_land_rax));
    CHECK_EQ("in_syscall.r11_is_rflags", t->cpu.r11 & (FLAG_IF | 3), FLAG_IF | 3);
    CHECK_EQ("in_syscall.rax_from_frame", t->cpu.rax, 0x1000);
    t = run(&cpu, VGCF_in_syscall << 1);
    CHECK_EQ("in_syscall.other_bits_ignored", t->cpu.rcx, 0x1001);
}

USER_FN(u_flags, "pushf\npop %rdx\nud2");
USER_FN(u_regs, "ud2");
USER_FN(u_32, ".code32\nmov $0x11223344, %eax\npush $0x55\nmov %esp, %edx\nint3\n.code64");

static struct cpu user_cpu(void (*code)(void), u64 rflags)
{
    struct cpu cpu = kernel_cpu(rflags);
    cpu.rip = user_address(code);
    cpu.cs = USER_CS;
    cpu.ss = USER_SS;
    cpu.rsp = USER_STACK_TOP;
    return cpu;
}

static void to_user(void)
{
    struct cpu cpu;
    struct trap *t;
    user_init();
    cpu = user_cpu(u_regs, 2 | FLAG_IF);
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.cs", t->cpu.cs, USER_CS);
    CHECK_EQ("user.rcx", t->cpu.rcx, 0x1001);
    CHECK_EQ("user.r11", t->cpu.r11, 0x100b);
    CHECK_EQ("user.rax", t->cpu.rax, 0x1000);
    CHECK_EQ("user.rsp", t->cpu.rsp, USER_STACK_TOP);
    CHECK_EQ("user.mask_open", t->saved_mask, 0);
    t = user_run_cpu(&cpu, VGCF_in_syscall);
    CHECK_EQ("user.in_syscall.rcx_is_rip", t->cpu.rcx, cpu.rip);
    cpu = user_cpu(u_flags, 2);
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.if_0.masked", t->saved_mask, 1);
    CHECK_EQ("user.if_0.flag_reads_1", t->cpu.rdx & FLAG_IF, FLAG_IF);
    CHECK_EQ("user.if_0.frame_shows_0", t->cpu.rflags & FLAG_IF, 0);
    cpu = user_cpu(u_flags, 2 | FLAG_IF | FLAG_IOPL | FLAG_NT | FLAG_VM);
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.flags.iopl_vm_dropped", t->cpu.rdx & (FLAG_IOPL | FLAG_VM), 0);
    CHECK_EQ("user.flags.nt_kept", t->cpu.rdx & FLAG_NT, FLAG_NT);
    events_disable();
}

static void to_compat(void)
{
    struct cpu cpu;
    struct trap *t;
    user_init();
    cpu = user_cpu(u_32, 2 | FLAG_IF);
    cpu.cs = USER_CS32;
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("compat.vector", t->vector, 3);
    CHECK_EQ("compat.cs", t->cpu.cs, USER_CS32);
    CHECK_EQ("compat.eax", t->cpu.rax, 0x11223344);
    CHECK_EQ("compat.push_is_4_bytes", t->cpu.rdx, USER_STACK_TOP - 4);
    CHECK_EQ("compat.rsp", t->cpu.rsp, USER_STACK_TOP - 4);
    CHECK_EQ("compat.rip", t->cpu.rip, user_address(u_32) + 10);
}

/* What the processor refuses to return to comes back as #GP: the frame shows the refused target, on the target's stack. */
static void bad_kernel_targets(void)
{
    struct cpu cpu = kernel_cpu(2);
    struct trap *t;
    cpu.rip = 0x800000000000;
    t = run(&cpu, 0);
    CHECK_EQ("bad_rip.vector", t->vector, 13);
    CHECK_EQ("bad_rip.error", t->error, 0);
    CHECK_EQ("bad_rip.rip", t->cpu.rip, 0x800000000000);
    CHECK_EQ("bad_rip.rsp", t->cpu.rsp, cpu.rsp);
    CHECK_EQ("bad_rip.mask_of_target", t->saved_mask, 1);
    cpu = kernel_cpu(2);
    cpu.cs = 0x1230;
    t = run(&cpu, 0);
    CHECK_EQ("bad_cs.vector", t->vector, 13);
    CHECK_EQ("bad_cs.error", t->error, 0x1230);
    CHECK_EQ("bad_cs.cs", t->cpu.cs, 0x1230);
    CHECK_EQ("bad_cs.rip", t->cpu.rip, cpu.rip);
    cpu = kernel_cpu(2);
    cpu.ss = 0x1230;
    t = run(&cpu, 0);
    CHECK_EQ("bad_ss.vector", t->vector, 13);
    CHECK_EQ("bad_ss.error", t->error, 0x1230);
    CHECK_EQ("bad_ss.ss", t->cpu.ss, 0x1233);
    cpu = kernel_cpu(2);
    cpu.cs = 0;
    t = run(&cpu, 0);
    CHECK_EQ("null_cs.vector", t->vector, 13);
    CHECK_EQ("null_cs.error", t->error, 0);
}

static void bad_user_targets(void)
{
    struct cpu cpu;
    struct trap *t;
    user_init();
    cpu = user_cpu(u_regs, 2 | FLAG_IF);
    cpu.rip = 0x800000000000;
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.bad_rip.vector", t->vector, 13);
    CHECK_EQ("user.bad_rip.error", t->error, 0);
    CHECK_EQ("user.bad_rip.cs", t->cpu.cs, USER_CS);
    CHECK_EQ("user.bad_rip.rip", t->cpu.rip, 0x800000000000);
    cpu = user_cpu(u_regs, 2 | FLAG_IF);
    cpu.cs = 0x1233;
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.bad_cs.vector", t->vector, 13);
    CHECK_EQ("user.bad_cs.error", t->error, 0x1230);
    CHECK_EQ("user.bad_cs.cs", t->cpu.cs, 0x1233);
    cpu = user_cpu(u_regs, 2 | FLAG_IF);
    cpu.rsp = 0x800000000000;
    t = user_run_cpu(&cpu, 0);
    CHECK_EQ("user.any_rsp.vector", t->vector, 6);
    CHECK_EQ("user.any_rsp.rsp", t->cpu.rsp, 0x800000000000);
}

PROBE(TEST(to_kernel, 17), TEST(flags_to_kernel, 9), TEST(in_syscall, 4), TEST(to_user, 12), TEST(to_compat, 6),
      TEST(bad_kernel_targets, 14),
      TEST(bad_user_targets, 9));
