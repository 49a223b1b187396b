/* HYPERVISOR_grant_table_op (grant_table.h), version 2: changing over and back, status words, sub-page and transitive grants. */
#include "xenkit.h"

enum { map_ref, unmap_ref, setup_table, copy = 5, query_size, set_version = 8, get_status_frames, get_version, swap_ref };
enum { OKAY = 0, GENERAL = -1, BAD_DOMAIN = -2, BAD_REF = -3, BAD_VA = -5, PERMISSION = -8, BAD_COPY = -10 };
enum { PERMIT = 1, ACCEPT = 2, TRANSITIVE = 3, GTF_READONLY = 4, READING = 8, WRITING = 16, SUB_PAGE = 256 };
enum { HOST = 2, READONLY = 4 };
#define GRANT(op, arg, count) HC(NR_grant_table_op, op, arg, count, 0)

struct v1 { volatile u16 flags; volatile u16 dom; volatile u32 frame; };
struct v2 {
    volatile u16 flags, dom;
    volatile u16 offset, length; /* transitive: domain, then the reference in the next word */
    volatile u64 frame;
};
struct side { u64 ref; u16 dom; u16 offset; u32 pad; };
struct copy_op { struct side source, dest; u16 len; u16 flags; s16 status; u16 pad; };
struct map_op { u64 host_addr; u32 flags; u32 ref; u16 dom; s16 status; u32 handle; u64 dev_bus_addr; };
struct unmap_op { u64 host_addr; u64 dev_bus_addr; u32 handle; s16 status; u16 pad; };
struct setup_op { u16 dom; u16 pad; u32 frames; s16 status; u16 pad1; u32 pad2; u64 *list; };
struct status_op { u32 frames; u16 dom; s16 status; u64 *list; };
static struct v1 *one;
static struct v2 *two;
static volatile u16 *status;
static u16 self;

static s64 change(u32 version) { return GRANT(set_version, &version, 1); }

static u32 version(void)
{
    struct { u16 dom; u16 pad; u32 version; } v = { DOMID_SELF, 0, 0 };
    return GRANT(get_version, &v, 1) ? 99 : v.version;
}

static s16 frames_of_status(u32 count, u64 *list)
{
    struct status_op s = { count, DOMID_SELF, 99, list };
    return GRANT(get_status_frames, &s, 1) ? 98 : s.status;
}

static void grant(u32 ref, u64 frame, u16 flags)
{
    two[ref].frame = frame;
    two[ref].dom = self;
    asm volatile("" ::: "memory");
    two[ref].flags = flags;
}

static struct map_op do_map(const void *at, u32 ref, u32 flags)
{
    struct map_op m = { (u64)at, flags, ref, self, 99, ~0u, 0 };
    if (GRANT(map_ref, &m, 1))
        m.status = 98;
    return m;
}

static s16 do_unmap(const void *at, u32 handle)
{
    struct unmap_op u = { (u64)at, 0, handle, 99, 0 };
    return GRANT(unmap_ref, &u, 1) ? 98 : u.status;
}

/* LENGTH bytes from a grant at OFFSET, or with INTO to it. */
static s16 do_copy(u32 ref, const void *page, u16 offset, u16 length, int into)
{
    struct side granted = { ref, DOMID_SELF, offset, 0 }, own = { mfn_of(page), DOMID_SELF, 0, 0 };
    struct copy_op op = { into ? own : granted, into ? granted : own, length, into ? 2 : 1, 99, 0 };
    return GRANT(copy, &op, 1) ? 98 : op.status;
}

