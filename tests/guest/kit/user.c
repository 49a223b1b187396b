/* User mode: an L4 of its own (shares user space with the kernel's), entered by HYPERVISOR_iret, left by the first trap. */
#include "xenkit.h"

u64 *user_l4;
u8 *user_data;
struct jump user_return;
volatile int user_running;
extern u8 __user_start[];
static u64 *user_l3, *user_l2, *user_l1;
asm(".pushsection .user,\"ax\"\n.balign 4096\n.globl __user_start\n__user_start:\n.popsection");

void user_map(u64 va, const void *page, u64 flags)
{
    pte_write(&user_l1[(va >> 12) & 511], mfn_of(page) * PAGE | flags);
    mmuext(MMUEXT_TLB_FLUSH_LOCAL, 0, 0);
}

/* One level-1 table for 0x400000-0x5fffff: code (up to 2 pages), data and stack. */
void user_init(void)
{
    const u64 link = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    if (user_l4)
        return;
    user_l1 = table_alloc();
    user_l2 = table_alloc();
    user_l3 = table_alloc();
    user_l4 = table_alloc();
    mmuext(MMUEXT_PIN_L4_TABLE, mfn_of(user_l4), 0);
    mmuext(MMUEXT_PIN_L3_TABLE, mfn_of(user_l3), 0);
    mmuext(MMUEXT_PIN_L2_TABLE, mfn_of(user_l2), 0);
    mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(user_l1), 0);
    pte_write(&user_l2[USER_CODE >> 21 & 511], mfn_of(user_l1) * PAGE | link);
    pte_write(&user_l3[0], mfn_of(user_l2) * PAGE | link);
    pte_write(&user_l4[0], mfn_of(user_l3) * PAGE | link);
    pte_write(&kernel_l4()[0], mfn_of(user_l3) * PAGE | link);
    user_data = page_alloc();
    user_map(USER_CODE, __user_start, PTE_P | PTE_U | PTE_A | PTE_D);
    user_map(USER_DATA, user_data, PTE_P | PTE_W | PTE_U | PTE_A | PTE_D | PTE_NX);
    mmuext(MMUEXT_NEW_USER_BASEPTR, mfn_of(user_l4), 0);
}

u64 user_address(void (*code)(void))
{
    return USER_CODE + ((u64)code - (u64)__user_start);
}

struct trap *user_run_cpu(struct cpu *cpu, u64 iret_flags)
{
    trap_reset();
    user_running = 1;
    if (!jump_save(&user_return))
        resume(cpu, iret_flags);
    return &traps[0];
}

struct trap *user_run(void (*code)(void), u64 rax)
{
    struct cpu cpu = { .rax = rax, .rip = user_address(code), .cs = USER_CS, .rflags = FLAG_IF | 2, .rsp = USER_STACK_TOP,
                       .ss = USER_SS };
    return user_run_cpu(&cpu, 0);
}
