/* From the virtual machine's exits to the core and back. */
#define _GNU_SOURCE
#include "hardware.h"

#include "../../core/src/api.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define PIECES_MOST 64 /* of one instruction's access */
#define SOON_NS 20000ull
#define CHANCES 10

#define EXTERNAL 1u /* error codes: bits of those that name a selector */
#define IN_IDT 2u

/* Is an exception or the monitor's own work half done? The guest is let go on then: it leaves again at once. */
static int is_between(struct hardware *h)
{
    const struct kvm_vcpu_events *e = &h->run->s.regs.events;
    const struct kvm_sregs *s = system_registers(h);
    u64 rip = h->run->s.regs.regs.rip;
    return e->exception.injected || e->exception.pending || e->interrupt.injected || e->nmi.injected || e->nmi.pending ||
           s->ss.dpl != 3 || rip == monitor_syscall_entry(&h->monitor);
}

/* Does it come from an `int3` or `into`? KVM does not say that their exception is pending, but a software KVM is past them then. */
static int may_have_trapped(struct hardware *h)
{
    u8 code;
    return !core_copy_from(h->vcpu, &code, h->run->s.regs.regs.rip - 1, 1) && (code == 0xcc || code == 0xce);
}

static enum entered failed(struct hardware *h, const char *how, u64 what)
{
    struct kvm_regs *r = &h->run->s.regs.regs;
    snprintf(h->failure, sizeof h->failure, "%s %llu at %#llx", how, (unsigned long long)what, (unsigned long long)r->rip);
    return FAILED;
}

/* Errands end in the guest, which is to be interrupted there; each time later, for a slow host has to come that far. A guest
 * that only may have something half done is let go on a few times: it may stay where it is. */
enum entered enter(struct hardware *h)
{
    int chances = CHANCES;
    for (u64 patience = SOON_NS;; patience = patience < APART_MOST_NS ? 2 * patience : patience) {
        if (!ioctl(h->vcpu_fd, KVM_RUN, 0)) {
            h->has_run = 1;
            return ENTERED;
        }
        if (errno != EINTR && errno != EAGAIN)
            return failed(h, "KVM refuses to run it: error", (u64)errno);
        if (load(&h->vcpu->stopped) || !(is_between(h) || (may_have_trapped(h) && chances-- > 0)))
            return KICKED;
        h->counts[EXIT_AGAIN]++;
        store(&h->run->immediate_exit, (u8)0);
        timer_late(&h->timer, system_time(h->domain) + patience);
    }
}

static void on_syscall(struct hardware *h, int compat)
{
    struct vcpu *v = h->vcpu;
    h->counts[EXIT_SYSCALL]++;
    v->rip = h->regs[RCX];
    h->rflags = h->regs[R11];
    core_syscall(v, compat);
}

/* `int n` has not been done yet. */
static void software_interrupt(struct vcpu *v, u32 vector)
{
    v->rip += 2;
    core_software_interrupt(v, vector, 2);
}

/* `int n`, which the gates refuse, a software KVM as if it did not exist, and QEMU's emulation by a wrong number. */
static int is_interrupt(struct vcpu *v, u8 *vector)
{
    u8 code[2];
    if (core_copy_from(v, code, v->rip, sizeof code) || code[0] != 0xcd)
        return 0;
    *vector = code[1];
    return 1;
}

static void on_exception(struct hardware *h, u32 vector, u32 error)
{
    struct vcpu *v = h->vcpu;
    u8 number;
    h->counts[vector == 14 ? EXIT_PAGE_FAULT : EXIT_EXCEPTION]++;
    if (vector == 14)
        core_page_fault(v, system_registers(h)->cr2, error);
    else if (vector == 3 || vector == 4)
        core_software_interrupt(v, vector, 1);
    else if ((vector == 6 || (vector == 13 && (error & (IN_IDT | EXTERNAL)) == IN_IDT)) && is_interrupt(v, &number))
        software_interrupt(v, number);
    else
        core_exception(v, vector, (EXCEPTIONS_WITH_ERROR >> (vector & 31)) & 1, error);
}

/* The gate's frame, on the monitor's stack. */
static const u64 *frame_of_gate(struct hardware *h, u64 size)
{
    u64 offset = h->run->s.regs.regs.rsp - monitor_page(&h->monitor, MONITOR_STACK);
    return offset <= PAGE_SIZE - size && !(offset & 7) ? (u64 *)(monitor_memory(&h->monitor, MONITOR_STACK) + offset) : NULL;
}

/* `syscall` in 32-bit code of a software KVM: it comes to ring 0 at the lower half of the address, faults there, and leaves the
 * gate's frame on the application's stack. */
static int lost_syscall(struct hardware *h)
{
    u64 frame[6];
    if (system_registers(h)->cr2 != (u32)monitor_syscall32_entry(&h->monitor))
        return 0;
    arrive(h);
    if (core_copy_from(h->vcpu, frame, h->regs[RSP], sizeof frame))
        return 0;
    h->regs[RSP] = frame[4];
    on_syscall(h, 1);
    return 1;
}

