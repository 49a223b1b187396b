/* Page faults and addresses that are none. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "faults.h"

static void load(uint64_t address)
{
    asm volatile(AT "mov (%0), %%rax" : : "r"(address) : "rax", "memory");
}

static void store(uint64_t address)
{
    asm volatile(AT "movq $1, (%0)" : : "r"(address) : "rax", "memory");
}

static void jump(uint64_t address)
{
    fault_at = address;
    asm volatile("jmp *%0" : : "r"(address) : "memory");
}

CASE(null_load) { load(0); }
CASE(null_store) { store(0); }
CASE(null_jump) { jump(0); }
CASE(null_lock) { asm volatile(AT "lock incl (%0)" : : "r"(8L) : "rax", "memory"); }
CASE(unmapped_load) { load((uint64_t)PLACE + 0x18); }
CASE(kernel_load) { load(KERNEL_TEXT); }
CASE(kernel_store) { store(KERNEL_TEXT); }
CASE(kernel_jump) { jump(KERNEL_TEXT); }
CASE(kernel_data_load) { load(0xffff888000000000); }
CASE(hypervisor_load) { load(HYPERVISOR); }
CASE(hypervisor_store) { store(HYPERVISOR + 0x1000); }
CASE(hypervisor_jump) { jump(HYPERVISOR); }
CASE(last_page_load) { load(0xfffffffffffff000); }
CASE(wrapping_load) { load(0xfffffffffffffffc); }
CASE(canonical_edge_load) { load(0x00007ffffffffffc); }
CASE(non_canonical_load) { load(NON_CANONICAL); }
CASE(non_canonical_store) { store(NON_CANONICAL); }
CASE(non_canonical_jump)
{
    asm volatile(AT "jmp *%0" : : "r"(NON_CANONICAL) : "rax");
}
CASE(non_canonical_return)
{
    asm volatile("mov %0, %%rcx\n push %%rcx\n" AT "ret" : : "r"(NON_CANONICAL) : "rax", "rcx", "memory");
}
CASE(non_canonical_stack)
{
    asm volatile("mov %0, %%rsp\n" AT "pop %%rcx" : : "r"(NON_CANONICAL & ~7L) : "rax", "rcx", "memory");
}
CASE(non_canonical_frame)
{
    asm volatile("mov %0, %%rbp\n" AT "mov (%%rbp), %%rcx" : : "r"(NON_CANONICAL) : "rax", "rcx", "memory");
}

CASE(readonly_store) { store((uint64_t)map(1, PROT_READ) + 8); }
CASE(readonly_untouched_exchange)
{
    asm volatile(AT "xchg %%rcx, (%0)" : : "r"(map(1, PROT_READ)) : "rax", "rcx", "memory");
}
CASE(none_load) { load((uint64_t)map(1, PROT_NONE)); }
CASE(nx_jump)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE);
    page[0] = 0xc3;
    jump((uint64_t)page);
}
CASE(nx_untouched_jump) { jump((uint64_t)map(1, PROT_READ)); }
CASE(own_text_store) { store((uint64_t)&case_nx_jump); }
CASE(after_unmap_load)
{
    uint8_t *page = map(2, PROT_READ | PROT_WRITE);
    memset(page, 1, 2 * PAGE);
    munmap(page + PAGE, PAGE);
    load((uint64_t)page + PAGE);
}
CASE(after_protect_store)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE);
    *page = 1;
    mprotect(page, PAGE, PROT_READ);
    store((uint64_t)page);
}
CASE(after_protect_jump)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    *page = 0xc3;
    ((void (*)(void))page)();
    mprotect(page, PAGE, PROT_READ);
    jump((uint64_t)page);
}
CASE(straddling_load)
{
    uint8_t *page = map(1, PROT_READ);
    load((uint64_t)page + PAGE - 3);
}
CASE(straddling_store)
{
    uint8_t *page = map(2, PROT_READ | PROT_WRITE);
    memset(page, 7, 2 * PAGE);
    mprotect(page + PAGE, PAGE, PROT_READ);
    store((uint64_t)page + PAGE - 3);
}
CASE(straddling_store_is_whole)
{
    /* A store that faults in its second page must have changed nothing in its first. */
    uint8_t *page = mmap(PLACE, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memset(page, 7, 2 * PAGE);
    if (fork() == 0) {
        default_signals();
        mprotect(page + PAGE, PAGE, PROT_READ);
        asm volatile("movq $1, (%0)" : : "r"(page + PAGE - 3) : "memory");
    }
    wait(NULL);
    result("%d %d", page[PAGE - 1], page[PAGE - 3]);
}
CASE(straddling_instruction)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE | PROT_EXEC);
    static const uint8_t nops_then_mov[] = {0x90, 0x90, 0x48, 0xb8};
    memcpy(page + PAGE - 4, nops_then_mov, 4);
    fault_at = (uint64_t)page + PAGE - 2;
    asm volatile("jmp *%0" : : "r"(page + PAGE - 4) : "rax");
}
CASE(string_move_half_way)
{
    uint8_t *page = map(2, PROT_READ | PROT_WRITE);
    memset(page, 5, PAGE);
    munmap(page + PAGE, PAGE);
    asm volatile(AT "rep movsb" : : "S"(page), "D"(page + PAGE - 100), "c"(300L) : "rax", "memory");
}
CASE(push_over_the_edge)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE);
    asm volatile("mov %0, %%rsp\n" AT "push %%rax" : : "r"(page) : "rax", "memory");
}
CASE(call_over_the_edge)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE);
    asm volatile("mov %0, %%rsp\n" AT "call case_over_the_edge_target" : : "r"(page) : "rax", "memory");
}
void case_over_the_edge_target(void);
void case_over_the_edge_target(void) { result("called"); }

CASE(beyond_end_of_file)
{
    int file = memfd_create("file", 0);
    if (ftruncate(file, 100))
        return;
    uint8_t *at = mmap(PLACE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    load((uint64_t)at + 8);
    load((uint64_t)at + PAGE);
}

static __attribute__((noinline)) int sink(int depth)
{
    volatile char room[4096];
    room[0] = depth;
    return depth < 0 ? 0 : sink(depth + 1) + room[0];
}
CASE(stack_overflow_ends)
{
    const struct rlimit small = {256 << 10, 256 << 10};
    setrlimit(RLIMIT_STACK, &small);
    default_signals();
    sink(0);
}
CASE(stack_grows)
{
    volatile uint8_t *far = (uint8_t *)__builtin_frame_address(0) - (1 << 20);
    *far = 9;
    result("%d", *far);
}
CASE(copy_on_write)
{
    uint8_t *page = map(1, PROT_READ | PROT_WRITE);
    int pipes[2];
    char done;
    *page = 1;
    if (pipe(pipes))
        return;
    if (fork() == 0) {
        *page = 2;
        _exit(write(pipes[1], "x", 1) != 1);
    }
    if (read(pipes[0], &done, 1) != 1)
        return;
    result("%d", *page);
}
