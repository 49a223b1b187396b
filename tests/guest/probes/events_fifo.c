/* FIFO event channels (event_channel.h): choosing them, linking, priorities, a guest that spoils its own words, and back. */
#include "xenkit.h"

#define W_PENDING (1u << 31)
#define W_MASKED (1u << 30)
#define W_LINKED (1u << 29)
#define W_BUSY (1u << 28)
#define W_LINK 0x1ffffu
#define WORDS 1024
#define LAST_OFFSET (4096 - sizeof(struct control))

struct control {
    volatile u32 ready, reserved, head[16];
};
static struct control *control;
static volatile u32 *word; /* of the first 1024 ports */
static u32 a, b;

static s64 init_control(u64 gfn, u32 offset, u32 vcpu)
{
    struct { u64 gfn; u32 offset; u32 vcpu; u8 link_bits; u8 pad[7]; } init = { gfn, offset, vcpu, 0, { 0 } };
    s64 rc = hc_event(EVTCHNOP_init_control, &init);
    return rc ? rc : init.link_bits;
}

static s64 expand_array(u64 gfn)
{
    return hc_event(EVTCHNOP_expand_array, &gfn);
}

static s64 set_priority(u32 port, u32 priority)
{
    u32 arg[2] = { port, priority };
    return hc_event(EVTCHNOP_set_priority, arg);
}

static s64 unmask(u32 port)
{
    return hc_event(EVTCHNOP_unmask, &port);
}

/* As if every queue had been emptied. */
static void settle(void)
{
    events_disable();
    events_reset();
    for (u32 i = 0; i < WORDS; i++)
        word[i] = 0;
    control->ready = 0;
    VCPU0->upcall_pending = 0;
    VCPU0->pending_sel = 0;
    events_leave = 1;
}

static void before(void)
{
    a = (u32)bind_ipi(0);
    b = (u32)bind_ipi(0);
    control = (struct control *)((u8 *)page_alloc() + LAST_OFFSET);
    word = page_alloc();
    CHECK_EQ("before.expand", expand_array(mfn_of(word)), -EOPNOTSUPP);
    CHECK_EQ("before.priority", set_priority(a, 3), -ENOSYS);
    CHECK_EQ("before.priority_bad_port", set_priority(131072, 3), -EINVAL);
    CHECK_EQ("init.bad_vcpu", init_control(mfn_of(control), 0, 4000), -ENOENT);
    CHECK_EQ("init.offset_too_high", init_control(mfn_of(control), LAST_OFFSET + 8, 0), -EINVAL);
    CHECK_EQ("init.offset_huge", init_control(mfn_of(control), 0xfffffff8, 0), -EINVAL);
    CHECK_EQ("init.offset_odd", init_control(mfn_of(control), 4, 0), -EINVAL);
    CHECK_EQ("init.bad_frame", init_control(0xfffffffffffff, 0, 0), -EINVAL);
    CHECK_EQ("init.all_ones_frame", init_control(~0ul, 0, 0), -EINVAL);
    CHECK_EQ("init.page_table", init_control(mfn_of(kernel_l4()), 0, 0), -EINVAL);
    events_disable();
    evtchn_send(a);
    CHECK("before.still_two_levels", port_pending(a));
}

/* What was pending with two levels, and what is raised before its word is there, is shown with the word. */
static void choose(void)
{
    CHECK_EQ("init", init_control(mfn_of(control), LAST_OFFSET, 0), 17);
    CHECK_EQ("init.twice", init_control(mfn_of(control), LAST_OFFSET, 0), -EINVAL);
    VCPU0->upcall_pending = 0;
    CHECK_EQ("early.send", evtchn_send(b), 0);
    CHECK_EQ("early.no_upcall", VCPU0->upcall_pending, 0);
    CHECK_EQ("early.unmask", unmask(b), 0);
    CHECK_EQ("expand.bad_frame", expand_array(0xfffffffffffff), -EINVAL);
    CHECK_EQ("expand.page_table", expand_array(mfn_of(kernel_l4())), -EINVAL);
    CHECK_EQ("expand", expand_array(mfn_of(word)), 0);
    CHECK_EQ("carried.first", word[a], W_PENDING | W_LINKED | b);
    CHECK_EQ("carried.second", word[b], W_PENDING | W_LINKED);
    CHECK_EQ("carried.head", control->head[7], a);
    CHECK_EQ("carried.ready", control->ready, 1u << 7);
    CHECK_EQ("carried.upcall", VCPU0->upcall_pending, 1);
}

