/* See scripted_platform.h. Where the core may not be re-entered, a kick stands for what another thread would do. */
#include <stdlib.h>
#include <string.h>

#include "core.h"

#include "api.h"

#include "scripted_platform.h"

static struct script *script(struct vcpu *v) { return v->platform; }
struct script *script_of(struct domain *d) { return d->vcpus[0].platform; }

static void operation(struct domain *d)
{
    struct script *s = script_of(d);
    if (++s->operations == s->kick_at)
        store(&d->vcpus[0].kick, 1);
}

/* Of an operation that changes registers. */
static struct script *registers(struct vcpu *v)
{
    struct script *s = script(v);
    s->misplaced += s->loaded != v->id;
    return s;
}

static u64 get_flags(struct vcpu *v) { return script(v)->flags; }
static void set_flags(struct vcpu *v, u64 flags) { registers(v)->flags = flags | 2; }
static void clear_flags(struct vcpu *v, u64 mask) { registers(v)->flags &= ~mask; }
static u64 get_base(struct vcpu *v, int segbase) { return script(v)->bases[segbase]; }
static void set_base(struct vcpu *v, int segbase, u64 base) { registers(v)->bases[segbase] = base; }

static void flush_all(struct domain *d)
{
    script_of(d)->flushes++;
    fetch_add(&d->tlb_clock, 1);
}

static void load_cr3(struct vcpu *v, u64 cr3)
{
    registers(v);
    v->loaded_cr3 = cr3;
    flush_all(v->domain);
}

static void flush_page(struct vcpu *v, u64 address)
{
    script(v)->page_flushes++;
    script(v)->flushed_page = address;
    operation(v->domain);
}

static int load_selector(struct vcpu *v, int segment, u16 value)
{
    struct script *s = registers(v);
    if (s->refused_selector && value == s->refused_selector)
        return -1;
    s->selectors[segment] = value;
    return 0;
}

static void mode_changed(struct vcpu *v) { registers(v)->modes++; }
static void load_ldt(struct vcpu *v) { registers(v)->ldt_loads++; }

static struct domain *newest; /* `tsc` has no argument */
static u64 tsc(void) { return script_of(newest)->now; }

static void arm_timer(struct vcpu *v) { script(v)->armed++; }

static void wait_for_work(struct vcpu *v, u64 deadline)
{
    struct script *s = script(v);
    if (load(&v->kick))
        return;
    s->wait_states[s->waits % SCRIPT_LOG] = v->runstate;
    s->wait_parked[s->waits % SCRIPT_LOG] = (u32)core_parked(v->domain);
    s->deadlines[s->waits++ % SCRIPT_LOG] = deadline;
    s->now += s->wait_takes;
    if (s->waits == s->stop_at)
        core_stop(v->domain);
    else if (s->waits == s->pause_at)
        core_pause(v->domain);
    else if (s->waits == s->unpause_at)
        core_unpause(v->domain);
    else if (s->waits == s->nmi_at)
        core_send_nmi(v);
    else if (s->waits == s->up_at)
        core_vcpu_up(v);
    else if (deadline && deadline > s->now)
        s->now = deadline;
    else if (!deadline && s->wait_port)
        core_post_event(v->domain, s->wait_port);
    else
        core_stop(v->domain);
}

static void wake(struct vcpu *v)
{
    script(v)->woken[v->id]++;
    store(&v->kick, 1);
}

static void notify_dom0(struct domain *d)
{
    script_of(d)->notified++;
    if (script_of(d)->unpause_early)
        core_unpause(d);
}

static void code_written(struct domain *d, u64 ma, u64 size)
{
    script_of(d)->written += size;
    script_of(d)->written_frame = ma >> PAGE_SHIFT;
}

static int has_code(struct domain *d, u64 mfn) { return (int)script_of(d)->code; }

