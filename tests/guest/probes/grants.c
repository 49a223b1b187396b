/* HYPERVISOR_grant_table_op (grant_table.h): the table itself, copies within the domain, refused maps. */
#include "xenkit.h"

enum { map_ref, unmap_ref, setup_table, dump_table, transfer, copy, query_size, unmap_and_replace, set_version,
       get_status_frames, get_version, swap_ref };
enum { OKAY = 0, GENERAL = -1, BAD_DOMAIN = -2, BAD_REF = -3, BAD_HANDLE = -4, BAD_VA = -5, PERMISSION = -8, BAD_PAGE = -9,
       BAD_COPY = -10, BAD_DEV = -6, AGAIN = -12 };
enum { DEVICE = 1, HOST = 2, READONLY = 4, APPLICATION = 8, CONTAINS_PTE = 16 };
enum { PERMIT = 1, ACCEPT = 2, GTF_READONLY = 4, READING = 8, WRITING = 16 };
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

static struct map_op do_map(const void *at, u32 ref, u32 flags)
{
    struct map_op m = { (u64)at, flags, ref, own_domid(), 99, ~0u, 0 };
    if (GRANT(map_ref, &m, 1))
        m.status = 98;
    return m;
}

static s16 do_unmap(const void *at, u64 bus, u32 handle)
{
    struct unmap_op u = { (u64)at, bus, handle, 99, 0 };
    return GRANT(unmap_ref, &u, 1) ? 98 : u.status;
}

static void grant(u32 ref, u64 mfn, u16 flags)
{
    table[ref].frame = (u32)mfn;
    table[ref].dom = own_domid();
    asm volatile("" ::: "memory");
    table[ref].flags = flags;
}

static u64 pte(const void *va) { return *pte_of(kernel_l4(), va, 1); }

static void own_maps(void)
{
    u8 *page = page_alloc(), *one = page_alloc(), *two = page_alloc();
    u64 bits = PTE_MFN | PTE_P | PTE_W | PTE_A | PTE_D | PTE_NX;
    grant(31, mfn_of(page), PERMIT);
    page[0] = 0x11;
    struct map_op m = do_map(one, 31, HOST), r;
    CHECK_EQ("own.map", m.status, OKAY);
    CHECK_EQ("own.map.bus_address", m.dev_bus_addr, mfn_of(page) * PAGE);
    CHECK_EQ("own.map.entry", pte(one) & bits, mfn_of(page) * PAGE | PTE_P | PTE_W | PTE_A | PTE_D | PTE_NX);
    CHECK_EQ("own.map.content", *(volatile u8 *)one, 0x11);
    *(volatile u8 *)one = 0x22;
    CHECK_EQ("own.map.shared", *(volatile u8 *)page, 0x22);
    CHECK_EQ("own.map.marked", table[31].flags, PERMIT | READING | WRITING);
    r = do_map(two, 31, HOST | READONLY | 5 << 16);
    CHECK_EQ("own.map_read_only", r.status, OKAY);
    CHECK_EQ("own.map_read_only.entry", pte(two) & (bits | 0xe00),
             mfn_of(page) * PAGE | PTE_P | PTE_A | PTE_D | PTE_NX | 5 << 9);
    CHECK("own.handles_differ", r.handle != m.handle);
    u32 swap[3] = { 31, 32, 99 };
    CHECK_EQ("own.swap_in_use.answer", GRANT(swap_ref, swap, 1), 0);
    CHECK_EQ("own.swap_in_use", (s16)swap[2], AGAIN);
    CHECK_EQ("own.unmap", do_unmap(one, 0, m.handle), OKAY);
    CHECK_EQ("own.unmap.entry", pte(one), 0);
    CHECK_EQ("own.unmap.marks", table[31].flags, PERMIT | READING);
    CHECK_EQ("own.unmap_twice", do_unmap(one, 0, m.handle), BAD_HANDLE);
    CHECK_EQ("own.unmap_elsewhere", do_unmap(page, 0, r.handle), GENERAL);
    CHECK_EQ("own.unmap_nothing", do_unmap(0, 0, r.handle), OKAY);
    CHECK_EQ("own.unmap_no_table", do_unmap((void *)0x700000000000, 0, r.handle), GENERAL);
    table[31].flags = 0;
    struct copy_op op = { { 31, DOMID_SELF, 0, 0 }, { mfn_of(one), DOMID_SELF, 0, 0 }, 8, 1, 99, 0 };
    CHECK_EQ("own.copy_of_mapped_though_revoked", do_copy(&op), OKAY);
    m = do_map(one, 31, HOST);
    CHECK_EQ("own.map_again_though_revoked", m.status, OKAY);
    CHECK_EQ("own.map_again.unmap", do_unmap(one, 0, m.handle), OKAY);
    CHECK_EQ("own.unmap_read_only", do_unmap(two, 0, r.handle), OKAY);
    CHECK_EQ("own.unmapped.revoked", do_map(one, 31, HOST | READONLY).status, GENERAL);
    make_rw(one);
    make_rw(two);
}

