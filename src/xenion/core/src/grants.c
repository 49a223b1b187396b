/* Use of the guest's grant entries (grant_table.h) by Dom0 and by the domain itself. The guest may change an entry at any
 * time: each of its fields is read once, checked, and used only as it was read. The marks that tell the guest that an entry
 * is in use change atomically. Who calls holds the table's lock. */
#include "core.h"

#include "api.h"

#define IN_USE (GTF_reading | GTF_writing)
#define RETRIES 5
#define HEADER_DOMID_SHIFT 16
#define V1_ENTRY 8
#define V2_ENTRY 16
#define GRANT_START_MASK 0x7fffu

static int granted(const struct grant_layout *g, u32 header, u32 domid, u32 use)
{
    u32 kind = header & GTF_type_mask;
    if (use & GRANT_WRITE && header & GTF_readonly)
        return 0;
    if (use & GRANT_PINNED)
        return 1;
    if (use & GRANT_MAPPING && header & GTF_sub_page)
        return 0;
    return (kind == GTF_permit_access || (g->version == 2 && !(use & GRANT_MAPPING) && kind == GTF_transitive)) &&
           header >> HEADER_DOMID_SHIFT == domid;
}

static u32 *entry_at(struct domain *d, const struct grant_layout *g, u32 ref)
{
    return (u32 *)(d->memory + g->entries + (u64)ref * (g->version == 1 ? V1_ENTRY : V2_ENTRY));
}

/* The word with GTF_reading and GTF_writing. */
static u16 *status_at(struct domain *d, const struct grant_layout *g, u32 ref)
{
    return g->version == 1 ? (u16 *)entry_at(d, g, ref) : (u16 *)(d->memory + g->status) + ref;
}

static u16 marks_of(u32 use) { return use & GRANT_WRITE ? IN_USE : GTF_reading; }

/* 1: marked, and HEADER is what the entry said then. 0: it does not grant this. */
static int mark_v1(struct domain *d, const struct grant_layout *g, u32 ref, u32 domid, u32 use, u32 *header)
{
    u32 *at = entry_at(d, g, ref);
    *header = load(at);
    for (int i = 0; i < RETRIES && granted(g, *header, domid, use); i++)
        if (cas(at, header, *header | marks_of(use)))
            return 1;
    return 0;
}

static int mark_v2(struct domain *d, const struct grant_layout *g, u32 ref, u32 domid, u32 use, u32 *header)
{
    u32 *at = entry_at(d, g, ref);
    u16 *status = status_at(d, g, ref);
    if (!granted(g, load(at), domid, use))
        return 0;
    fetch_or(status, marks_of(use));
    /* The guest sees the mark before this second look: either it finds the mark, or we its change. */
    *header = load(at);
    if (granted(g, *header, domid, use))
        return 1;
    fetch_and(status, (u16)~(use & GRANT_PINNED ? GTF_writing : IN_USE));
    return 0;
}

static void read_entry(struct domain *d, const struct grant_layout *g, u32 ref, u32 header, struct grant_entry *e)
{
    u32 *at = entry_at(d, g, ref);
    *e = (struct grant_entry){.length = PAGE_SIZE};
    if (g->version == 1) {
        e->mfn = load(at + 1);
    } else if (header & GTF_sub_page) {
        u32 part = load(at + 1);
        e->mfn = load((u64 *)(at + 2));
        e->start = part & GRANT_START_MASK;
        e->length = part >> 16;
        e->sub_page = 1;
    } else {
        e->mfn = load((u64 *)(at + 2));
    }
}

/* Checks that entry REF grants the USE (GRANT_*) to DOMID, as a pinned one does, and marks it in use. A GNTST_*. What it
 * grants is in ENTRY, not checked. */
int core_grant_mark(struct domain *d, const struct grant_layout *g, u32 ref, u32 domid, u32 use, struct grant_entry *entry)
{
    if (ref >= g->count)
        return GNTST_bad_gntref;
    u32 header;
    if (!(g->version == 1 ? mark_v1 : mark_v2)(d, g, ref, domid, use, &header))
        return GNTST_general_error;
    if ((header & GTF_type_mask) == GTF_transitive && !(use & GRANT_MAPPING) && g->version == 2) {
        /* Always another domain's grant, and no other domain grants anything to this one. */
        core_grant_unmark(d, g, ref, use & GRANT_PINNED ? marks_of(use) & ~GTF_reading : marks_of(use));
        return GNTST_general_error;
    }
    read_entry(d, g, ref, header, entry);
    return GNTST_okay;
}

/* Takes these MARKS back. */
void core_grant_unmark(struct domain *d, const struct grant_layout *g, u32 ref, u32 marks)
{
    if (ref < g->count)
        fetch_and(status_at(d, g, ref), (u16)~marks);
}

/* --- copies */

static int hold(struct domain *d, u64 mfn, int write)
{
    if (!get_frame(d, mfn))
        return GNTST_bad_page;
    if (!write || !get_frame_type(d, mfn, TYPE_WRITABLE))
        return GNTST_okay;
    core_drop_frame(d, mfn, 0);
    return GNTST_general_error;
}

static int in_part(const struct grant_entry *e, const struct grant_part *p)
{
    return p->offset >= e->start && p->offset + p->length <= e->start + e->length;
}

static int copy_held(struct domain *d, const struct grant_entry *e, const struct grant_part *p, u8 *data, int write, int *stale)
{
    int rc = hold(d, e->mfn, write);
    if (rc)
        return rc;
    u8 *page = d->memory + (e->mfn << PAGE_SHIFT) + p->offset;
    if (!in_part(e, p))
        rc = GNTST_general_error;
    else if (write)
        __builtin_memcpy(page, data, p->length);
    else
        __builtin_memcpy(data, page, p->length);
    if (!rc && write && p->length)
        note_host_write(d, e->mfn, stale);
    core_drop_frame(d, e->mfn, write);
    return rc;
}

static int copy_part(struct domain *d, const struct grant_layout *g, u32 domid, int write, const struct grant_part *p, u8 *data,
                     int *stale)
{
    struct grant_entry entry;
    u32 use = write ? GRANT_WRITE : 0;
    if (p->offset > PAGE_SIZE || p->length > PAGE_SIZE - p->offset)
        return GNTST_bad_copy_arg;
    int rc = core_grant_mark(d, g, p->ref, domid, use, &entry);
    if (rc)
        return rc;
    rc = copy_held(d, &entry, p, data, write, stale);
    core_grant_unmark(d, g, p->ref, marks_of(use));
    return rc;
}

/* Copies COUNT parts, which are of entries that nothing has pinned, between the granted pages and DATA of SIZE bytes: to the
 * pages with WRITE. A GNTST_* for each is in STATUSES. Any thread. */
void core_grant_copy(struct domain *d, const struct grant_layout *g, u32 domid, int write, const struct grant_part *parts, u32 count,
                     u8 *data, u64 size, int16_t *statuses)
{
    int stale = 0;
    u64 at = 0;
    for (u32 i = 0; i < count; i++) {
        const struct grant_part *p = &parts[i];
        int fits = p->length <= size - at;
        statuses[i] = (int16_t)(fits ? copy_part(d, g, domid, write, p, data + at, &stale) : GNTST_bad_copy_arg);
        at += fits ? p->length : 0;
    }
    if (stale)
        host_wrote_code(d);
}
