/* Registers that only a domain that is saved or restored has read and written from outside: x87, SSE, the TSC. */
#include "engine.h"

#include <string.h>

#define TOP_SHIFT 11
#define EMPTY 3u
#define MXCSR_BITS 0xffffu

struct fxsave {
    u16 control, status;
    u8 tags, reserved;
    u16 opcode;
    u64 instruction, operand;
    u32 mxcsr, mxcsr_mask;
    u8 st[8][16];
    u8 xmm[16][16];
    u8 unused[96];
};
_Static_assert(sizeof(struct fxsave) == FXSAVE_BYTES, "FXSAVE64");

/* The engine's calls are about the vCPU whose turn it is. */
static struct vcpu *turn_to(struct engine *e, u32 id)
{
    struct vcpu *before = e->vcpu;
    load_registers(&e->domain->vcpus[id]);
    return before;
}

void engine_read_fpu(struct engine *e, u32 id, u8 *image)
{
    struct vcpu *before = turn_to(e, id);
    struct fxsave f = {.mxcsr_mask = MXCSR_BITS};
    u16 tags = 0;
    unicorn.reg_read(e->uc, UC_X86_REG_FPCW, &f.control);
    unicorn.reg_read(e->uc, UC_X86_REG_FPSW, &f.status);
    unicorn.reg_read(e->uc, UC_X86_REG_FPTAG, &tags);
    unicorn.reg_read(e->uc, UC_X86_REG_MXCSR, &f.mxcsr);
    for (int i = 0; i < 8; i++) {
        f.tags |= (u8)(((tags >> 2 * i & 3u) != EMPTY) << i);
        unicorn.reg_read(e->uc, UC_X86_REG_FP0 + ((f.status >> TOP_SHIFT) + i) % 8, f.st[i]);
    }
    for (int i = 0; i < 16; i++)
        unicorn.reg_read(e->uc, UC_X86_REG_XMM0 + i, f.xmm[i]);
    memcpy(image, &f, sizeof f);
    load_registers(before);
}

void engine_write_fpu(struct engine *e, u32 id, const u8 *image)
{
    struct vcpu *before = turn_to(e, id);
    struct fxsave f;
    u16 tags = 0;
    memcpy(&f, image, sizeof f);
    f.mxcsr &= MXCSR_BITS;
    unicorn.reg_write(e->uc, UC_X86_REG_FPCW, &f.control);
    unicorn.reg_write(e->uc, UC_X86_REG_FPSW, &f.status);
    unicorn.reg_write(e->uc, UC_X86_REG_MXCSR, &f.mxcsr);
    for (int i = 0; i < 8; i++) {
        tags |= (u16)((f.tags >> i & 1 ? 0 : EMPTY) << 2 * i);
        unicorn.reg_write(e->uc, UC_X86_REG_FP0 + ((f.status >> TOP_SHIFT) + i) % 8, f.st[i]);
    }
    unicorn.reg_write(e->uc, UC_X86_REG_FPTAG, &tags);
    for (int i = 0; i < 16; i++)
        unicorn.reg_write(e->uc, UC_X86_REG_XMM0 + i, f.xmm[i]);
    load_registers(before);
}

void engine_tsc_changed(struct engine *e)
{
    for (u32 i = 0; i < e->domain->nr_vcpus; i++)
        *(u64 *)(env_of(e, i) + ENV_TSC_OFFSET) = e->domain->tsc_offset;
}
