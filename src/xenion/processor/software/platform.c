/* The software processor as the core's platform: registers, TLB, waking. */
#define _GNU_SOURCE
#include "engine.h"

#include "../../core/src/api.h"

#include <stdlib.h>
#include <string.h>
#include <x86intrin.h>

#define ARITHMETIC_FLAGS 0x8d5ull

static struct engine *engine_of(struct vcpu *v) { return v->platform; }

/* Of CPU state in which they are not lazy. */
static u64 settled_flags(const u8 *env)
{
    return (*(u64 *)(env + ENV_EFLAGS) & ~(ARITHMETIC_FLAGS | FLAG_DF)) | (*(u64 *)(env + ENV_CC_SRC) & ARITHMETIC_FLAGS) |
           (*(s32 *)(env + ENV_DF) < 0 ? FLAG_DF : 0) | 2;
}

static u64 get_flags(struct vcpu *v)
{
    struct engine *e = engine_of(v);
    u64 value = 0;
    if (*env_u32(e, ENV_CC_OP) == CC_OP_EFLAGS)
        return settled_flags(e->env);
    unicorn.reg_read(e->uc, UC_X86_REG_RFLAGS, &value);
    return value | 2;
}

static void set_flags(struct vcpu *v, u64 flags)
{
    struct engine *e = engine_of(v);
    *env_u64(e, ENV_CC_SRC) = flags & ARITHMETIC_FLAGS;
    *env_u32(e, ENV_CC_OP) = CC_OP_EFLAGS;
    *env_u32(e, ENV_DF) = flags & FLAG_DF ? ~0u : 1;
    *env_u64(e, ENV_EFLAGS) = (flags & ~(ARITHMETIC_FLAGS | FLAG_DF | FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2;
}

void settle_flags(struct vcpu *v) { set_flags(v, get_flags(v)); }

static void clear_flags(struct vcpu *v, u64 mask) { *env_u64(engine_of(v), ENV_EFLAGS) &= ~mask; }

static int base_segment(int segbase) { return segbase == SEGBASE_FS ? SEG_FS : SEG_GS; }

static u64 get_base(struct vcpu *v, int segbase) { return segment_of(engine_of(v), base_segment(segbase))->base; }

static void set_base(struct vcpu *v, int segbase, u64 base)
{
    segment_of(engine_of(v), base_segment(segbase))->base = base;
}

static void flush_tlb(struct engine *e)
{
    fetch_add(&e->domain->tlb_clock, 1);
    unicorn.tlb_flush(e->cpu);
}

/* Do both tables map the same code in the kernel half, as they did when the first was loaded? */
static int same_kernel(struct vcpu *v, u64 cr3)
{
    const size_t first = L4_XEN_LAST + 1;
    return !swap(&v->domain->code_unmapped, 0) && v->loaded_cr3 &&
           !memcmp(word_at(v->domain, v->loaded_cr3) + first, word_at(v->domain, cr3) + first, (512 - first) * sizeof(u64));
}

static void flush_for(struct engine *e, struct vcpu *v, u64 cr3)
{
    e->same_kernel = same_kernel(v, cr3);
    flush_tlb(e);
    e->same_kernel = 0;
}

static void load_cr3(struct vcpu *v, u64 cr3)
{
    struct engine *e = engine_of(v);
    flush_for(e, v, cr3);
    env_u64(e, ENV_CR)[3] = cr3;
    v->loaded_cr3 = cr3;
}

/* What the engine remembers is of the tables of the vCPU whose turn it was. */
void change_tables(struct engine *e, struct vcpu *from, struct vcpu *to)
{
    if (from->loaded_cr3 != to->loaded_cr3)
        flush_for(e, from, to->loaded_cr3);
}

static void flush_page(struct vcpu *v, u64 address) { unicorn.tlb_flush_page(engine_of(v)->cpu, address & ~(PAGE_SIZE - 1)); }

static void flush_all(struct domain *d) { flush_tlb(engine_of(&d->vcpus[0])); }

static void mode_changed(struct vcpu *v)
{
    u32 *hflags = env_u32(engine_of(v), ENV_HFLAGS);
    *hflags = (*hflags & ~HF_CPL) | (v->kernel_mode ? 1 : 3);
}

#define DESC_P (1u << 15)
#define DESC_L (1u << 21)
#define DESC_B (1u << 22)
#define DESC_G (1u << 23)

static void cache_segment(struct segment *s, u16 selector, u64 descriptor)
{
    u32 low = (u32)descriptor, high = (u32)(descriptor >> 32), limit = (low & 0xffff) | (high & 0xf0000);
    s->selector = selector;
    s->base = (low >> 16) | ((high & 0xff) << 16) | (high & 0xff000000);
    s->limit = high & DESC_G ? (limit << 12) | 0xfff : limit;
    s->flags = high;
}

/* The parts of the translator's flags that follow from CS and SS. */
static void update_hflags(struct engine *e)
{
    u32 cs = segment_of(e, SEG_CS)->flags, *hflags = env_u32(e, ENV_HFLAGS);
    u32 value = *hflags & ~(HF_CS32 | HF_SS32 | HF_CS64 | HF_ADDSEG);
    if (cs & DESC_L)
        value |= HF_CS64 | HF_CS32 | HF_SS32;
    else
        value |= (cs & DESC_B ? HF_CS32 : 0) | (segment_of(e, SEG_SS)->flags & DESC_B ? HF_SS32 : 0) |
                 (!(cs & DESC_B) || segment_of(e, SEG_DS)->base | segment_of(e, SEG_ES)->base | segment_of(e, SEG_SS)->base
                      ? HF_ADDSEG
                      : 0);
    *hflags = value;
}

static int load_selector(struct vcpu *v, int segment, u16 selector)
{
    struct engine *e = engine_of(v);
    struct segment *s = segment_of(e, segment);
    int okay = 1;
    u64 descriptor = 0;
    if (selector > 3 || segment == SEG_CS) {
        descriptor = read_descriptor(v, selector, &okay);
        if (!okay || !may_load(segment, descriptor))
            return -1;
    } else if (segment == SEG_SS) {
        return -1; /* no null stack in ring 3 */
    }
    cache_segment(s, selector, descriptor);
    if (segment == SEG_CS || segment == SEG_SS)
        update_hflags(e);
    return 0;
}

static void load_ldt(struct vcpu *v)
{
    struct segment *ldt = (struct segment *)(engine_of(v)->env + ENV_LDT);
    ldt->selector = 0;
    ldt->base = ldt_window_of(v);
    ldt->limit = v->ldt_entries ? v->ldt_entries * 8 - 1 : 0;
    ldt->flags = DESC_P | 0x200;
}

static u64 tsc(void) { return __rdtsc(); }

u64 engine_tsc(void) { return tsc(); }

/* Makes the engine leave translated code: a pending hardware interrupt that cannot be delivered, since the IDT has no limit,
 * arrives in the interrupt hook as #GP with error code 2. It stays pending until it is taken, so none is lost. */
void kick(struct engine *e)
{
    fetch_or((u32 *)((u8 *)e->cpu + CPU_INTERRUPT_REQUEST), 2u);
    store((u16 *)(e->neg + 2), (u16)0xffff);
}

/* Any thread but the vCPU's: has it look for work. */
void give_way(struct engine *e, u32 why)
{
    if (e->turns)
        fetch_or(&e->domain->give_way, why);
    end_wait(load(&e->vcpu));
    kick(e);
}

static void wake(struct vcpu *v)
{
    struct engine *e = engine_of(v);
    if (!pthread_equal(pthread_self(), e->thread))
        give_way(e, GIVE_WAY_WOKEN);
    else if (v != e->vcpu)
        fetch_or(&e->domain->give_way, GIVE_WAY_WOKEN); /* the other one looks for work before it goes on */
}

static void arm_timer(struct vcpu *v) { timer_arm(&engine_of(v)->timer, v); }

static void notify_dom0(struct domain *d) { write_eventfd(engine_of(&d->vcpus[0])->notify_fd); }

static void code_written(struct domain *d, u64 ma, u64 size)
{
    struct engine *e = engine_of(&d->vcpus[0]);
    for (u64 frame = ma >> PAGE_SHIFT; frame <= (ma + size - 1) >> PAGE_SHIFT; frame++)
        if (frame < e->frames && (e->code_pages[frame >> 3] >> (frame & 7)) & 1) {
            u64 from = frame << PAGE_SHIFT, to = from + PAGE_SIZE;
            unicorn.tb_invalidate_range(e->uc, ma > from ? ma : from, ma + size < to ? ma + size : to);
        }
}

static int has_code(struct domain *d, u64 mfn)
{
    struct engine *e = engine_of(&d->vcpus[0]);
    return mfn < e->frames && load(&e->code_pages[mfn >> 3]) >> (mfn & 7) & 1;
}

static void frame_freed(struct domain *d, u64 mfn)
{
    code_written(d, mfn << PAGE_SHIFT, PAGE_SIZE);
    flush_all(d);
    forget_frame(d, mfn);
}

/* The engine walks the tables themselves, and the core flushes. */
static void table_begins(struct domain *d, u64 mfn) { (void)d, (void)mfn; }

static void entry_changed(struct domain *d, u64 ma, u64 old, u64 value) { (void)d, (void)ma, (void)old, (void)value; }

static void set_task_switched(struct vcpu *v)
{
    struct engine *e = engine_of(v);
    u64 *cr0 = env_u64(e, ENV_CR);
    u32 *hflags = env_u32(e, ENV_HFLAGS);
    *cr0 = v->task_switched ? *cr0 | 8 : *cr0 & ~8ull;
    *hflags = v->task_switched ? *hflags | HF_TS : *hflags & ~HF_TS;
}

void fill_platform(struct engine *e)
{
    e->platform = (struct platform){
        .get_flags = get_flags,
        .set_flags = set_flags,
        .clear_flags = clear_flags,
        .get_base = get_base,
        .set_base = set_base,
        .load_cr3 = load_cr3,
        .flush_page = flush_page,
        .flush_all = flush_all,
        .load_selector = load_selector,
        .mode_changed = mode_changed,
        .load_ldt = load_ldt,
        .tsc = tsc,
        .arm_timer = arm_timer,
        .wait = wait_for_work,
        .wake = wake,
        .notify_dom0 = notify_dom0,
        .code_written = code_written,
        .has_code = has_code,
        .frame_freed = frame_freed,
        .table_begins = table_begins,
        .entry_changed = entry_changed,
        .set_task_switched = set_task_switched,
        .load_registers = load_registers,
        .cold_call = e->callbacks.cold_call,
        .cold_trap = e->callbacks.cold_trap,
    };
}

static struct engine *fail(struct engine *e)
{
    if (e->uc)
        unicorn.close(e->uc);
    block_cache_destroy(e);
    turns_destroy(e);
    free(e->code_pages);
    free(e);
    return NULL;
}

struct engine *engine_create(struct domain *d, int notify_fd, u32 buffer_mib)
{
    struct engine *e = calloc(1, sizeof *e);
    if (!e)
        return NULL;
    e->domain = d;
    e->vcpu = &d->vcpus[0];
    e->frames = d->nr_frames;
    e->notify_fd = notify_fd;
    e->until = HYPERVISOR_VIRT_END - 1; /* no code is ever there */
    e->code_pages = calloc(1, (size_t)(d->nr_frames + 7) / 8);
    if (!e->code_pages || !block_cache_create(e) || !turns_create(e) || unicorn.open(UC_ARCH_X86, UC_MODE_64, &e->uc))
        return fail(e);
    unicorn.ctl(e->uc, UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1u), UC_CPU_X86_SKYLAKE_SERVER);
    unicorn.ctl(e->uc, UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1u), buffer_mib << 20); /* the next call allocates it */
    unicorn.ctl(e->uc, UC_CTL_WRITE(UC_CTL_TLB_TYPE, 1u), UC_TLB_CPU);
    if (unicorn.mem_map_ptr(e->uc, 0, d->nr_frames << PAGE_SHIFT, UC_PROT_ALL, d->memory) || !locate(e))
        return fail(e);
    *((u8 *)e->uc + UC_NO_EXIT_REQUEST) = 1;
    timer_init(&e->timer, d->vcpus, d->nr_vcpus, wake);
    e->timer.late = turn_ends;
    for (u32 i = 0; i < d->nr_vcpus; i++)
        d->vcpus[i].platform = e;
    e->vcpu->regs = env_u64(e, ENV_REGS);
    fill_platform(e);
    d->platform = &e->platform;
    engine_register(e);
    return e;
}