static void refused_maps(void)
{
    u8 *page = page_alloc(), *at = page_alloc();
    grant(32, mfn_of(page), PERMIT | GTF_READONLY);
    CHECK_EQ("refused.write_of_read_only", do_map(at, 32, HOST).status, GENERAL);
    CHECK_EQ("refused.not_marked", table[32].flags, PERMIT | GTF_READONLY);
    CHECK_EQ("refused.ref_beyond", do_map(at, 100000, HOST).status, BAD_REF);
    grant(32, 0x7ffffff, PERMIT);
    CHECK_EQ("refused.bad_frame", do_map(at, 32, HOST).status, BAD_PAGE);
    CHECK_EQ("refused.bad_frame.not_marked", table[32].flags, PERMIT);
    grant(32, mfn_of(kernel_l4()), PERMIT);
    CHECK_EQ("refused.page_table", do_map(at, 32, HOST).status, GENERAL);
    CHECK_EQ("refused.page_table.not_marked", table[32].flags, PERMIT);
    CHECK_EQ("refused.page_table.old_entry_stays", pte(at) & PTE_MFN, mfn_of(at) * PAGE);
    struct map_op m = do_map(at, 32, HOST | READONLY);
    CHECK_EQ("refused.page_table_read_only", m.status, OKAY);
    CHECK_EQ("refused.page_table_read_only.unmap", do_unmap(at, 0, m.handle), OKAY);
    grant(32, mfn_of(page), PERMIT);
    CHECK_EQ("refused.no_table", do_map((void *)0x700000000000, 32, HOST).status, GENERAL);
    CHECK_EQ("refused.hypervisor", do_map((void *)HYPERVISOR_START, 32, HOST).status, GENERAL);
    CHECK_EQ("refused.sub_page_bit", (grant(32, mfn_of(page), PERMIT | 0x100), do_map(at, 32, HOST).status), GENERAL);
    CHECK_EQ("refused.transfer_entry", (grant(32, mfn_of(page), ACCEPT), do_map(at, 32, HOST).status), GENERAL);
    grant(32, mfn_of(page), PERMIT);
    u64 ma = pte_ma(pte_of(kernel_l4(), at, 1));
    CHECK_EQ("pte.misaligned", do_map((void *)(ma + 4), 32, HOST | CONTAINS_PTE).status, GENERAL);
    CHECK_EQ("pte.no_table", do_map((void *)(mfn_of(page) * PAGE), 32, HOST | CONTAINS_PTE).status, GENERAL);
    CHECK_EQ("pte.bad_frame", do_map((void *)(0x7fffffful * PAGE), 32, HOST | CONTAINS_PTE).status, GENERAL);
    CHECK_EQ("pte.upper_table", do_map((void *)(mfn_of(kernel_l4()) * PAGE), 32, HOST | CONTAINS_PTE).status, GENERAL);
    m = do_map((void *)ma, 32, HOST | CONTAINS_PTE);
    CHECK_EQ("pte.map", m.status, OKAY);
    CHECK_EQ("pte.map.entry", pte(at) & PTE_MFN, mfn_of(page) * PAGE);
    struct { u64 host, fresh; u32 handle; s16 status; u16 pad; } r = { ma, (u64)page, m.handle, 99, 0 };
    CHECK_EQ("pte.replace.answer", GRANT(unmap_and_replace, &r, 1), 0);
    CHECK_EQ("pte.replace", r.status, GENERAL);
    CHECK_EQ("pte.unmap", do_unmap((void *)ma, 0, m.handle), OKAY);
    CHECK_EQ("pte.unmap.entry", pte(at), 0);
    CHECK_EQ("pte.unmap.marks", table[32].flags, PERMIT);
    make_rw(at);
}