static void frame_freed(struct domain *d, u64 mfn)
{
    struct script *s = script_of(d);
    s->freed_frames[s->freed++ % SCRIPT_LOG] = mfn;
    memset(d->memory + (mfn << PAGE_SHIFT), 0, PAGE_SIZE);
    flush_all(d);
    operation(d);
}

static void table_begins(struct domain *d, u64 mfn) { script_of(d)->tables_begun++; }

static void entry_changed(struct domain *d, u64 ma, u64 old, u64 value)
{
    struct script *s = script_of(d);
    s->changed_entry = ma;
    s->changes[s->entries_changed++ % SCRIPT_LOG] = old ^ value;
}

static void set_task_switched(struct vcpu *v) { script(v)->switches++; }

static void load_registers(struct vcpu *v)
{
    struct script *s = script(v);
    s->loaded = v->id;
    s->loaded_vcpus[s->loads++ % SCRIPT_LOG] = v->id;
}

static s64 cold_call(struct vcpu *v, u64 number, const u64 *args)
{
    struct script *s = script(v);
    s->cold_calls++;
    s->cold_number = number;
    memcpy(s->cold_args, args, sizeof s->cold_args);
    operation(v->domain);
    for (u64 step = 0; s->long_number && number == s->long_number && step < args[1]; step++) {
        if (step && core_gives_way(v))
            return core_continue(v, args[0] + step, args[1] - step, args[2]);
        s->long_steps++;
        operation(v->domain);
    }
    return s->cold_result;
}

static int cold_trap(struct vcpu *v, u32 vector, u32 error)
{
    script(v)->cold_traps++;
    return (int)script(v)->cold_trap_done;
}

static const struct platform platform = {
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
    .cold_call = cold_call,
    .cold_trap = cold_trap,
};

static void allocate_set(struct frame_set *s, u64 nr_frames)
{
    s->frames = calloc((nr_frames + 63) / 64, sizeof *s->frames);
    s->words = calloc((nr_frames + 4095) / 4096, sizeof *s->words);
}

static void free_set(struct frame_set *s)
{
    free(s->frames);
    free(s->words);
}

struct domain *script_create(u64 memory_frames, u64 nr_frames, u64 first_frame, u32 nr_vcpus)
{
    struct domain *d = calloc(1, sizeof *d);
    struct script *s = calloc(1, sizeof *s);
    d->memory = aligned_alloc(PAGE_SIZE, memory_frames << PAGE_SHIFT);
    memset(d->memory, 0, memory_frames << PAGE_SHIFT);
    d->frames = calloc(nr_frames, sizeof *d->frames);
    d->ports = calloc(MAX_PORTS, sizeof *d->ports);
    allocate_set(&d->written, nr_frames);
    allocate_set(&d->dropped, nr_frames);
    d->nr_frames = nr_frames;
    d->first_frame = first_frame;
    d->nr_vcpus = nr_vcpus;
    d->platform = &platform;
    d->tlb_clock = 1;
    d->tsc_mul = 1u << 31; /* with the shift: one tick is one nanosecond */
    d->tsc_shift = 1;
    for (u32 i = 0; i < nr_vcpus; i++) {
        d->vcpus[i].domain = d;
        d->vcpus[i].id = i;
        d->vcpus[i].platform = s;
        d->vcpus[i].regs = s->regs[i & 1];
        d->vcpus[i].kernel_mode = 1;
    }
    newest = d;
    return d;
}

void script_destroy(struct domain *d)
{
    free(script_of(d));
    free(d->frames);
    free(d->ports);
    free_set(&d->written);
    free_set(&d->dropped);
    free(d->memory);
    free(d);
}

int script_ends_wait(struct vcpu *v)
{
    drain_inbox(v->domain);
    return ends_wait(v);
}
u64 script_next_deadline(struct vcpu *v) { return next_deadline(v); }

int script_has_sanitizer(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return 1;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
    return 1;
#endif
#endif
    return 0;
}
