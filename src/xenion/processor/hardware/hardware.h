/* The hardware processor: one KVM virtual machine a domain, whose guest runs natively in ring 3.
 *
 * Guest-physical addresses are the domain's machine addresses. All that is ours in there is the monitor (monitor.h): a few
 * instructions in ring 0 that leave the virtual machine. The core runs on the host, and nothing that it trusts is kept where
 * the guest can write. */
#ifndef XENION_HARDWARE_H
#define XENION_HARDWARE_H

#include <linux/kvm.h>

#include "../common/timer.h"

#include "../common/common_api.h"
#include "hardware_api.h"
#include "monitor.h"

#define APART_NS 100000ull
#define APART_MOST_NS 20000000ull

enum { EXIT_SYSCALL, EXIT_EXCEPTION, EXIT_PAGE_FAULT, EXIT_KICK, EXIT_ERRAND, EXIT_AGAIN };

struct hardware {
    struct domain *domain;
    struct vcpu *vcpu;
    int vm, vcpu_fd;
    struct kvm_run *run;
    size_t run_size;
    struct monitor monitor;

    u64 regs[16];          /* the guest's, as the core numbers them, while it does not run */
    u64 rflags;
    struct kvm_segment code, stack; /* its CS and SS */
    u16 shown_cs, shown_ss; /* what the guest takes them for */
    int flat;              /* it was entered with Xen's flat ones in their place */
    int changed;           /* the system registers in `run` are not those that the virtual CPU has */
    int has_run;           /* it may have cached translations */

    u32 follows;           /* FOLLOWS_* */
    int flush;             /* the virtual TLB is stale */
    struct errands errands;

    pthread_t thread;      /* that runs the vCPU, */
    int runs;              /* once it has begun to */
    u64 interrupted;       /* when it was last, in system time */
    u64 apart;             /* ns between two interruptions, at least: APART_NS, or more if the guest did not come on */
    struct timer timer;
    int notify_fd;
    u64 counts[EXIT_CAUSES];
    char failure[200];
    struct processor_callbacks callbacks;
    struct platform platform;
};

static inline struct hardware *hardware_of(struct vcpu *v) { return v->platform; }
static inline struct kvm_sregs *system_registers(struct hardware *h) { return &h->run->s.regs.sregs; }

void hardware_platform(struct hardware *h);                       /* platform.c */
void arrive(struct hardware *h);                              /* registers.c: the guest has stopped; its registers are ours */
void arrive_from_frame(struct hardware *h, const u64 *frame);
void leave(struct hardware *h);                               /* and go back */
void enter_ring_0(struct hardware *h, u64 rip, u64 rsp);
void start_registers(struct hardware *h, u64 rip, u64 rsp, u64 rsi);
int set_segment(struct hardware *h, int segment, u16 selector);
void note_table(struct hardware *h, u64 ma);                  /* errands.c */
void note_entry(struct hardware *h, u64 ma, u64 old, u64 value);
void leave_by_errands(struct hardware *h);
void errands_at_once(struct hardware *h);
enum entered { ENTERED, KICKED, FAILED };
enum entered enter(struct hardware *h);                       /* run.c: until the next exit, a kick, or `failure` says why */

#endif
