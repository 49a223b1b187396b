/* The ways into the kernel, and what it says to addresses that it must not use. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

static int64_t call(int64_t number, uint64_t a, uint64_t b, uint64_t c)
{
    asm volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return number;
}

static int null_file(void) { return open("/dev/null", O_RDWR); }

static int64_t write_to_pipe(uint64_t address, uint64_t size)
{
    int pipes[2];
    return pipe(pipes) ? -1 : call(SYS_write, pipes[1], address, size);
}

static int64_t read_from_pipe(uint64_t address, uint64_t size)
{
    static char filled[PAGE];
    int pipes[2];
    return pipe(pipes) || write(pipes[1], filled, PAGE) != PAGE ? -1 : call(SYS_read, pipes[0], address, size);
}

#define TELLS(name, expression) CASE(name) { result("%ld", (long)(expression)); }

TELLS(write_from_null, write_to_pipe(0, 10))
TELLS(write_from_unmapped, write_to_pipe((uint64_t)PLACE, 10))
TELLS(write_from_kernel, write_to_pipe(KERNEL_TEXT, 10))
TELLS(write_from_hypervisor, write_to_pipe(HYPERVISOR, 10))
TELLS(write_from_non_canonical, write_to_pipe(NON_CANONICAL, 10))
TELLS(write_from_vsyscall, write_to_pipe(0xffffffffff600000, 10))
TELLS(write_over_the_edge, write_to_pipe((uint64_t)map(1, PROT_READ) + PAGE - 10, 50))
TELLS(read_to_null, read_from_pipe(0, 10))
TELLS(read_to_readonly, read_from_pipe((uint64_t)map(1, PROT_READ), 10))
TELLS(read_to_kernel, read_from_pipe(0xffff888000000000, 10))
TELLS(read_to_hypervisor, read_from_pipe(HYPERVISOR, 10))
TELLS(read_to_non_canonical, read_from_pipe(NON_CANONICAL, 10))
TELLS(read_over_the_edge, read_from_pipe((uint64_t)map(1, PROT_READ | PROT_WRITE) + PAGE - 10, 50))
TELLS(open_at_null, call(SYS_open, 0, 0, 0))
TELLS(open_over_the_edge, call(SYS_open, (uint64_t)memset(map(1, PROT_READ | PROT_WRITE), '/', PAGE) + PAGE - 20, 0, 0))
TELLS(open_at_kernel, call(SYS_open, KERNEL_TEXT, 0, 0))
TELLS(stat_to_null, call(SYS_stat, (uint64_t) "/", 0, 0))
TELLS(time_to_kernel, call(SYS_gettimeofday, KERNEL_TEXT, 0, 0))
TELLS(clock_to_non_canonical, call(SYS_clock_gettime, CLOCK_MONOTONIC, NON_CANONICAL, 0))
TELLS(execve_at_kernel, call(SYS_execve, KERNEL_TEXT, 0, 0))
TELLS(futex_at_null, call(SYS_futex, 0, 0, 0))
TELLS(sigaction_from_kernel, call(SYS_rt_sigaction, SIGUSR1, KERNEL_TEXT, 0))
TELLS(null_device_takes_kernel_address, call(SYS_write, null_file(), KERNEL_TEXT, 10))
TELLS(no_such_call, call(9999, 0, 0, 0))
TELLS(negative_call, call(-1, 0, 0, 0))
TELLS(x32_call, call(0x40000000 + SYS_getpid, 0, 0, 0) == -ENOSYS || call(0x40000000 + SYS_getpid, 0, 0, 0) == getpid())
TELLS(upper_half_of_rax_is_ignored, call(0x100000000 + SYS_getpid, 0, 0, 0) == getpid())
TELLS(munmap_of_kernel, call(SYS_munmap, KERNEL_TEXT, PAGE, 0))
TELLS(mmap_at_hypervisor, call(SYS_mmap, HYPERVISOR, PAGE, PROT_READ))

CASE(syscall_registers)
{
    uint64_t rcx, r11, next, flags, r[8];
    int64_t rax = SYS_getuid;
    asm volatile("mov $0x1001, %%rbx\n mov $0x1002, %%rdx\n mov $0x1003, %%rsi\n mov $0x1004, %%rdi\n mov $0x1005, %%r8\n"
                 "mov $0x1006, %%r10\n mov $0x1007, %%r12\n mov $0x1008, %%r15\n std\n stc\n pushf\n pop %[flags]\n"
                 "syscall\n 1: cld\n lea 1b(%%rip), %[next]\n"
                 "mov %%rbx, %[r]\n mov %%rdx, 8+%[r]\n mov %%rsi, 16+%[r]\n mov %%rdi, 24+%[r]\n mov %%r8, 32+%[r]\n"
                 "mov %%r10, 40+%[r]\n mov %%r12, 48+%[r]\n mov %%r15, 56+%[r]\n"
                 : "+a"(rax), "=&c"(rcx), [flags] "=&r"(flags), [next] "=&r"(next), [r] "=o"(r)
                 :
                 : "rbx", "rdx", "rsi", "rdi", "r8", "r10", "r11", "r12", "r15", "memory", "cc");
    asm volatile("mov $102, %%eax\n stc\n pushf\n pop %%rdx\n syscall\n mov %%r11, %0\n sub %%rdx, %0"
                 : "=r"(r11)
                 :
                 : "rax", "rcx", "rdx", "r11", "memory", "cc");
    result("rcx %s, r11 %s, %lx %lx %lx %lx %lx %lx %lx %lx", rcx == next ? "next" : "other", r11 ? "other" : "flags",
           (long)r[0], (long)r[1], (long)r[2], (long)r[3], (long)r[4], (long)r[5], (long)r[6], (long)r[7]);
}

CASE(flags_survive_a_syscall)
{
    uint64_t flags = 0;
    int64_t rax = SYS_getpid;
    asm volatile("pushf\n orl $0x40cd5, (%%rsp)\n popf\n syscall\n pushf\n pop %0\n pushf\n andl $~0x40400, (%%rsp)\n popf"
                 : "=&r"(flags), "+a"(rax)
                 :
                 : "rcx", "r11", "memory", "cc");
    result("%#lx", (long)flags);
}

CASE(flags_that_applications_cannot_set)
{
    uint64_t flags;
    asm volatile("pushf\n orl $0x1b7000, (%%rsp)\n andl $~0x200, (%%rsp)\n popf\n pushf\n pop %0\n push $0x202\n popf"
                 : "=r"(flags)
                 :
                 : "memory", "cc");
    result("%#lx", (long)(flags & ~0x2008d5L)); /* arithmetic says nothing; ID is free */
}

