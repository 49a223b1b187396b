/* HYPERVISOR_grant_table_op (grant_table.h): the table itself, copies within the domain, refused maps. */
#include "xenkit.h"

enum { map_ref, unmap_ref, setup_table, dump_table, transfer, copy, query_size, unmap_and_replace, set_version,
       get_status_frames, get_version, swap_ref };
enum { OKAY = 0, GENERAL = -1, BAD_DOMAIN = -2, BAD_REF = -3, BAD_HANDLE = -4, BAD_VA = -5, PERMISSION = -8, BAD_PAGE = -9,
       BAD_COPY = -10 };
#define GRANT(op, arg, count) HC(NR_grant_table_op, op, arg, count, 0)

struct entry { volatile u16 flags; volatile u16 dom; volatile u32 frame; };
struct side { u64 ref; u16 dom; u16 offset; u32 pad; };
struct copy_op { struct side source, dest; u16 len; u16 flags; s16 status; u16 pad; };
struct map_op { u64 host_addr; u32 flags; u32 ref; u16 dom; s16 status; u32 handle; u64 dev_bus_addr; };
struct unmap_op { u64 host_addr; u64 dev_bus_addr; u32 handle; s16 status; u16 pad; };
struct setup_op { u16 dom; u16 pad; u32 frames; s16 status; u16 pad1; u32 pad2; u64 *list; };
static struct entry *table;

static void sizes(void)
{
    struct { u16 dom; u16 pad; u32 frames, max; s16 status; u16 pad1; } q = { DOMID_SELF, 0, 0, 0, 99, 0 };
    struct { u16 dom; u16 pad; u32 version; } v = { DOMID_SELF, 0, 0 };
    u32 version = 1;
    CHECK_EQ("query_size.answer", GRANT(query_size, &q, 1), 0);
    CHECK_EQ("query_size.status", q.status, OKAY);
    CHECK("query_size.numbers", q.frames >= 1 && q.max >= 4 && q.frames <= q.max);
    q.dom = 77;
    CHECK_EQ("query_size.no_such_domain", GRANT(query_size, &q, 1), 0);
    CHECK_EQ("query_size.no_such_domain.status", q.status, BAD_DOMAIN);
    CHECK_EQ("query_size.count_2", GRANT(query_size, &q, 2), -EINVAL);
    CHECK_EQ("get_version.answer", GRANT(get_version, &v, 1), 0);
    CHECK_EQ("get_version.is_1", v.version, 1);
    CHECK_EQ("set_version.1", GRANT(set_version, &version, 1), 0);
    CHECK_EQ("set_version.1_reads", version, 1);
    version = 3;
    CHECK_EQ("set_version.3", GRANT(set_version, &version, 1), -EINVAL);
    version = 2;
    s64 rc = GRANT(set_version, &version, 1); /* Xenion offers version 1 only and says so */
    CHECK("set_version.2", rc == 0 || rc == -ENOSYS);
    version = 1;
    CHECK_EQ("set_version.back", GRANT(set_version, &version, 1), 0);
}

static void setup(void)
{
    u64 frames[64] = { 0 };
    struct setup_op s = { DOMID_SELF, 0, 1, 99, 0, 0, frames };
    u8 *window = page_alloc();
    CHECK_EQ("setup.answer", GRANT(setup_table, &s, 1), 0);
    CHECK_EQ("setup.status", s.status, OKAY);
    CHECK("setup.frame", frames[0] != 0);
    CHECK_EQ("setup.map", map_page(window, frames[0] * PAGE | PTE_P | PTE_W | PTE_A | PTE_D), 0);
    table = (struct entry *)window;
    table[20].dom = 0x1234;
    CHECK_EQ("setup.writable", table[20].dom, 0x1234);
    table[20].dom = 0;
    u64 first = frames[0];
    s.frames = 3;
    CHECK_EQ("setup.grow.answer", GRANT(setup_table, &s, 1), 0);
    CHECK_EQ("setup.grow.status", s.status, OKAY);
    CHECK("setup.grow.frames", frames[0] == first && frames[1] && frames[2] && frames[1] != frames[2]);
    s.frames = 100000;
    CHECK_EQ("setup.too_many.answer", GRANT(setup_table, &s, 1), 0);
    CHECK_EQ("setup.too_many.status", s.status, GENERAL);
    s.frames = 1;
    s.dom = 77;
    GRANT(setup_table, &s, 1);
    CHECK_EQ("setup.no_such_domain", s.status, BAD_DOMAIN);
    s.dom = DOMID_SELF;
    s.list = (u64 *)0x700000000000;
    CHECK_EQ("setup.wild_list.answer", GRANT(setup_table, &s, 1), 0);
    CHECK_EQ("setup.wild_list.status", s.status, BAD_VA);
    CHECK_EQ("setup.table_is_no_page_of_ours", mmuext(MMUEXT_PIN_L1_TABLE, first, 0), -EINVAL);
}

static s16 do_copy(struct copy_op *op)
{
    op->status = 99;
    return GRANT(copy, op, 1) ? 98 : op->status;
}

