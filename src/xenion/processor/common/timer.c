#define _GNU_SOURCE
#include "timer.h"

#include <limits.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NOT_ARMED (~0ull)
#define LONGEST_SLEEP_NS 3600000000000ull
#define AGAIN_NS 1000000ull
#define AGAIN_MOST_NS 1000000000ull

static void futex_wait(u32 *word, u32 expected, u64 ns)
{
    struct timespec limit = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, ns == NOT_ARMED ? NULL : &limit, NULL, 0);
}

void wait_for_work(struct vcpu *v, u64 deadline)
{
    u64 now = system_time(v->domain), ns = !deadline ? NOT_ARMED : deadline > now ? deadline - now : 0;
    if (ns)
        futex_wait(&v->kick, 0, ns);
}

int end_wait(struct vcpu *v)
{
    if (swap(&v->kick, 1))
        return 0;
    syscall(SYS_futex, &v->kick, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
    return 1;
}

void write_eventfd(int fd)
{
    u64 one = 1;
    if (write(fd, &one, sizeof one) < 0)
        return; /* the counter is full: the reader is awake anyway */
}

void forget_frame(struct domain *d, u64 mfn)
{
    u8 *page = d->memory + (mfn << PAGE_SHIFT);
    memset(page, 0, PAGE_SIZE); /* whoever watches for writes sees it, and copies what it will be */
    madvise(page, PAGE_SIZE, MADV_REMOVE);
}

void timer_init(struct timer *t, struct vcpu *vcpus, u32 count, void (*wake)(struct vcpu *))
{
    pthread_condattr_t monotonic;
    t->vcpus = vcpus;
    t->count = count;
    t->wake = wake;
    t->armed = NOT_ARMED;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&t->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

void timer_arm(struct timer *t, struct vcpu *v)
{
    u64 deadline = next_deadline(v);
    fence(); /* the deadline is written before `armed` is read; the timer's thread does it the other way round */
    if (!deadline || deadline >= load(&t->armed))
        return;
    pthread_mutex_lock(&t->lock);
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

void timer_late(struct timer *t, u64 at)
{
    pthread_mutex_lock(&t->lock);
    t->late_at = at;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void sleep_until(struct timer *t, u64 deadline, u64 now)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    u64 left = deadline - now < LONGEST_SLEEP_NS ? deadline - now : LONGEST_SLEEP_NS;
    u64 ns = (u64)at.tv_sec * 1000000000u + (u64)at.tv_nsec + left;
    at.tv_sec = (time_t)(ns / 1000000000u);
    at.tv_nsec = (long)(ns % 1000000000u);
    pthread_cond_timedwait(&t->changed, &t->lock, &at);
}

/* Without the lock, which waking may take. */
static void call(struct timer *t, void (*act)(struct vcpu *), struct vcpu *v)
{
    pthread_mutex_unlock(&t->lock);
    act(v);
    pthread_mutex_lock(&t->lock);
}

static u64 due_of(const struct fired *f, u64 deadline)
{
    return !deadline ? NOT_ARMED : deadline == f->deadline ? f->again : deadline;
}

static struct vcpu *soonest(struct timer *t, u64 *due)
{
    struct vcpu *first = t->vcpus;
    *due = NOT_ARMED;
    for (u32 i = 0; i < t->count; i++) {
        u64 at = due_of(&t->fired[i], next_deadline(&t->vcpus[i]));
        if (at >= *due)
            continue;
        *due = at;
        first = &t->vcpus[i];
    }
    return first;
}

/* A vCPU fires its timer itself. One that has not done so after a while, because the clock of its CPU was behind, is kicked
 * again; one that is held looks at its timer when it goes on. */
static void fire(struct timer *t, struct vcpu *v, u64 now)
{
    struct fired *f = &t->fired[v - t->vcpus];
    u64 deadline = next_deadline(v);
    if (deadline != f->deadline)
        f->patience = AGAIN_NS;
    f->deadline = deadline;
    f->again = now + f->patience;
    f->patience = f->patience < AGAIN_MOST_NS ? 2 * f->patience : f->patience;
    if (!load(&v->domain->paused))
        call(t, t->wake, v);
}

/* Kicks each vCPU when its timer is due. */
static void *timer_main(void *argument)
{
    struct timer *t = argument;
    pthread_mutex_lock(&t->lock);
    while (!t->closing) {
        u64 due, again, now = system_time(t->vcpus->domain);
        struct vcpu *v = soonest(t, &due);
        if (t->late_at && t->late_at <= now) {
            t->late_at = 0;
            call(t, t->late, t->vcpus);
            continue;
        }
        if (due <= now) {
            fire(t, v, now);
            continue;
        }
        store(&t->armed, due);
        fence(); /* as in timer_arm: who sets a timer after this look signals, unless we wake in time anyway */
        soonest(t, &again);
        if (again < due)
            continue;
        if (t->late_at && t->late_at < due)
            sleep_until(t, t->late_at, now);
        else if (due != NOT_ARMED)
            sleep_until(t, due, now);
        else
            pthread_cond_wait(&t->changed, &t->lock);
    }
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

int timer_start(struct timer *t)
{
    if (!t->started && pthread_create(&t->thread, NULL, timer_main, t))
        return -1;
    t->started = 1;
    return 0;
}

void timer_stop(struct timer *t)
{
    if (!t->started)
        return;
    pthread_mutex_lock(&t->lock);
    t->closing = 1;
    pthread_cond_signal(&t->changed);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->thread, NULL);
}
