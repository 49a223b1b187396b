/* vCPUs' waits and timers, which are the same on every processor. */
#ifndef XENION_TIMER_H
#define XENION_TIMER_H

#include <pthread.h>

#include "../../core/src/core.h"

struct timer {
    struct vcpu *vcpus;          /* COUNT of them, */
    u32 count;
    struct fired {
        u64 deadline;            /* for which each was kicked last, */
        u64 again, patience;     /* and when it is again if that has not helped */
    } fired[MAX_VCPUS];
    void (*wake)(struct vcpu *); /* the platform's */
    void (*late)(struct vcpu *); /* at the time given to timer_late, for the first one: a kick that had to wait */
    u64 late_at;                 /* system time, 0: none */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    u64 armed;                   /* what the thread sleeps until; ~0: nothing */
    int closing, started;
};

void timer_init(struct timer *t, struct vcpu *vcpus, u32 count, void (*wake)(struct vcpu *));
int timer_start(struct timer *t); /* 0, or -1: there can be no thread */
void timer_arm(struct timer *t, struct vcpu *v);
void timer_late(struct timer *t, u64 at); /* any thread */
void timer_stop(struct timer *t);

void wait_for_work(struct vcpu *v, u64 deadline);
int end_wait(struct vcpu *v); /* any thread: sets the vCPU's kick; 1 if it was not set */
void write_eventfd(int fd);

/* Gives the frame's memory back to the host. What was in it is gone in any case. */
void forget_frame(struct domain *d, u64 mfn);

#endif