static void linking(void)
{
    settle();
    CHECK_EQ("link.send", evtchn_send(a), 0);
    CHECK_EQ("link.first", word[a], W_PENDING | W_LINKED);
    CHECK_EQ("link.head", control->head[7], a);
    CHECK_EQ("link.ready", control->ready, 1u << 7);
    CHECK_EQ("link.upcall", VCPU0->upcall_pending, 1);
    VCPU0->upcall_pending = 0;
    control->ready = 0;
    evtchn_send(a);
    CHECK_EQ("again.word", word[a], W_PENDING | W_LINKED);
    CHECK_EQ("again.no_upcall", VCPU0->upcall_pending | control->ready, 0);
    evtchn_send(b);
    CHECK_EQ("behind.link", word[a], W_PENDING | W_LINKED | b);
    CHECK_EQ("behind.no_ready", control->ready, 0); /* the guest is told of a new head only */
    word[a] &= ~W_PENDING; /* handled, still in the queue: */
    evtchn_send(a);
    CHECK_EQ("pending_while_linked", word[a], W_PENDING | W_LINKED | b);
    word[a] = 0; /* taken out; then the tail also, and the queue is empty */
    evtchn_send(a);
    CHECK_EQ("rejoined.word", word[a], W_PENDING | W_LINKED);
    CHECK_EQ("rejoined.behind_tail", word[b], W_PENDING | W_LINKED | a);
    word[b] = word[a] = 0;
    evtchn_send(a);
    CHECK_EQ("emptied.head", control->head[7], a);
    CHECK_EQ("emptied.own_tail_no_loop", word[a], W_PENDING | W_LINKED);
}

static void masking(void)
{
    settle();
    word[a] = W_MASKED;
    CHECK_EQ("masked.send", evtchn_send(a), 0);
    CHECK_EQ("masked.word", word[a], W_PENDING | W_MASKED);
    CHECK_EQ("masked.quiet", VCPU0->upcall_pending | control->ready, 0);
    CHECK_EQ("unmask", unmask(a), 0);
    CHECK_EQ("unmask.word", word[a], W_PENDING | W_LINKED);
    CHECK_EQ("unmask.head", control->head[7], a);
    CHECK_EQ("unmask.upcall", VCPU0->upcall_pending, 1);
    word[a] = W_PENDING | W_LINKED | W_MASKED;
    CHECK_EQ("unmask.linked", unmask(a), 0);
    CHECK_EQ("unmask.linked.word", word[a], W_PENDING | W_LINKED);
    settle();
    word[a] = W_MASKED;
    CHECK_EQ("unmask.idle", unmask(a), 0);
    CHECK_EQ("unmask.idle.word", word[a], 0);
    CHECK_EQ("unmask.idle.quiet", VCPU0->upcall_pending, 0);
    word[a] = W_PENDING; /* not masked, not linked: unmask links all the same */
    unmask(a);
    CHECK_EQ("unmask.unlinked", word[a], W_PENDING | W_LINKED);
}

static void priorities(void)
{
    u32 closed = (u32)bind_ipi(0);
    settle();
    evtchn_close(closed);
    CHECK_EQ("priority.16", set_priority(a, 16), -EINVAL);
    CHECK_EQ("priority.closed_port", set_priority(closed, 3), -EACCES);
    CHECK_EQ("priority.bad_port", set_priority(131072, 3), -EINVAL);
    evtchn_send(a);
    word[a] = 0;
    CHECK_EQ("priority", set_priority(a, 15), 0);
    control->ready = 0;
    evtchn_send(a);
    CHECK_EQ("priority.head", control->head[15], a);
    CHECK_EQ("priority.ready", control->ready, 1u << 15);
    evtchn_send(b); /* the old queue's tail has moved away: not linked behind it */
    CHECK_EQ("priority.old_queue.head", control->head[7], b);
    CHECK_EQ("priority.old_queue.no_link", word[a], W_PENDING | W_LINKED);
    CHECK_EQ("priority.both_ready", control->ready, 1u << 15 | 1u << 7);
    CHECK_EQ("priority.while_linked", set_priority(a, 0), 0);
    word[a] &= ~W_PENDING;
    evtchn_send(a);
    CHECK_EQ("priority.while_linked.stays", control->ready, 1u << 15 | 1u << 7);
    word[a] = 0;
    evtchn_send(a);
    CHECK_EQ("priority.highest", control->head[0], a);
    CHECK_EQ("priority.highest.ready", control->ready, 1u << 15 | 1u << 7 | 1);
    set_priority(a, 7);
}