void engine_set_callbacks(struct engine *e, struct processor_callbacks callbacks)
{
    e->callbacks = callbacks;
    fill_platform(e);
}

void engine_set_cpuid(struct engine *e, const struct cpuid_leaf *leaves, u32 count)
{
    e->cpuid = leaves;
    e->cpuid_count = count;
}

static void write_control_registers(struct engine *e)
{
    struct {
        u32 id, pad;
        u64 value;
    } efer = {0xc0000080, 0, 0xd01};
    u64 cr4 = 0x620, cr3 = e->vcpu->cr3, cr0 = 0x80050033;
    unicorn.reg_write(e->uc, UC_X86_REG_CR4, &cr4);
    unicorn.reg_write(e->uc, UC_X86_REG_CR3, &cr3);
    unicorn.reg_write(e->uc, UC_X86_REG_CR0, &cr0);
    unicorn.reg_write(e->uc, UC_X86_REG_MSR, &efer);
    struct segment *gdt = (struct segment *)(e->env + ENV_GDT);
    gdt->base = gdt_of(e->vcpu);
    gdt->limit = 0xffff;
}

/* Registers as Xen hands them to a new domain's first vCPU; its page tables are in place already. */
const char *engine_start(struct engine *e, u64 rip, u64 rsp, u64 rsi)
{
    struct vcpu *v = e->vcpu;
    write_control_registers(e);
    __builtin_memset(v->regs, 0, 16 * sizeof *v->regs);
    *env_u32(e, ENV_HFLAGS) = HF_PE | HF_LMA | HF_OSFXSR;
    v->kernel_mode = 1;
    mode_changed(v);
    for (int s = SEG_ES; s <= SEG_GS; s++)
        cache_segment(segment_of(e, s), 0, 0);
    if (load_selector(v, SEG_CS, FLAT_KERNEL_CS64) || load_selector(v, SEG_SS, FLAT_KERNEL_SS64))
        return "the reserved descriptors are not in place";
    load_ldt(v);
    set_flags(v, FLAG_IF);
    u32 mxcsr = 0x1f80;
    u16 control = 0x37f;
    unicorn.reg_write(e->uc, UC_X86_REG_MXCSR, &mxcsr);
    unicorn.reg_write(e->uc, UC_X86_REG_FPCW, &control);
    v->regs[RSP] = rsp;
    v->regs[RSI] = rsi;
    *env_u64(e, ENV_EIP) = rip;
    *env_u32(e, ENV_OLD_EXCEPTION) = ~0u;
    turns_begin(e);
    return add_hooks(e) ? "the engine takes no hooks" : NULL;
}

