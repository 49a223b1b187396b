/* FIFO event channels: one word a port in pages of the guest's, linked into a queue for each priority and vCPU
 * (event_channel.h). The guest may write those words and the queues' heads at any time: a link is only ever stored here,
 * never followed, and where a queue ends is kept out of the guest's reach. */
#include "core.h"

#include "api.h"

#define PENDING (1u << EVTCHN_FIFO_PENDING)
#define MASKED (1u << EVTCHN_FIFO_MASKED)
#define LINKED (1u << EVTCHN_FIFO_LINKED)
#define BUSY (1u << EVTCHN_FIFO_BUSY)

/* A well-behaved guest can get in between this often: clear PENDING, clear and set MASKED, unlink. */
#define LINK_TRIES 4

struct control_block { /* struct evtchn_fifo_control_block */
    u32 ready;
    u32 reserved;
    u32 head[FIFO_QUEUES];
};

/* The port's event word; NULL: the guest has not given it yet. */
static u32 *event_word(struct domain *d, u32 port)
{
    if (port >= load(&d->fifo_words) || port >= MAX_PORTS)
        return NULL;
    u64 page = d->fifo_array[port / FIFO_PAGE_WORDS];
    return (u32 *)(d->memory + page + port % FIFO_PAGE_WORDS * sizeof(u32));
}

static struct control_block *control_of(struct vcpu *v)
{
    u64 ma = load(&v->control_block);
    return ma ? (struct control_block *)(v->domain->memory + ma) : NULL;
}

static void lock_queues(struct domain *d)
{
    u32 open = 0;
    while (!cas(&d->fifo_lock, &open, 1)) {
        open = 0;
        __builtin_ia32_pause();
    }
}

static void unlock_queues(struct domain *d) { store(&d->fifo_lock, 0); }

/* Has the event at the tail lead to PORT. 0: the guest has taken the tail already, so its queue is empty. BUSY keeps
 * the guest from unmasking; one that changes the word all the same loses the event. */
static int link_behind(u32 *tail, u32 port)
{
    u32 old = load(tail);
    for (u32 tries = 0; tries <= LINK_TRIES; tries++) {
        if (!(old & LINKED)) {
            if (tries)
                fetch_and(tail, ~BUSY);
            return 0;
        }
        if (cas(tail, &old, (old & ~(BUSY | EVTCHN_FIFO_LINK_MASK)) | port))
            return 1;
        if (!tries)
            old = fetch_or(tail, BUSY) | BUSY;
    }
    fetch_and(tail, ~BUSY);
    return 1;
}

/* Puts a newly linked event at the end of its queue. 1: it is the queue's head, which the guest must be told. */
static int enqueue(struct vcpu *v, struct control_block *control, u32 port, u32 priority)
{
    struct domain *d = v->domain;
    struct port *p = &d->ports[port];
    u32 *old_tail = &d->vcpus[p->last_vcpu % MAX_VCPUS].queue_tail[p->last_priority % FIFO_QUEUES];
    u32 *tail = &v->queue_tail[priority];
    if (*old_tail == port) /* it was taken off: that queue is empty, and must not be continued behind it */
        *old_tail = 0;
    p->last_vcpu = (u16)v->id;
    p->last_priority = (u8)priority;
    u32 *word = *tail ? event_word(d, *tail) : NULL;
    int head = !word || !link_behind(word, port);
    if (head)
        store(&control->head[priority], port);
    *tail = port;
    return head;
}

/* An event for a vCPU without a control block is dropped: its guest must not have unmasked it yet. */
static void fifo_set_pending(struct domain *d, u32 port)
{
    struct port *p = &d->ports[port];
    struct vcpu *v = &d->vcpus[p->vcpu % MAX_VCPUS];
    struct control_block *control = control_of(v);
    u32 *word = event_word(d, port), priority = p->priority % FIFO_QUEUES;
    int head = 0;
    if (!word)
        p->pending = 1;
    if (!word || !control)
        return;
    lock_queues(d);
    u32 old = fetch_or(word, PENDING);
    if (!(old & MASKED) && !(fetch_or(word, LINKED) & LINKED))
        head = enqueue(v, control, port, priority);
    unlock_queues(d);
    if (head && !(fetch_or(&control->ready, 1u << priority) & 1u << priority))
        mark_upcall(v);
    if (!(old & PENDING))
        wake_pollers(d, port);
}