static void upcall(void)
{
    settle();
    events_enable();
    evtchn_send(a);
    hc_version(0, 0);
    CHECK_EQ("upcall.once", upcalls, 1);
    evtchn_send(a);
    hc_version(0, 0);
    CHECK_EQ("upcall.not_while_linked", upcalls, 1);
    word[a] = 0;
    control->ready = 0;
    evtchn_send(a);
    hc_version(0, 0);
    CHECK_EQ("upcall.again", upcalls, 2);
    events_disable();
    settle();
    for (u32 i = 0; i < 64; i++)
        shared_info->evtchn_pending[i] = 0;
    evtchn_send(a);
    CHECK_EQ("two_levels.unused", port_pending(a), 0);
    CHECK_EQ("two_levels.selector_unused", VCPU0->pending_sel, 0);
}

static void poll(void)
{
    u32 timer = (u32)bind_virq(VIRQ_TIMER, 0), port = a;
    struct sched_poll p = { &port, 1, 0, 0 };
    u64 start;
    hc_vcpu(VCPUOP_stop_periodic_timer, 0, 0);
    settle();
    word[a] = W_MASKED;
    evtchn_send(a);
    CHECK_EQ("poll.pending", hc_sched(SCHEDOP_poll, &p), 0);
    port = timer;
    word[timer] = W_MASKED;
    start = now_ns();
    HC(NR_set_timer_op, start + 20000000, 0, 0, 0);
    p.timeout = start + 2000000000;
    CHECK_EQ("poll.timer", hc_sched(SCHEDOP_poll, &p), 0);
    CHECK("poll.timer.woken", now_ns() - start < 1500000000);
    CHECK_EQ("poll.timer.word", word[timer], W_MASKED | W_PENDING);
    port = 131072;
    CHECK_EQ("poll.bad_port", hc_sched(SCHEDOP_poll, &p), -EINVAL);
    evtchn_close(timer);
    CHECK_EQ("close.pending_cleared", word[timer], W_MASKED);
}

/* A closed port is free for another use when the guest has taken it out of its queue. */
static void closing(void)
{
    settle();
    u32 port = (u32)bind_ipi(0), other;
    evtchn_send(port);
    evtchn_close(port);
    CHECK_EQ("close.stays_linked", word[port], W_LINKED);
    other = (u32)bind_ipi(0);
    CHECK("close.busy_port_is_not_bound", other > 0 && other != port);
    evtchn_close(other);
    word[port] = 0;
    CHECK_EQ("close.free_port_is_bound", bind_ipi(0), port);
    set_priority(port, 2);
    evtchn_close(port);
    bind_ipi(0);
    control->ready = 0;
    evtchn_send(port);
    CHECK_EQ("bind.default_priority", control->ready, 1u << 7);
    evtchn_close(port);
}

/* The guest's words are its own to spoil. */
static void spoilt(void)
{
    settle();
    evtchn_send(a);
    word[a] |= W_LINK;
    evtchn_send(b);
    CHECK_EQ("spoilt.link_is_replaced", word[a], W_PENDING | W_LINKED | b);
    settle();
    evtchn_send(a);
    word[a] |= W_BUSY;
    evtchn_send(b);
    CHECK_EQ("spoilt.busy_is_cleared", word[a], W_PENDING | W_LINKED | b);
    settle();
    word[a] = W_LINKED | 0x1fff0;
    evtchn_send(a);
    CHECK_EQ("spoilt.linked_to_nowhere", word[a], W_PENDING | W_LINKED | 0x1fff0);
    settle();
    word[a] = 0xffffffff;
    evtchn_send(a);
    CHECK_EQ("spoilt.all_ones", word[a], 0xffffffff);
    settle();
    word[a] = 0x1fff;
    evtchn_send(a);
    CHECK_EQ("spoilt.link_without_linked", word[a], W_PENDING | W_LINKED | 0x1fff);
    evtchn_send(b);
    CHECK_EQ("spoilt.link_without_linked.next", word[a], W_PENDING | W_LINKED | b);
    settle();
    for (u32 i = 0; i < 16; i++)
        control->head[i] = 0xffffffff;
    control->ready = 0xffffffff;
    evtchn_send(a);
    CHECK_EQ("spoilt.head_is_replaced", control->head[7], a);
    CHECK_EQ("spoilt.ready_already", VCPU0->upcall_pending, 0);
    settle();
    for (u32 i = 0; i < 20000; i++) { /* words and heads of chance */
        u32 chance = i * 2654435761u;
        word[chance >> 8 & 1 ? a : b] = chance ^ chance >> 13;
        control->head[7] = chance;
        evtchn_send(chance >> 9 & 1 ? a : b);
        if (chance >> 10 & 1)
            unmask(chance >> 11 & 1 ? a : b);
    }
    settle();
    word[a] = word[b] = 0;
    evtchn_send(a);
    CHECK_EQ("spoilt.works_on", word[a], W_PENDING | W_LINKED);
}

