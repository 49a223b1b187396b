/* A library that looks like the build of Unicorn that the software processor knows, as far as its checks at start go.
 * The environment variable FAKE names one thing in which it differs. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int differs(const char *how) { return getenv("FAKE") && !strcmp(getenv("FAKE"), how); }

static uint8_t uc_bytes[4096], cpu[4096], env[8192], neg[64];
static void (*hook)(void *uc, uint32_t vector, void *user);
static void *hook_user;
static void put(void *at, uint64_t value, size_t size) { memcpy(at, &value, size); }

int uc_open(int arch, int mode, void **uc)
{
    memset(uc_bytes, 0, sizeof uc_bytes);
    put(uc_bytes + 55 * 8, (uintptr_t)cpu, 8);
    put(cpu + 296, (uintptr_t)env, 8);
    put(cpu + 304, (uintptr_t)neg, 8);
    uc_bytes[0x7f2] = differs("flag set");
    *uc = uc_bytes;
    return differs("no instance");
}
int uc_close(void *uc) { return 0; }
int uc_ctl(void *uc, uint32_t control, ...) { return 0; }
int uc_mem_map_ptr(void *uc, uint64_t address, uint64_t size, uint32_t perms, void *memory) { return differs("no memory"); }

int uc_hook_add(void *uc, size_t *handle, int type, void *callback, void *user, uint64_t begin, uint64_t end, ...)
{
    hook = callback;
    hook_user = user;
    return differs("no hooks");
}

/* The translator calls these through its PLT, so that they are the processor's own. */
void *gen_new_label_x86_64(void *tcg);
void tcg_gen_op1_x86_64(void *tcg, int operation, uintptr_t argument);
void tcg_gen_op3_x86_64(void *tcg, int operation, uintptr_t a, uintptr_t b, uintptr_t c);

static void translate(void)
{
    static uint8_t tcg[64];
    void *label = gen_new_label_x86_64(tcg);
    if (!differs("label"))
        tcg_gen_op1_x86_64(tcg, 1, (uintptr_t)label);
    if (!differs("load"))
        tcg_gen_op3_x86_64(tcg, 70, (uintptr_t)tcg + 8, (uintptr_t)tcg + 16, 172);
}

static struct {
    uint64_t pc, cs_base;
    uint32_t flags;
    uint16_t size, count;
    uint32_t kind, trace;
    void *code;
} block;

void *tb_htable_lookup_x86_64(void *cpu, uint64_t pc, uint64_t cs_base, uint32_t flags, uint32_t kind)
{
    if (kind != 0xff000000 || differs("no block"))
        return 0;
    block.pc = differs("block") ? 0 : pc;
    block.flags = flags;
    block.kind = kind;
    block.code = differs("code") ? 0 : neg;
    return &block;
}
void *helper_lookup_tb_ptr_x86_64(void *env) { return neg; }

int uc_emu_start(void *uc, uint64_t begin, uint64_t until, uint64_t timeout, size_t count)
{
    int kicked = cpu[28] == 2 && neg[2] == 0xff && neg[3] == 0xff;
    if (begin == 0x5000) {
        put(env + (differs("rip") ? 120 : 128), begin, 8);
        put(env + (differs("cr2") ? 432 : 440), 0x400000, 8);
        put(env + (differs("error code") ? 5380 : 5384), 2, 4);
        if (!differs("no fault"))
            hook(uc, differs("vector") ? 13 : 14, hook_user);
    } else if (begin == 0x7000) { /* stc; std; int $0x21 */
        put(env + 144 + 8, differs("carry") ? 0 : 1, 8);
        put(env + 168, 1, 4);
        put(env + 172, differs("direction") ? 1 : 0xffffffff, 4);
        put(env + 5388, differs("int flag") ? 0 : 1, 4);
        put(env + 5392, differs("next rip") ? 0x7002 : 0x7004, 8);
        hook(uc, 0x21, hook_user);
    } else if (begin == 0x7800) { /* rdtsc; int $0x21 */
        memcpy(env + 16, env + (differs("tsc") ? 5504 : 5512) + 4, 4);
        put(env + 20, 0, 4);
        hook(uc, 0x21, hook_user);
    } else if (begin == 0x8000) { /* movsb; jz; jmp; int $0x21 */
        translate();
        if (!differs("no jump"))
            hook(uc, 0x21, hook_user);
    } else if (kicked && !differs("no kick")) {
        put(env + 5384, 2, 4);
        hook(uc, 13, hook_user);
    }
    return 0;
}

void *gen_new_label_x86_64(void *tcg) { return cpu; }
int uc_emu_stop(void *uc) { return 0; }
int uc_reg_read(void *uc, int reg, void *value) { return 0; }

int uc_reg_write(void *uc, int reg, const void *value)
{
    static const int names[4] = {35, 38, 40, 37};
    for (int i = 0; i < 4; i++)
        if (reg == names[i])
            memcpy(env + 8 * i + (differs("registers") ? 8 : 0), value, 8);
    if (reg == 243 || reg == 244) { /* GDTR, LDTR: selector, base, limit */
        uint8_t *at = env + (reg == 243 ? 376 : 328) + (differs(reg == 243 ? "gdt" : "ldt") ? 8 : 0);
        memcpy(at, value, 2);
        memcpy(at + 8, (const uint8_t *)value + 8, 8);
        memcpy(at + 16, (const uint8_t *)value + 16, 4);
    }
    if (reg == 250 || reg == 251)
        memcpy(env + 184 + 24 * (reg == 250 ? 4 : 5) + (differs("segments") ? 16 : 8), value, 8);
    put(env + 176, differs("mode flags") ? 0 : 0xc090, 4);
    return 0;
}

const char *uc_strerror(int error) { return ""; }
#ifndef FLAG_AT
#define FLAG_AT 0xf2
#endif
const uint8_t check_exit_request_x86_64[64] = {0x90, 0x80, 0xbf, FLAG_AT, 0x07, 0, 0, 0};
