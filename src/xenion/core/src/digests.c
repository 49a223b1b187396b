/* Digests of pages: which have changed since they were looked at last.
 *
 * No domain and no state. Pages may be written meanwhile. There is no key: a guest can make two pages that have the same
 * digest, and what it loses by that is a page of its own. */
#include "core.h"

#include "api.h"

#define MULTIPLIER 0x9e3779b97f4a7c15ull
#define STEP 32

static u64 folded(u64 value)
{
    unsigned __int128 product = (unsigned __int128)value * MULTIPLIER;
    return (u64)product ^ (u64)(product >> 64);
}

static u64 word(const u8 *p)
{
    u64 value;
    __builtin_memcpy(&value, p, sizeof value);
    return value;
}

/* Four lanes, so that no multiplication waits for the one before it. They begin anywhere but at 0 or ~0, which `folded` leaves
 * as they are: there it would not matter where a word is. */
static u64 digest(const u8 *page)
{
    u64 a = 0x243f6a8885a308d3ull, b = 0x13198a2e03707344ull, c = 0xa4093822299f31d0ull, d = 0x082efa98ec4e6c89ull;
    for (const u8 *p = page; p < page + PAGE_SIZE; p += STEP) {
        a = folded(a ^ word(p));
        b = folded(b ^ word(p + 8));
        c = folded(c ^ word(p + 16));
        d = folded(d ^ word(p + 24));
    }
    return folded(folded(folded(folded(a) ^ b) ^ c) ^ d);
}

void core_digest_pages(const uint8_t *pages, uint64_t count, uint64_t *digests)
{
    for (u64 i = 0; i < count; i++)
        digests[i] = digest(pages + (i << PAGE_SHIFT));
}

/* Up to ROOM runs (first, count) of frames from *FROM on, which moves, and below END that have other digests than the table
 * says; they are in it then. Returns how many runs. */
uint64_t core_changed_pages(const uint8_t *memory, uint64_t *digests, uint64_t *from, uint64_t end, uint64_t *runs,
                            uint64_t room)
{
    u64 made = 0, mfn = *from;
    for (; mfn < end; mfn++) {
        u64 now = digest(memory + (mfn << PAGE_SHIFT));
        if (now == digests[mfn])
            continue;
        u64 *next = runs + 2 * made;
        if (made && next[-2] + next[-1] == mfn) {
            next[-1]++;
        } else if (made < room) {
            next[0] = mfn;
            next[1] = 1;
            made++;
        } else {
            break;
        }
        digests[mfn] = now;
    }
    *from = mfn;
    return made;
}
