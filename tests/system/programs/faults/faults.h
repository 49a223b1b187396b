/*
 * Cases that a processor, a hypervisor and a kernel must agree on. Each runs in a process of its own and prints one line that says what
 * happened: the signal with everything the kernel tells about it, or the value that the case hands to `result`.
 *
 * Lines hold nothing that differs between two correct machines: addresses are fixed or told relative to the faulting instruction.
 */
#ifndef FAULTS_H
#define FAULTS_H

#include <stdint.h>

struct fault_case {
    const char *name;
    void (*run)(void);
};

/* CASE(name) { body }: registers itself. */
#define CASE(n)                                                                                                       \
    static void case_##n(void);                                                                                       \
    static const struct fault_case entry_##n = {#n, case_##n};                                                        \
    static const struct fault_case *const pointer_##n __attribute__((section("cases"), used)) = &entry_##n;           \
    static void case_##n(void)

/* The address of the instruction that is about to fault: `rip` in a line is told relative to it. */
extern uint64_t fault_at;

/* Prints the case's line and ends its process. */
_Noreturn void result(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* From here on a signal ends the process, for cases whose addresses differ from run to run. */
void default_signals(void);

#define AT "lea 77f(%%rip), %%rax\n mov %%rax, fault_at(%%rip)\n 77:\n "

/* One instruction that needs no operand. */
#define INSTRUCTION(text) asm volatile(AT text : : : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "memory", "cc")

enum { PAGE = 4096 };

/* Where cases map things, so that addresses are the same everywhere; nothing else of a static program is near. */
#define PLACE ((uint8_t *)0x100000000000)

/* `pages` pages at PLACE with mmap's protection `prot`. */
uint8_t *map(int pages, int prot);

#define KERNEL_TEXT 0xffffffff81000000
#define HYPERVISOR 0xffff800000000000
#define NON_CANONICAL 0x0123456789abcdef

#endif
