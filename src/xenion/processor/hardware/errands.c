/* What ring 0 of the virtual machine has to do before its guest goes on: flush, and repeat the VMM's writes into page tables.
 *
 * Shadow paging notices a write that the guest makes, none that the host makes. So each entry that allowed more before than it
 * does now is stored again, as it is, from inside; a table of which many have changed, and a frame that becomes a table anew,
 * is touched in the one way that makes KVM forget its shadow. */
#include "hardware.h"

#include <string.h>

#define WHOLE_TABLE 24

static void do_errands(struct hardware *h);

static u64 frame_at(u64 ma) { return ma & ~(PAGE_SIZE - 1); }

void note_table(struct hardware *h, u64 ma)
{
    struct errands *e = &h->errands;
    if (!(h->follows & FOLLOWS_WRITES) || !h->has_run || (e->zaps && e->zap[e->zaps - 1] == frame_at(ma)))
        return;
    if (e->zaps == ERRANDS_MOST)
        do_errands(h);
    e->zap[e->zaps++] = frame_at(ma);
}

/* The bits that let the guest do something, and those that it watches. */
static u64 lost(u64 old, u64 value)
{
    return (old & ~value & (PTE_P | PTE_RW | PTE_US | PTE_A | PTE_D)) | (~old & value & PTE_NX) |
           ((old ^ value) & (PTE_ADDRESS | PTE_PSE));
}

void note_entry(struct hardware *h, u64 ma, u64 old, u64 value)
{
    struct errands *e = &h->errands;
    if (!(h->follows & FOLLOWS_WRITES) || !h->has_run || !lost(old, value) || (e->zaps && e->zap[e->zaps - 1] == frame_at(ma)))
        return;
    e->run = e->run && frame_at(e->write[e->writes - 1]) == frame_at(ma) ? e->run + 1 : 1;
    if (e->run > WHOLE_TABLE) {
        e->writes -= WHOLE_TABLE;
        e->run = 0;
        note_table(h, ma);
        return;
    }
    if (e->writes == ERRANDS_MOST) {
        do_errands(h);
        e->run = 1;
    }
    e->write[e->writes++] = ma;
}

static u64 *append(u64 *at, u64 a, u64 b)
{
    at[0] = a;
    at[1] = b;
    return at + 2;
}

/* Lists all that is to do, and FINALLY after it; returns where to begin. *END: behind the list. */
static u64 list_errands(struct hardware *h, u64 finally, u64 **end)
{
    struct errands *e = &h->errands;
    u64 first, *next = &first, *at = (u64 *)monitor_memory(&h->monitor, MONITOR_LIST);
    if (e->writes) {
        *next = monitor_writes(&h->monitor, e->writes);
        for (u32 i = 0; i < e->writes; i++)
            at = append(at, h->monitor.linear + e->write[i], load(word_at(h->domain, e->write[i])));
        next = at++;
    }
    if (e->zaps) {
        *next = monitor_zaps(&h->monitor, e->zaps);
        for (u32 i = 0; i < e->zaps; i++)
            *at++ = h->monitor.linear + e->zap[i];
        next = at++;
    }
    if (h->flush) {
        *next = monitor_flush(&h->monitor);
        next = at++;
    }
    *next = finally;
    *end = at;
    e->writes = e->zaps = e->run = 0;
    h->flush = 0;
    h->counts[EXIT_ERRAND]++;
    return first;
}

static int any_errands(struct hardware *h)
{
    h->flush = h->flush && (h->follows & FOLLOWS_FLUSH) && h->has_run;
    return h->errands.writes || h->errands.zaps || h->flush;
}

/* At once, for there is no room for more. If it fails, so will the next entry. */
static void do_errands(struct hardware *h)
{
    u64 *end, first = list_errands(h, monitor_out(&h->monitor), &end);
    enter_ring_0(h, first, monitor_page(&h->monitor, MONITOR_LIST));
    h->changed = 1;
    if (enter(h) != ENTERED)
        crash_domain(h->domain, h->failure);
    else if (h->run->exit_reason != KVM_EXIT_IO || h->run->io.size != 4 || h->run->io.port != PORT_ERRAND)
        crash_domain(h->domain, "the monitor did not come back from an errand");
}

void errands_at_once(struct hardware *h)
{
    if (any_errands(h))
        do_errands(h);
}

/* On the way back to the guest, whose registers are in `run` already. Xen's selectors are those that every GDT has; which the
 * guest believes to have is known (see arrive_selectors). */
void leave_by_errands(struct hardware *h)
{
    struct kvm_regs *r = &h->run->s.regs.regs;
    u64 frame[] = {r->rdi, r->rip, FLAT_KERNEL_CS64, r->rflags, r->rsp, FLAT_KERNEL_SS64}, *end;
    if (!any_errands(h))
        return;
    u64 first = list_errands(h, monitor_back(&h->monitor), &end);
    memcpy(end, frame, sizeof frame);
    h->flat = 1;
    enter_ring_0(h, first, monitor_page(&h->monitor, MONITOR_LIST));
}
