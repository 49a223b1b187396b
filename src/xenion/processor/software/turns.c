/* The vCPUs of a domain take turns in its one engine, on one thread: so the guest's atomic operations are atomic without
 * any help, and a vCPU's registers are the beginning of the engine's CPU state, copied away and back.
 *
 * Who waits, yields, spins (PAUSE) or has used up its turn lets the one go on that has run least; who wakes for another
 * thread's event interrupts who has run more. Virtual time (`used`) never lets a sleeper be owed more than one turn. */
#include "engine.h"

#include "../../core/src/api.h"

#include <stdlib.h>
#include <string.h>

#define TURN_NS 5000000ull

struct turns {
    u64 used[MAX_VCPUS];   /* ns; of a vCPU that wakes, no less than a turn behind `virtual` */
    u64 virtual;           /* the most that one has used */
    u64 since;             /* system time from which the one that runs is not yet charged */
    u64 began;             /* its turn; read by the timer's thread */
    int limited;           /* the timer is set for the end of a turn */
    u8 saved[MAX_VCPUS][ENV_SIZE];
};

static u8 *saved(struct engine *e, const struct vcpu *v) { return e->turns->saved[v->id]; }

/* Where a vCPU's registers are now. */
u8 *env_of(struct engine *e, u32 id)
{
    return e->turns && e->vcpu->id != id ? e->turns->saved[id % MAX_VCPUS] : e->env;
}

int turns_create(struct engine *e)
{
    if (e->domain->nr_vcpus > 1 && !(e->turns = calloc(1, sizeof *e->turns)))
        return 0;
    e->domain->takes_turns = e->turns != NULL;
    return 1;
}

void turns_destroy(struct engine *e)
{
    free(e->turns);
    e->turns = NULL;
}

/* All begin as the engine's state is now. */
void turns_begin(struct engine *e)
{
    for (u32 i = 1; e->turns && i < e->domain->nr_vcpus; i++) {
        struct vcpu *v = &e->domain->vcpus[i];
        memcpy(saved(e, v), e->env, ENV_SIZE);
        ((struct segment *)(saved(e, v) + ENV_GDT))->base = gdt_of(v);
        v->regs = (u64 *)(saved(e, v) + ENV_REGS);
        v->parked = 1;
        v->waiting = WAITS_DOWN;
        v->runstate = RUNSTATE_offline;
    }
}

/* Operations are on this vCPU's registers from here on. */
void load_registers(struct vcpu *w)
{
    struct engine *e = w->platform;
    struct vcpu *v = e->vcpu;
    if (v == w)
        return;
    settle_flags(v);
    memcpy(saved(e, v), e->env, ENV_SIZE);
    v->regs = (u64 *)(saved(e, v) + ENV_REGS);
    memcpy(e->env, saved(e, w), ENV_SIZE);
    w->regs = env_u64(e, ENV_REGS);
    (void)swap(&e->vcpu, w); /* before the next look for work: `wake` raises events first and then reads it */
}

static void switch_to(struct engine *e, struct vcpu *w)
{
    struct vcpu *v = e->vcpu;
    struct turns *t = e->turns;
    if (!v->waiting)
        change_runstate(v, RUNSTATE_runnable);
    swap(&w->parked, 0); /* one of the two is not, all the time: see core_parked */
    load_registers(w);
    store(&v->parked, 1);
    store(&t->began, t->since);
    change_tables(e, v, w);
}

static int woke(struct engine *e, struct vcpu *w)
{
    u64 least = e->turns->virtual > TURN_NS ? e->turns->virtual - TURN_NS : 0;
    if (!ends_wait(w))
        return 0;
    if (e->turns->used[w->id] < least)
        e->turns->used[w->id] = least;
    return 1;
}

/* The vCPU that goes on, or NULL: all wait. *others: who could, too. */
static struct vcpu *choose(struct engine *e, int over, int *others)
{
    struct domain *d = e->domain;
    const u64 *used = e->turns->used;
    struct vcpu *least = NULL, *woken = NULL;
    for (u32 i = 0; i < d->nr_vcpus; i++) {
        struct vcpu *w = &d->vcpus[(e->vcpu->id + 1 + i) % d->nr_vcpus];
        int has_woken = w->waiting && woke(e, w);
        if (w->waiting || w == e->vcpu)
            continue;
        ++*others;
        if (!least || used[w->id] < used[least->id])
            least = w;
        if (has_woken && (!woken || used[w->id] < used[woken->id]))
            woken = w;
    }
    if (e->vcpu->waiting || (over && least))
        return least;
    return woken && used[woken->id] < used[e->vcpu->id] ? woken : e->vcpu;
}

static u64 soonest(struct domain *d)
{
    u64 first = 0;
    for (u32 i = 0; i < d->nr_vcpus; i++) {
        u64 deadline = next_deadline(&d->vcpus[i]);
        if (deadline && (!first || deadline < first))
            first = deadline;
    }
    return first;
}

static struct vcpu *await(struct engine *e, int over, int *others)
{
    for (;;) {
        struct vcpu *v = e->vcpu, *next;
        swap(&v->kick, 0); /* before the looks below: a wake-up after it ends the wait */
        if (v->waiting)
            hold_while_paused(v);
        *others = 0;
        if (load(&v->stopped))
            return v;
        drain_inbox(e->domain);
        if ((next = choose(e, over, others)))
            return next;
        wait_for_work(v, soonest(e->domain));
    }
}

/* In the timer's thread: a turn may have begun after the timer was set for the end of another. */
void turn_ends(struct vcpu *first)
{
    struct engine *e = first->platform;
    u64 now = system_time(e->domain), began = load(&e->turns->began);
    if (now < began + TURN_NS / 2) {
        timer_late(&e->timer, began + TURN_NS);
        return;
    }
    store(&e->turns->limited, 0);
    give_way(e, GIVE_WAY_OVER);
}

/* A pause, or the host's other work, is no fault of the vCPU whose turn it was: it pays for two turns at most. */
static void charge(struct turns *t, u64 *used, u64 now)
{
    u64 took = now - t->since;
    *used += took < 2 * TURN_NS ? took : 2 * TURN_NS;
    if (*used > t->virtual)
        t->virtual = *used;
}

/* After the core has run: on return the engine has the registers of a vCPU that goes on, or its domain has stopped. */
void take_turns(struct engine *e)
{
    struct domain *d = e->domain;
    struct turns *t = e->turns;
    int others;
    while ((e->vcpu->waiting || load(&d->give_way)) && !load(&e->vcpu->stopped)) {
        u32 why = swap(&d->give_way, 0);
        charge(t, &t->used[e->vcpu->id], system_time(d));
        struct vcpu *next = await(e, (why & GIVE_WAY_OVER) != 0, &others);
        t->since = system_time(d);
        if (next != e->vcpu)
            switch_to(e, next);
        if (next->runstate == RUNSTATE_runnable)
            change_runstate(next, RUNSTATE_running);
        if (others && !swap(&t->limited, 1))
            timer_late(&e->timer, t->since + TURN_NS);
        core_kicked(next);
    }
}

/* Is there anybody who would go on if the one that runs did not? */
int others_wait(struct engine *e) { return e->turns && load(&e->turns->limited); }
