/* set_debugreg, get_debugreg and moves to debug registers (xen.h); single stepping. */
#include "xenkit.h"

#define SET(reg, value) HC(NR_set_debugreg, reg, value, 0, 0)
#define GET(reg) HC(NR_get_debugreg, reg, 0, 0, 0)

static void registers(void)
{
    CHECK_EQ("initial.dr0", GET(0), 0);
    CHECK_EQ("initial.dr6", GET(6), 0xffff0ff0);
    CHECK_EQ("initial.dr7", GET(7), 0x400);
    CHECK_EQ("dr0.set", SET(0, 0x123456789a), 0);
    CHECK_EQ("dr0.get", GET(0), 0x123456789a);
    CHECK_EQ("dr3.set", SET(3, 0xffffffff80000000), 0);
    CHECK_EQ("dr3.get", GET(3), 0xffffffff80000000);
    CHECK_EQ("dr1.hypervisor", SET(1, 0xffff830000000000), -EPERM);
    CHECK_EQ("dr1.noncanonical", SET(1, 0x800000000000), -EPERM);
    CHECK_EQ("dr4.is_dr6", SET(4, 0), 0);
    CHECK_EQ("dr4.get", GET(4), 0xffff0ff0);
    CHECK_EQ("dr6.set", SET(6, 0x4001), 0);
    CHECK_EQ("dr6.fixed_bits", GET(6), 0xffff4ff1);
    CHECK_EQ("dr6.bit_12_cleared", ({ SET(6, 0xffffffff); GET(6); }), 0xffffefff);
    CHECK_EQ("dr6.wide", SET(6, 1ul << 32), -EINVAL);
    CHECK_EQ("dr5.is_dr7", SET(5, 0), 0);
    CHECK_EQ("dr7.set", SET(7, 0x0101), 0);
    CHECK_EQ("dr7.fixed_bits", GET(7), 0x501);
    CHECK_EQ("dr7.general_detect", SET(7, 0x2000), -EPERM);
    CHECK_EQ("dr7.io_without_de", SET(7, 0x20001), -EPERM);
    CHECK_EQ("dr7.wide", SET(7, 1ul << 32), -EINVAL);
    CHECK_EQ("dr7.kept_after_refusal", GET(7), 0x501);
    CHECK_EQ("dr7.clear", SET(7, 0), 0);
    CHECK_EQ("dr8.set", SET(8, 0), -ENODEV);
    CHECK_EQ("dr8.get", GET(8), -ENODEV);
    CHECK_EQ("dr_negative.get", GET(-1), -ENODEV);
    SET(6, 0);
}

static void moves(void)
{
    u64 value = 0;
    TRY("mov %0, %%db2", ::"r"(0x4567ul) : "memory");
    CHECK_EQ("mov_to_dr2", trap_vector(), VECTOR_NONE);
    CHECK_EQ("mov_to_dr2.seen_by_hypercall", GET(2), 0x4567);
    TRY("mov %%db2, %0", : "=r"(value)::"memory");
    CHECK_EQ("mov_from_dr2", value, 0x4567);
    TRY("mov %%db7, %0", : "=r"(value)::"memory");
    CHECK_EQ("mov_from_dr7", value, 0x400);
    TRY("mov %0, %%db1", ::"r"(0xffff830000000000ul) : "memory");
    CHECK_EQ("mov_to_dr1.hypervisor", trap_vector(), 13);
}

static void single_step(void)
{
    SET(6, 0);
    TRY("pushf; orl $0x100, (%%rsp); popf; nop; l_step: nop", ::: "memory", "cc");
    CHECK_EQ("step.vector", trap_vector(), 1);
    CHECK_EQ("step.rip", traps[0].cpu.rip, RIP_OF(l_step));
    CHECK_EQ("step.dr6", GET(6) & 0x4000, 0x4000);
    SET(6, 0);
    CHECK_EQ("step.dr6_cleared", GET(6), 0xffff0ff0);
    TRY("nop", ::: "memory");
    CHECK_EQ("step.stops", trap_vector(), VECTOR_NONE);
}

static u32 steps;
static int keep_stepping(struct trap *trap, struct cpu *cpu)
{
    if (trap->vector != 1 || ++steps >= 5)
        return 0;
    cpu->rflags |= FLAG_TF;
    return 1;
}

/* A handler that returns with TF still set is called again behind every instruction. */
static void keep_on(void)
{
    trap_hook = keep_stepping;
    TRY("pushf; orl $0x100, (%%rsp); popf; nop; nop; nop; nop; l_five: nop; nop", ::: "memory", "cc");
    trap_hook = 0;
    CHECK_EQ("steps.count", steps, 5);
    CHECK("steps.one_instruction_each", traps[4].cpu.rip - traps[3].cpu.rip == 1);
}

PROBE(TEST(registers, 26), TEST(moves, 5), TEST(single_step, 5), TEST(keep_on, 2));
