/* HYPERVISOR_memory_op (memory.h). */
#include "xenkit.h"

enum { increase, decrease, maximum_ram_page, current_reservation, maximum_reservation, machphys_mfn_list, populate,
       add_to_physmap, translate, memory_map, machine_memory_map, exchange, machphys_mapping, set_memory_map,
       maximum_gpfn };
#define RAM (PTE_P | PTE_A | PTE_D)

struct reservation {
    u64 *extents;
    u64 count;
    u32 order;
    u32 flags;
    u16 dom;
    u16 pad[3];
};

static struct reservation of(u64 *extents, u64 count, u32 order)
{
    return (struct reservation){ extents, count, order, 0, DOMID_SELF, { 0 } };
}

static u64 held(void)
{
    u16 self = DOMID_SELF;
    return (u64)hc_memory(current_reservation, &self);
}

static void numbers(void)
{
    u16 dom = DOMID_SELF;
    s64 top = hc_memory(maximum_ram_page, 0);
    u64 highest = 0;
    for (u64 pfn = 0; pfn < start_info->nr_pages; pfn++)
        if (((u64 *)start_info->mfn_list)[pfn] > highest)
            highest = ((u64 *)start_info->mfn_list)[pfn];
    CHECK("maximum_ram_page", top >= (s64)highest);
    CHECK_EQ("current_reservation.covers_nr_pages", held() >= start_info->nr_pages, 1);
    CHECK("maximum_reservation", hc_memory(maximum_reservation, &dom) >= (s64)held());
    shared_info->max_pfn = 0x1235; /* a PV domain's own word is what is answered */
    CHECK_EQ("maximum_gpfn", hc_memory(maximum_gpfn, &dom), 0x1234);
    dom = 77;
    CHECK_EQ("current_reservation.no_such_domain", hc_memory(current_reservation, &dom), -ESRCH);
    CHECK_EQ("current_reservation.wild", hc_memory(current_reservation, 0x700000000000), -EFAULT);
    CHECK_EQ("number_55", hc_memory(55, &dom), -ENOSYS);
}

/* Ballooning: give a page away, get another for the same pfn. */
static void balloon(void)
{
    u8 *page = page_alloc();
    u64 pfn = pfn_of(page), mfn = mfn_of(page), extent = mfn, before = held();
    u64 *p2m = (u64 *)start_info->mfn_list;
    struct reservation r = of(&extent, 1, 0);
    page[0] = 0x77;
    map_page(page, 0);
    CHECK_EQ("decrease.answer", hc_memory(decrease, &r), 1);
    CHECK_EQ("decrease.counted", held(), before - 1);
    CHECK_EQ("decrease.frame_is_gone", map_page(page, mfn * PAGE | RAM | PTE_W), -EBUSY);
    CHECK_EQ("decrease.twice", hc_memory(decrease, &r), 0);
    CHECK_EQ("decrease.m2p_entry", M2P[mfn], ~0ul);
    extent = pfn;
    CHECK_EQ("populate.answer", hc_memory(populate, &r), 1);
    CHECK_EQ("populate.counted", held(), before);
    CHECK_EQ("populate.m2p", M2P[extent], pfn);
    p2m[pfn] = extent;
    CHECK_EQ("populate.map", map_page(page, extent * PAGE | RAM | PTE_W), 0);
    page[5] = 5;
    CHECK_EQ("populate.usable", page[5], 5);
}

/* A page that is still mapped may be given up; the frame goes when the last mapping does. */
static void decrease_mapped(void)
{
    u8 *page = page_alloc();
    u64 mfn = mfn_of(page), extent = mfn, pfn = pfn_of(page);
    struct reservation r = of(&extent, 1, 0);
    page[0] = 0x42;
    CHECK_EQ("decrease_mapped.answer", hc_memory(decrease, &r), 1);
    CHECK_EQ("decrease_mapped.still_readable", page[0], 0x42);
    CHECK("decrease_mapped.unmap", map_page(page, 0) == 0);
    CHECK_EQ("decrease_mapped.gone", map_page(page, mfn * PAGE | RAM), -EBUSY);
    extent = pfn;
    hc_memory(populate, &r);
    ((u64 *)start_info->mfn_list)[pfn] = extent;
    make_rw(page);
}

static void errors(void)
{
    u64 extent = 0x7ffffff;
    struct reservation r = of(&extent, 1, 0);
    CHECK_EQ("decrease.bad_mfn", hc_memory(decrease, &r), 0);
    u8 *table = table_alloc();
    mmuext(MMUEXT_PIN_L1_TABLE, mfn_of(table), 0);
    r.order = 30;
    CHECK_EQ("populate.absurd_order", hc_memory(populate, &r), 0);
    CHECK_EQ("increase.absurd_order", hc_memory(increase, &r), 0);
    r.order = 0;
    r.count = 1ul << 60;
    CHECK_EQ("populate.absurd_count", hc_memory(populate, &r), 0);
    r.count = 1;
    r.dom = 77;
    CHECK_EQ("populate.no_such_domain", hc_memory(populate, &r), 0);
    CHECK_EQ("decrease.no_such_domain", hc_memory(decrease, &r), 0);
    r.dom = DOMID_SELF;
    r.extents = (u64 *)0x700000000000;
    CHECK_EQ("populate.wild_extents", hc_memory(populate, &r), 0);
    CHECK_EQ("decrease.wild_extents", hc_memory(decrease, &r), 0);
    CHECK_EQ("populate.none", ({ r.count = 0; hc_memory(populate, &r); }), 0);
}

