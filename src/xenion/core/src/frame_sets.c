/* What other threads leave for the vCPU's own: frames that Dom0 wrote, whose translated code is stale, and frames that it gave
 * back last, which are freed. */
#include "core.h"

#include "api.h"

#define WORD_BITS 64

/* Any thread. The upper bit is looked at after the lower one is set: if it is there, whoever takes it finds the lower one. */
void frame_set_add(struct frame_set *s, u64 mfn)
{
    u64 word = mfn / WORD_BITS, bit = 1ull << word % WORD_BITS;
    fetch_or(&s->frames[word], 1ull << mfn % WORD_BITS);
    if (!(load(&s->words[word / WORD_BITS]) & bit))
        fetch_or(&s->words[word / WORD_BITS], bit);
}

int frame_set_has(struct frame_set *s, u64 mfn) { return s->frames && load(&s->frames[mfn / WORD_BITS]) >> mfn % WORD_BITS & 1; }

static void drain_word(struct domain *d, struct frame_set *s, u64 word, void (*act)(struct domain *, u64 mfn))
{
    for (u64 bits = swap(&s->frames[word], 0); bits; bits &= bits - 1)
        act(d, word * WORD_BITS + (u64)__builtin_ctzll(bits));
}

/* The vCPU's own thread: ACT on each frame of the set, which is empty then. */
void frame_set_drain(struct domain *d, struct frame_set *s, void (*act)(struct domain *, u64 mfn))
{
    if (likely(!load(&s->any)) || !swap(&s->any, 0))
        return;
    for (u64 i = 0; i < (d->nr_frames + WORD_BITS * WORD_BITS - 1) / (WORD_BITS * WORD_BITS); i++) {
        if (!load(&s->words[i]))
            continue;
        for (u64 words = swap(&s->words[i], 0); words; words &= words - 1)
            drain_word(d, s, i * WORD_BITS + (u64)__builtin_ctzll(words), act);
    }
}

/* The frame is in the set before the platform is asked for code, which asks the set after it has code: one sees the other. A
 * frame without code stays in the set, at no cost, until the vCPU looks for another reason. */
void note_host_write(struct domain *d, u64 mfn, int *stale)
{
    if (mfn >= d->nr_frames)
        return;
    frame_set_add(&d->written, mfn);
    *stale |= d->platform->has_code(d, mfn);
}

/* The vCPU leaves guest code before it sees what is stored after this. */
void host_wrote_code(struct domain *d)
{
    store(&d->written.any, 1);
    wake_all(d);
}

static void forget_code(struct domain *d, u64 mfn) { d->platform->code_written(d, mfn << PAGE_SHIFT, PAGE_SIZE); }

/* The vCPU's own thread, before its guest goes on. */
void see_to_frames(struct domain *d)
{
    frame_set_drain(d, &d->written, forget_code);
    frame_set_drain(d, &d->dropped, put_frame);
}

/* Any thread: the host has written into these COUNT frames. The guest is told, by a word in its memory or an event, after it. */
void core_host_wrote(struct domain *d, const u64 *mfns, u32 count)
{
    int stale = 0;
    for (u32 i = 0; i < count; i++)
        note_host_write(d, mfns[i], &stale);
    if (stale)
        host_wrote_code(d);
}

/* Any thread: gives a reference back, and with WRITABLE one to the type. The frame's last is left to the vCPU's thread, the
 * only one that frees: it is still counted until then. */
void core_drop_frame(struct domain *d, u64 mfn, int writable)
{
    struct frame *f = frame_of(d, mfn);
    if (!f)
        return;
    if (writable)
        fetch_add(&f->type, (u64)-1); /* no table's, and what it says of the guest's mappings stays: see put_frame_type */
    u32 count = load(&f->count);
    do {
        if ((count & FRAME_COUNT) == 1) {
            frame_set_add(&d->dropped, mfn);
            store(&d->dropped.any, 1);
            return;
        }
    } while (!cas(&f->count, &count, count - 1));
}
