/* fpu_taskswitch: CR0.TS and #NM (xen.h). */
#include "xenkit.h"

static u64 cr0(void)
{
    u64 value;
    asm volatile("mov %%cr0, %0" : "=r"(value));
    return value;
}

static void task_switched(void)
{
    CHECK_EQ("clear", HC(NR_fpu_taskswitch, 0, 0, 0, 0), 0);
    TRY("fninit", ::: "memory");
    CHECK_EQ("clear.fpu_works", trap_vector(), VECTOR_NONE);
    CHECK_EQ("clear.cr0", cr0() & 8, 0);
    CHECK_EQ("set", HC(NR_fpu_taskswitch, 1, 0, 0, 0), 0);
    CHECK_EQ("set.cr0", cr0() & 8, 8);
    TRY("l_nm: fninit", ::: "memory");
    CHECK_EQ("set.nm", trap_vector(), 7);
    CHECK_EQ("set.nm.rip", traps[0].cpu.rip, RIP_OF(l_nm));
    CHECK_EQ("set.nm.clears_ts", cr0() & 8, 0); /* Xen's ABI: TS is off when the handler is entered */
    TRY("fninit", ::: "memory");
    CHECK_EQ("set.once", trap_vector(), VECTOR_NONE);
    HC(NR_fpu_taskswitch, 1, 0, 0, 0);
    TRY("movups %%xmm0, %%xmm1", ::: "memory");
    CHECK_EQ("set.sse.nm", trap_vector(), 7);
    HC(NR_fpu_taskswitch, 1, 0, 0, 0);
    TRY("clts", ::: "memory");
    CHECK_EQ("clts", trap_vector(), VECTOR_NONE);
    CHECK_EQ("clts.cr0", cr0() & 8, 0);
    TRY("fninit", ::: "memory");
    CHECK_EQ("clts.fpu_works", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%cr0", ::"r"(cr0() | 8) : "memory");
    CHECK_EQ("mov_cr0.sets_ts", trap_vector() == VECTOR_NONE ? cr0() & 8 : ~0ul, 8);
    TRY("fninit", ::: "memory");
    CHECK_EQ("mov_cr0.nm", trap_vector(), 7);
    CHECK_EQ("any_value_sets", HC(NR_fpu_taskswitch, 77, 0, 0, 0) ? 0 : (cr0() & 8), 8);
    HC(NR_fpu_taskswitch, 0, 0, 0, 0);
}

static u8 image[512] __attribute__((aligned(16)));
USER_FN(u_fpu, "fninit\nfld1\nud2");

/* Registers survive hypercalls, traps and user mode. */
static void contents(void)
{
    static u64 in[2] = { 0x1122334455667788, 0x99aabbccddeeff00 }, out[2];
    user_init();
    asm volatile("movups %0, %%xmm5" ::"m"(in));
    hc_version(0, 0);
    TRY("ud2", ::: "memory");
    user_run(u_fpu, 0);
    hc_sched(SCHEDOP_yield, 0);
    asm volatile("movups %%xmm5, %0" : "=m"(out)::"memory");
    CHECK("contents.kept", out[0] == in[0] && out[1] == in[1]);
    asm volatile("fxsave %0" : "=m"(image)::"memory");
    CHECK_EQ("contents.mxcsr", *(u32 *)(image + 24), 0x1f80);
    asm volatile("fninit");
    events_disable();
}

USER_FN(u_nm, "fld1\nud2");

static void in_user_mode(void)
{
    user_init();
    HC(NR_fpu_taskswitch, 1, 0, 0, 0);
    CHECK_EQ("user.nm", user_run(u_nm, 0)->vector, 7);
    CHECK_EQ("user.after", user_run(u_nm, 0)->vector, 6);
    asm volatile("fninit");
    events_disable();
}

PROBE(TEST(task_switched, 16), TEST(contents, 2), TEST(in_user_mode, 2));