static void changing_over(void)
{
    u64 frames[64] = { 0 }, states[8] = { 0 };
    struct setup_op s = { DOMID_SELF, 0, 1, 99, 0, 0, frames };
    u8 *window = page_alloc(), *marks = page_alloc(), *page = page_alloc();
    self = own_domid();
    GRANT(setup_table, &s, 1);
    map_page(window, frames[0] * PAGE | PTE_P | PTE_W | PTE_A | PTE_D);
    one = (struct v1 *)window;
    two = (struct v2 *)window;
    one[4].frame = (u32)mfn_of(page);
    one[4].dom = self;
    one[4].flags = PERMIT | GTF_READONLY;
    one[5].flags = ACCEPT;
    one[20].flags = PERMIT;
    CHECK_EQ("one.status_frames", frames_of_status(1, states), GENERAL);
    CHECK_EQ("one.no_status_frames", frames_of_status(0, states), OKAY);
    CHECK_EQ("two.set", change(2), 0);
    CHECK_EQ("two.get", version(), 2);
    CHECK_EQ("two.set_again", change(2), 0);
    CHECK_EQ("two.refused_number", change(3), -EINVAL);
    CHECK_EQ("two.reserved.flags", two[4].flags, PERMIT | GTF_READONLY);
    CHECK_EQ("two.reserved.domain", two[4].dom, self);
    CHECK_EQ("two.reserved.frame", two[4].frame, mfn_of(page));
    CHECK_EQ("two.reserved.of_transfer", two[5].flags, ACCEPT);
    CHECK_EQ("two.others_cleared", two[10].flags | two[20].flags, 0);
    CHECK_EQ("two.status_frames", frames_of_status(1, states), OKAY);
    CHECK("two.status_frames.frame", states[0] && states[0] != frames[0]);
    CHECK_EQ("two.status_frames.too_many", frames_of_status(9, states), GENERAL);
    CHECK_EQ("two.status_frames.wild", frames_of_status(1, (u64 *)0x700000000000), BAD_VA);
    CHECK_EQ("two.status_frames.hypervisor", frames_of_status(1, (u64 *)HYPERVISOR_START), 98);
    struct status_op other = { 1, 77, 99, states };
    GRANT(get_status_frames, &other, 1);
    CHECK_EQ("two.status_frames.no_such_domain", other.status, BAD_DOMAIN);
    CHECK_EQ("two.status_frames.count_2", GRANT(get_status_frames, &other, 2), -EINVAL);
    CHECK_EQ("two.status.map", map_page(marks, states[0] * PAGE | PTE_P | PTE_W | PTE_A | PTE_D), 0);
    status = (volatile u16 *)marks;
    CHECK_EQ("two.status.cleared", status[4] | status[20], 0);
    CHECK_EQ("two.back_while_status_is_mapped", change(1), -EBUSY);
    CHECK_EQ("two.still", version(), 2);
    map_page(marks, 0);
    CHECK_EQ("one.back", change(1), 0);
    CHECK_EQ("one.get", version(), 1);
    CHECK_EQ("one.reserved.flags", one[4].flags, PERMIT | GTF_READONLY);
    CHECK_EQ("one.reserved.frame", one[4].frame, mfn_of(page));
    CHECK_EQ("one.reserved.of_transfer", one[5].flags, 0);
    CHECK_EQ("one.status_frames_gone", frames_of_status(1, states), GENERAL);
    CHECK("one.status_frame_closed", (s64)map_page(marks, states[0] * PAGE | PTE_P | PTE_W) < 0);
    change(2);
    frames_of_status(1, states);
    CHECK_EQ("two.status.map_again", map_page(marks, states[0] * PAGE | PTE_P | PTE_W | PTE_A | PTE_D), 0);
    two[4].flags = 0;
}

