/* Direct writes of the guest kernel to its page tables, which are mapped read-only: decode the instruction, work out the
 * new entry, have it checked and stored, and step over the instruction (xen/arch/x86/pv/ro-page-fault.c).
 *
 * The faulting address names the operand, so the decoder needs only its length, its operation and its register. */
#include "core.h"

struct instruction {
    u8 bytes[15];
    int length, position;
    u8 rex, lock, small; /* small: the 16-bit operand prefix */
    u8 two_byte, opcode, modrm;
    int size;      /* of the operand, bytes */
    u64 immediate;
};

static int next_byte(struct instruction *i, u8 *out)
{
    if (i->position >= i->length)
        return 0;
    *out = i->bytes[i->position++];
    return 1;
}

/* Reads what is there: an instruction may end right before an unmapped page. */
static void fetch(struct vcpu *v, struct instruction *i)
{
    u64 first = PAGE_SIZE - PAGE_OFFSET(v->rip);
    i->length = first < sizeof i->bytes ? (int)first : (int)sizeof i->bytes;
    if (copy_from_guest(v, i->bytes, v->rip, (u64)i->length)) {
        i->length = 0;
        return;
    }
    int rest = (int)sizeof i->bytes - i->length;
    if (rest && !copy_from_guest(v, i->bytes + i->length, v->rip + (u64)i->length, (u64)rest))
        i->length = sizeof i->bytes;
}

static int read_prefixes(struct instruction *i)
{
    u8 byte;
    for (;;) {
        if (!next_byte(i, &byte))
            return 0;
        if (byte == 0xf0)
            i->lock = 1;
        else if (byte == 0x66)
            i->small = 1;
        else if (byte != 0x3e) /* DS: a hint at most */
            break;
    }
    if ((byte & 0xf0) == 0x40) {
        i->rex = byte;
        if (!next_byte(i, &byte))
            return 0;
    }
    i->two_byte = byte == 0x0f;
    i->opcode = byte;
    return !i->two_byte || next_byte(i, &i->opcode);
}

static int skip_operand(struct instruction *i)
{
    u8 sib = 0;
    if (!next_byte(i, &i->modrm))
        return 0;
    int mod = i->modrm >> 6, rm = i->modrm & 7, displacement = mod == 1 ? 1 : mod == 2 ? 4 : 0;
    if (mod == 3)
        return 0;
    if (rm == 4 && !next_byte(i, &sib))
        return 0;
    if (mod == 0 && (rm == 5 || (rm == 4 && (sib & 7) == 5)))
        displacement = 4;
    i->position += displacement;
    return i->position <= i->length;
}

static int read_immediate(struct instruction *i, int bytes)
{
    u64 value = 0;
    u8 byte = 0;
    for (int k = 0; k < bytes; k++) {
        if (!next_byte(i, &byte))
            return 0;
        value |= (u64)byte << (8 * k);
    }
    int shift = 64 - 8 * bytes;
    i->immediate = (u64)((s64)(value << shift) >> shift);
    return 1;
}

static u8 group(const struct instruction *i) { return (i->modrm >> 3) & 7; }

/* Immediate operands by opcode; 0 when there is none. */
static int immediate_size(const struct instruction *i)
{
    if (i->two_byte)
        return i->opcode == 0xba ? 1 : 0;
    if (i->opcode == 0x80 || i->opcode == 0x83 || i->opcode == 0xc6)
        return 1;
    if (i->opcode == 0x81 || i->opcode == 0xc7)
        return i->size == 2 ? 2 : 4;
    return 0;
}

static int is_byte_operation(const struct instruction *i)
{
    if (i->two_byte)
        return i->opcode == 0xb0 || i->opcode == 0xc0;
    return !(i->opcode & 1) && i->opcode != 0x83;
}

/* stos without a repeat prefix: its operand is implied. */
static int is_store_string(const struct instruction *i) { return !i->two_byte && (i->opcode & 0xfe) == 0xaa; }

static int decode(struct vcpu *v, struct instruction *i)
{
    fetch(v, i);
    if (!read_prefixes(i) || (!is_store_string(i) && !skip_operand(i)))
        return 0;
    i->size = is_byte_operation(i) ? 1 : i->rex & 8 ? 8 : i->small ? 2 : 4;
    int bytes = immediate_size(i);
    return !bytes || read_immediate(i, bytes);
}

