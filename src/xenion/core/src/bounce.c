/* Entering and leaving the guest's kernel: bounce frames, iret, the switch between kernel and user tables.
 * Follows create_bounce_frame (xen/arch/x86/x86_64/entry.S) and do_iret (pv/iret.c). */
#include "core.h"

#define TI_IF 4
#define CLEARED_FLAGS (FLAG_AC | FLAG_VM | FLAG_RF | FLAG_NT | FLAG_TF)

void enter_kernel(struct vcpu *v)
{
    const struct platform *p = v->domain->platform;
    v->gs_user = p->get_base(v, SEGBASE_GS_KERNEL);
    p->set_base(v, SEGBASE_GS_KERNEL, v->gs_kernel);
    v->kernel_mode = 1;
    p->mode_changed(v);
    if (v->loaded_cr3 != v->cr3)
        p->load_cr3(v, v->cr3);
}

void enter_user(struct vcpu *v)
{
    const struct platform *p = v->domain->platform;
    v->gs_kernel = p->get_base(v, SEGBASE_GS_KERNEL);
    p->set_base(v, SEGBASE_GS_KERNEL, v->gs_user);
    v->kernel_mode = 0;
    p->mode_changed(v);
    if (!lower_halves_equal(v))
        p->load_cr3(v, v->user_cr3);
}

/* Pushes the frame words (the lowest in memory first) and moves the guest to ADDRESS in its kernel. */
static void push_frame(struct vcpu *v, u64 address, u64 *words, int count, int mask)
{
    const struct platform *p = v->domain->platform;
    struct vcpu_info *info = info_of(v);
    u64 flags = p->get_flags(v), sp = v->regs[RSP], cs = v->cs;
    u8 masked = load(&info->upcall_mask);
    if (!address) {
        crash_domain(v->domain, "an exception or event has no handler");
        return;
    }
    words[count - 4] = v->kernel_mode ? cs & ~3ull : cs;
    words[count - 4] |= (u64)masked << 32;
    words[count - 3] = (flags & ~(FLAG_IF | FLAG_IOPL)) | (masked ? 0 : FLAG_IF);
    if (v->domain->vm_assist & (1u << VMASST_TYPE_architectural_iopl))
        words[count - 3] |= v->iopl;
    words[count - 2] = sp;
    words[count - 1] = v->ss;
    if (!v->kernel_mode) {
        enter_kernel(v);
        sp = v->kernel_sp;
    }
    sp = (sp & ~15ull) - 8 * (u64)count;
    if (copy_to_guest(v, sp, words, 8 * (u64)count)) {
        crash_domain(v->domain, "the guest kernel's stack cannot take an exception frame");
        return;
    }
    if (mask)
        store(&info->upcall_mask, 1);
    p->clear_flags(v, CLEARED_FLAGS);
    v->regs[RSP] = sp;
    v->regs[RCX] = v->rip = address; /* as `sysret`, which is how Xen enters the handler, leaves them */
    v->regs[R11] = (flags & ~(CLEARED_FLAGS | FLAG_IOPL)) | FLAG_IF;
    p->load_selector(v, SEG_CS, FLAT_KERNEL_CS64);
    p->load_selector(v, SEG_SS, FLAT_KERNEL_SS64);
}

void bounce(struct vcpu *v, u64 address, int has_error, u32 error, int mask)
{
    u64 words[8], n = 0;
    words[n++] = v->regs[RCX];
    words[n++] = v->regs[R11];
    if (has_error)
        words[n++] = error;
    words[n++] = v->rip;
    push_frame(v, address, words, (int)n + 4, mask);
}

void inject_exception(struct vcpu *v, u32 vector, int has_error, u32 error)
{
    const struct trap *t = &v->traps[vector & 255];
    bounce(v, t->address, has_error, error, t->flags & TI_IF);
}

/* A return to where the processor will not go faults there: the handler sees the target as the faulting place. */
static void refused_return(struct vcpu *v)
{
    const struct platform *p = v->domain->platform;
    if (p->load_selector(v, SEG_CS, v->cs))
        inject_exception(v, 13, 1, v->cs & 0xfffcu);
    else if (p->load_selector(v, SEG_SS, v->ss))
        inject_exception(v, 13, 1, v->ss & 0xfffcu);
    else if ((u64)((s64)(v->rip << 16) >> 16) != v->rip)
        inject_exception(v, 13, 1, 0);
}

/* HYPERVISOR_iret; the value for RAX. A fault on the frame crashes the domain, as with Xen. */
s64 guest_iret(struct vcpu *v)
{
    const struct platform *p = v->domain->platform;
    struct {
        u64 rax, r11, rcx, flags, rip, cs, rflags, rsp, ss;
    } f;
    if (copy_from_guest(v, &f, v->regs[RSP], sizeof f)) {
        crash_domain(v->domain, "fault while reading the iret frame");
        return 0;
    }
    if ((f.cs & 3) == 3) {
        if (!v->user_cr3) {
            crash_domain(v->domain, "return to user mode without user page tables");
            return 0;
        }
        enter_user(v);
    }
    if (v->domain->vm_assist & (1u << VMASST_TYPE_architectural_iopl))
        v->iopl = f.rflags & FLAG_IOPL;
    v->rip = f.rip;
    v->cs = (u16)(f.cs | 3);
    v->ss = (u16)(f.ss | 3);
    p->set_flags(v, (f.rflags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF);
    v->regs[RSP] = f.rsp;
    v->regs[R11] = f.flags & VGCF_IN_SYSCALL ? (f.rflags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF | 2 : f.r11;
    v->regs[RCX] = f.flags & VGCF_IN_SYSCALL ? f.rip : f.rcx;
    v->nmi_masked = 0;
    store(&info_of(v)->upcall_mask, f.rflags & FLAG_IF ? 0 : 1);
    v->regs[RAX] = f.rax;
    refused_return(v);
    return (s64)v->regs[RAX];
}

/* `syscall` in an application; v->rip is already behind it. */
void guest_syscall(struct vcpu *v, int compat)
{
    if (!(compat ? v->syscall32_callback : v->syscall_callback)) {
        v->rip -= 2;
        inject_exception(v, 6, 0, 0);
        return;
    }
    v->regs[RCX] = v->rip;
    v->regs[R11] = v->domain->platform->get_flags(v);
    if (compat) {
        v->ss = FLAT_USER_DS32;
        bounce(v, v->syscall32_callback, 0, 0, v->syscall32_masks);
        return;
    }
    v->cs = FLAT_KERNEL_CS64;
    v->ss = FLAT_KERNEL_SS64;
    bounce(v, v->syscall_callback, 0, 0, v->syscall_masks);
}