/* The word stays linked: the guest unlinks it and passes over what is not pending. */
static void fifo_clear_pending(struct domain *d, u32 port)
{
    u32 *word = event_word(d, port);
    d->ports[port].pending = 0;
    if (word)
        fetch_and(word, ~PENDING);
}

static int word_has(struct domain *d, u32 port, u32 bit)
{
    u32 *word = event_word(d, port);
    return word && (load(word) & bit) != 0;
}

static int fifo_is_pending(struct domain *d, u32 port) { return word_has(d, port, PENDING); }

static int fifo_is_busy(struct domain *d, u32 port) { return word_has(d, port, LINKED); }

static void fifo_unmask(struct domain *d, u32 port)
{
    u32 *word = event_word(d, port);
    if (word && fetch_and(word, ~MASKED) & PENDING)
        fifo_set_pending(d, port);
}

const struct event_ops fifo_ops = {
    .ports = EVTCHN_FIFO_NR_CHANNELS,
    .set_pending = fifo_set_pending,
    .clear_pending = fifo_clear_pending,
    .unmask = fifo_unmask,
    .is_pending = fifo_is_pending,
    .is_busy = fifo_is_busy,
};

/* What is pending now is shown again when the guest gives its event word. */
static void choose_fifo(struct domain *d)
{
    for (u32 port = 1; port < EVTCHN_2L_NR_CHANNELS; port++)
        d->ports[port].pending = load(&d->ports[port].state) && event_ops(d)->is_pending(d, port);
    store(&d->fifo, 1);
}

/* Gives a vCPU its control block, OFFSET bytes into frame MFN (in bounds and aligned: the caller has checked). The first
 * one turns the domain to FIFO. 0 or -EINVAL. */
int core_fifo_init(struct vcpu *v, u64 mfn, u32 offset)
{
    if (v->control_block || get_frame_and_type(v->domain, mfn, TYPE_WRITABLE))
        return -XEN_EINVAL;
    store(&v->control_block, (mfn << PAGE_SHIFT) + offset);
    if (!v->domain->fifo)
        choose_fifo(v->domain);
    return 0;
}

/* Takes frame MFN as the next page of event words. 0, -EOPNOTSUPP, -ENOSPC or -EINVAL. */
int core_fifo_expand(struct domain *d, u64 mfn)
{
    u32 first = d->fifo_words;
    if (!d->fifo)
        return -XEN_EOPNOTSUPP;
    if (first / FIFO_PAGE_WORDS >= FIFO_PAGES)
        return -XEN_ENOSPC;
    if (get_frame_and_type(d, mfn, TYPE_WRITABLE))
        return -XEN_EINVAL;
    d->fifo_array[first / FIFO_PAGE_WORDS] = mfn << PAGE_SHIFT;
    store(&d->fifo_words, first + FIFO_PAGE_WORDS);
    for (u32 port = first; port < first + FIFO_PAGE_WORDS; port++)
        if (d->ports[port].pending) {
            d->ports[port].pending = 0;
            fifo_set_pending(d, port);
        }
    return 0;
}

static void forget_queues(struct vcpu *v)
{
    if (v->control_block)
        put_frame_and_type(v->domain, v->control_block >> PAGE_SHIFT);
    v->control_block = 0;
    __builtin_memset(v->queue_tail, 0, sizeof v->queue_tail);
}

/* Back to two levels, the guest's pages given back; no other vCPU runs. Ports that are still bound become pending, since
 * what they had to say may have been lost. */
void core_fifo_leave(struct domain *d)
{
    if (!d->fifo)
        return;
    u32 words = d->fifo_words;
    store(&d->fifo, 0);
    store(&d->fifo_words, 0);
    for (u32 i = 0; i < words / FIFO_PAGE_WORDS; i++)
        put_frame_and_type(d, d->fifo_array[i] >> PAGE_SHIFT);
    for (u32 i = 0; i < d->nr_vcpus; i++)
        forget_queues(&d->vcpus[i]);
    for (u32 port = 1; port < EVTCHN_2L_NR_CHANNELS; port++)
        if (load(&d->ports[port].state))
            set_pending(d, port);
}
