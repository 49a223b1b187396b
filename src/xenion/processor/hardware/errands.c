/* What ring 0 of the virtual machine has to do before its guest goes on: flush, and repeat the VMM's writes into page tables.
 *
 * Shadow paging notices a write that the guest makes, none that the host makes. So each entry that allowed more before than it
 * does now is stored again, as it is, from inside; a table of which many have changed, and a frame that becomes a table anew,
 * is touched in the one way that makes KVM forget its shadow. */
#include "hardware.h"

#include <string.h>

#define WHOLE_TABLE 24

static u64 frame_at(u64 ma) { return ma & ~(PAGE_SIZE - 1); }

static int same_table(const struct errands *e, u32 count, u64 ma)
{
    if (e->writes < count)
        return 0;
    for (u32 i = e->writes - count; i < e->writes; i++)
        if (frame_at(e->write[i]) != frame_at(ma))
            return 0;
    return 1;
}

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
    if (same_table(e, WHOLE_TABLE, ma)) {
        e->writes -= WHOLE_TABLE;
        note_table(h, ma);
        return;
    }
    if (e->writes == ERRANDS_MOST)
        do_errands(h);
    e->write[e->writes++] = ma;
}

static const char *in_ring_0(struct hardware *h, u64 rip, u64 rsp)
{
    h->counts[EXIT_ERRAND]++;
    enter_ring_0(h, rip, rsp);
    if (enter(h) != ENTERED)
        return h->failure;
    if (h->run->exit_reason != KVM_EXIT_IO || h->run->io.size != 4 || h->run->io.port != PORT_ERRAND)
        return "the monitor did not come back from an errand";
    return NULL;
}

static const char *do_writes(struct hardware *h)
{
    struct errands *e = &h->errands;
    u64 *list = (u64 *)monitor_memory(&h->monitor, MONITOR_LIST);
    for (u32 i = 0; i < e->writes; i++) {
        list[2 * i] = h->monitor.linear + e->write[i];
        list[2 * i + 1] = load(word_at(h->domain, e->write[i]));
    }
    u32 count = e->writes;
    e->writes = 0;
    return in_ring_0(h, monitor_writes(&h->monitor, count), monitor_page(&h->monitor, MONITOR_LIST));
}

static const char *do_zaps(struct hardware *h)
{
    struct errands *e = &h->errands;
    u64 *list = (u64 *)monitor_memory(&h->monitor, MONITOR_LIST);
    for (u32 i = 0; i < e->zaps; i++)
        list[i] = h->monitor.linear + e->zap[i];
    u32 count = e->zaps;
    e->zaps = 0;
    return in_ring_0(h, monitor_zaps(&h->monitor, count), monitor_page(&h->monitor, MONITOR_LIST));
}

/* The vCPU's thread, while its guest does not run. NULL, or what failed; that is also kept for `hardware_run`. */
const char *do_errands(struct hardware *h)
{
    struct errands *e = &h->errands;
    const char *why = NULL;
    if (e->writes)
        why = do_writes(h);
    if (!why && e->zaps)
        why = do_zaps(h);
    if (!why && h->flush && (h->follows & FOLLOWS_FLUSH) && h->has_run)
        why = in_ring_0(h, monitor_flush(&h->monitor), 0);
    h->flush = 0;
    if (why)
        crash_domain(h->domain, why);
    return why;
}