/* The register operand: for byte operations without REX, 4-7 name the high bytes. */
static u64 *register_of(struct vcpu *v, const struct instruction *i, int *shift)
{
    int n = group(i) | (i->rex & 4 ? 8 : 0);
    *shift = 0;
    if (i->size == 1 && !i->rex && n >= 4) {
        *shift = 8;
        n -= 4;
    }
    return &v->regs[n];
}

static u64 mask_of(int size) { return size == 8 ? ~0ull : (1ull << (8 * size)) - 1; }

static u64 read_register(struct vcpu *v, const struct instruction *i)
{
    int shift;
    u64 *reg = register_of(v, i, &shift);
    return (*reg >> shift) & mask_of(i->size);
}

static void merge(u64 *reg, int shift, int size, u64 value)
{
    u64 mask = size >= 4 ? ~0ull : mask_of(size) << shift; /* 32-bit results clear the upper half */
    *reg = (*reg & ~mask) | ((value & mask_of(size)) << shift);
}

static void write_register(struct vcpu *v, const struct instruction *i, u64 value)
{
    int shift;
    u64 *reg = register_of(v, i, &shift);
    merge(reg, shift, i->size, value);
}

/* The host's own instruction gives result and flags. */
#define RUN_SIZED(name, suffix, type)                                                             \
    case sizeof(type): {                                                                          \
        type x = (type)a, y = (type)b;                                                            \
        __asm__ volatile(name suffix " %2, %0\n\tpushfq\n\tpopq %1" : "+q"(x), "=&r"(flags) : "q"(y) : "cc", "memory"); \
        *result = x;                                                                              \
        break;                                                                                    \
    }
#define RUN(name)                 \
    switch (size) {               \
        RUN_SIZED(name, "b", u8)  \
        RUN_SIZED(name, "w", u16) \
        RUN_SIZED(name, "l", u32) \
        RUN_SIZED(name, "q", u64) \
    }                             \
    return flags

enum { ALU_ADD = 0, ALU_OR = 1, ALU_AND = 4, ALU_SUB = 5, ALU_XOR = 6 };

static u64 alu(int operation, int size, u64 a, u64 b, u64 *result)
{
    u64 flags = 0;
    switch (operation) {
    case ALU_ADD:
        RUN("add");
    case ALU_OR:
        RUN("or");
    case ALU_AND:
        RUN("and");
    case ALU_SUB:
        RUN("sub");
    default:
        RUN("xor");
    }
}

#define STATUS_FLAGS 0x8d5ull

/* What the instruction does: the new value of the operand, and of flags and register once it is stored. */
struct effect {
    u64 value;      /* of the operand */
    u64 flags;      /* of STATUS_FLAGS */
    u64 touched;    /* which flags change */
    u64 loaded;     /* for the register (or RAX) */
    u8 writes_register, writes_rax, skips_store, moves_rdi;
};

static int arithmetic(int operation, const struct instruction *i, u64 old, u64 operand, struct effect *e)
{
    if (operation != ALU_ADD && operation != ALU_OR && operation != ALU_AND && operation != ALU_SUB && operation != ALU_XOR)
        return 0;
    e->flags = alu(operation, i->size, old, operand, &e->value);
    e->touched = STATUS_FLAGS;
    return 1;
}

static int bit_operation(int kind, const struct instruction *i, u64 old, u64 index, struct effect *e)
{
    u64 bit = 1ull << (index & (8 * (u64)i->size - 1));
    e->value = kind == 5 ? old | bit : kind == 6 ? old & ~bit : old ^ bit;
    e->flags = old & bit ? FLAG_CF : 0;
    e->touched = FLAG_CF;
    return kind >= 5;
}

static int compare_exchange(struct vcpu *v, const struct instruction *i, u64 old, struct effect *e)
{
    u64 ignored, expected = v->regs[RAX] & mask_of(i->size);
    e->flags = alu(ALU_SUB, i->size, expected, old, &ignored);
    e->touched = STATUS_FLAGS;
    e->value = expected == old ? read_register(v, i) : old;
    e->skips_store = expected != old;
    e->writes_rax = expected != old;
    e->loaded = old;
    return 1;
}

