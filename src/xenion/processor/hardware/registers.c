/* Registers between the virtual CPU and the core. In there the guest always has the selectors that Linux's applications have,
 * for software KVMs know no others; what it believes to have is kept here. */
#include "hardware.h"

#include <string.h>

#define USER_CS64 0x33
#define USER_CS32 0x23
#define USER_SS 0x2b

#define PLACE(name) offsetof(struct kvm_regs, name)
static const size_t places[16] = {PLACE(rax), PLACE(rcx), PLACE(rdx), PLACE(rbx), PLACE(rsp), PLACE(rbp), PLACE(rsi), PLACE(rdi),
                                  PLACE(r8),  PLACE(r9),  PLACE(r10), PLACE(r11), PLACE(r12), PLACE(r13), PLACE(r14), PLACE(r15)};

static __u64 *general(struct hardware *h, int n) { return (__u64 *)((u8 *)&h->run->s.regs.regs + places[n]); }

static struct kvm_segment *segment(struct hardware *h, int n)
{
    struct kvm_sregs *s = system_registers(h);
    struct kvm_segment *all[] = {&s->es, &s->cs, &s->ss, &s->ds, &s->fs, &s->gs};
    return all[n];
}

static struct kvm_segment flat(u16 selector, u8 type, u8 dpl, int code64)
{
    return (struct kvm_segment){.limit = ~0u, .selector = selector, .type = type, .present = 1, .dpl = dpl,
                                .db = (u8)!code64, .s = 1, .l = (u8)code64, .g = 1};
}

static struct kvm_segment cached(u16 selector, u64 d)
{
    u32 limit = (u32)(d & 0xffff) | (u32)(d >> 32 & 0xf0000);
    int granular = (int)(d >> 55 & 1);
    return (struct kvm_segment){
        .base = (d >> 16 & 0xffffff) | (d >> 56 & 0xff) << 24,
        .limit = granular ? limit << PAGE_SHIFT | 0xfff : limit,
        .selector = selector,
        .type = (d >> 40 & 0xf) | 1,
        .present = d >> 47 & 1,
        .dpl = d >> 45 & 3,
        .db = d >> 54 & 1,
        .s = d >> 44 & 1,
        .l = d >> 53 & 1,
        .g = (u8)granular,
        .unusable = !(d >> 47 & 1),
    };
}

/* In 64-bit code, and where base and limit are those of a flat segment, the one that every KVM runs natively. */
static void set_code(struct hardware *h, u16 selector, u64 descriptor)
{
    struct kvm_segment cs = cached(selector, descriptor);
    if (cs.l)
        cs = flat(USER_CS64, 11, 3, 1);
    else if (!cs.base && cs.limit == ~0u)
        cs = flat(USER_CS32, 11, 3, 0);
    h->shown_cs = selector;
    h->code = cs;
}

static void set_stack(struct hardware *h, u16 selector, u64 descriptor)
{
    struct kvm_segment ss = cached(selector, descriptor);
    if (!ss.base && ss.limit == ~0u)
        ss = flat(USER_SS, 3, 3, 0);
    h->shown_ss = selector;
    h->stack = ss;
}

/* 0, or -1: it would fault. */
int set_segment(struct hardware *h, int n, u16 selector)
{
    int okay = 1;
    u64 descriptor = 0;
    if (selector > 3 || n == SEG_CS) {
        descriptor = read_descriptor(h->vcpu, selector, &okay);
        if (!okay || !may_load(n, descriptor))
            return -1;
    } else if (n == SEG_SS) {
        return -1; /* no null stack in ring 3 */
    }
    h->changed = 1;
    if (n == SEG_CS)
        set_code(h, selector, descriptor);
    else if (n == SEG_SS)
        set_stack(h, selector, descriptor);
    else
        *segment(h, n) = cached(selector, descriptor);
    return 0;
}

