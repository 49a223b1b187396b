/* What makes a vCPU one of several: VCPUOP_initialise, up and down (vcpu.h), its APIC id. Follows arch_set_info_guest
 * (xen/arch/x86/domain.c). */
#include "core.h"

#include "api.h"

static void drop_tables(struct vcpu *v)
{
    u64 kernel = v->cr3 >> PAGE_SHIFT, user = v->user_cr3 >> PAGE_SHIFT;
    v->cr3 = v->user_cr3 = v->loaded_cr3 = 0;
    if (user)
        put_frame_and_type(v->domain, user);
    if (kernel)
        put_frame_and_type(v->domain, kernel);
}

static int load_segments(struct vcpu *v, const struct vcpu_start *s)
{
    const struct platform *p = v->domain->platform;
    static const int data[4] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
    v->cs = s->selectors[SEG_CS] | 3;
    v->ss = s->selectors[SEG_SS] | 3;
    for (int i = 0; i < 4; i++)
        if (p->load_selector(v, data[i], s->selectors[data[i]]))
            p->load_selector(v, data[i], 0);
    return p->load_selector(v, SEG_CS, v->cs) || p->load_selector(v, SEG_SS, v->ss) ? -XEN_EINVAL : 0;
}

static int load_tables(struct vcpu *v, const struct vcpu_start *s)
{
    int rc = s->kernel_table ? new_kernel_table(v, s->kernel_table) : -XEN_EINVAL;
    if (!rc && s->user_table)
        rc = new_user_table(v, s->user_table);
    if (!rc)
        rc = (int)set_gdt(v, s->gdt_frames, s->gdt_entries);
    if (!rc)
        rc = (int)set_ldt(v, s->ldt_base, s->ldt_entries);
    if (!rc)
        rc = load_segments(v, s);
    if (rc) {
        set_ldt(v, 0, 0);
        set_gdt(v, NULL, 0);
        drop_tables(v);
    }
    return rc;
}

static void begin(struct vcpu *v, const struct vcpu_start *s)
{
    const struct platform *p = v->domain->platform;
    v->kernel_mode = s->in_kernel != 0;
    p->mode_changed(v);
    if (!v->kernel_mode)
        p->load_cr3(v, v->user_cr3);
    __builtin_memcpy(v->regs, s->general, sizeof s->general);
    v->rip = s->rip;
    v->iopl = s->flags & FLAG_IOPL;
    p->set_flags(v, (s->flags & ~(FLAG_IOPL | FLAG_VM)) | FLAG_IF);
    p->set_base(v, SEGBASE_FS, s->fs_base);
    p->set_base(v, SEGBASE_GS_KERNEL, s->gs_base);
    store(&info_of(v)->upcall_mask, 1);
    v->initialised = 1;
}

/* What a vCPU that is down begins with; `by` is the one that runs. 0, or a negative errno: nothing has changed. */
int core_initialise_vcpu(struct vcpu *v, struct vcpu *by, const struct vcpu_start *s)
{
    const struct platform *p = v->domain->platform;
    if (!s->in_kernel && !s->user_table)
        return -XEN_EINVAL;
    p->load_registers(v);
    int rc = load_tables(v, s);
    if (!rc)
        begin(v, s);
    p->load_registers(by);
    return rc;
}

void core_vcpu_up(struct vcpu *v)
{
    store(&v->online, (u8)1);
    v->domain->platform->arm_timer(v);
    v->domain->platform->wake(v);
}

/* The vCPU's own thread: it stops before its next instruction. */
void core_vcpu_down(struct vcpu *v)
{
    store(&v->online, (u8)0);
    begin_wait(v, WAITS_DOWN);
}

/* What CPUID's registers (eax ebx ecx edx) say of this vCPU alone, in leaves that the policy has: its APIC id, as Xen numbers
 * them. */
void core_own_cpuid(struct vcpu *v, u32 leaf, u32 *registers)
{
    u32 apic_id = v->id * 2;
    if (leaf == 1)
        registers[1] |= apic_id << 24;
    else if (leaf == 0xb && (registers[0] | registers[1] | registers[2]))
        registers[3] = apic_id;
}