static void copies(void)
{
    u8 *from = page_alloc(), *to = page_alloc();
    for (int i = 0; i < 4096; i++)
        from[i] = (u8)(i * 7);
    grant(30, mfn_of(from), PERMIT);
    CHECK_EQ("copy.full", do_copy(30, to, 0, 4096, 0), OKAY);
    CHECK("copy.full.content", !memcmp(to, from, 4096));
    CHECK_EQ("copy.full.mark", status[30], 0);
    CHECK_EQ("copy.full.flags", two[30].flags, PERMIT);
    CHECK_EQ("copy.into", do_copy(30, to, 8, 8, 1), OKAY);
    CHECK("copy.into.content", !memcmp(from + 8, to, 8));
    grant(30, mfn_of(from), PERMIT | GTF_READONLY);
    CHECK_EQ("copy.into_read_only", do_copy(30, to, 8, 8, 1), GENERAL);
    CHECK_EQ("copy.into_read_only.mark", status[30], 0);
    two[30].dom = 1234;
    CHECK_EQ("copy.of_another", do_copy(30, to, 0, 8, 0), GENERAL);
    CHECK_EQ("copy.last_ref", do_copy(255, to, 0, 8, 0), GENERAL);
    CHECK_EQ("copy.ref_beyond", do_copy(256 * 64, to, 0, 8, 0), BAD_REF);
    two[31].offset = 100;
    two[31].length = 50;
    grant(31, mfn_of(from), PERMIT | SUB_PAGE);
    CHECK_EQ("part.copy", do_copy(31, to, 100, 50, 0), OKAY);
    CHECK("part.copy.content", !memcmp(to, from + 100, 50));
    CHECK_EQ("part.before", do_copy(31, to, 99, 10, 0), GENERAL);
    CHECK_EQ("part.behind", do_copy(31, to, 120, 31, 0), GENERAL);
    CHECK_EQ("part.over_the_page_end", do_copy(31, to, 4090, 10, 0), BAD_COPY);
    CHECK_EQ("part.into", do_copy(31, to, 149, 1, 1), OKAY);
    CHECK_EQ("part.into_too_far", do_copy(31, to, 150, 1, 1), GENERAL);
    CHECK_EQ("part.nothing_at_its_end", do_copy(31, to, 150, 0, 0), OKAY);
    CHECK_EQ("part.mark", status[31], 0);
    CHECK_EQ("part.map", do_map(to, 31, HOST).status, GENERAL);
    two[31].offset = 0x8000 + 10;
    CHECK_EQ("part.offset_of_16_bits", do_copy(31, to, 10, 50, 0), OKAY);
    two[32].offset = 77;
    two[32].frame = 9;
    grant(32, 9, TRANSITIVE);
    CHECK_EQ("transitive.no_such_domain", do_copy(32, to, 0, 8, 0), GENERAL);
    two[32].offset = self;
    CHECK_EQ("transitive.to_itself", do_copy(32, to, 0, 8, 0), GENERAL);
    CHECK_EQ("transitive.mark", status[32], 0);
    CHECK_EQ("transitive.map", do_map(to, 32, HOST).status, GENERAL);
    CHECK_EQ("bad_frame.copy", (grant(33, 0x7fffffffffful, PERMIT), do_copy(33, to, 0, 8, 0)), -9);
    CHECK_EQ("bad_frame.mark", status[33], 0);
    two[30].flags = two[31].flags = two[32].flags = two[33].flags = 0;
}

static void maps(void)
{
    u8 *page = page_alloc(), *at = page_alloc(), *again = page_alloc();
    grant(40, mfn_of(page), PERMIT);
    page[0] = 0x33;
    struct map_op m = do_map(at, 40, HOST), r;
    CHECK_EQ("map.status", m.status, OKAY);
    CHECK_EQ("map.content", *(volatile u8 *)at, 0x33);
    CHECK_EQ("map.mark", status[40], READING | WRITING);
    CHECK_EQ("map.flags_untouched", two[40].flags, PERMIT);
    CHECK_EQ("map.version_is_fixed", change(1), -EBUSY);
    r = do_map(again, 40, HOST | READONLY);
    CHECK_EQ("map.read_only_too", r.status, OKAY);
    CHECK_EQ("map.unmap", do_unmap(at, m.handle), OKAY);
    CHECK_EQ("map.unmap.mark", status[40], READING);
    two[40].flags = PERMIT | GTF_READONLY;
    CHECK_EQ("map.write_no_more", do_map(at, 40, HOST).status, GENERAL);
    CHECK_EQ("map.write_no_more.mark", status[40], READING);
    CHECK_EQ("map.unmap_read_only", do_unmap(again, r.handle), OKAY);
    CHECK_EQ("map.unmap_read_only.mark", status[40], 0);
    two[40].flags = 0;
    make_rw(at);
    make_rw(again);
}

