/* The ways in from the processor: `syscall`, exceptions, a kick. The platform fills v->rip, v->cs and v->ss before and
 * takes them back after. */
#include "core.h"

#include "api.h"

#define SYSCALL_SIZE 2
#define DR6_SINGLE_STEP 0x4000ull

static void kernel_call(struct vcpu *v)
{
    static const int argument[6] = {RDI, RSI, RDX, R10, R8, R9};
    u64 number = v->regs[RAX], args[6];
    if (number == HYPERCALL_iret) {
        guest_iret(v);
        return;
    }
    for (int i = 0; i < 6; i++)
        args[i] = v->regs[argument[i]];
    s64 rc = hypercall(v, number, args);
    if (rc != CALL_CONTINUES) {
        v->regs[RAX] = (u64)rc;
        return;
    }
    for (int i = 0; i < 6; i++)
        v->regs[argument[i]] = args[i];
    v->rip -= SYSCALL_SIZE;
}

void core_syscall(struct vcpu *v, int compat)
{
    if (v->kernel_mode)
        kernel_call(v);
    else
        guest_syscall(v, compat);
    if (!v->stopped)
        deliver_events(v);
}

void core_kicked(struct vcpu *v)
{
    swap(&v->kick, 0);
    if (!v->stopped)
        deliver_events(v);
}

/* A fault in the vCPU's own LDT window: the guest's page is mapped there on first use, or the fault is its page's. */
static int ldt_fault(struct vcpu *v)
{
    u64 offset = v->cr2 - ldt_window_of(v);
    if (offset >= TABLE_PAGES * PAGE_SIZE)
        return 0;
    v->cr2 = v->ldt_base + offset;
    return map_ldt_page(v, offset);
}

/* The kernel half as seen from the user's own table, when the application ran on the kernel's. */
static int retry_on_user_table(struct vcpu *v)
{
    if (v->kernel_mode || v->loaded_cr3 == v->user_cr3 || !(v->cr2 >> 47))
        return 0;
    v->domain->platform->load_cr3(v, v->user_cr3);
    return 1;
}

void core_page_fault(struct vcpu *v, u64 address, u32 error)
{
    v->cr2 = address;
    if (retry_on_user_table(v) || ldt_fault(v))
        return;
    if (v->kernel_mode && (error & (PFEC_PRESENT | PFEC_WRITE)) == (PFEC_PRESENT | PFEC_WRITE) &&
        emulate_table_write(v, address))
        return;
    error = v->kernel_mode ? error & ~PFEC_USER : error | PFEC_USER;
    info_of(v)->cr2 = v->cr2;
    inject_exception(v, 14, 1, error);
}

/* cli and sti: no effect when the guest's virtual IOPL lets it (Xen leaves the upcall mask alone too). */
static int masked_switch(struct vcpu *v)
{
    u8 op;
    u64 level = !v->kernel_mode ? 3 : v->domain->vm_assist & (1u << VMASST_TYPE_architectural_iopl) ? 0 : 1;
    if (copy_from_guest(v, &op, v->rip, 1) || (op != 0xfa && op != 0xfb) || v->iopl >> 12 < level)
        return 0;
    v->rip++;
    return 1;
}

void core_exception(struct vcpu *v, u32 vector, int has_error, u32 error)
{
    if (vector == 13 && !error && masked_switch(v))
        return;
    if ((vector == 13 || vector == 6) && v->domain->platform->cold_trap(v, vector, error))
        return;
    if (v->stopped)
        return;
    if (vector == 7 && v->task_switched) { /* the guest is told once */
        v->task_switched = 0;
        v->domain->platform->set_task_switched(v);
    }
    if (vector == 1)
        v->debugreg[6] |= DR6_SINGLE_STEP;
    inject_exception(v, vector, has_error, error);
}

/* Xen's trap table decides who may use a vector; int3, into and, where there is a handler, int 0x80 are open to all. */
static int may_interrupt(struct vcpu *v, u32 vector)
{
    const struct trap *t = &v->traps[vector & 255];
    return vector == 3 || vector == 4 || (vector == 0x80 && t->address) || (t->flags & 3) >= (v->kernel_mode ? 1 : 3);
}

/* `int n`: v->rip is behind it. */
void core_software_interrupt(struct vcpu *v, u32 vector, u32 size)
{
    if (may_interrupt(v, vector)) {
        inject_exception(v, vector, 0, 0);
        return;
    }
    v->rip -= size;
    inject_exception(v, 13, 1, vector * 8 + 2);
}

void core_resume(struct vcpu *v)
{
    if (!v->stopped)
        deliver_events(v);
}

int64_t core_copy_from(struct vcpu *v, void *to, uint64_t from, uint64_t size) { return copy_from_guest(v, to, from, size); }

int64_t core_copy_to(struct vcpu *v, uint64_t to, const void *from, uint64_t size) { return copy_to_guest(v, to, from, size); }

int64_t core_block(struct vcpu *v) { return sched_block(v); }

uint64_t core_get_flags(struct vcpu *v) { return v->domain->platform->get_flags(v); }

uint64_t core_system_time(struct domain *d) { return system_time(d); }
