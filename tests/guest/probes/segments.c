/* set_segment_base, the same through wrmsr, and selectors (xen-x86_64.h SEGBASE_*). */
#include "xenkit.h"

enum { SEGBASE_FS, SEGBASE_GS_USER, SEGBASE_GS_KERNEL, SEGBASE_GS_USER_SEL };
#define MSR_FS_BASE 0xc0000100
#define MSR_GS_BASE 0xc0000101
#define MSR_SHADOW_GS_BASE 0xc0000102
#define SET(which, base) HC(NR_set_segment_base, which, base, 0, 0)
USER_FN(u_gs, "mov %gs:0, %rbx\nmov %fs:0, %rdx\nud2");
USER_FN(u_gs_sel, "mov %gs, %ebx\nud2");

static u64 at_fs(void)
{
    u64 value;
    asm volatile("mov %%fs:0, %0" : "=r"(value)::"memory");
    return value;
}

static u64 at_gs(void)
{
    u64 value;
    asm volatile("mov %%gs:0, %0" : "=r"(value)::"memory");
    return value;
}

static u64 rdmsr(u32 msr)
{
    u32 lo, hi;
    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (u64)hi << 32 | lo;
}

static void wrmsr(u32 msr, u64 value)
{
    asm volatile("wrmsr" ::"a"((u32)value), "d"((u32)(value >> 32)), "c"(msr) : "memory");
}

static void hypercall_bases(void)
{
    static u64 a = 0xa1, b = 0xb2;
    CHECK_EQ("fs.set", SET(SEGBASE_FS, &a), 0);
    CHECK_EQ("fs.use", at_fs(), 0xa1);
    CHECK_EQ("gs.set", SET(SEGBASE_GS_KERNEL, &b), 0);
    CHECK_EQ("gs.use", at_gs(), 0xb2);
    CHECK_EQ("gs_user.set", SET(SEGBASE_GS_USER, &a), 0);
    CHECK_EQ("gs_user.kernel_unchanged", at_gs(), 0xb2);
    CHECK_EQ("gs_user.msr", rdmsr(MSR_SHADOW_GS_BASE), &a);
    CHECK_EQ("fs.msr", rdmsr(MSR_FS_BASE), &a);
    CHECK_EQ("gs.msr", rdmsr(MSR_GS_BASE), &b);
    CHECK_EQ("fs.noncanonical", SET(SEGBASE_FS, 0x800000000000), -EINVAL);
    CHECK_EQ("gs.noncanonical", SET(SEGBASE_GS_KERNEL, 0x800000000000), -EINVAL);
    CHECK_EQ("gs_user.noncanonical", SET(SEGBASE_GS_USER, 0x800000000000), -EINVAL);
    CHECK_EQ("number_4", SET(4, 0), -EINVAL);
    CHECK_EQ("gs_user_sel.null", SET(SEGBASE_GS_USER_SEL, 0), 0);
    printk("# user gs base after a null selector: 0x%lx\n", rdmsr(MSR_SHADOW_GS_BASE)); /* Intel: 0, AMD: kept */
    CHECK_EQ("gs_user_sel.bad", SET(SEGBASE_GS_USER_SEL, 0x1233), 0); /* replaced by null: never an error */
    CHECK_EQ("gs_user_sel.kernel_unchanged", at_gs(), 0xb2);
    CHECK_EQ("fs.hypervisor_address", SET(SEGBASE_FS, HYPERVISOR_START), 0); /* a base is only a number */
    SET(SEGBASE_FS, &a);
}

static void msr_bases(void)
{
    static u64 a = 0xa3, b = 0xb4;
    wrmsr(MSR_FS_BASE, (u64)&a);
    CHECK_EQ("wrmsr.fs.use", at_fs(), 0xa3);
    wrmsr(MSR_GS_BASE, (u64)&b);
    CHECK_EQ("wrmsr.gs.use", at_gs(), 0xb4);
    wrmsr(MSR_SHADOW_GS_BASE, 0x1234560000);
    CHECK_EQ("wrmsr.shadow.reads", rdmsr(MSR_SHADOW_GS_BASE), 0x1234560000);
    TRY("wrmsr", ::"a"(0), "d"(0x8000), "c"(MSR_FS_BASE) : "memory");
    CHECK_EQ("wrmsr.fs.noncanonical", trap_vector(), 13);
    TRY("wrmsr", ::"a"(0), "d"(0x8000), "c"(MSR_SHADOW_GS_BASE) : "memory");
    CHECK_EQ("wrmsr.shadow.noncanonical", trap_vector(), 13);
}

static void in_user_mode(void)
{
    struct trap *t;
    static u64 mine = 0x55;
    user_init();
    ((volatile u64 *)user_data)[8] = 0x66;
    ((volatile u64 *)user_data)[9] = 0x77;
    SET(SEGBASE_GS_KERNEL, &mine);
    SET(SEGBASE_GS_USER, USER_DATA + 64);
    SET(SEGBASE_FS, USER_DATA + 72);
    t = user_run(u_gs, 0);
    CHECK_EQ("user.gs", t->cpu.rbx, 0x66);
    CHECK_EQ("user.fs", t->cpu.rdx, 0x77);
    CHECK_EQ("user.kernel_gs_back", at_gs(), 0x55);
    CHECK_EQ("user.fs_unchanged", at_fs(), 0x77);
    SET(SEGBASE_GS_USER_SEL, USER_SS);
    t = user_run(u_gs_sel, 0);
    CHECK_EQ("user.gs_selector", t->cpu.rbx, USER_SS);
    CHECK_EQ("user.kernel_gs_back_again", at_gs(), 0x55);
    SET(SEGBASE_GS_USER_SEL, 0);
    t = user_run(u_gs_sel, 0);
    CHECK("user.gs_selector_null", t->cpu.rbx <= 3);
    events_disable();
}

static void selectors(void)
{
    TRY("mov %0, %%ds; mov %0, %%es", ::"r"(0) : "memory");
    CHECK_EQ("selector.null", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%ds", ::"r"(KERNEL_SS) : "memory");
    CHECK_EQ("selector.data", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%fs", ::"r"(KERNEL_SS) : "memory");
    CHECK_EQ("selector.fs", trap_vector(), VECTOR_NONE);
    TRY("mov %0, %%ds", ::"r"(0x1230) : "memory");
    CHECK_EQ("selector.bad.vector", trap_vector(), 13);
    CHECK_EQ("selector.bad.error", trap_error(), 0x1230);
    TRY("mov %0, %%ds", ::"r"(0xe008) : "memory"); /* the hypervisor's own code segment */
    CHECK_EQ("selector.hypervisor.vector", trap_vector(), 13);
    TRY("mov %0, %%ss", ::"r"(0) : "memory");
    CHECK_EQ("selector.ss_null.vector", trap_vector(), 13);
    TRY("push %0; push $1f; .byte 0x48, 0xcb; 1:", ::"r"((u64)KERNEL_CS) : "memory"); /* lretq */
    CHECK_EQ("selector.far_return_same_cs", trap_vector(), VECTOR_NONE);
    asm volatile("mov %0, %%ds; mov %0, %%es; mov %0, %%fs" ::"r"(0));
}

PROBE(TEST(hypercall_bases, 17), TEST(msr_bases, 5), TEST(in_user_mode, 7), TEST(selectors, 8));
