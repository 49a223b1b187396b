/* Code that changes while it is run, and processor features. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <asm/ldt.h>
#include <signal.h>
#include <ucontext.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "faults.h"

static const uint8_t return_number[] = {0xb8, 0, 0, 0, 0, 0xc3}; /* mov $0, %eax; ret */

static int call_at(uint8_t *at) { return ((int (*)(void))at)(); }

CASE(code_changes_in_place)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(page, return_number, sizeof return_number);
    for (int i = 1; i < 500; i++) {
        page[1] = i;
        if (call_at(page) != (uint8_t)i)
            result("stale in round %d", i);
    }
    result("fresh");
}
CASE(code_changes_through_another_mapping)
{
    int file = memfd_create("code", 0);
    if (ftruncate(file, PAGE))
        return;
    uint8_t *writable = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    uint8_t *code = mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, file, 0);
    memcpy(writable, return_number, sizeof return_number);
    for (int i = 1; i < 500; i++) {
        writable[1] = i;
        if (call_at(code) != (uint8_t)i)
            result("stale in round %d", i);
    }
    result("fresh");
}
CASE(code_changes_by_a_system_call)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    int pipes[2];
    if (pipe(pipes))
        return;
    memcpy(page, return_number, sizeof return_number);
    for (int i = 1; i < 500; i++) {
        uint8_t byte = i;
        if (write(pipes[1], &byte, 1) != 1 || read(pipes[0], page + 1, 1) != 1 || call_at(page) != (uint8_t)i)
            result("stale in round %d", i);
    }
    result("fresh");
}
CASE(code_changes_by_remapping)
{
    for (int i = 1; i < 100; i++) {
        uint8_t *page = map(1, PROT_READ | PROT_WRITE);
        memcpy(page, return_number, sizeof return_number);
        page[1] = i;
        mprotect(page, PAGE, PROT_READ | PROT_EXEC);
        if (call_at(page) != i)
            result("stale in round %d", i);
    }
    result("fresh");
}
CASE(code_changes_the_next_instruction)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    static const uint8_t code[] = {
        0xc6, 0x05, 0x01, 0, 0, 0, 77, /* movb $77, 1(%rip): the operand of what follows */
        0xb8, 0, 0, 0, 0,              /* mov $0, %eax */
        0xc3,
    };
    memcpy(page, code, sizeof code);
    result("%d", call_at(page));
}
CASE(code_is_private_after_fork)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    memcpy(page, return_number, sizeof return_number);
    page[1] = 1;
    int before = call_at(page), status;
    pid_t child = fork();
    if (child == 0) {
        page[1] = 2;
        _exit(call_at(page));
    }
    waitpid(child, &status, 0);
    result("%d %d %d", before, WEXITSTATUS(status), call_at(page));
}

/* What cpuid does not offer must not run, what it offers must. */
static int offers(unsigned leaf, int reg, int bit)
{
    unsigned r[4] = {0};
    return __get_cpuid_count(leaf, 0, r, r + 1, r + 2, r + 3) && (r[reg] >> bit & 1);
}
enum { EAX, EBX, ECX, EDX };

static volatile sig_atomic_t raised;
static uint64_t resume_at;
static void on_undefined(int number, siginfo_t *info, void *context)
{
    (void)info;
    raised = number;
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] = resume_at;
}

