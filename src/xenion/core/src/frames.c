/* Frame types and counts: which frame may be what, as xen/arch/x86/mm.c keeps it.
 *
 * A frame has one type at a time while its type count is not zero. Page tables and descriptor pages are validated when
 * the first reference of that type is taken, so that no writable mapping of one can ever exist. */
#include "core.h"

#include "api.h"

struct frame *frame_of(struct domain *d, u64 mfn)
{
    return mfn < d->nr_frames ? &d->frames[mfn] : NULL;
}

int get_frame(struct domain *d, u64 mfn)
{
    struct frame *f = frame_of(d, mfn);
    if (!f)
        return 0;
    u32 count = load(&f->count);
    do {
        if (!(count & FRAME_COUNT) || (count & FRAME_COUNT) == FRAME_COUNT)
            return 0;
    } while (!cas(&f->count, &count, count + 1));
    return 1;
}

void put_frame(struct domain *d, u64 mfn)
{
    struct frame *f = frame_of(d, mfn);
    if (f && (fetch_add(&f->count, (u32)-1) & FRAME_COUNT) == 1) {
        store(&f->type, 0);
        fetch_add(&d->pages, (u64)-1);
        d->platform->frame_freed(d, mfn);
    }
}

static int is_table(u64 type) { return type >= TYPE_L1 && type <= TYPE_L4; }

static int validate(struct domain *d, u64 mfn, u64 type)
{
    if (is_table(type))
        return validate_table(d, mfn, type);
    return type == TYPE_SEG ? validate_descriptors(d, mfn) : 0;
}

int get_frame_type(struct domain *d, u64 mfn, u64 type)
{
    struct frame *f = frame_of(d, mfn);
    if (!f)
        return -XEN_EINVAL;
    u64 old = load(&f->type), new;
    do {
        while (unlikely((old & TYPE_COUNT) && (old & TYPE_MASK) == type && !(old & TYPE_VALIDATED))) {
            __builtin_ia32_pause(); /* another vCPU is validating it */
            old = load(&f->type);
        }
        if ((old & TYPE_COUNT) == TYPE_COUNT)
            return -XEN_EINVAL;
        if (old & TYPE_COUNT) {
            if ((old & TYPE_MASK) != type)
                return -XEN_EINVAL;
            new = old + 1;
        } else {
            new = type | (type == TYPE_WRITABLE ? TYPE_VALIDATED : 0) | 1;
        }
    } while (!cas(&f->type, &old, new));

    if (old & TYPE_COUNT || type == TYPE_WRITABLE)
        return 0;
    /* A stale TLB entry may still allow writing what is about to be trusted. */
    if ((old & TYPE_MASK) == TYPE_WRITABLE && load(&f->stamp) >= (u32)load(&d->tlb_clock))
        d->platform->flush_all(d);
    store(&f->stamp, 0);
    int rc = validate(d, mfn, type);
    if (rc)
        store(&f->type, TYPE_NONE);
    else
        fetch_or(&f->type, TYPE_VALIDATED);
    return rc;
}

/* The vCPU's thread. Each mapping that goes leaves its time, not the last reference alone: that may be the host's, whose
 * own thread cannot know when the guest's translations went. */
void put_frame_type(struct domain *d, u64 mfn)
{
    struct frame *f = frame_of(d, mfn);
    u64 old = load(&f->type);
    for (;;) {
        u64 type = old & TYPE_MASK;
        if ((old & TYPE_COUNT) != 1 || !is_table(type)) {
            if (!is_table(type))
                store(&f->stamp, (u32)load(&d->tlb_clock));
            if (cas(&f->type, &old, old - 1))
                return;
            continue;
        }
        /* The last reference of a table: it releases what it points to before the count reaches zero. */
        if (!cas(&f->type, &old, old & ~TYPE_VALIDATED))
            continue;
        invalidate_table(d, mfn, type);
        store(&f->type, TYPE_NONE);
        return;
    }
}

/* The vCPU's thread, and for TYPE_WRITABLE any. */
int get_frame_and_type(struct domain *d, u64 mfn, u64 type)
{
    if (!get_frame(d, mfn))
        return -XEN_EINVAL;
    int rc = get_frame_type(d, mfn, type);
    if (rc)
        core_drop_frame(d, mfn, 0); /* the vCPU's thread may have let go of it meanwhile */
    return rc;
}

void put_frame_and_type(struct domain *d, u64 mfn)
{
    put_frame_type(d, mfn);
    put_frame(d, mfn);
}

int pin_table(struct domain *d, u64 mfn, u64 type)
{
    int rc = get_frame_and_type(d, mfn, type);
    if (rc)
        return rc;
    if (fetch_or(&frame_of(d, mfn)->type, TYPE_PINNED) & TYPE_PINNED) {
        put_frame_and_type(d, mfn);
        return -XEN_EINVAL;
    }
    return 0;
}

int unpin_table(struct domain *d, u64 mfn)
{
    if (!get_frame(d, mfn))
        return -XEN_EINVAL;
    int rc = -XEN_EINVAL;
    if (fetch_and(&frame_of(d, mfn)->type, ~TYPE_PINNED) & TYPE_PINNED) {
        put_frame_and_type(d, mfn);
        rc = 0;
    }
    put_frame(d, mfn);
    return rc;
}
