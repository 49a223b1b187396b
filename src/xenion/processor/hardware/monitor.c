#define _GNU_SOURCE
#include "monitor.h"

#include <string.h>
#include <sys/mman.h>

extern const u8 monitor_code[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_syscall32[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_writes[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_zaps[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_flush[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_back[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_out[] __attribute__((visibility("hidden")));
extern const u8 monitor_code_end[] __attribute__((visibility("hidden")));

#define GATE_BYTES 4
#define WRITE_BYTES 3
#define ZAP_BYTES 5

/* The gates do not return: the host sets the registers anew. Errands follow each other by `ret`, for the stack lists them; of
 * the two runs, as much is entered as there is to do. A store of two bytes is what makes KVM forget a page table. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        "monitor_code:\n"
        ".set vector, 0\n"
        ".rept 256\n"
        ".balign 4\n"
        "outb %al, $vector\n"
        ".set vector, vector + 1\n"
        ".endr\n"
        ".balign 16\n"
        "monitor_code_syscall32: outl %eax, $0\n"
        ".balign 16\n"
        ".rept 128\n"
        "pop %rdi\n"
        "popq (%rdi)\n"
        ".endr\n"
        "monitor_code_writes: ret\n"
        ".balign 16\n"
        ".rept 128\n"
        "pop %rdi\n"
        "orw $0, (%rdi)\n"
        ".endr\n"
        "monitor_code_zaps: ret\n"
        ".balign 16\n"
        "monitor_code_flush: mov %cr3, %rdi\n"
        "mov %rdi, %cr3\n"
        "ret\n"
        "monitor_code_back: pop %rdi\n"
        "iretq\n"
        "monitor_code_out: outl %eax, $1\n"
        "monitor_code_end:\n"
        ".popsection\n");

static const u8 store_al[2] = {0x48, 0xa2}; /* movabs %al, ADDRESS: leaves the virtual machine from any ring */

static u64 code_at(const struct monitor *m, const u8 *label)
{
    return monitor_page(m, MONITOR_CODE) + (u64)(label - monitor_code);
}

u64 monitor_syscall_entry(const struct monitor *m) { return monitor_page(m, MONITOR_ENTRY); }
u64 monitor_syscall_end(const struct monitor *m) { return monitor_page(m, MONITOR_ENTRY) + sizeof store_al + 8; }
u64 monitor_syscall32_entry(const struct monitor *m) { return code_at(m, monitor_code_syscall32); }
u64 monitor_writes(const struct monitor *m, u32 count) { return code_at(m, monitor_code_writes) - WRITE_BYTES * (u64)count; }
u64 monitor_zaps(const struct monitor *m, u32 count) { return code_at(m, monitor_code_zaps) - ZAP_BYTES * (u64)count; }
u64 monitor_flush(const struct monitor *m) { return code_at(m, monitor_code_flush); }
u64 monitor_back(const struct monitor *m) { return code_at(m, monitor_code_back); }
u64 monitor_out(const struct monitor *m) { return code_at(m, monitor_code_out); }

static void write_gates(struct monitor *m)
{
    u64 *idt = (u64 *)monitor_memory(m, MONITOR_IDT);
    for (u64 vector = 0; vector < 256; vector++) {
        u64 target = monitor_page(m, MONITOR_CODE) + vector * GATE_BYTES, level = vector == 3 || vector == 4 ? 3 : 0;
        idt[2 * vector] = (target & 0xffff) | (u64)RING_0_CS << 16 | (0x8e | level << 5) << 40 | (target >> 16 & 0xffff) << 48;
        idt[2 * vector + 1] = target >> 32;
    }
}

static void write_task(struct monitor *m)
{
    u8 *tss = monitor_memory(m, MONITOR_TSS);
    u64 stack = monitor_page(m, MONITOR_STACK) + PAGE_SIZE;
    memcpy(tss + 4, &stack, sizeof stack);
    tss[0x66] = 0x68; /* no I/O bitmap */
}

static void write_entry(struct monitor *m)
{
    u8 *code = monitor_memory(m, MONITOR_ENTRY);
    u64 at = monitor_page(m, MONITOR_EXIT);
    memcpy(code, store_al, sizeof store_al);
    memcpy(code + sizeof store_al, &at, sizeof at);
}

static u64 *words(struct monitor *m, int page) { return (u64 *)monitor_memory(m, page); }
static u64 gpa_of(struct monitor *m, int page) { return m->gpa + (u64)page * PAGE_SIZE; }

/* The hole's entry ENTRY in both kinds of L4. */
static void set_hole(struct domain *d, u64 entry, u64 value)
{
    *word_at(d, (d->hole_entry & PTE_ADDRESS) + entry * 8) = value;
    *word_at(d, (d->user_hole_entry & PTE_ADDRESS) + entry * 8) = value;
}

static void map_monitor(struct monitor *m, struct domain *d)
{
    const u64 table = PTE_P | PTE_RW | PTE_A | PTE_D, rights[MONITOR_L1 + 1] = {
        [MONITOR_IDT] = PTE_NX,
        [MONITOR_TSS] = PTE_RW | PTE_NX,
        [MONITOR_STACK] = PTE_RW | PTE_NX,
        [MONITOR_LIST] = PTE_RW | PTE_NX,
        [MONITOR_ENTRY] = PTE_US,
        [MONITOR_EXIT] = PTE_US | PTE_RW | PTE_NX,
    };
    for (int page = 0; page <= MONITOR_EXIT; page++) {
        u64 target = page == MONITOR_EXIT ? m->gpa + m->size : gpa_of(m, page);
        words(m, MONITOR_L1)[page] = target | PTE_P | PTE_A | PTE_D | rights[page];
    }
    words(m, MONITOR_L2)[0] = gpa_of(m, MONITOR_L1) | table | PTE_US;
    set_hole(d, MONITOR_L3_ENTRY, gpa_of(m, MONITOR_L2) | table | PTE_US);
}

/* All of the domain's memory, in large pages: an L2 table for each GiB. */
static void map_linear(struct monitor *m, struct domain *d)
{
    u64 pages = (d->nr_frames + 511) / 512;
    for (u64 i = 0; i < pages; i++)
        words(m, MONITOR_PAGES)[i] = i << 21 | PTE_P | PTE_RW | PTE_A | PTE_D | PTE_PSE | PTE_NX;
    for (u64 i = 0; i < (pages + 511) / 512; i++)
        set_hole(d, MONITOR_L3_ENTRY + 1 + i, gpa_of(m, MONITOR_PAGES + (int)i) | PTE_P | PTE_RW | PTE_A | PTE_D);
}

int monitor_create(struct monitor *m, struct domain *d)
{
    u64 gib = (d->nr_frames + (1 << 18) - 1) >> 18, hole = 0xffffull << 48 | (u64)d->hole_slot << 39;
    if (MONITOR_L3_ENTRY + 1 + gib > 512)
        return -1;
    m->size = (MONITOR_PAGES + gib) * PAGE_SIZE;
    m->memory = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->memory == MAP_FAILED) {
        m->memory = NULL;
        return -1;
    }
    m->gpa = ((d->nr_frames << PAGE_SHIFT) + (1 << 21) - 1) & ~((1ull << 21) - 1);
    m->base = hole | (u64)MONITOR_L3_ENTRY << 30;
    m->linear = m->base + (1 << 30);
    memcpy(monitor_memory(m, MONITOR_CODE), monitor_code, (size_t)(monitor_code_end - monitor_code));
    write_gates(m);
    write_task(m);
    write_entry(m);
    map_monitor(m, d);
    map_linear(m, d);
    return 0;
}

void monitor_destroy(struct monitor *m)
{
    if (m->memory)
        munmap(m->memory, m->size);
    m->memory = NULL;
}