static enum entered on_gate(struct hardware *h, u32 vector)
{
    u64 has_error = vector < 32 && (EXCEPTIONS_WITH_ERROR >> vector & 1);
    const u64 *frame = frame_of_gate(h, 8 * (5 + has_error));
    if (!frame && vector == 14 && lost_syscall(h))
        return ENTERED;
    if (!frame || (frame[has_error + 1] & 3) != 3)
        return failed(h, "the monitor took exception", vector);
    arrive(h);
    arrive_from_frame(h, frame + has_error);
    on_exception(h, vector, has_error ? (u32)frame[0] : 0);
    return ENTERED;
}

/* Has KVM still something to do for the instruction, so that it would change registers at the next entry? It does it now. */
static enum entered finish_access(struct hardware *h)
{
    for (int i = 0; i < PIECES_MOST; i++) {
        memset(h->run->mmio.data, 0, sizeof h->run->mmio.data);
        store(&h->run->immediate_exit, (u8)1);
        if (ioctl(h->vcpu_fd, KVM_RUN, 0))
            return errno == EINTR ? ENTERED : failed(h, "KVM refuses to run it: error", (u64)errno);
    }
    return failed(h, "an access to the monitor that does not end", 0);
}

/* The page behind the monitor: the way of `syscall`, but open to any application that wants to use it otherwise. */
static enum entered on_exit_page(struct hardware *h)
{
    u64 rip = h->run->s.regs.regs.rip;
    int by_monitor = rip == monitor_syscall_entry(&h->monitor) || rip == monitor_syscall_end(&h->monitor);
    if (by_monitor && h->run->mmio.is_write && h->run->mmio.len == 1) {
        arrive(h);
        on_syscall(h, 0);
        return ENTERED;
    }
    if (finish_access(h) == FAILED)
        return FAILED;
    arrive(h);
    core_page_fault(h->vcpu, monitor_page(&h->monitor, MONITOR_EXIT), PFEC_WRITE | PFEC_USER);
    return ENTERED;
}

/* KVM does not know an instruction that it had to do itself, on the page behind the monitor. What it may have queued about it
 * is taken back: the guest gets #UD from the core. */
static enum entered on_internal_error(struct hardware *h)
{
    if (h->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION || system_registers(h)->ss.dpl != 3)
        return failed(h, "KVM's internal error", h->run->internal.suberror);
    h->run->s.regs.events.exception.injected = h->run->s.regs.events.exception.pending = 0;
    h->run->kvm_dirty_regs |= KVM_SYNC_X86_EVENTS;
    arrive(h);
    core_exception(h->vcpu, 6, 0, 0);
    return ENTERED;
}

static enum entered on_exit(struct hardware *h)
{
    struct kvm_run *run = h->run;
    switch (run->exit_reason) {
    case KVM_EXIT_IO:
        if (run->io.size == 1)
            return on_gate(h, run->io.port);
        if (run->io.port != PORT_SYSCALL32)
            return failed(h, "the monitor left at port", run->io.port);
        arrive(h);
        on_syscall(h, 1);
        return ENTERED;
    case KVM_EXIT_MMIO:
        if (run->mmio.phys_addr - (h->monitor.gpa + h->monitor.size) >= PAGE_SIZE)
            return failed(h, "an access to no memory, at machine address", run->mmio.phys_addr);
        return on_exit_page(h);
    case KVM_EXIT_INTERNAL_ERROR:
        return on_internal_error(h);
    case KVM_EXIT_FAIL_ENTRY:
        return failed(h, "KVM cannot enter it: reason", run->fail_entry.hardware_entry_failure_reason);
    default:
        return failed(h, "an unexpected exit", run->exit_reason);
    }
}

/* A guest that was interrupted before its next instruction is given more time. */
static void pace(struct hardware *h, u64 before)
{
    u64 apart = h->apart < APART_MOST_NS ? 2 * h->apart : h->apart;
    store(&h->apart, h->vcpu->rip == before ? apart : APART_NS);
}

static enum entered once(struct hardware *h)
{
    u64 before;
    store(&h->run->immediate_exit, (u8)0);
    fence(); /* who kicks sets `kick` and then the flag: one that comes after this look ends what follows */
    if (load(&h->vcpu->kick)) {
        core_kicked(h->vcpu);
        if (load(&h->vcpu->stopped))
            return KICKED;
    }
    before = h->vcpu->rip;
    leave(h);
    enum entered how = enter(h);
    if (how == ENTERED)
        return on_exit(h);
    if (how == KICKED) {
        h->counts[EXIT_KICK]++;
        arrive(h);
        pace(h, before);
        core_kicked(h->vcpu);
    }
    return how;
}

static void on_signal(int number) { (void)number; }

const char *hardware_run(struct hardware *h)
{
    struct vcpu *v = h->vcpu;
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGRTMIN, &action, NULL);
    h->thread = pthread_self();
    store(&h->runs, 1);
    if (timer_start(&h->timer))
        return "the timer thread cannot be started";
    core_resume(v);
    while (!load(&v->stopped))
        if (once(h) == FAILED)
            return h->failure;
    return NULL;
}