/* The code and stack that the guest has left: as it knows them, unless an application has loaded others. */
static void arrive_selectors(struct hardware *h, u16 cs, u16 ss)
{
    if (h->flat && cs == FLAT_KERNEL_CS64)
        cs = h->code.selector;
    if (h->flat && ss == FLAT_KERNEL_SS64)
        ss = h->stack.selector;
    if (cs != h->code.selector)
        set_segment(h, SEG_CS, cs);
    if (ss != h->stack.selector)
        set_segment(h, SEG_SS, ss);
    h->vcpu->cs = h->shown_cs;
    h->vcpu->ss = h->shown_ss;
}

void arrive(struct hardware *h)
{
    struct kvm_regs *r = &h->run->s.regs.regs;
    for (int i = 0; i < 16; i++)
        h->regs[i] = *general(h, i);
    h->vcpu->rip = r->rip;
    h->rflags = r->rflags;
    if (segment(h, SEG_SS)->dpl == 3)
        arrive_selectors(h, segment(h, SEG_CS)->selector, segment(h, SEG_SS)->selector);
    else
        arrive_selectors(h, h->code.selector, h->stack.selector);
}

/* What the gate pushed. */
void arrive_from_frame(struct hardware *h, const u64 *frame)
{
    h->vcpu->rip = frame[0];
    h->rflags = frame[2];
    h->regs[RSP] = frame[3];
    arrive_selectors(h, (u16)frame[1], (u16)frame[4]);
}

static void set_place(struct hardware *h, u64 rip, u64 rflags)
{
    h->run->s.regs.regs.rip = rip;
    h->run->s.regs.regs.rflags = rflags;
    h->run->kvm_dirty_regs |= KVM_SYNC_X86_REGS;
}

void leave(struct hardware *h)
{
    int can_be_flat = h->code.selector == USER_CS64 && h->stack.selector == USER_SS;
    if (!can_be_flat)
        errands_at_once(h);
    set_place(h, h->vcpu->rip, (h->rflags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2);
    for (int i = 0; i < 16; i++)
        *general(h, i) = h->regs[i];
    if (segment(h, SEG_SS)->dpl != 3)
        h->changed = 1; /* it left through ring 0 */
    if (h->changed) {
        *segment(h, SEG_CS) = h->code;
        *segment(h, SEG_SS) = h->stack;
        h->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
    }
    h->changed = h->flat = 0;
    leave_by_errands(h);
}

/* All other registers stay. */
void enter_ring_0(struct hardware *h, u64 rip, u64 rsp)
{
    struct kvm_sregs *s = system_registers(h);
    s->cs = flat(RING_0_CS, 11, 0, 1);
    s->ss = flat(RING_0_SS, 3, 0, 0);
    set_place(h, rip, 2);
    h->run->s.regs.regs.rsp = rsp;
    h->run->kvm_dirty_regs |= KVM_SYNC_X86_SREGS;
}

/* As Xen hands a new domain over; its page tables are loaded. */
void start_registers(struct hardware *h, u64 rip, u64 rsp, u64 rsi)
{
    struct kvm_sregs *s = system_registers(h);
    struct vcpu *v = h->vcpu;
    memset(h->regs, 0, sizeof h->regs);
    h->regs[RSP] = rsp;
    h->regs[RSI] = rsi;
    h->rflags = FLAG_IF | 2;
    v->rip = rip;
    v->kernel_mode = 1;
    s->cr0 = 0x80050033;
    s->cr4 = 0x620 | (s->cr4 & 0x40000); /* PAE, OSFXSR, OSXMMEXCPT; OSXSAVE as it is */
    s->efer = 0xd01;
    s->gdt.base = gdt_of(v);
    s->gdt.limit = 0xffff;
    s->idt.base = monitor_page(&h->monitor, MONITOR_IDT);
    s->idt.limit = PAGE_SIZE - 1;
    s->tr = (struct kvm_segment){.base = monitor_page(&h->monitor, MONITOR_TSS), .limit = 0x67, .selector = 0x40, .type = 11,
                                 .present = 1};
    for (int n = SEG_ES; n <= SEG_GS; n++)
        *segment(h, n) = cached(0, 0);
    set_segment(h, SEG_CS, FLAT_KERNEL_CS64);
    set_segment(h, SEG_SS, FLAT_KERNEL_SS64);
}