const char *engine_run(struct engine *e)
{
    e->thread = pthread_self();
    if (timer_start(&e->timer))
        return "the timer thread cannot be started";
    core_resume(arrive_from(e));
    leave_to(e, 0);
    *env_u64(e, ENV_EFLAGS) = get_flags(e->vcpu); /* the engine takes them apart when it begins */
    while (!load(&e->vcpu->stopped)) {
        int error = unicorn.emu_start(e->uc, *env_u64(e, ENV_EIP), e->until, 0, 0);
        if (load(&e->vcpu->stopped))
            break;
        if (error)
            return unicorn.strerror(error);
    }
    return NULL;
}

void engine_destroy(struct engine *e)
{
    timer_stop(&e->timer);
    engine_unregister(e);
    unicorn.close(e->uc);
    block_cache_destroy(e);
    turns_destroy(e);
    free(e->code_pages);
    free(e);
}

u64 engine_flags(struct engine *e, u32 id)
{
    const u8 *env = env_of(e, id);
    return env == e->env ? get_flags(e->vcpu) : settled_flags(env);
}

void engine_segments(struct engine *e, u32 id, u64 *bases, u16 *selectors)
{
    const struct segment *segments = (struct segment *)(env_of(e, id) + ENV_SEGMENTS);
    for (int s = SEG_ES; s <= SEG_GS; s++) {
        bases[s] = segments[s].base;
        selectors[s] = (u16)segments[s].selector;
    }
}