static void device_maps(void)
{
    u8 *page = page_alloc(), *at = page_alloc();
    u64 bus = mfn_of(page) * PAGE;
    u32 handles[130];
    s16 last = OKAY;
    grant(33, mfn_of(page), PERMIT);
    struct map_op m = do_map(0, 33, DEVICE);
    CHECK_EQ("device.map", m.status, OKAY);
    CHECK_EQ("device.bus_address", m.dev_bus_addr, bus);
    CHECK_EQ("device.marked", table[33].flags, PERMIT | READING | WRITING);
    make_ro(page);
    CHECK_EQ("device.no_page_table_meanwhile", mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), -EINVAL);
    CHECK_EQ("device.wrong_bus_address", do_unmap(0, bus + PAGE, m.handle), BAD_DEV);
    CHECK_EQ("device.unmap", do_unmap(0, bus, m.handle), OKAY);
    CHECK_EQ("device.unmap.marks", table[33].flags, PERMIT);
    CHECK_EQ("device.page_table_after", mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(page), 0), 0);
    mmuext(MMUEXT_UNPIN_TABLE, mfn_of(page), 0);
    m = do_map(at, 33, DEVICE | HOST | READONLY);
    CHECK_EQ("both.map", m.status, OKAY);
    CHECK_EQ("both.unmap_host", do_unmap(at, 0, m.handle), OKAY);
    CHECK_EQ("both.still_marked", table[33].flags, PERMIT | READING);
    CHECK_EQ("both.unmap_device", do_unmap(0, bus, m.handle), OKAY);
    CHECK_EQ("both.marks", table[33].flags, PERMIT);
    u32 n = 0;
    while (n < 130 && last == OKAY) {
        m = do_map(0, 33, DEVICE | READONLY);
        last = m.status;
        handles[n++] = m.handle;
    }
    CHECK_EQ("count.limit", n, 129);
    CHECK_EQ("count.beyond", last, GENERAL);
    for (n--, last = OKAY; n && last == OKAY; n--)
        last = do_unmap(0, bus, handles[n - 1]);
    CHECK_EQ("count.unmap_all", last, OKAY);
    CHECK_EQ("count.marks", table[33].flags, PERMIT);
    make_rw(page);
    make_rw(at);
}

static void replaced(void)
{
    u8 *page = page_alloc(), *at = page_alloc(), *other = page_alloc();
    struct { u64 host, fresh; u32 handle; s16 status; u16 pad; } r = { (u64)at, (u64)other, 0, 99, 0 };
    grant(34, mfn_of(page), PERMIT);
    r.handle = do_map(at, 34, HOST).handle;
    CHECK_EQ("replace.answer", GRANT(unmap_and_replace, &r, 1), 0);
    CHECK_EQ("replace.status", r.status, OKAY);
    CHECK_EQ("replace.entry", pte(at) & (PTE_MFN | PTE_P | PTE_W), mfn_of(other) * PAGE | PTE_P | PTE_W);
    CHECK_EQ("replace.taken_away", pte(other), 0);
    CHECK_EQ("replace.marks", table[34].flags, PERMIT);
    GRANT(unmap_and_replace, &r, 1);
    CHECK_EQ("replace.bad_handle", r.status, BAD_HANDLE);
    r.handle = do_map(at, 34, HOST).handle;
    r.fresh = 0x700000000000;
    GRANT(unmap_and_replace, &r, 1);
    CHECK_EQ("replace.no_table", r.status, GENERAL);
    r.fresh = 0;
    GRANT(unmap_and_replace, &r, 1);
    CHECK_EQ("replace.by_nothing", r.status, OKAY);
    CHECK_EQ("replace.by_nothing.entry", pte(at), 0);
    r.handle = do_map(at, 34, HOST).handle;
    make_rw(at);
    CHECK_EQ("overwritten.unmap", do_unmap(at, 0, r.handle), GENERAL);
    CHECK_EQ("overwritten.still_marked", table[34].flags, PERMIT | READING | WRITING);
    make_rw(other);
}

