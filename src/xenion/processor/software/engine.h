/* The software processor: Unicorn driven through its hooks, one instance a domain. */
#ifndef XENION_ENGINE_H
#define XENION_ENGINE_H

#include "../common/timer.h"

#include "unicorn_abi.h"

#include "../common/common_api.h"
#include "software_api.h"

/* The library, opened once a process. */
struct unicorn {
    void *handle;
    int (*open)(int arch, int mode, void **uc);
    int (*close)(void *uc);
    int (*ctl)(void *uc, u32 control, ...);
    int (*mem_map_ptr)(void *uc, u64 address, u64 size, u32 perms, void *memory);
    int (*hook_add)(void *uc, size_t *hook, int type, void *callback, void *user, u64 begin, u64 end, ...);
    int (*emu_start)(void *uc, u64 begin, u64 until, u64 timeout, size_t count);
    int (*emu_stop)(void *uc);
    int (*reg_read)(void *uc, int reg, void *value);
    int (*reg_write)(void *uc, int reg, const void *value);
    const char *(*strerror)(int error);
    /* exported internals */
    void (*tlb_flush)(void *cpu);
    void (*tlb_flush_page)(void *cpu, u64 address);
    void (*tlb_reset_dirty)(void *cpu, u64 host, u64 size);
    void (*tlb_set_dirty)(void *cpu, u64 address);
    void (*tb_invalidate_page_fast)(void *uc, void *pages, u64 ram, int size, uintptr_t retaddr);
    void (*tb_invalidate_range)(void *uc, u64 start, u64 end);
    void (*raise_error)(void *env, int vector, int error, uintptr_t retaddr);
    u64 (*ldq_phys)(void *cpu, u64 address);
    void (*load_segment)(void *env, int segment, int selector);
    void (*pause)(void *env, int size);
    const u8 *check_exit_request;
    /* of blocks.c */
    void (*check_request)(void *uc, u32 delayed);
    void *(*new_label)(void *tcg);
    void *(*new_temporary)(void *tcg, int type, int local);
    void (*free_temporary)(void *tcg, void *temporary);
    void (*op1)(void *tcg, int operation, uintptr_t argument);
    void (*op3)(void *tcg, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
    void (*branch)(void *tcg, int condition, uintptr_t value, s64 constant, void *label);
    void (*call_helper)(void *tcg, void *helper, void *result, int count, void **arguments);
    void (*exit_block)(void *tcg, void *block, unsigned kind);
    void *(*lookup_block)(void *env);
    void *(*find_block)(void *cpu, u64 pc, u64 cs_base, u32 flags, u32 kind);
    void (*tlb_flush_indexes)(void *cpu, u16 indexes);
    void (*tb_flush)(void *cpu);
    void (*flush_jump_cache)(void *cpu, u64 address);
    u32 block_kind;        /* the flags of every block that we look for */
};

struct engine {
    struct domain *domain;
    struct vcpu *vcpu;     /* whose registers are in the engine */
    struct turns *turns;   /* NULL: there is no other */
    void *uc, *cpu;
    u8 *env, *neg;
    u8 *code_pages;        /* a bit a frame: translated code lies there */
    u64 frames;
    u64 last_written;      /* frame of the store that the engine is looking at */
    struct block_cache *cache;
    int same_kernel;       /* while the TLB is flushed for a table that maps the kernel as the one before did */
    struct engine *next;   /* all engines of the process, newest first */

    pthread_t thread;      /* that runs the vCPU */
    struct timer timer;
    int notify_fd;

    const struct cpuid_leaf *cpuid;
    u32 cpuid_count;
    struct processor_callbacks callbacks;
    struct platform platform;
    u64 until;
};

extern struct unicorn unicorn;

extern struct engine *engines; /* all that have started; each has its cache */
struct engine *engine_of_uc(void *uc);
struct engine *engine_of_cpu(void *cpu);
static inline struct engine *engine_of_env(void *env)
{
    struct engine *e = load(&engines);
    while (e && e->env != env)
        e = e->next;
    return e;
}
void engine_register(struct engine *e);
void engine_unregister(struct engine *e);

int locate(struct engine *e);                     /* layout.c: finds cpu, env; NULL members on failure */
void learn_translator(int on);                    /* blocks.c */
int translator_is_known(struct engine *e);
int block_cache_create(struct engine *e);
void block_cache_destroy(struct engine *e);
int blocks_are_known(struct engine *e, u64 pc);
void fill_platform(struct engine *e);             /* platform.c */
void start_state(struct engine *e);
void give_way(struct engine *e, u32 why);
void change_tables(struct engine *e, struct vcpu *from, struct vcpu *to);
void settle_flags(struct vcpu *v);
int turns_create(struct engine *e);               /* turns.c */
void turns_destroy(struct engine *e);
void turns_begin(struct engine *e);
void take_turns(struct engine *e);
void turn_ends(struct vcpu *v);
int others_wait(struct engine *e);
u8 *env_of(struct engine *e, u32 id);
void load_registers(struct vcpu *v);
int add_hooks(struct engine *e);                  /* hooks.c */
struct vcpu *arrive_from(struct engine *e);
void leave_to(struct engine *e, u64 skip);
void kick(struct engine *e);

static inline u64 *env_u64(struct engine *e, int offset) { return (u64 *)(e->env + offset); }
static inline u32 *env_u32(struct engine *e, int offset) { return (u32 *)(e->env + offset); }

struct segment { /* SegmentCache */
    u32 selector, pad;
    u64 base;
    u32 limit, flags;
};

static inline struct segment *segment_of(struct engine *e, int n)
{
    return (struct segment *)(e->env + ENV_SEGMENTS) + n;
}

#define HF_CPL 0x3u
#define HF_CS32 0x10u
#define HF_SS32 0x20u
#define HF_ADDSEG 0x40u
#define HF_PE 0x80u
#define HF_TS 0x800u
#define HF_LMA 0x4000u
#define HF_CS64 0x8000u
#define HF_OSFXSR 0x400000u

#endif
