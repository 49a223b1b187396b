/* Instructions that no application may run, that are none, and that trap by design. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "faults.h"

#define PLAIN(name, text) CASE(name) { INSTRUCTION(text); }

PLAIN(hlt, "hlt")
PLAIN(cli, "cli")
PLAIN(sti, "sti")
PLAIN(in_byte_immediate, "in $0x80, %%al")
PLAIN(in_dx, "mov $0x80, %%dx\n" AT "in %%dx, %%eax")
PLAIN(out_byte_immediate, "out %%al, $0xed")
PLAIN(out_dx, "mov $0xed, %%dx\n" AT "out %%al, %%dx")
PLAIN(ins, "mov $0xed, %%dx\n lea fault_at(%%rip), %%rdi\n" AT "insb")
PLAIN(outs, "mov $0xed, %%dx\n lea fault_at(%%rip), %%rsi\n" AT "outsb")
PLAIN(lgdt, "lgdt fault_at(%%rip)")
PLAIN(lidt, "lidt fault_at(%%rip)")
PLAIN(lldt, "xor %%ecx, %%ecx\n" AT "lldt %%cx")
PLAIN(ltr, "mov $8, %%ecx\n" AT "ltr %%cx")
PLAIN(lmsw, "mov $1, %%ecx\n" AT "lmsw %%cx")
PLAIN(clts, "clts")
PLAIN(invd, "invd")
PLAIN(wbinvd, "wbinvd")
PLAIN(invlpg, "invlpg fault_at(%%rip)")
PLAIN(load_cr0, "mov %%cr0, %%rcx")
PLAIN(store_cr0, "mov %%rcx, %%cr0")
PLAIN(load_cr2, "mov %%cr2, %%rcx")
PLAIN(load_cr3, "mov %%cr3, %%rcx")
PLAIN(store_cr3, "mov %%rcx, %%cr3")
PLAIN(load_cr4, "mov %%cr4, %%rcx")
PLAIN(load_cr8, "mov %%cr8, %%rcx")
PLAIN(load_dr0, "mov %%dr0, %%rcx")
PLAIN(store_dr7, "mov %%rcx, %%dr7")
PLAIN(rdmsr, "mov $0xc0000080, %%ecx\n" AT "rdmsr")
PLAIN(wrmsr, "mov $0xc0000080, %%ecx\n" AT "wrmsr")
PLAIN(swapgs, "swapgs")
PLAIN(sysretq, "sysretq")
PLAIN(sysexit, "sysexitl")

PLAIN(ud0, ".byte 0x0f, 0xff, 0xc0")
PLAIN(ud1, ".byte 0x0f, 0xb9, 0xc0")
PLAIN(ud2, "ud2")
PLAIN(hypervisor_prefix_cpuid, "ud2\n .ascii \"xen\"\n cpuid")
PLAIN(push_es, ".byte 0x06")
PLAIN(into, ".byte 0xce")
PLAIN(aaa, ".byte 0x37")
PLAIN(lock_register, ".byte 0xf0, 0x01, 0xc0")
PLAIN(lock_nop, ".byte 0xf0, 0x90")
PLAIN(too_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90")
PLAIN(undefined_opcode, ".byte 0x0f, 0x0a")
PLAIN(mwait, "mwait")

PLAIN(int3, "int3")
PLAIN(int_3, ".byte 0xcd, 3")
PLAIN(int_0, "int $0")
PLAIN(int_1, "int $1")
PLAIN(int_2, "int $2")
PLAIN(int_4, "int $4")
PLAIN(int_6, "int $6")
PLAIN(int_8, "int $8")
PLAIN(int_13, "int $13")
PLAIN(int_14, "int $14")
PLAIN(int_32, "int $32")
PLAIN(int_129, "int $0x81")
PLAIN(int_130, "int $0x82")
PLAIN(int_255, "int $255")

PLAIN(divide_by_zero, "xor %%ecx, %%ecx\n" AT "div %%ecx")
PLAIN(divide_overflow, "mov $1, %%edx\n mov $1, %%ecx\n" AT "div %%ecx")
PLAIN(divide_least_by_minus_one, "mov $-1, %%ecx\n mov $0x80000000, %%eax\n mov %%eax, %%ebx\n" AT
                                 "mov %%ebx, %%eax\n cltd\n idiv %%ecx")

PLAIN(bad_ds, "mov $0x1238, %%ecx\n" AT "mov %%ecx, %%ds")
PLAIN(bad_fs_beyond, "mov $0xfff8, %%ecx\n" AT "mov %%ecx, %%fs")
PLAIN(bad_gs_ldt, "mov $0x0f, %%ecx\n" AT "mov %%ecx, %%gs")
PLAIN(null_ss, "xor %%ecx, %%ecx\n" AT "mov %%ecx, %%ss")
PLAIN(kernel_ss, "mov $0x18, %%ecx\n" AT "mov %%ecx, %%ss")
PLAIN(null_ds_is_allowed, "xor %%ecx, %%ecx\n mov %%ecx, %%ds\n mov %%ecx, %%es")

CASE(far_return_to_null)
{
    asm volatile("push $0\n push $0\n" AT "lretq" : : : "rax", "memory");
}
CASE(far_return_to_data)
{
    asm volatile("mov %%ss, %%rcx\n push %%rcx\n push $0\n" AT "lretq" : : : "rax", "rcx", "memory");
}
CASE(iret_to_kernel)
{
    asm volatile("mov %%rsp, %%rdx\n mov %%ss, %%rcx\n push %%rcx\n push %%rdx\n pushf\n push $0x10\n push $0\n" AT "iretq"
                 :
                 :
                 : "rax", "rcx", "rdx", "memory");
}
CASE(iret_to_itself)
{
    uint64_t rsp, marker;
    asm volatile("mov %%rsp, %%rdx\n mov %%ss, %%rcx\n push %%rcx\n push %%rdx\n pushf\n mov %%cs, %%rcx\n push %%rcx\n"
                 "lea 1f(%%rip), %%rcx\n push %%rcx\n iretq\n 1: mov %%rsp, %0\n sub %%rdx, %0\n mov $42, %1"
                 : "=&r"(rsp), "=r"(marker)
                 :
                 : "rcx", "rdx", "memory");
    result("rsp moved by %ld, %ld", (long)rsp, (long)marker);
}
CASE(iret_non_canonical)
{
    asm volatile("mov %%rsp, %%rdx\n mov %%ss, %%rcx\n push %%rcx\n push %%rdx\n pushf\n mov %%cs, %%rcx\n push %%rcx\n push %0\n" AT
                 "iretq"
                 :
                 : "r"(NON_CANONICAL)
                 : "rax", "rcx", "rdx", "memory");
}

CASE(alignment_check)
{
    asm volatile("lea fault_at(%%rip), %%rcx\n pushf\n orl $0x40000, (%%rsp)\n popf\n 77: mov 1(%%rcx), %%edx\n"
                 "pushf\n andl $~0x40000, (%%rsp)\n popf\n"
                 :
                 :
                 : "rcx", "rdx", "memory", "cc");
}
CASE(misaligned_movaps)
{
    asm volatile("lea 1+fault_at(%%rip), %%rcx\n" AT "movaps (%%rcx), %%xmm0" : : : "rax", "rcx", "memory");
}
CASE(misaligned_sse_operand)
{
    asm volatile("lea 1+fault_at(%%rip), %%rcx\n" AT "paddq (%%rcx), %%xmm0" : : : "rax", "rcx", "memory");
}
CASE(misaligned_cmpxchg16b)
{
    asm volatile("lea 8+fault_at(%%rip), %%rcx\n and $~15, %%rcx\n add $8, %%rcx\n" AT "lock cmpxchg16b (%%rcx)"
                 :
                 :
                 : "rax", "rbx", "rcx", "rdx", "memory");
}
CASE(misaligned_fxsave)
{
    asm volatile("lea 1(%%rsp), %%rcx\n" AT "fxsave -1024(%%rcx)" : : : "rax", "rcx", "memory");
}

/* How many trace traps come, at what distances, until the flag is cleared. */
static uint64_t first;
static int steps;
static char trail[400];