static int two_byte_effect(struct vcpu *v, const struct instruction *i, u64 old, struct effect *e)
{
    switch (i->opcode) {
    case 0xab: /* bts btr btc r */
        return bit_operation(5, i, old, read_register(v, i), e);
    case 0xb3:
        return bit_operation(6, i, old, read_register(v, i), e);
    case 0xbb:
        return bit_operation(7, i, old, read_register(v, i), e);
    case 0xba:
        return bit_operation(group(i), i, old, i->immediate, e);
    case 0xb0: /* cmpxchg */
    case 0xb1:
        return compare_exchange(v, i, old, e);
    case 0xc0: /* xadd */
    case 0xc1:
        e->writes_register = 1;
        e->loaded = old;
        return arithmetic(ALU_ADD, i, old, read_register(v, i), e);
    default:
        return 0;
    }
}

static int effect_of(struct vcpu *v, const struct instruction *i, u64 old, struct effect *e)
{
    if (i->two_byte)
        return two_byte_effect(v, i, old, e);
    switch (i->opcode) {
    case 0x88: /* mov r */
    case 0x89:
        e->value = read_register(v, i);
        return !i->lock;
    case 0xc6: /* mov imm */
    case 0xc7:
        e->value = i->immediate;
        return !i->lock && group(i) == 0;
    case 0x86: /* xchg */
    case 0x87:
        e->value = read_register(v, i);
        e->writes_register = 1;
        e->loaded = old;
        return 1;
    case 0xaa: /* stos */
    case 0xab:
        e->value = v->regs[RAX];
        e->moves_rdi = 1;
        return !i->lock;
    case 0xf6: /* not */
    case 0xf7:
        e->value = ~old;
        return group(i) == 2;
    case 0x80: /* op imm */
    case 0x81:
    case 0x83:
        return arithmetic(group(i), i, old, i->immediate, e);
    default: /* op r: add or and sub xor at 0x00 0x08 0x20 0x28 0x30 */
        return i->opcode < 0x38 && (i->opcode & 7) <= 1 && arithmetic(i->opcode >> 3, i, old, read_register(v, i), e);
    }
}

static void finish(struct vcpu *v, const struct instruction *i, const struct effect *e)
{
    const struct platform *p = v->domain->platform;
    if (e->writes_register)
        write_register(v, i, e->loaded);
    if (e->writes_rax)
        merge(&v->regs[RAX], 0, i->size, e->loaded);
    if (e->moves_rdi)
        v->regs[RDI] += p->get_flags(v) & FLAG_DF ? -(u64)i->size : (u64)i->size;
    if (e->touched)
        p->set_flags(v, (p->get_flags(v) & ~e->touched) | (e->flags & e->touched));
    v->rip += (u64)i->position;
}

/* 1: done, or to be tried again; 0: not a good write to an L1 table, the guest gets its page fault. */
int emulate_table_write(struct vcpu *v, u64 address)
{
    struct domain *d = v->domain;
    struct instruction i = {0};
    struct effect e = {0};
    u64 *mapping = l1_entry(d, v->cr3, address, NULL);
    u64 entry = mapping ? load(mapping) : 0, mfn = PTE_FRAME(entry);
    if ((entry & (PTE_P | PTE_RW)) != PTE_P || !frame_of(d, mfn) || (load(&frame_of(d, mfn)->type) & TYPE_MASK) != TYPE_L1)
        return 0;
    if (!decode(v, &i) || (address & ((u64)i.size - 1)) || !get_frame(d, mfn))
        return 0;
    int done = 0;
    if (!get_frame_type(d, mfn, TYPE_L1)) {
        u64 index = PAGE_OFFSET(address) >> 3, word = load(table_entry(d, mfn, index));
        u64 shift = (address & 7) * 8, mask = mask_of(i.size) << shift;
        if (effect_of(v, &i, (word & mask) >> shift, &e)) {
            u64 value = (word & ~mask) | ((e.value << shift) & mask);
            int rc = e.skips_store ? 1 : compare_change_l1(d, mfn, index, word, value);
            if (rc == 1)
                finish(v, &i, &e);
            done = rc >= 0;
        }
        put_frame_type(d, mfn);
    }
    put_frame(d, mfn);
    return done;
}
