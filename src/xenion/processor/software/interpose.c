/* Functions that the engine calls through its own PLT and that we answer instead.
 *
 * Translated code and stores. The engine forgets to watch a code page that is written through another mapping of it
 * (it marks clean what it should watch). The three functions below restore the rule of the emulator it comes from: a page
 * that holds translated code is watched in every mapping; only a page that holds none may be written unwatched.
 *
 * Ports. The engine lets every mode use `in` and `out`; a guest's port accesses fault, as they do in Xen's rings.
 *
 * Random numbers. The engine's `rdrand` is a pseudo-random generator that can be predicted; ours is the host's. */
#include "engine.h"

#include <sys/random.h>

struct engine *engines;
static pthread_mutex_t engines_lock = PTHREAD_MUTEX_INITIALIZER;

void engine_register(struct engine *e)
{
    pthread_mutex_lock(&engines_lock);
    e->next = engines;
    store(&engines, e);
    pthread_mutex_unlock(&engines_lock);
}

void engine_unregister(struct engine *e)
{
    pthread_mutex_lock(&engines_lock);
    for (struct engine **at = &engines; *at; at = &(*at)->next)
        if (*at == e) {
            *at = e->next;
            break;
        }
    pthread_mutex_unlock(&engines_lock);
}

struct engine *engine_of_uc(void *uc)
{
    struct engine *e = load(&engines);
    while (e && e->uc != uc)
        e = e->next;
    return e;
}

struct engine *engine_of_cpu(void *cpu)
{
    struct engine *e = load(&engines);
    while (e && e->cpu != cpu)
        e = e->next;
    return e;
}

static int has_code(struct engine *e, u64 frame)
{
    return frame < e->frames && (e->code_pages[frame >> 3] >> (frame & 7)) & 1;
}

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void tlb_protect_code_x86_64(void *uc, u64 ram);
EXPORTED void tlb_unprotect_code_x86_64(void *uc, u64 ram);
EXPORTED void tlb_set_dirty_x86_64(void *cpu, u64 address);
EXPORTED void tlb_reset_dirty_by_vaddr_x86_64(void *cpu, u64 start, u64 size);
EXPORTED void tb_invalidate_phys_page_fast_x86_64(void *uc, void *pages, u64 ram, int size, uintptr_t retaddr);

/* A page has got its first translated code: watch it through every mapping that the TLB holds. Dom0 may have written the page
 * after it was read for this and before it could know that there is code: then the vCPU looks before it runs any of it. */
void tlb_protect_code_x86_64(void *uc, u64 ram)
{
    struct engine *e = engine_of_uc(uc);
    u64 frame = ram >> PAGE_SHIFT;
    if (!e || frame >= e->frames)
        return;
    fetch_or(&e->code_pages[frame >> 3], (u8)(1u << (frame & 7)));
    if (unlikely(frame_set_has(&e->domain->written, frame))) {
        store(&e->domain->written.any, 1);
        kick(e);
    }
    unicorn.tlb_reset_dirty(e->cpu, (u64)(uintptr_t)e->domain->memory + (frame << PAGE_SHIFT), PAGE_SIZE);
}

void tlb_unprotect_code_x86_64(void *uc, u64 ram)
{
    struct engine *e = engine_of_uc(uc);
    u64 frame = ram >> PAGE_SHIFT;
    if (e && frame < e->frames)
        e->code_pages[frame >> 3] &= (u8)~(1u << (frame & 7));
}

void tb_invalidate_phys_page_fast_x86_64(void *uc, void *pages, u64 ram, int size, uintptr_t retaddr)
{
    struct engine *e = engine_of_uc(uc);
    if (e) {
        e->last_written = ram >> PAGE_SHIFT;
        if (!has_code(e, e->last_written))
            return;
    }
    unicorn.tb_invalidate_page_fast(uc, pages, ram, size, retaddr);
}

