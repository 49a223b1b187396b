/* Ethernet frames of TCP and UDP: where their headers are, their checksums, and cutting big ones into segments.
 *
 * No domain and no state. A frame is hostile: each header is checked against the frame's size before it is read. */
#include "core.h"

#include "api.h"

#define ETHER_HEADER 14u
#define ETHER_MOST_TAGS 2
#define ETHER_IPV4 0x0800u
#define ETHER_IPV6 0x86ddu
#define ETHER_VLAN 0x8100u
#define ETHER_QINQ 0x88a8u

#define IPV4_MORE_AND_OFFSET 0x3fffu
#define IPV4_OFFSET 0x1fffu
#define IPV6_HEADER 40u

enum { HOP_BY_HOP = 0, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, AUTHENTICATION = 51, DESTINATION = 60 };

#define TCP_HEADER 20u
#define TCP_FIN 0x01
#define TCP_PSH 0x08
#define TCP_CWR 0x80
#define UDP_HEADER 8u

static u32 get16(const u8 *p)
{
    return (u32)p[0] << 8 | p[1];
}

static u32 get32(const u8 *p)
{
    return get16(p) << 16 | get16(p + 2);
}

static void put16(u8 *p, u32 value)
{
    p[0] = (u8)(value >> 8);
    p[1] = (u8)value;
}

static void put32(u8 *p, u32 value)
{
    put16(p, value >> 16);
    put16(p + 2, value);
}

static void copy(u8 *to, const u8 *from, u64 size)
{
    __builtin_memcpy(to, from, size);
}

/* --- sums: of 16-bit words in the order they lie in memory, so that the byte order of the host does not matter */

static u64 sum_of(const u8 *p, u64 size)
{
    u64 low = 0, high = 0;
    for (; size >= 8; p += 8, size -= 8) {
        u64 word;
        __builtin_memcpy(&word, p, 8);
        low += (u32)word;
        high += word >> 32;
    }
    u64 sum = (u32)low + (low >> 32) + (u32)high + (high >> 32);
    for (; size >= 2; p += 2, size -= 2) {
        u16 word;
        __builtin_memcpy(&word, p, 2);
        sum += word;
    }
    return sum + (size ? *p : 0); /* as if a zero byte followed: this host is little-endian */
}

static u16 folded(u64 sum)
{
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return (u16)sum;
}

static u64 sum_of_word(u32 value)
{
    u8 bytes[2];
    put16(bytes, value);
    return sum_of(bytes, 2);
}

static void store_sum(u8 *field, u16 sum)
{
    __builtin_memcpy(field, &sum, 2);
}

/* Both addresses, the protocol, and LENGTH bytes of transport header and payload. */
static u64 pseudo_header(const u8 *ip, const struct frame_layout *l, u32 length)
{
    u64 sum = l->ethertype == ETHER_IPV4 ? sum_of(ip + 12, 8) : sum_of(ip + 8, 32);
    return sum + sum_of_word(l->protocol) + sum_of_word(length);
}

/* --- layout */

static int ipv4_layout(const u8 *frame, u64 size, struct frame_layout *l)
{
    const u8 *ip = frame + l->network;
    u64 room = size - l->network;
    if (room < 20 || ip[0] >> 4 != 4)
        return -1;
    u32 header = (ip[0] & 15u) * 4, total = get16(ip + 2);
    if (header < 20 || total < header || total > room)
        return -1;
    l->end = l->network + total;
    l->protocol = ip[9];
    u32 fragment = get16(ip + 6) & IPV4_MORE_AND_OFFSET;
    if (fragment)
        l->flags |= FRAME_FRAGMENT;
    if (!(fragment & IPV4_OFFSET))
        l->transport = l->network + header;
    return 0;
}

/* One extension header at AT: its size, or 0 when PROTOCOL is none; -1 when it does not fit. */
static int extension(const u8 *frame, u32 at, struct frame_layout *l)
{
    u32 protocol = l->protocol;
    if (protocol != HOP_BY_HOP && protocol != ROUTING && protocol != FRAGMENT && protocol != AUTHENTICATION &&
        protocol != DESTINATION)
        return 0;
    if (at + 8 > l->end)
        return -1;
    u32 size = protocol == FRAGMENT ? 8 : protocol == AUTHENTICATION ? (frame[at + 1] + 2u) * 4
                                                                     : (frame[at + 1] + 1u) * 8;
    if (at + size > l->end)
        return -1;
    if (protocol == ROUTING && frame[at + 3])
        l->flags |= FRAME_ROUTED; /* the address in the checksum is not the header's */
    if (protocol == FRAGMENT && get16(frame + at + 2) & 0xfff9)
        l->flags |= FRAME_FRAGMENT | (get16(frame + at + 2) & 0xfff8 ? FRAME_LATER : 0);
    l->protocol = frame[at];
    return (int)size;
}

static int ipv6_layout(const u8 *frame, u64 size, struct frame_layout *l)
{
    const u8 *ip = frame + l->network;
    u64 room = size - l->network;
    if (room < IPV6_HEADER || ip[0] >> 4 != 6 || IPV6_HEADER + get16(ip + 4) > room)
        return -1;
    u32 at = l->network + IPV6_HEADER;
    l->end = at + get16(ip + 4);
    l->protocol = ip[6];
    for (int more; (more = extension(frame, at, l)); at += (u32)more) {
        if (more < 0)
            return -1;
        if (l->flags & FRAME_LATER)
            return 0;
    }
    l->transport = at;
    return 0;
}

