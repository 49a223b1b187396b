/* From block to block of translated code, in place of what the engine does: a stop request is looked for by two instructions
 * of the block's own instead of a call, and the block that an indirect jump leads to is found in a cache that is eight times
 * as large as the engine's and hashes better.
 *
 * How the translator is told these two instructions is learnt from the build, while layout.c tries it: the operations that it
 * emits for code which we know. */
#include "engine.h"

#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void tcg_gen_callN_x86_64(void *tcg, void *helper, void *result, int count, void **arguments);
EXPORTED void tcg_gen_exit_tb_x86_64(void *tcg, void *block, unsigned kind);
EXPORTED void tcg_gen_op1_x86_64(void *tcg, int operation, uintptr_t argument);
EXPORTED void tcg_gen_op3_x86_64(void *tcg, int operation, uintptr_t a, uintptr_t b, uintptr_t c);
EXPORTED void *gen_new_label_x86_64(void *tcg);
EXPORTED void *helper_lookup_tb_ptr_x86_64(void *env);
EXPORTED void tlb_flush_by_mmuidx_x86_64(void *cpu, u16 indexes);
EXPORTED void tb_flush_x86_64(void *cpu);
EXPORTED void tb_flush_jmp_cache_x86_64(void *cpu, u64 address);

/* --- the check for a stop request */

#define STOP_REQUESTED 3 /* TB_EXIT_REQUESTED */
#define TYPE_I64 1
#define LESS_THAN 2

/* What was learnt. `env`: the temporary that holds the CPU state, from the translator's context on. */
static struct {
    int load, label; /* ld32s_i64 and set_label */
    uintptr_t env;
    s64 request;     /* icount_decr, from the CPU state on: negative when somebody wants the CPU to stop */
    int known;
} translator;

static __thread int learning;
static __thread void *new_label, *exit_label;

void learn_translator(int on) { learning = on; }

int translator_is_known(struct engine *e)
{
    translator.request = e->neg - e->env;
    translator.known = translator.load && translator.label && translator.env;
    return translator.known;
}

void *gen_new_label_x86_64(void *tcg) { return new_label = unicorn.new_label(tcg); }

void tcg_gen_op1_x86_64(void *tcg, int operation, uintptr_t argument)
{
    if (unlikely(learning) && new_label && argument == (uintptr_t)new_label)
        translator.label = operation;
    unicorn.op1(tcg, operation, argument);
}

/* The direction flag is loaded as a signed word: `movsb`. */
void tcg_gen_op3_x86_64(void *tcg, int operation, uintptr_t a, uintptr_t b, uintptr_t c)
{
    if (unlikely(learning) && c == ENV_DF) {
        translator.load = operation;
        translator.env = b - (uintptr_t)tcg;
    }
    unicorn.op3(tcg, operation, a, b, c);
}

/* At the beginning of a block, where no value of another kind is live. */
static void check_for_stop(void *tcg)
{
    void *count = unicorn.new_temporary(tcg, TYPE_I64, 0);
    unicorn.op3(tcg, translator.load, (uintptr_t)count, (uintptr_t)tcg + translator.env, (uintptr_t)translator.request);
    exit_label = unicorn.new_label(tcg);
    unicorn.branch(tcg, LESS_THAN, (uintptr_t)count - (uintptr_t)tcg, 0, exit_label);
    unicorn.free_temporary(tcg, count);
}

void tcg_gen_callN_x86_64(void *tcg, void *helper, void *result, int count, void **arguments)
{
    if (translator.known && helper == unicorn.check_request)
        check_for_stop(tcg);
    else
        unicorn.call_helper(tcg, helper, result, count, arguments);
}

/* The last operation of each block. */
void tcg_gen_exit_tb_x86_64(void *tcg, void *block, unsigned kind)
{
    if (kind == STOP_REQUESTED && exit_label) {
        *(u32 *)exit_label |= 1; /* present */
        unicorn.op1(tcg, translator.label, (uintptr_t)exit_label);
        exit_label = NULL;
    }
    unicorn.exit_block(tcg, block, kind);
}

/* --- the cache of blocks */

#define PAGES 512u
#define A_PAGE 64u
#define FLAGS_IN_KEY 0x73100ull /* AC, VM, RF, IOPL, TF */
#define BLOCK_INVALID 0x40000u

/* The beginning of TranslationBlock. */
struct block {
    u64 pc, cs_base;
    u32 flags;
    u16 size, count;
    u32 kind, trace;
    void *code;
};

