/* Frames of a domain that is saved, and of one that is restored: who owns them and which are pinned. Everything else about them
 * follows from the page tables, which are validated anew. */
#include "core.h"

#include "api.h"

static int is_leaving(const struct frame *f) { return (f->count & FRAME_COUNT) && !(f->count & FRAME_ALLOCATED); }

/* Up to ROOM entries about the frames that are pinned, or given back but still mapped, from *FROM on, which moves: the frame's
 * number, and in the topmost three bits its level as a page table, or FRAME_LEAVING. A frame may be both. Returns how many. */
uint64_t core_special_frames(struct domain *d, uint64_t *from, uint64_t *found, uint64_t room)
{
    u64 count = 0, mfn = *from > d->first_frame ? *from : d->first_frame;
    for (; mfn < d->nr_frames && count + 2 <= room; mfn++) {
        const struct frame *f = &d->frames[mfn];
        if (f->type & TYPE_PINNED)
            found[count++] = (f->type & TYPE_MASK) | mfn;
        if (is_leaving(f))
            found[count++] = mfn;
    }
    *from = mfn;
    return count;
}

/* As core_special_frames, those that core_shown_table shows otherwise than they are. */
uint64_t core_holding_tables(struct domain *d, uint64_t *from, uint64_t *found, uint64_t room)
{
    u64 count = 0, mfn = *from > d->first_frame ? *from : d->first_frame;
    for (; mfn < d->nr_frames && count < room; mfn++)
        if ((d->frames[mfn].type & (TYPE_MASK | TYPE_KERNEL_L4)) == (TYPE_L4 | TYPE_KERNEL_L4))
            found[count++] = mfn;
    *from = mfn;
    return count;
}

/* The first frame of the next run of the domain's own, from FROM on, and *COUNT of them; 0: there is no other. */
uint64_t core_used_run(struct domain *d, uint64_t from, uint64_t *count)
{
    u64 first = from > d->first_frame ? from : d->first_frame;
    while (first < d->nr_frames && !core_owns_frame(d, first))
        first++;
    u64 end = first;
    while (end < d->nr_frames && core_owns_frame(d, end))
        end++;
    *count = end - first;
    return end > first ? first : 0;
}

/* Frames that become the domain's; those that are already, or cannot be, stay as they are. */
void core_adopt_run(struct domain *d, uint64_t first, uint64_t count)
{
    for (u64 mfn = first; mfn >= d->first_frame && mfn < d->nr_frames && mfn - first < count; mfn++)
        if (!core_owns_frame(d, mfn)) {
            d->frames[mfn] = (struct frame){.count = FRAME_ALLOCATED | 1};
            d->pages++;
        }
}

/* What the processor has to know of a vCPU that is set up anew; `by` is the one that runs. */
void core_finish_vcpu(struct vcpu *v, struct vcpu *by)
{
    const struct platform *p = v->domain->platform;
    p->load_registers(v);
    p->set_task_switched(v);
    p->load_registers(by);
    p->arm_timer(v);
    core_publish_time(v);
}