static void swaps(void)
{
    u32 swap[3] = { 50, 51, 99 };
    grant(50, 0x123456789, PERMIT);
    status[50] = READING;
    two[51].flags = 0;
    CHECK_EQ("swap.answer", GRANT(swap_ref, swap, 1), 0);
    CHECK_EQ("swap.status", (s16)swap[2], OKAY);
    CHECK("swap.entries", two[51].frame == 0x123456789 && two[51].flags == PERMIT && !two[50].flags);
    CHECK("swap.marks", status[51] == READING && status[50] == 0);
    swap[0] = 256 * 64;
    GRANT(swap_ref, swap, 1);
    CHECK_EQ("swap.beyond", (s16)swap[2], BAD_REF);
    status[51] = two[51].flags = 0;
}

/* A reserved entry may be in use while the version changes. */
static void changing_in_use(void)
{
    u8 *page = page_alloc(), *at = page_alloc();
    grant(6, mfn_of(page), PERMIT);
    struct map_op m = do_map(at, 6, HOST);
    CHECK_EQ("in_use.map", m.status, OKAY);
    two[3].frame = 1ul << 32;
    two[3].flags = PERMIT;
    map_page((void *)status, 0);
    CHECK_EQ("in_use.large_frame", change(1), -ERANGE);
    two[3].flags = TRANSITIVE;
    CHECK_EQ("in_use.transitive", change(1), -ERANGE);
    two[3].flags = 0;
    CHECK_EQ("in_use.to_1", change(1), 0);
    CHECK_EQ("in_use.to_1.flags", one[6].flags, PERMIT | READING | WRITING);
    CHECK_EQ("in_use.to_2", change(2), 0);
    u64 states[8] = { 0 };
    frames_of_status(1, states);
    map_page((void *)status, states[0] * PAGE | PTE_P | PTE_W | PTE_A | PTE_D);
    CHECK_EQ("in_use.to_2.flags", two[6].flags, PERMIT);
    CHECK_EQ("in_use.to_2.mark", status[6], READING | WRITING);
    CHECK_EQ("in_use.unmap", do_unmap(at, m.handle), OKAY);
    CHECK_EQ("in_use.unmap.mark", status[6], 0);
    two[6].flags = 0;
    make_rw(at);
}

static void growth(void)
{
    u64 frames[64] = { 0 }, states[8] = { 0 };
    struct setup_op s = { DOMID_SELF, 0, 9, 99, 0, 0, frames };
    u8 *to = page_alloc();
    GRANT(setup_table, &s, 1);
    CHECK_EQ("growth.to_9", s.status, OKAY);
    CHECK_EQ("growth.status_frames", frames_of_status(2, states), OKAY);
    CHECK("growth.status_frames.differ", states[1] && states[0] != states[1]);
    CHECK_EQ("growth.last_ref", do_copy(9 * 256 - 1, to, 0, 8, 0), GENERAL);
    s.frames = 64;
    s.status = 99;
    GRANT(setup_table, &s, 1);
    CHECK_EQ("growth.to_64", s.status, OKAY);
    CHECK("growth.to_64.frame", frames[63] && frames[63] != frames[62]);
    CHECK_EQ("growth.to_64.status_frames", frames_of_status(8, states), OKAY);
    s.frames = 65;
    GRANT(setup_table, &s, 1);
    CHECK_EQ("growth.to_65", s.status, GENERAL);
    map_page((void *)status, 0);
    CHECK_EQ("growth.back", change(1), 0);
    struct { u16 dom; u16 pad; u32 frames, max; s16 status; u16 pad1; } q = { DOMID_SELF, 0, 0, 0, 99, 0 };
    GRANT(query_size, &q, 1);
    CHECK_EQ("growth.size_stays", q.frames, 64);
}

PROBE(TEST(changing_over, 30), TEST(copies, 28), TEST(maps, 12), TEST(swaps, 5), TEST(changing_in_use, 10), TEST(growth, 10));
