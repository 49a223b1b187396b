/* What of ours is in the virtual machine: IDT, TSS, a stack, and code that leaves it at once. It lies behind the domain's
 * memory and is mapped for ring 0 alone in the hole of every L4, but for the page with the way in of `syscall`. */
#ifndef XENION_MONITOR_H
#define XENION_MONITOR_H

#include "../../core/src/core.h"

/* Pages of the monitor. */
enum { MONITOR_IDT, MONITOR_CODE, MONITOR_TSS, MONITOR_STACK, MONITOR_LIST, MONITOR_ENTRY, MONITOR_L1, MONITOR_L2, MONITOR_PAGES };
#define MONITOR_EXIT MONITOR_L1 /* in the address space: a page without memory, whose writes leave the virtual machine */

#define MONITOR_L3_ENTRY 384 /* of the hole; all of the domain's memory is mapped from the next one on */
#define RING_0_CS 0xe008
#define RING_0_SS 0xe010

/* Ports at which the monitor leaves: a byte for an exception, whose vector is the port; four bytes for the rest. */
enum { PORT_SYSCALL32, PORT_ERRAND };

struct monitor {
    u8 *memory;
    size_t size;
    u64 gpa;               /* of its first page; MONITOR_EXIT lies behind its last */
    u64 base;              /* virtual address of its first page */
    u64 linear;            /* virtual address of machine address 0 */
};

int monitor_create(struct monitor *m, struct domain *d); /* 0, or -1: no memory */
void monitor_destroy(struct monitor *m);
static inline u64 monitor_page(const struct monitor *m, int page) { return m->base + (u64)page * PAGE_SIZE; }
static inline u8 *monitor_memory(const struct monitor *m, int page) { return m->memory + (u64)page * PAGE_SIZE; }
u64 monitor_syscall_entry(const struct monitor *m);   /* LSTAR */
u64 monitor_syscall_end(const struct monitor *m);     /* behind its only instruction */
u64 monitor_syscall32_entry(const struct monitor *m); /* CSTAR */
u64 monitor_writes(const struct monitor *m, u32 count); /* code that stores COUNT words: address and value, from RSP on */
u64 monitor_zaps(const struct monitor *m, u32 count);   /* that touches COUNT addresses, from RSP on, as no word is stored */
u64 monitor_flush(const struct monitor *m);             /* that reloads CR3 */
u64 monitor_back(const struct monitor *m);              /* that goes to the guest: RDI and the frame of iretq, from RSP on */
u64 monitor_out(const struct monitor *m);               /* that leaves */

#define ERRANDS_MOST 128
/* Page-table entries and whole tables that the guest itself must be seen to write (FOLLOWS_WRITES). */
struct errands {
    u32 writes, zaps;
    u32 run;                 /* how many of the last writes are into one table */
    u64 write[ERRANDS_MOST]; /* machine addresses */
    u64 zap[ERRANDS_MOST];
};

#endif