static int transport_layout(const u8 *frame, struct frame_layout *l)
{
    u32 room = l->end - l->transport, header = 0;
    if (l->protocol == TCP) {
        header = room < TCP_HEADER ? 0 : (frame[l->transport + 12] >> 4) * 4u;
        if (header < TCP_HEADER || header > room)
            return -1;
    } else if (l->protocol == UDP) {
        header = UDP_HEADER;
        if (header > room)
            return -1;
    }
    l->payload = header ? l->transport + header : 0;
    return 0;
}

int core_frame_layout(const uint8_t *frame, uint64_t size, struct frame_layout *l)
{
    *l = (struct frame_layout){0};
    if (size < ETHER_HEADER || size > FRAME_MOST)
        return -1;
    u32 at = 12, type = get16(frame + at);
    for (int tags = 0; (type == ETHER_VLAN || type == ETHER_QINQ) && tags < ETHER_MOST_TAGS; tags++) {
        at += 4;
        if (at + 2 > size)
            return -1;
        type = get16(frame + at);
    }
    l->ethertype = type;
    l->network = at + 2;
    int bad = type == ETHER_IPV4 ? ipv4_layout(frame, size, l) : type == ETHER_IPV6 ? ipv6_layout(frame, size, l) : 0;
    if (bad || !l->transport)
        return bad;
    if (!transport_layout(frame, l))
        return 0;
    if (!(l->flags & FRAME_FRAGMENT))
        return -1;
    l->payload = 0; /* the rest of the header may be in the next fragment */
    return 0;
}

/* Whole TCP or UDP; where its checksum is, or NULL. */
static u8 *checksum_of(uint8_t *frame, u64 size, struct frame_layout *l)
{
    if (core_frame_layout(frame, size, l) || !l->payload || (l->flags & FRAME_FRAGMENT))
        return NULL;
    return frame + l->transport + (l->protocol == TCP ? 16 : 6);
}

int core_frame_complete(uint8_t *frame, uint64_t size)
{
    struct frame_layout l;
    u8 *field = checksum_of(frame, size, &l);
    if (!field)
        return -1;
    u16 sum = (u16)~folded(sum_of(frame + l.transport, l.end - l.transport));
    store_sum(field, sum || l.protocol == TCP ? sum : 0xffff);
    return 0;
}

int core_frame_blank(uint8_t *frame, uint64_t size)
{
    struct frame_layout l;
    u8 *field = checksum_of(frame, size, &l);
    if (!field || (l.flags & FRAME_ROUTED))
        return -1;
    store_sum(field, folded(pseudo_header(frame + l.network, &l, l.end - l.transport)));
    return 0;
}

int core_frame_complete_at(uint8_t *frame, uint64_t size, uint32_t start, uint32_t field)
{
    if (size > FRAME_MOST || start >= size || (u64)start + field + 2 > size)
        return -1;
    store_sum(frame + start + field, (u16)~folded(sum_of(frame + start, size - start)));
    return 0;
}

uint32_t core_frame_flow(const uint8_t *frame, uint64_t size)
{
    struct frame_layout l;
    if (size < ETHER_HEADER)
        return 0;
    u64 hash = 0;
    if (core_frame_layout(frame, size, &l) || !l.end) {
        hash = sum_of(frame, 12);
    } else {
        const u8 *ip = frame + l.network;
        hash = l.ethertype == ETHER_IPV4 ? (u64)get32(ip + 12) << 32 | get32(ip + 16)
                                         : (u64)folded(sum_of(ip + 8, 16)) << 32 | folded(sum_of(ip + 24, 16));
        if (l.payload && !(l.flags & FRAME_FRAGMENT))
            hash ^= (u64)get32(frame + l.transport) * 0x9e3779b97f4a7c15ull;
    }
    hash *= 0xff51afd7ed558ccdull;
    return (u32)(hash >> 32);
}

/* --- segmentation */

/* Fits headers that were copied whole to the segment NUMBER, at OFFSET in the payload, LENGTH bytes, LAST or not. */
static void fit_headers(u8 *to, const struct frame_layout *l, u32 number, u32 offset, u32 length, int last)
{
    u8 *ip = to + l->network, *tcp = to + l->transport;
    u32 end = l->payload + length;
    if (l->ethertype == ETHER_IPV4) {
        put16(ip + 2, end - l->network);
        put16(ip + 4, get16(ip + 4) + number);
        put16(ip + 10, 0);
        store_sum(ip + 10, (u16)~folded(sum_of(ip, (ip[0] & 15u) * 4)));
    } else {
        put16(ip + 4, end - l->network - IPV6_HEADER);
    }
    put32(tcp + 4, get32(tcp + 4) + offset);
    if (!last)
        tcp[13] &= (u8)~(TCP_FIN | TCP_PSH);
    if (number)
        tcp[13] &= (u8)~TCP_CWR;
    put16(tcp + 16, 0);
    u64 sum = pseudo_header(ip, l, end - l->transport) + sum_of(tcp, end - l->transport);
    store_sum(tcp + 16, (u16)~folded(sum));
}

int64_t core_frame_segment(const uint8_t *frame, uint64_t size, uint32_t mss, uint8_t *to, uint64_t room,
                           uint32_t *sizes, uint32_t limit)
{
    struct frame_layout l;
    if (core_frame_layout(frame, size, &l) || !l.payload || l.protocol != TCP || l.flags || !mss)
        return -1;
    u32 left = l.end - l.payload, offset = 0, number = 0;
    do {
        u32 length = left < mss ? left : mss;
        if (number == limit || room < l.payload + length)
            return -1;
        copy(to, frame, l.payload);
        copy(to + l.payload, frame + l.payload + offset, length);
        left -= length;
        fit_headers(to, &l, number, offset, length, !left);
        sizes[number++] = l.payload + length;
        offset += length;
        to += l.payload + length;
        room -= l.payload + length;
    } while (left);
    return number;
}