static void copies(void)
{
    u8 *from = page_alloc(), *to = page_alloc();
    struct copy_op op = { { mfn_of(from), DOMID_SELF, 16, 0 }, { mfn_of(to), DOMID_SELF, 32, 0 }, 100, 0, 99, 0 };
    for (int i = 0; i < 4096; i++)
        from[i] = (u8)(i * 7);
    CHECK_EQ("copy.mfn_to_mfn", do_copy(&op), OKAY);
    CHECK("copy.content", !memcmp(to + 32, from + 16, 100) && to[31] == 0 && to[132] == 0);
    op.source.offset = 4000;
    CHECK_EQ("copy.over_the_page_end", do_copy(&op), BAD_COPY);
    op.source.offset = 16;
    op.dest.offset = 4090;
    CHECK_EQ("copy.dest_over_the_page_end", do_copy(&op), BAD_COPY);
    op.dest.offset = 0;
    op.len = 4097;
    CHECK_EQ("copy.too_long", do_copy(&op), BAD_COPY);
    op.len = 10;
    op.source.ref = 0x7ffffff;
    CHECK_EQ("copy.bad_mfn", do_copy(&op), BAD_PAGE);
    op.source.ref = mfn_of(from);
    op.dest.ref = mfn_of(kernel_l4());
    CHECK_EQ("copy.to_page_table", do_copy(&op), GENERAL);
    op.dest.ref = mfn_of(to);
    op.source.dom = 77;
    CHECK_EQ("copy.no_such_domain", do_copy(&op), BAD_DOMAIN);
    op.flags = 1;
    op.source.ref = 30;
    CHECK_EQ("copy.ref_of_no_such_domain", do_copy(&op), BAD_DOMAIN);
    CHECK_EQ("copy.none", GRANT(copy, &op, 0), 0);
    CHECK_EQ("copy.wild", GRANT(copy, 0x700000000000, 1), -EFAULT);
}

/* By reference, the domain granting to itself. */
static void granted_copies(void)
{
    u8 *from = page_alloc(), *to = page_alloc();
    u16 self = own_domid();
    struct copy_op op = { { 30, DOMID_SELF, 0, 0 }, { mfn_of(to), DOMID_SELF, 0, 0 }, 64, 1, 99, 0 };
    from[0] = 0x5a;
    table[30].flags = 0;
    CHECK_EQ("granted.not_granted", do_copy(&op), GENERAL);
    table[30].frame = (u32)mfn_of(from);
    table[30].dom = self;
    asm volatile("" ::: "memory");
    table[30].flags = 1;
    CHECK_EQ("granted.copy", do_copy(&op), OKAY);
    CHECK_EQ("granted.content", to[0], 0x5a);
    CHECK_EQ("granted.use_bits_cleared", table[30].flags, 1);
    to[1] = 0x66;
    op.source.ref = mfn_of(to);
    op.dest.ref = 30;
    op.flags = 2;
    CHECK_EQ("granted.copy_into", do_copy(&op), OKAY);
    CHECK_EQ("granted.copy_into.content", from[1], 0x66);
    table[30].flags = 1 | 4;
    CHECK_EQ("granted.copy_into_read_only", do_copy(&op), GENERAL);
    table[30].flags = 1;
    op.source.ref = 30;
    op.dest.ref = mfn_of(to);
    op.flags = 1;
    table[30].dom = 1234;
    CHECK_EQ("granted.to_another", do_copy(&op), GENERAL);
    table[30].flags = 0;
    op.source.ref = 100000;
    CHECK_EQ("granted.ref_beyond", do_copy(&op), BAD_REF);
}

static void maps(void)
{
    u8 *page = page_alloc();
    struct map_op m = { (u64)page, 2, 30, 77, 99, 0, 0 };
    struct unmap_op u = { (u64)page, 0, 12345, 99, 0 };
    CHECK_EQ("map.no_such_domain.answer", GRANT(map_ref, &m, 1), 0);
    CHECK_EQ("map.no_such_domain", m.status, BAD_DOMAIN);
    m.dom = DOMID_SELF;
    m.status = 99;
    GRANT(map_ref, &m, 1);
    CHECK_EQ("map.domid_self_is_no_domain", m.status, BAD_DOMAIN); /* unlike in copies */
    m.flags = 0;
    GRANT(map_ref, &m, 1);
    CHECK_EQ("map.no_flags", m.status, BAD_REF);
    CHECK_EQ("unmap.bad_handle.answer", GRANT(unmap_ref, &u, 1), 0);
    CHECK_EQ("unmap.bad_handle", u.status, BAD_HANDLE);
    CHECK_EQ("map.none", GRANT(map_ref, &m, 0), 0);
    CHECK_EQ("map.wild", GRANT(map_ref, 0x700000000000, 1), -EFAULT);
    CHECK_EQ("unmap.wild", GRANT(unmap_ref, 0x700000000000, 1), -EFAULT);
    CHECK_EQ("map.absurd_count", GRANT(map_ref, &m, ~0u), -EINVAL);
    CHECK_EQ("number_99", GRANT(99, &m, 1), -ENOSYS);
    u32 swap[3] = { 100000, 1, 99 };
    s64 rc = GRANT(swap_ref, swap, 1);
    CHECK("swap.bad_ref", rc == -ENOSYS || (rc == 0 && (s16)swap[2] == BAD_REF));
    CHECK_EQ("transfer.wild", GRANT(transfer, 0x700000000000, 1), -EFAULT);
}

PROBE(TEST(sizes, 13), TEST(setup, 14), TEST(copies, 11), TEST(granted_copies, 9), TEST(maps, 13));