struct cached_block {
    struct block *block;
    u32 low;        /* half of its pc: another's block is not looked at in vain */
    u32 generation; /* good while it is that of its half of the address space */
};

struct block_cache {
    u32 generation[2]; /* of applications, of kernels */
    struct cached_block blocks[PAGES * A_PAGE];
};

int block_cache_create(struct engine *e)
{
    e->cache = calloc(1, sizeof *e->cache);
    if (e->cache)
        e->cache->generation[0] = e->cache->generation[1] = 1;
    return e->cache != NULL;
}

void block_cache_destroy(struct engine *e)
{
    free(e->cache);
    e->cache = NULL;
}

static struct cached_block *page_of(struct block_cache *c, u64 pc)
{
    u64 page = pc >> PAGE_SHIFT;
    return c->blocks + ((page ^ page >> 9) & (PAGES - 1)) * A_PAGE;
}

static struct cached_block *entry_of(struct block_cache *c, u64 pc)
{
    return page_of(c, pc) + ((pc ^ pc >> 6) & (A_PAGE - 1));
}

static void forget(struct block_cache *c, int kernels)
{
    if (unlikely(!++c->generation[kernels])) {
        memset(c->blocks, 0, sizeof c->blocks);
        c->generation[kernels] = 1;
    }
}

static u32 flags_of(struct engine *e)
{
    return *env_u32(e, ENV_HFLAGS) | (u32)(*env_u64(e, ENV_EFLAGS) & FLAGS_IN_KEY);
}

static __attribute__((noinline)) void *find_block(struct engine *e, void *env)
{
    if (!e || segment_of(e, SEG_CS)->base)
        return unicorn.lookup_block(env);
    u64 pc = *env_u64(e, ENV_EIP);
    struct block *b = unicorn.find_block(e->cpu, pc, 0, flags_of(e), unicorn.block_kind);
    if (!b)
        return unicorn.lookup_block(env); /* what leaves translated code */
    *entry_of(e->cache, pc) = (struct cached_block){b, (u32)pc, e->cache->generation[pc >> 63]};
    return b->code;
}

void *helper_lookup_tb_ptr_x86_64(void *env)
{
    struct engine *e = engine_of_env(env);
    if (unlikely(!e))
        return find_block(e, env);
    u64 pc = *env_u64(e, ENV_EIP);
    const struct cached_block *c = entry_of(e->cache, pc);
    if (likely(c->low == (u32)pc && c->generation == e->cache->generation[pc >> 63])) {
        const struct block *b = c->block;
        if (likely(b->pc == pc && b->flags == flags_of(e) && !(b->kind & BLOCK_INVALID) && !segment_of(e, SEG_CS)->base))
            return b->code;
    }
    return find_block(e, env);
}

/* The mapping has changed, that of applications only if the platform says so. */
void tlb_flush_by_mmuidx_x86_64(void *cpu, u16 indexes)
{
    struct engine *e = engine_of_cpu(cpu);
    if (e) {
        forget(e->cache, 0);
        if (!e->same_kernel)
            forget(e->cache, 1);
    }
    unicorn.tlb_flush_indexes(cpu, indexes);
}

void tb_flush_x86_64(void *cpu)
{
    struct engine *e = engine_of_cpu(cpu);
    if (e) {
        forget(e->cache, 0);
        forget(e->cache, 1);
    }
    unicorn.tb_flush(cpu);
}

/* One page's mapping has: of a block that begins on the page before, the end may lie on it. */
void tb_flush_jmp_cache_x86_64(void *cpu, u64 address)
{
    struct engine *e = engine_of_cpu(cpu);
    if (e) {
        memset(page_of(e->cache, address), 0, A_PAGE * sizeof(struct cached_block));
        memset(page_of(e->cache, address - PAGE_SIZE), 0, A_PAGE * sizeof(struct cached_block));
    }
    unicorn.flush_jump_cache(cpu, address);
}

/* Does the cache see the engine's blocks as they are? The engine has just run the block at PC, which it finds by itself. */
int blocks_are_known(struct engine *e, u64 pc)
{
    u32 flags = flags_of(e);
    *env_u64(e, ENV_EIP) = pc;
    for (int unassigned = 0; unassigned < 2; unassigned++) {
        unicorn.block_kind = unassigned ? 0xff000000u : 0;
        const struct block *b = unicorn.find_block(e->cpu, pc, 0, flags, unicorn.block_kind);
        if (b)
            return b->pc == pc && !b->cs_base && b->flags == flags && b->kind == unicorn.block_kind &&
                   b->code == unicorn.lookup_block(e->env);
    }
    return 0;
}