static void swaps(void)
{
    u32 swap[3] = { 40, 41, 99 };
    grant(40, 0x1234, PERMIT);
    table[41].flags = 0;
    table[41].frame = 7;
    CHECK_EQ("swap.answer", GRANT(swap_ref, swap, 1), 0);
    CHECK_EQ("swap.status", (s16)swap[2], OKAY);
    CHECK("swap.done", table[41].frame == 0x1234 && table[41].flags == PERMIT && !table[40].flags && table[40].frame == 7);
    swap[1] = 100000;
    GRANT(swap_ref, swap, 1);
    CHECK_EQ("swap.second_beyond", (s16)swap[2], BAD_REF);
    swap[1] = 40;
    GRANT(swap_ref, swap, 1);
    CHECK_EQ("swap.with_itself", (s16)swap[2], OKAY);
    table[41].flags = 0;
}

static s16 do_transfer(u64 mfn, u16 dom, u32 ref)
{
    struct { u64 mfn; u16 dom; u16 pad; u32 ref; s16 status; u16 pad1[3]; } t = { mfn, dom, 0, ref, 99, { 0 } };
    return GRANT(transfer, &t, 1) ? 98 : t.status;
}

static void transfers(void)
{
    u8 *page = page_alloc(), *own = page_alloc();
    u64 mfn = mfn_of(page), kept = mfn_of(own);
    CHECK_EQ("transfer.mapped", do_transfer(mfn, 77, 0), BAD_PAGE);
    CHECK_EQ("transfer.bad_frame", do_transfer(0x7ffffff, 77, 0), BAD_PAGE);
    CHECK_EQ("transfer.shared_info", do_transfer(start_info->shared_info / PAGE, 77, 0), BAD_PAGE);
    map_page(page, 0);
    CHECK_EQ("transfer.no_such_domain", do_transfer(mfn, 77, 0), BAD_DOMAIN);
    CHECK("transfer.no_such_domain.frame_is_gone", (s64)map_page(page, mfn * PAGE | PTE_P) < 0);
    map_page(own, 0);
    grant(42, pfn_of(own) + 5, ACCEPT);
    CHECK_EQ("transfer.to_itself", do_transfer(kept, own_domid(), 42), OKAY);
    CHECK_EQ("transfer.to_itself.entry", table[42].flags, ACCEPT | 4 | 8);
    CHECK_EQ("transfer.to_itself.frame", table[42].frame, kept);
    CHECK_EQ("transfer.to_itself.m2p", M2P[kept], pfn_of(own) + 5);
    CHECK_EQ("transfer.to_itself.mapped", map_page(own, kept * PAGE | PTE_P | PTE_W), 0);
    map_page(own, 0);
    CHECK_EQ("transfer.entry_used_up", do_transfer(kept, own_domid(), 42), GENERAL);
    CHECK("transfer.entry_used_up.frame_is_gone", (s64)map_page(own, kept * PAGE | PTE_P) < 0);
    table[42].flags = 0;
}

static s64 flush(u64 bus, u16 offset, u16 length, u32 op)
{
    struct { u64 bus; u16 offset, length; u32 op; } f = { bus, offset, length, op };
    return GRANT(12, &f, 1);
}