static void on_step(int number, siginfo_t *info, void *context)
{
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    (void)number;
    if (!first)
        first = regs[REG_RIP];
    int used = strlen(trail);
    if (used < 380) {
        char *p = trail + used;
        const char hex[] = "0123456789abcdef";
        uint64_t distance = regs[REG_RIP] - first;
        *p++ = ' ';
        *p++ = hex[distance >> 4 & 15];
        *p++ = hex[distance & 15];
        *p++ = info->si_code == TRAP_TRACE ? 't' : info->si_code == TRAP_BRKPT ? 'b' : '?';
        if ((uint64_t)info->si_addr != (uint64_t)regs[REG_RIP])
            *p++ = '!';
    }
    if (++steps > 60)
        regs[REG_EFL] &= ~0x100L;
}

static void step_over(void)
{
    const struct sigaction action = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
    sigaction(SIGTRAP, &action, NULL);
}

#define TF_ON "pushf\n orl $0x100, (%%rsp)\n popf\n"
#define TF_OFF "pushf\n andl $~0x100, (%%rsp)\n popf\n"

#define STEPPED(name, text)                                                                                            \
    CASE(name)                                                                                                         \
    {                                                                                                                  \
        step_over();                                                                                                   \
        asm volatile(TF_ON text TF_OFF : : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r11", "memory", "cc");         \
        result("%d steps:%s", steps, trail);                                                                           \
    }

STEPPED(step_plain, "nop\n nop\n add $1, %%eax\n")
STEPPED(step_loop, "mov $3, %%ecx\n 1: dec %%ecx\n jnz 1b\n")
STEPPED(step_string, "mov $3, %%ecx\n lea trail(%%rip), %%rsi\n mov %%rsi, %%rdi\n rep movsb\n")
STEPPED(step_syscall, "mov $39, %%eax\n syscall\n nop\n")
STEPPED(step_int80, "mov $20, %%eax\n int $0x80\n nop\n")
STEPPED(step_cpuid, "xor %%eax, %%eax\n cpuid\n nop\n")
STEPPED(step_stack_segment, "mov %%ss, %%ecx\n mov %%ecx, %%ss\n nop\n nop\n")
STEPPED(step_call, "call 1f\n jmp 2f\n 1: ret\n 2: nop\n")
STEPPED(step_int3, "int3\n nop\n")
STEPPED(step_vsyscall, "xor %%edi, %%edi\n mov $0xffffffffff600400, %%rax\n call *%%rax\n nop\n")