CASE(int80)
{
    int64_t eax = 20;
    asm volatile("int $0x80" : "+a"(eax) : : "memory", "r8", "r9", "r10", "r11");
    result("%d", eax == getpid());
}
CASE(int80_no_such_call)
{
    int64_t eax = 9999;
    asm volatile("int $0x80" : "+a"(eax) : : "memory", "r8", "r9", "r10", "r11");
    result("%ld", (long)eax);
}
CASE(int80_registers)
{
    uint64_t r8, r11, r15;
    asm volatile("mov $8, %%r8\n mov $11, %%r11\n mov $15, %%r15\n mov $20, %%eax\n int $0x80\n mov %%r8, %0\n mov %%r11, %1\n mov %%r15, %2"
                 : "=r"(r8), "=r"(r11), "=r"(r15)
                 :
                 : "rax", "r8", "r11", "r15", "memory");
    result("%ld %ld", (long)r11, (long)r15);
}

/* 32-bit code: to another code segment and back, with a system call inside. */
CASE(compatibility_mode)
{
    static const uint8_t code[] = {
        0xb8, 20, 0, 0, 0, /* mov $20, %eax: getpid */
        0xcd, 0x80,        /* int $0x80 */
        0x89, 0xc3,        /* mov %eax, %ebx */
        0x31, 0xc0, 0x48,  /* xor %eax, %eax; dec %eax: in 64-bit code the last byte is a prefix */
        0xcb,              /* lret */
    };
    uint8_t *low = mmap((void *)0x20000000, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(low, code, sizeof code);
    uint64_t rbx, rax;
    asm volatile("mov %%rsp, %%r15\n mov %%cs, %%rcx\n lea 8192(%2), %%rsp\n"
                 "sub $8, %%rsp\n mov %%ecx, 4(%%rsp)\n movl $back_to_long_mode, (%%rsp)\n" /* what the 32-bit lret takes */
                 "and $~0x33, %%ecx\n or $0x23, %%ecx\n push %%rcx\n push %2\n lretq\n"
                 "back_to_long_mode: mov %%r15, %%rsp\n"
                 : "=&b"(rbx), "=&a"(rax)
                 : "r"(low)
                 : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    result("%d %#x", (pid_t)rbx == getpid(), (unsigned)rax);
}
CASE(compatibility_mode_fault)
{
    static const uint8_t code[] = {0x90, 0xa1, 0x10, 0, 0, 0}; /* mov 0x10, %eax */
    uint8_t *low = mmap((void *)0x20000000, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(low, code, sizeof code);
    fault_at = (uint64_t)low;
    asm volatile("mov %%cs, %%rcx\n lea 8192(%0), %%rsp\n and $~0x33, %%ecx\n or $0x23, %%ecx\n push %%rcx\n push %0\n lretq"
                 :
                 : "r"(low)
                 : "rcx", "memory");
}

#define VSYSCALL 0xffffffffff600000

CASE(vsyscall_time)
{
    long (*vtime)(long *) = (long (*)(long *))(VSYSCALL + 0x400);
    long apart = vtime(NULL) - time(NULL);
    result("%d", apart >= -1 && apart <= 1);
}
CASE(vsyscall_gettimeofday)
{
    struct timeval tv = {0};
    long (*call_it)(struct timeval *, void *) = (long (*)(struct timeval *, void *))VSYSCALL;
    long done = call_it(&tv, NULL);
    result("%ld %d", done, tv.tv_sec > 1000000000);
}
CASE(vsyscall_getcpu)
{
    unsigned cpu = -1, node = -1;
    long (*call_it)(unsigned *, unsigned *, void *) = (long (*)(unsigned *, unsigned *, void *))(VSYSCALL + 0x800);
    long done = call_it(&cpu, &node, NULL);
    result("%ld %d %d", done, cpu < 4096, node < 64);
}
CASE(vsyscall_load)
{
    asm volatile(AT "mov (%0), %%rcx" : : "r"(VSYSCALL) : "rax", "rcx", "memory");
}
CASE(vsyscall_between_entries)
{
    fault_at = VSYSCALL + 0x10;
    asm volatile("call *%0" : : "r"(VSYSCALL + 0x10) : "rax", "memory");
}
CASE(vsyscall_with_bad_pointer)
{
    long (*call_it)(long, void *) = (long (*)(long, void *))VSYSCALL;
    fault_at = VSYSCALL;
    call_it((long)KERNEL_TEXT, NULL);
}

CASE(getcpu)
{
    unsigned cpu = -1, node = -1;
    long done = syscall(SYS_getcpu, &cpu, &node, NULL);
    result("%ld %d %d %d", done, cpu < 4096, node < 64, sched_getcpu() >= 0);
}
CASE(segment_limit_of_the_cpu_number)
{
    uint64_t limit = ~0UL;
    int selector = 0x7b;
    asm volatile("lsl %1, %0" : "+r"(limit) : "r"((uint64_t)selector) : "cc");
    result("%d", (limit & 0xfff) < 4096 && limit != ~0UL);
}

CASE(clocks_agree)
{
    struct timespec vdso, kernel, after;
    for (int i = 0; i < 20000; i++) {
        clock_gettime(CLOCK_MONOTONIC, &vdso);
        syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &kernel);
        clock_gettime(CLOCK_MONOTONIC, &after);
        int64_t a = vdso.tv_sec * 1000000000L + vdso.tv_nsec, b = kernel.tv_sec * 1000000000L + kernel.tv_nsec;
        int64_t c = after.tv_sec * 1000000000L + after.tv_nsec;
        if (a > b || b > c)
            result("went back in round %d", i);
    }
    result("monotonic");
}