#define FEATURE(name, leaf, reg, bit, text)                                                                            \
    CASE(feature_##name)                                                                                               \
    {                                                                                                                  \
        const struct sigaction action = {.sa_sigaction = on_undefined, .sa_flags = SA_SIGINFO};                        \
        uint8_t room[128] __attribute__((aligned(64))) = {0};                                                          \
        sigaction(SIGILL, &action, NULL);                                                                              \
        sigaction(SIGSEGV, &action, NULL);                                                                             \
        asm volatile("lea 78f(%%rip), %%rax\n mov %%rax, %0\n xor %%ecx, %%ecx\n xor %%eax, %%eax\n" text "\n 78:"     \
                     : "=m"(resume_at)                                                                                 \
                     : "r"(room)                                                                                       \
                     : "rax", "rcx", "rdx", "xmm0", "xmm1", "memory", "cc");                                           \
        int offered = offers(leaf, reg, bit);                                                                          \
        result("%s", (raised == 0) == offered ? "as cpuid says" : offered ? "offered, does not run" : "runs unoffered"); \
    }

FEATURE(sse2, 1, EDX, 26, "addpd %%xmm0, %%xmm1")
FEATURE(sse3, 1, ECX, 0, "haddps %%xmm0, %%xmm1")
FEATURE(ssse3, 1, ECX, 9, "pabsb %%xmm0, %%xmm1")
FEATURE(sse4_1, 1, ECX, 19, "ptest %%xmm0, %%xmm1")
FEATURE(sse4_2, 1, ECX, 20, "crc32 %%eax, %%ecx")
FEATURE(sse4a, 0x80000001, ECX, 6, "extrq $0, $0, %%xmm0")
FEATURE(cmpxchg16b, 1, ECX, 13, "cmpxchg16b (%1)")
FEATURE(movbe, 1, ECX, 22, "movbe (%1), %%ecx")
FEATURE(popcnt, 1, ECX, 23, "popcnt %%ecx, %%eax")
FEATURE(aes, 1, ECX, 25, "aesenc %%xmm0, %%xmm1")
FEATURE(pclmulqdq, 1, ECX, 1, "pclmulqdq $0, %%xmm0, %%xmm1")
FEATURE(rdrand, 1, ECX, 30, "rdrand %%eax")
FEATURE(xgetbv, 1, ECX, 27, "xgetbv")
FEATURE(avx, 1, ECX, 28, "vaddpd %%xmm0, %%xmm0, %%xmm1")
FEATURE(avx_256, 1, ECX, 28, "vaddpd %%ymm0, %%ymm0, %%ymm1")
FEATURE(fma, 1, ECX, 12, "vfmadd213pd %%xmm0, %%xmm0, %%xmm1")
FEATURE(f16c, 1, ECX, 29, "vcvtph2ps %%xmm0, %%xmm1")
FEATURE(avx2, 7, EBX, 5, "vpaddq %%ymm0, %%ymm0, %%ymm1")
FEATURE(bmi1, 7, EBX, 3, "andn %%eax, %%ecx, %%edx")
FEATURE(bmi2, 7, EBX, 8, "pdep %%eax, %%ecx, %%edx")
FEATURE(adx, 7, EBX, 19, "adcx %%eax, %%ecx")
FEATURE(rdseed, 7, EBX, 18, "rdseed %%eax")
FEATURE(sha, 7, EBX, 29, "sha1nexte %%xmm0, %%xmm1")
FEATURE(clflushopt, 7, EBX, 23, "clflushopt (%1)")
FEATURE(clwb, 7, EBX, 24, "clwb (%1)")
FEATURE(fsgsbase, 7, EBX, 0, "rdfsbase %%rax")
FEATURE(rdpid, 7, ECX, 22, "rdpid %%rax")
FEATURE(gfni, 7, ECX, 8, "gf2p8mulb %%xmm0, %%xmm1")
FEATURE(rdtscp, 0x80000001, EDX, 27, "rdtscp")
FEATURE(abm, 0x80000001, ECX, 5, "lzcnt %%ecx, %%eax")
FEATURE(mmx_extensions, 1, EDX, 25, "pminub %%mm0, %%mm1\n emms")
FEATURE(three_d_now, 0x80000001, EDX, 31, "pfadd %%mm0, %%mm1\n femms")
FEATURE(xop, 0x80000001, ECX, 11, ".byte 0x8f, 0xe9, 0x78, 0x81, 0xc0")
FEATURE(monitorx, 0x80000001, ECX, 29, "mov %1, %%rax\n xor %%edx, %%edx\n .byte 0x0f, 0x01, 0xfa")

CASE(sgdt_does_not_fault) { uint8_t room[10]; asm volatile(AT "sgdt %0" : "=m"(room) : : "rax"); }
CASE(sidt_does_not_fault) { uint8_t room[10]; asm volatile(AT "sidt %0" : "=m"(room) : : "rax"); }
CASE(smsw_does_not_fault) { INSTRUCTION("smsw %%ecx"); }
CASE(str_does_not_fault) { INSTRUCTION("str %%ecx"); }
CASE(sldt_does_not_fault) { INSTRUCTION("sldt %%ecx"); }
CASE(rdtsc_goes_on)
{
    uint32_t low, high;
    uint64_t before = 0;
    for (int i = 0; i < 100000; i++) {
        asm volatile("rdtsc" : "=a"(low), "=d"(high));
        uint64_t now = (uint64_t)high << 32 | low;
        if (now < before)
            result("went back");
        before = now;
    }
    result("monotonic");
}
CASE(rdpmc) { INSTRUCTION("xor %%ecx, %%ecx\n" AT "rdpmc"); }

/* Segments of the application's own. */
CASE(ldt_segment)
{
    static uint32_t words[4] = {0x11, 0x22, 0x33, 0x44};
    struct user_desc segment = {
        .entry_number = 0, .base_addr = (unsigned)(uintptr_t)words, .limit = 11, .seg_32bit = 1, .useable = 1,
    };
    if (syscall(SYS_modify_ldt, 1, &segment, sizeof segment))
        result("no LDT");
    uint32_t got;
    asm volatile("mov %1, %%gs\n mov %%gs:8, %0\n xor %%ecx, %%ecx\n mov %%ecx, %%gs" : "=r"(got) : "r"(7) : "ecx", "memory");
    result("%#x", got);
}
CASE(ldt_segment_gone)
{
    struct user_desc segment = {.entry_number = 0, .base_addr = 0x1000, .limit = 11, .seg_32bit = 1, .useable = 1};
    if (syscall(SYS_modify_ldt, 1, &segment, sizeof segment))
        result("no LDT");
    segment = (struct user_desc){.entry_number = 0, .read_exec_only = 1, .seg_not_present = 1};
    syscall(SYS_modify_ldt, 1, &segment, sizeof segment);
    asm volatile(AT "mov %0, %%gs" : : "r"(7) : "rax", "memory");
}

/* The debugger's means: a step, a breakpoint in the text, a watched word. */
static volatile int watched;
static int trap_of(void (*prepare)(pid_t), uint64_t *dr6, int (*body)(void), int request)
{
    int status;
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        raise(SIGSTOP);
        _exit(body());
    }
    waitpid(child, &status, 0);
    prepare(child);
    ptrace(request, child, 0, 0);
    waitpid(child, &status, 0);
    *dr6 = ptrace(PTRACE_PEEKUSER, child, offsetof(struct user, u_debugreg[6]), 0);
    ptrace(PTRACE_KILL, child, 0, 0);
    kill(child, SIGKILL);
    return WIFSTOPPED(status) ? WSTOPSIG(status) : -WEXITSTATUS(status);
}
static int touch(void)
{
    watched = 1;
    return 3;
}
static __attribute__((noinline)) int broken(void) { asm volatile(""); return 4; }
static void set_nothing(pid_t child) { (void)child; }
static void set_watch(pid_t child)
{
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), &watched);
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 0xd0001L); /* 4 bytes, on writes */
}
static void set_hardware_breakpoint(pid_t child)
{
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[0]), broken);
    ptrace(PTRACE_POKEUSER, child, offsetof(struct user, u_debugreg[7]), 1L);
}
static void set_breakpoint(pid_t child)
{
    long word = ptrace(PTRACE_PEEKTEXT, child, broken, 0);
    ptrace(PTRACE_POKETEXT, child, broken, (word & ~0xffL) | 0xcc);
}
#define TRACED(name, prepare, body, request)                                                                           \
    CASE(name)                                                                                                         \
    {                                                                                                                  \
        uint64_t dr6;                                                                                                  \
        int stop = trap_of(prepare, &dr6, body, request);                                                              \
        result("signal %d dr6 %#lx", stop, (long)(dr6 & 0x400f));                                                      \
    }
TRACED(traced_step, set_nothing, touch, PTRACE_SINGLESTEP)
TRACED(traced_breakpoint, set_breakpoint, broken, PTRACE_CONT)
TRACED(traced_watchpoint, set_watch, touch, PTRACE_CONT)
TRACED(traced_hardware_breakpoint, set_hardware_breakpoint, broken, PTRACE_CONT)