/* Called right after the function above for the same store: stop watching this mapping? */
void tlb_set_dirty_x86_64(void *cpu, u64 address)
{
    struct engine *e = engine_of_cpu(cpu);
    if (!e || !has_code(e, e->last_written))
        unicorn.tlb_set_dirty(cpu, address);
}

/* The engine's own attempt, by virtual address and once a block; tlb_protect_code does all that is needed. */
void tlb_reset_dirty_by_vaddr_x86_64(void *cpu, u64 start, u64 size)
{
    (void)cpu, (void)start, (void)size;
}

#define FAULTING_IN(name)                                                                          \
    EXPORTED u64 name(void *env, u32 port);                                                        \
    u64 name(void *env, u32 port)                                                                  \
    {                                                                                              \
        (void)port;                                                                                \
        unicorn.raise_error(env, 13, 0, (uintptr_t)__builtin_return_address(0));                   \
        return 0;                                                                                  \
    }
#define FAULTING_OUT(name)                                                                         \
    EXPORTED void name(void *env, u32 port, u32 data);                                             \
    void name(void *env, u32 port, u32 data)                                                       \
    {                                                                                              \
        (void)port, (void)data;                                                                    \
        unicorn.raise_error(env, 13, 0, (uintptr_t)__builtin_return_address(0));                   \
    }

FAULTING_IN(helper_inb_x86_64)
FAULTING_IN(helper_inw_x86_64)
FAULTING_IN(helper_inl_x86_64)
FAULTING_OUT(helper_outb_x86_64)
FAULTING_OUT(helper_outw_x86_64)
FAULTING_OUT(helper_outl_x86_64)

EXPORTED u64 x86_ldq_phys_x86_64(void *cpu, u64 address);

/* Page walks: all of the machine is one mapping, so there is nothing to look up. */
u64 x86_ldq_phys_x86_64(void *cpu, u64 address)
{
    struct engine *e = engine_of_cpu(cpu);
    if (unlikely(!e || address > (e->frames << PAGE_SHIFT) - sizeof(u64)))
        return unicorn.ldq_phys(cpu, address);
    return load(word_at(e->domain, address));
}

EXPORTED void helper_load_seg_x86_64(void *env, int segment, int selector);

/* A null stack selector faults in ring 3, which is what the guest's kernel thinks it is in. The original looks at its return
 * address to find the guest's instruction: it must be a tail call. */
void helper_load_seg_x86_64(void *env, int segment, int selector)
{
    if (segment == SEG_SS && !(selector & 0xfffc))
        unicorn.raise_error(env, 13, 0, (uintptr_t)__builtin_return_address(0));
    unicorn.load_segment(env, segment, selector);
}

EXPORTED void helper_sysenter_x86_64(void *env);

/* No system call entry is set up for it: it faults. */
void helper_sysenter_x86_64(void *env)
{
    unicorn.raise_error(env, 13, 0, (uintptr_t)__builtin_return_address(0));
}

EXPORTED void helper_pause_x86_64(void *env, int size);

/* Who spins waits for another vCPU, which has to have its turn first. The original leaves translated code. */
void helper_pause_x86_64(void *env, int size)
{
    struct engine *e = engine_of_env(env);
    if (e && others_wait(e)) {
        fetch_or(&e->domain->give_way, GIVE_WAY_OVER);
        kick(e);
    }
    unicorn.pause(env, size);
}

EXPORTED u64 helper_rdrand_x86_64(void *env);

/* The carry flag, which is all that `cc_src` holds after this helper, says whether the number is good. */
u64 helper_rdrand_x86_64(void *env)
{
    u64 value = 0;
    u64 good = getrandom(&value, sizeof value, GRND_NONBLOCK) == sizeof value;
    *(u64 *)((u8 *)env + ENV_CC_SRC) = good;
    return good ? value : 0;
}

EXPORTED void helper_rechecking_single_step_x86_64(void *env);

/* After `syscall` the engine would single-step at once when the hypercall's iret has set TF; the step comes after the next
 * instruction. */
void helper_rechecking_single_step_x86_64(void *env) { (void)env; }