/* More ports than two levels have: 5 pages of words, the last four of them one frame. */
static void many(void)
{
    volatile u32 *more = page_alloc();
    u32 first = 0, last = 0;
    settle();
    for (u32 i = 0; i < 4200; i++) {
        s64 port = bind_ipi(0);
        if (port <= 0)
            break;
        first = first ? first : (u32)port;
        last = (u32)port;
    }
    CHECK("many.beyond_two_levels", last >= 4200 && last < 4300);
    CHECK_EQ("many.early_send", evtchn_send(last), 0);
    for (u32 page = 1; page < 4; page++)
        expand_array(mfn_of(more));
    CHECK_EQ("many.not_yet", control->ready, 0);
    CHECK_EQ("many.last_page", expand_array(mfn_of(more)), 0);
    CHECK_EQ("many.carried", more[last % WORDS], W_PENDING | W_LINKED);
    CHECK_EQ("many.head", control->head[7], last);
    evtchn_send(a);
    CHECK_EQ("many.across_pages", more[last % WORDS], W_PENDING | W_LINKED | a);
    for (u32 page = 5; page < 128; page++)
        if (expand_array(mfn_of(more)))
            printk("# page %u refused\n", page);
    CHECK_EQ("many.full", expand_array(mfn_of(more)), -ENOSPC);
    CHECK_EQ("many.send_beyond", evtchn_send(131072), -EINVAL);
    for (u32 port = first; port <= last; port++)
        evtchn_close(port);
    for (u32 i = 0; i < WORDS; i++)
        more[i] = 0;
}

/* The pages are held writable: none becomes a page table until a reset gives them back. */
static void reset(void)
{
    u16 self = DOMID_SELF;
    u8 *page = (u8 *)((u64)control & ~(PAGE - 1));
    s64 port;
    settle();
    make_ro(page);
    CHECK("held.pin", mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0) < 0);
    make_rw(page);
    CHECK_EQ("reset", hc_event(EVTCHNOP_reset, &self), 0);
    CHECK_EQ("reset.closed", evtchn_send(a), -EINVAL);
    CHECK_EQ("reset.two_levels.expand", expand_array(mfn_of(word)), -EOPNOTSUPP);
    memset(page, 0, PAGE);
    make_ro(page);
    CHECK_EQ("reset.pin", mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), 0);
    CHECK_EQ("reset.unpin", mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page), 0), 0);
    make_rw(page);
    port = bind_ipi(0);
    clear_port((u32)port);
    word[port] = 0;
    evtchn_send((u32)port);
    CHECK("reset.two_levels.pending", port > 0 && port_pending((u32)port));
    CHECK_EQ("reset.two_levels.word", word[port], 0);
    CHECK_EQ("reset.init_again", init_control(mfn_of(page), 0, 0), 17);
    CHECK_EQ("reset.expand_again", expand_array(mfn_of(word)), 0);
    CHECK_EQ("reset.carried", word[port] & ~W_LINK, W_PENDING | W_LINKED);
}

PROBE(TEST(before, 11), TEST(choose, 13), TEST(linking, 14), TEST(masking, 13), TEST(priorities, 13), TEST(upcall, 5),
      TEST(poll, 6), TEST(closing, 4), TEST(spoilt, 9), TEST(many, 9), TEST(reset, 11));