/* Fresh frames without a pfn; needs room below the maximum, so a page is given up first. */
static void increase_reservation(void)
{
    u8 *page = page_alloc();
    u64 extent = mfn_of(page), pfn = pfn_of(page);
    struct reservation r = of(&extent, 1, 0);
    map_page(page, 0);
    hc_memory(decrease, &r);
    extent = 0;
    CHECK_EQ("increase.answer", hc_memory(increase, &r), 1);
    CHECK("increase.frame_given", extent != 0);
    CHECK_EQ("increase.map", map_page(page, extent * PAGE | RAM | PTE_W), 0);
    page[0] = 1;
    struct mmu_update req = { extent * PAGE | MMU_MACHPHYS_UPDATE, pfn };
    CHECK_EQ("increase.set_m2p", hc_mmu_update(&req, 1, 0, DOMID_SELF), 0);
    ((u64 *)start_info->mfn_list)[pfn] = extent;
    CHECK_EQ("increase.m2p", M2P[extent], pfn);
}

static void exchange_pages(void)
{
    struct { struct reservation in, out; u64 done; } x;
    u8 *page = page_alloc();
    u64 pfn = pfn_of(page), in = mfn_of(page), out = pfn;
    page[0] = 9;
    map_page(page, 0);
    x.in = of(&in, 1, 0);
    x.out = of(&out, 1, 0);
    x.done = 0;
    CHECK_EQ("exchange.answer", hc_memory(exchange, &x), 0);
    CHECK_EQ("exchange.done", x.done, 1);
    CHECK_EQ("exchange.m2p", M2P[out], pfn);
    CHECK_EQ("exchange.map", map_page(page, out * PAGE | RAM | PTE_W), 0);
    ((u64 *)start_info->mfn_list)[pfn] = out;
    in = 0x7ffffff;
    out = pfn;
    x.done = 0;
    CHECK_EQ("exchange.bad_mfn", hc_memory(exchange, &x), -EINVAL);
    CHECK_EQ("exchange.bad_mfn.done", x.done, 0);
    x.out.count = 2;
    CHECK_EQ("exchange.unequal", hc_memory(exchange, &x), -EINVAL);
    x.out.count = 1;
    x.out.dom = 77;
    x.in.dom = 77;
    CHECK_EQ("exchange.no_such_domain", hc_memory(exchange, &x), -ESRCH);
    x.in.dom = x.out.dom = DOMID_SELF;
    in = mfn_of(kernel_l4());
    CHECK("exchange.page_table", hc_memory(exchange, &x) < 0);
}

static void maps(void)
{
    struct { u64 start, end, max_mfn; } m2p = { 0, 0, 0 };
    CHECK_EQ("machphys_mapping.answer", hc_memory(machphys_mapping, &m2p), 0);
    CHECK("machphys_mapping.is_the_hypervisors", m2p.start >= HYPERVISOR_START && m2p.end <= HYPERVISOR_END);
    CHECK("machphys_mapping.holds_every_mfn", m2p.end > m2p.start && m2p.max_mfn >= mfn_of(kernel_l4()));
    CHECK("machphys_mapping.size", (m2p.end - m2p.start) / 8 > m2p.max_mfn);
    u64 frames[4] = { 0 };
    struct { u32 max; u32 pad; u64 *list; u32 count; u32 pad1; } list = { 4, 0, frames, 99, 0 };
    CHECK_EQ("machphys_mfn_list.answer", hc_memory(machphys_mfn_list, &list), 0);
    CHECK("machphys_mfn_list.count", list.count >= 1 && list.count <= 4);
    static u8 entries[20 * 64];
    struct { u32 count; u32 pad; void *buffer; } map = { 64, 0, entries };
    s64 rc = hc_memory(memory_map, &map);
    CHECK("memory_map", rc == -ENOSYS || (rc == 0 && map.count > 0)); /* ENOSYS unless the toolstack gave an e820 */
    printk("# memory_map %ld\n", rc);
    CHECK_EQ_UNPRIVILEGED("machine_memory_map", hc_memory(machine_memory_map, &map) < 0, 1, "domain 0 sees the machine's map");
    struct { u16 dom; u16 size; u32 space; u64 idx; u64 gpfn; } add = { DOMID_SELF, 0, 0, 0, 5 };
    rc = hc_memory(add_to_physmap, &add);
    printk("# add_to_physmap %ld\n", rc);
    CHECK("add_to_physmap.not_for_pv", rc < 0);
}

PROBE(TEST(numbers, 7), TEST(balloon, 10), TEST(decrease_mapped, 4), TEST(errors, 9), TEST(increase_reservation, 5),
      TEST(exchange_pages, 9), TEST(maps, 9));
