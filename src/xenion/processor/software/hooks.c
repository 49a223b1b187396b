/* From the engine's hooks to the core and back. The guest is entered once; everything happens from here. */
#include "engine.h"

#include "../../core/src/api.h"

struct vcpu *arrive_from(struct engine *e)
{
    struct vcpu *v = e->vcpu;
    v->rip = *env_u64(e, ENV_EIP);
    v->cs = (u16)segment_of(e, SEG_CS)->selector;
    v->ss = (u16)segment_of(e, SEG_SS)->selector;
    return v;
}

/* To the vCPU that has arrived, or to another. A guest kernel's own iretq takes it to ring 3; whatever it does there is still
 * the kernel, at ring 1. */
void leave_to(struct engine *e, u64 skip)
{
    if (e->turns)
        take_turns(e);
    struct vcpu *v = e->vcpu;
    u32 *hflags = env_u32(e, ENV_HFLAGS);
    *hflags = (*hflags & ~HF_CPL) | (v->kernel_mode ? 1 : 3);
    *env_u64(e, ENV_EIP) = v->rip - skip;
    if (unlikely(load(&v->stopped)))
        unicorn.emu_stop(e->uc);
}

/* The engine adds the instruction's size after the hook. */
static void on_syscall(void *uc, void *user)
{
    struct engine *e = user;
    struct vcpu *v = arrive_from(e);
    (void)uc;
    v->rip += 2;
    core_syscall(v, !(*env_u32(e, ENV_HFLAGS) & HF_CS64));
    leave_to(e, 2);
}

static int fell_to_ring_3(struct engine *e) { return e->vcpu->kernel_mode && (*env_u32(e, ENV_HFLAGS) & HF_CPL) == 3; }

static void on_exception(struct engine *e, struct vcpu *v, u32 vector)
{
    u32 error = *env_u32(e, ENV_ERROR_CODE);
    if (vector == 14 && fell_to_ring_3(e))
        return;
    if (vector == 14)
        core_page_fault(v, env_u64(e, ENV_CR)[2], error);
    else
        core_exception(v, vector, (EXCEPTIONS_WITH_ERROR >> (vector & 31)) & 1, error);
}

static void on_interrupt(void *uc, u32 vector, void *user)
{
    struct engine *e = user;
    struct vcpu *v = arrive_from(e);
    u32 software = *env_u32(e, ENV_EXCEPTION_IS_INT);
    (void)uc;
    *env_u32(e, ENV_OLD_EXCEPTION) = ~0u;
    *env_u32(e, ENV_EXCEPTION_IS_INT) = 0;
    if (software) {
        core_software_interrupt(v, vector, 2);
    } else if (vector == 13 && *env_u32(e, ENV_ERROR_CODE) == 2) {
        core_kicked(v);
    } else {
        on_exception(e, v, vector);
    }
    leave_to(e, 0);
}

static int on_invalid(void *uc, void *user)
{
    struct engine *e = user;
    struct vcpu *v = arrive_from(e);
    (void)uc;
    *env_u32(e, ENV_OLD_EXCEPTION) = ~0u;
    if (*env_u32(e, ENV_EXCEPTION_IS_INT)) { /* `int $6` */
        *env_u32(e, ENV_EXCEPTION_IS_INT) = 0;
        v->rip = *env_u64(e, ENV_EXCEPTION_NEXT_EIP);
        core_software_interrupt(v, 6, 2);
    } else {
        core_exception(v, 6, 0, 0);
    }
    leave_to(e, 0);
    return 1;
}

/* The guest sees what its policy says, whatever mode asks. */
static int on_cpuid(void *uc, void *user)
{
    struct engine *e = user;
    u64 *regs = e->vcpu->regs;
    u32 leaf = (u32)regs[RAX], subleaf = (u32)regs[RCX], values[4] = {0};
    (void)uc;
    for (u32 i = 0; i < e->cpuid_count; i++) {
        const struct cpuid_leaf *l = &e->cpuid[i];
        if (l->leaf != leaf || (l->subleaf != ~0u && l->subleaf != subleaf))
            continue;
        __builtin_memcpy(values, &l->eax, sizeof values);
        break;
    }
    core_own_cpuid(e->vcpu, leaf, values);
    regs[RAX] = values[0];
    regs[RBX] = values[1];
    regs[RCX] = values[2];
    regs[RDX] = values[3];
    return 1;
}

int add_hooks(struct engine *e)
{
    size_t hook;
    return unicorn.hook_add(e->uc, &hook, UC_HOOK_INTR, (void *)on_interrupt, e, 1, 0) ||
           unicorn.hook_add(e->uc, &hook, UC_HOOK_INSN_INVALID, (void *)on_invalid, e, 1, 0) ||
           unicorn.hook_add(e->uc, &hook, UC_HOOK_INSN, (void *)on_syscall, e, 1, 0, UC_X86_INS_SYSCALL) ||
           unicorn.hook_add(e->uc, &hook, UC_HOOK_INSN, (void *)on_cpuid, e, 1, 0, UC_X86_INS_CPUID);
}
