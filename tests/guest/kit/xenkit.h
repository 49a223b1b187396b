/*
 * The probe kit: what a tiny PV kernel needs to ask the hypervisor one question at a time.
 *
 * A probe is a list of tests (PROBE); each declares how many checks it makes. The plan (1..N) is printed first and every check
 * prints one line, "ok NAME" or "FAIL NAME got .. want ..", so that neither silence nor a lost line passes.
 */
#pragma once
#include "xen.h"

/* ---- hypercalls ---- */
s64 hypercall(u64 nr, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
#define HC(nr, a, b, c, d) hypercall((nr), (u64)(a), (u64)(b), (u64)(c), (u64)(d), 0, 0)
#define hc_mmu_update(req, count, done, dom) HC(NR_mmu_update, req, count, done, dom)
#define hc_mmuext(op, count, done, dom) HC(NR_mmuext_op, op, count, done, dom)
#define hc_va_map(va, val, flags) HC(NR_update_va_mapping, va, val, flags, 0)
#define hc_event(cmd, arg) HC(NR_event_channel_op, cmd, arg, 0, 0)
#define hc_sched(cmd, arg) HC(NR_sched_op, cmd, arg, 0, 0)
#define hc_vcpu(cmd, vcpu, arg) HC(NR_vcpu_op, cmd, vcpu, arg, 0)
#define hc_memory(cmd, arg) HC(NR_memory_op, cmd, arg, 0, 0)
#define hc_callback(cmd, arg) HC(NR_callback_op, cmd, arg, 0, 0)
#define hc_version(cmd, arg) HC(NR_xen_version, cmd, arg, 0, 0)

/* ---- output and verdicts ---- */
void console(const char *text, u64 length);
void printk(const char *format, ...) __attribute__((format(printf, 1, 2))); /* %s %d %u %x %lx %ld; a line at a time */
void check(const char *name, int passed);
void check_eq(const char *name, u64 got, u64 want);
void skip(const char *name, const char *reason);
#define CHECK(name, cond) check(name, !!(cond))
#define CHECK_EQ(name, got, want) check_eq(name, (u64)(got), (u64)(want))
/* What only an unprivileged domain, or only Xenion, is asked: the oracle's domain 0 is answered otherwise (reason beside it). */
#define CHECK_EQ_UNPRIVILEGED(name, got, want, reason) \
    do { if (oracle) skip(name, reason); else CHECK_EQ(name, got, want); } while (0)
void shutdown(u32 reason) __attribute__((noreturn));

struct test {
    const char *name;
    void (*run)(void);
    u32 checks;
};
#define TEST(fn, checks) { #fn, fn, checks }
#define PROBE(...) const struct test probe_tests[] = { __VA_ARGS__, { 0, 0, 0 } }
extern const struct test probe_tests[];

extern struct start_info *start_info;
extern struct shared_info *shared_info; /* mapped before the first test */
extern u64 boot_rsp, boot_rsi, boot_rflags;
extern int oracle; /* the word "oracle" is on the command line: a real Xen's domain 0 */
extern struct vcpu_info *vcpu_info; /* vcpu 0's: in shared_info until a probe registers another place */
#define VCPU0 vcpu_info

/* ---- traps ---- */
struct cpu { /* the order is known to start.S */
    u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15;
    u64 rip, cs, rflags, ss;
};
enum { VECTOR_EVENT = 256, VECTOR_FAILSAFE, VECTOR_SYSCALL, VECTOR_SYSCALL32, VECTOR_SYSENTER, VECTOR_NMI, VECTOR_NONE = 999 };
struct trap {
    u32 vector;
    u64 error;
    u64 cs_raw;      /* the whole word of the frame: cs | saved mask << 32 */
    u32 saved_mask;  /* bits 32..39 of it */
    u64 frame;       /* address of the frame's lowest word (rcx) */
    u64 cr2;         /* vcpu_info.arch.cr2 on entry */
    u8 upcall_mask;  /* vcpu_info.evtchn_upcall_mask on entry */
    u64 data_sel[4]; /* failsafe only: ds es fs gs */
    struct cpu cpu;  /* rcx and r11 as the frame has them */
};
extern struct trap traps[32]; /* the first 32 since trap_reset() */
extern u32 trap_count;
extern u64 trap_resume; /* where the next kernel trap continues; 0: it is unexpected */
/* Called first for every trap but events; returns 1 after changing *cpu to where execution goes on. */
extern int (*trap_hook)(struct trap *trap, struct cpu *cpu);
extern u8 trap_stubs[];
#define STUB(vector) ((u64)trap_stubs + 16ul * (vector))
void traps_init(void);
void trap_reset(void);
void trap_set(u8 vector, u8 flags, u64 address); /* one entry of the trap table */
void resume(const struct cpu *cpu, u64 flags) __attribute__((noreturn));

/* Run code; the first trap in it is recorded and execution goes on behind it. */
#define TRY(code, ...)                                          \
    do {                                                        \
        trap_reset();                                           \
        asm volatile("movq $1f, trap_resume\n\t" code           \
                     "\n1:\n\tmovq $0, trap_resume" __VA_ARGS__); \
    } while (0)
u32 trap_vector(void); /* of the first trap since trap_reset(), or VECTOR_NONE */
u64 trap_error(void);
#define RIP_OF(label) ({ extern u8 label[]; (u64)label; })

/* ---- events ---- */
extern volatile u32 upcalls;           /* how often the event callback ran since events_reset() */
extern volatile u32 event_count[4096]; /* a port's deliveries */
extern volatile int events_leave;      /* 1: the callback leaves pending bits alone */
void events_reset(void);
void events_enable(void);  /* upcall mask off, without asking for what is pending already */
void events_disable(void);
s64 bind_virq(u32 virq, u32 vcpu); /* the port, or the error */
s64 bind_ipi(u32 vcpu);
s64 evtchn_close(u32 port);
s64 evtchn_send(u32 port);
u16 own_domid(void); /* what an unbound channel to DOMID_SELF names as its other end */
void mask_port(u32 port);
void unmask_port(u32 port); /* the bit only; no hypercall */
int port_pending(u32 port);
void clear_port(u32 port);
u64 now_ns(void); /* pvclock of vcpu 0 */
/* Spin (with a hypercall a round) until *word is not 0, at most ns nanoseconds; whether it is. */
int wait_for(const volatile u32 *word, u64 ns);

/* ---- pages ---- */
extern const volatile u64 *m2p_table;  /* where Xen says that it is */
#define M2P m2p_table
#define VIRT_BASE 0xffffffff80000000ul
u64 pfn_of(const volatile void *va);
u64 mfn_of(const volatile void *va);
void *va_of_mfn(u64 mfn);              /* within the boot mapping */
void *page_alloc(void);                /* zeroed, writable, mapped by a level-1 entry of its own */
volatile u64 *pte_of(u64 *l4, const volatile void *va, int level); /* level 1..4; NULL where a table is missing */
u64 pte_ma(volatile u64 *pte);         /* the machine address of an entry in a boot-mapped table */
s64 pte_write(volatile u64 *pte, u64 value);
s64 map_page(const volatile void *va, u64 value); /* update_va_mapping with INVLPG */
s64 make_ro(const volatile void *va);
s64 make_rw(const volatile void *va);
s64 mmuext(u32 cmd, u64 arg1, u64 arg2);
u64 *kernel_l4(void);
void *table_alloc(void); /* page_alloc, then read-only, fit to become a page table */

/* ---- user mode ---- */
#define USER_CODE 0x400000ul
#define USER_DATA 0x500000ul
#define USER_STACK_TOP 0x501000ul
extern u64 *user_l4;     /* a second L4 that shows the pages of user space and not the kernel */
extern u8 *user_data;    /* the kernel's view of USER_DATA */
void user_init(void);    /* builds it and hands it to NEW_USER_BASEPTR */
void user_map(u64 va, const void *page, u64 flags);
/* Enter user mode at a function of section .user; back at its first trap or syscall, which is returned. */
struct trap *user_run(void (*code)(void), u64 rax);
struct trap *user_run_cpu(struct cpu *cpu, u64 iret_flags);
u64 user_address(void (*code)(void));
#define USER_FN(name, body) \
    extern void name(void); \
    asm(".pushsection .user,\"ax\"\n.globl " #name "\n" #name ":\n" body "\nhlt\n.popsection")

struct jump {
    u64 word[8];
};
int jump_save(struct jump *jump) __attribute__((returns_twice));
void jump_to(struct jump *jump) __attribute__((noreturn));
extern struct jump test_abort;

void *memset(void *to, int byte, u64 count);
void *memcpy(void *to, const void *from, u64 count);
int memcmp(const void *a, const void *b, u64 count);
u64 strlen(const char *text);
int contains(const char *text, const char *word);