static void odd_calls(void)
{
    static struct copy_op many[2000];
    u8 *page = page_alloc(), *to = page_alloc();
    u64 ma = mfn_of(page) * PAGE;
    u32 done = 0, failures = 0;
    CHECK_EQ("flush.clean", flush(ma, 0, 4096, 1), 0);
    CHECK_EQ("flush.both", flush(ma, 96, 4000, 3), 0);
    CHECK_EQ("flush.invalidate", flush(ma, 0, 8, 2), -EOPNOTSUPP);
    CHECK_EQ("flush.too_long", flush(ma, 97, 4000, 1), -EINVAL);
    CHECK_EQ("flush.offset", flush(ma, 4096, 0, 1), -EINVAL);
    CHECK_EQ("flush.by_reference", flush(30, 0, 8, 1u << 31 | 1), -EINVAL);
    CHECK_EQ("flush.nothing", flush(0x7fffffful * PAGE, 0, 0, 1), 0);
    CHECK_EQ("flush.no_operation", flush(0x7fffffful * PAGE, 0, 8, 0), 0);
    CHECK_EQ("flush.bad_frame", flush(0x7fffffful * PAGE, 0, 8, 1), -EINVAL);
    CHECK_EQ("dump_table", GRANT(dump_table, page, 1), -ENOSYS);
    CHECK_EQ("count.2_to_the_31", GRANT(copy, many, 0x80000000), -EINVAL);
    CHECK_EQ("number.high_bits", GRANT(copy | 0x1000, many, 0), -EINVAL);
    CHECK_EQ("number.upper_half_ignored", GRANT(copy | 1ul << 32, many, 1ul << 32), 0);
    CHECK_EQ("none.hypervisor_address", GRANT(copy, HYPERVISOR_START, 0), -EFAULT);
    CHECK_EQ("one.hypervisor_address", GRANT(query_size, HYPERVISOR_START, 1), -EFAULT);
    struct copy_op op = { { mfn_of(page), own_domid(), 0, 0 }, { mfn_of(to), DOMID_SELF, 0, 0 }, 8, 0, 99, 0 };
    CHECK_EQ("copy.own_frame_by_domid", do_copy(&op), PERMISSION);
    CHECK_EQ_UNPRIVILEGED("copy.frame_of_dom0", (op.source.dom = 0, do_copy(&op)), PERMISSION, "it is dom0");
    CHECK_EQ_UNPRIVILEGED("copy.grant_of_dom0", (op.source.ref = 9, op.flags = 1, do_copy(&op)), GENERAL, "it is dom0");
    struct setup_op s = { 0, 0, 1, 99, 0, 0, (u64 *)page };
    CHECK_EQ_UNPRIVILEGED("setup.of_dom0", (GRANT(setup_table, &s, 1), s.status), PERMISSION, "it is dom0");
    struct { u16 dom; u16 pad; u32 version; } v = { 77, 0, 0 };
    CHECK_EQ("get_version.no_such_domain", GRANT(get_version, &v, 1), -ESRCH);
    v.dom = 0;
    CHECK_EQ_UNPRIVILEGED("get_version.of_dom0", GRANT(get_version, &v, 1), -EPERM, "it is dom0");
    CHECK_EQ("set_version.wild", GRANT(set_version, 0x700000000000, 1), -EFAULT);
    events_reset();
    unmask_port(bind_virq(0, 0));
    events_enable();
    for (u32 i = 0; i < 2000; i++)
        many[i] = (struct copy_op){ { mfn_of(page), DOMID_SELF, 0, 0 }, { mfn_of(to), DOMID_SELF, 0, 0 }, 4096, 0, 99, 0 };
    u64 start = now_ns();
    for (u32 round = 0; round < 1000 && now_ns() < start + 30000000; round++)
        failures += GRANT(copy, many, 2000) != 0;
    events_disable();
    for (u32 i = 0; i < 2000; i++)
        done += many[i].status == OKAY;
    CHECK_EQ("many.answers", failures, 0);
    CHECK_EQ("many.all_done", done, 2000);
    CHECK("many.interrupted", upcalls != 0);
}

PROBE(TEST(sizes, 13), TEST(setup, 14), TEST(copies, 11), TEST(granted_copies, 9), TEST(maps, 13), TEST(own_maps, 23), TEST(refused_maps, 25),
      TEST(device_maps, 17), TEST(replaced, 11), TEST(swaps, 5), TEST(transfers, 12), TEST(odd_calls, 25));
