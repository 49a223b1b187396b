/* Loading the library and checking that it is the build whose inner layout we know. Nothing is assumed: registers are found
 * by their contents, faults and kicks are tried on a scratch instance. */
#define _GNU_SOURCE
#include "engine.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

struct unicorn unicorn;
static char complaint[200];

static const struct {
    const char *name;
    void **slot;
} symbols[] = {
    {"uc_open", (void **)&unicorn.open},
    {"uc_close", (void **)&unicorn.close},
    {"uc_ctl", (void **)&unicorn.ctl},
    {"uc_mem_map_ptr", (void **)&unicorn.mem_map_ptr},
    {"uc_hook_add", (void **)&unicorn.hook_add},
    {"uc_emu_start", (void **)&unicorn.emu_start},
    {"uc_emu_stop", (void **)&unicorn.emu_stop},
    {"uc_reg_read", (void **)&unicorn.reg_read},
    {"uc_reg_write", (void **)&unicorn.reg_write},
    {"uc_strerror", (void **)&unicorn.strerror},
    {"tlb_flush_x86_64", (void **)&unicorn.tlb_flush},
    {"tlb_flush_page_x86_64", (void **)&unicorn.tlb_flush_page},
    {"tlb_reset_dirty_x86_64", (void **)&unicorn.tlb_reset_dirty},
    {"tlb_set_dirty_x86_64", (void **)&unicorn.tlb_set_dirty},
    {"tb_invalidate_phys_page_fast_x86_64", (void **)&unicorn.tb_invalidate_page_fast},
    {"tb_invalidate_phys_range_x86_64", (void **)&unicorn.tb_invalidate_range},
    {"raise_exception_err_ra_x86_64", (void **)&unicorn.raise_error},
    {"x86_ldq_phys_x86_64", (void **)&unicorn.ldq_phys},
    {"helper_load_seg_x86_64", (void **)&unicorn.load_segment},
    {"helper_pause_x86_64", (void **)&unicorn.pause},
    {"check_exit_request_x86_64", (void **)&unicorn.check_exit_request},
    {"helper_check_exit_request_x86_64", (void **)&unicorn.check_request},
    {"gen_new_label_x86_64", (void **)&unicorn.new_label},
    {"tcg_temp_new_internal_x86_64", (void **)&unicorn.new_temporary},
    {"tcg_temp_free_internal_x86_64", (void **)&unicorn.free_temporary},
    {"tcg_gen_op1_x86_64", (void **)&unicorn.op1},
    {"tcg_gen_op3_x86_64", (void **)&unicorn.op3},
    {"tcg_gen_brcondi_i64_x86_64", (void **)&unicorn.branch},
    {"tcg_gen_callN_x86_64", (void **)&unicorn.call_helper},
    {"tcg_gen_exit_tb_x86_64", (void **)&unicorn.exit_block},
    {"helper_lookup_tb_ptr_x86_64", (void **)&unicorn.lookup_block},
    {"tb_htable_lookup_x86_64", (void **)&unicorn.find_block},
    {"tlb_flush_by_mmuidx_x86_64", (void **)&unicorn.tlb_flush_indexes},
    {"tb_flush_x86_64", (void **)&unicorn.tb_flush},
    {"tb_flush_jmp_cache_x86_64", (void **)&unicorn.flush_jump_cache},
};

/* Our own library joins the global scope first, so that the engine's calls of the functions in interpose.c reach us. */
static const char *join_global_scope(void)
{
    Dl_info self;
    if (!dladdr((void *)join_global_scope, &self) || !dlopen(self.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD)) {
        snprintf(complaint, sizeof complaint, "the core cannot join the global symbol scope: %s", dlerror());
        return complaint;
    }
    return NULL;
}

const char *engine_load(const char *path)
{
    if (unicorn.handle)
        return NULL;
    const char *why = join_global_scope();
    if (why)
        return why;
    void *handle = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
    if (!handle) {
        snprintf(complaint, sizeof complaint, "%s", dlerror());
        return complaint;
    }
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        if (!(*symbols[i].slot = dlsym(handle, symbols[i].name))) {
            snprintf(complaint, sizeof complaint, "it has no symbol %s", symbols[i].name);
            dlclose(handle);
            return complaint;
        }
    unicorn.handle = handle;
    return NULL;
}

/* Reads memory that may not be there. */
static int peek(const void *from, void *to, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)(uintptr_t)from, size};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size;
}

/* The CPU state is where four odd values turn up that were written to registers. */
int locate(struct engine *e)
{
    static const int regs[4] = {UC_X86_REG_RAX, UC_X86_REG_RCX, UC_X86_REG_RDX, UC_X86_REG_RBX};
    u64 magic[4], words[512], found[4], env;
    for (int i = 0; i < 4; i++) {
        magic[i] = 0x5a5a1234abcd0000ull + (u64)i * 0x1111;
        unicorn.reg_write(e->uc, regs[i], &magic[i]);
    }
    if (!peek(e->uc, words, sizeof words))
        return 0;
    for (int i = 0; i < 512; i++) {
        if (words[i] < 0x10000 || words[i] >> 47 || (words[i] & 7) ||
            !peek((void *)(words[i] + CPU_ENV_POINTER), &env, sizeof env) || !peek((void *)env, found, sizeof found))
            continue;
        if (!memcmp(found, magic, sizeof magic)) {
            e->cpu = (void *)words[i];
            e->env = (u8 *)env;
            if (!peek((u8 *)e->cpu + CPU_ICOUNT_POINTER, &e->neg, sizeof e->neg))
                return 0;
            return peek(e->neg, found, 4) && !*(u8 *)((u8 *)e->uc + UC_NO_EXIT_REQUEST);
        }
    }
    return 0;
}

/* The flag that keeps an asynchronous stop from running an instruction twice, as the engine's own code reads it. */
static int exit_flag_is_known(void)
{
    static const u8 offset[5] = {UC_NO_EXIT_REQUEST & 0xff, UC_NO_EXIT_REQUEST >> 8, 0, 0, 0};
    const u8 *code = unicorn.check_exit_request;
    for (int i = 0; i < 32; i++) /* cmpb $0, offset(reg) */
        if (code[i] == 0x80 && (code[i + 1] & 0xf8) == 0xb8 && !memcmp(code + i + 2, offset, sizeof offset))
            return 1;
    return 0;
}

struct seen {
    struct engine *e;
    int vectors[4], errors[4], count;
    u32 is_int;
    u64 next;
};

static void note_interrupt(void *uc, u32 vector, void *user)
{
    struct seen *seen = user;
    if (seen->count < 4) {
        seen->vectors[seen->count] = (int)vector;
        seen->errors[seen->count++] = (int)*env_u32(seen->e, ENV_ERROR_CODE);
    }
    seen->is_int = *env_u32(seen->e, ENV_EXCEPTION_IS_INT);
    seen->next = *env_u64(seen->e, ENV_EXCEPTION_NEXT_EIP);
    *env_u32(seen->e, ENV_OLD_EXCEPTION) = ~0u;
    unicorn.emu_stop(uc);
}

static const char *check_fault(struct engine *e, struct seen *seen)
{
    static const u8 store_to_4m[8] = {0xc6, 0x04, 0x25, 0, 0, 0x40, 0, 1};
    memcpy(e->domain->memory + 0x5000, store_to_4m, sizeof store_to_4m);
    unicorn.emu_start(e->uc, 0x5000, e->until, 0, 0);
    if (seen->count != 1 || seen->vectors[0] != 14)
        return "a page fault does not arrive as one";
    if (seen->errors[0] != 2 || env_u64(e, ENV_CR)[2] != 0x400000)
        return "error code or CR2 are not where they should be";
    return *env_u64(e, ENV_EIP) == 0x5000 ? NULL : "the instruction pointer is not where it should be";
}

/* Flags are lazy: where the engine keeps them, and how it tells of `int n`. */
static const char *check_flags(struct engine *e, struct seen *seen)
{
    static const u8 stc_std_int[4] = {0xf9, 0xfd, 0xcd, 0x21};
    memcpy(e->domain->memory + 0x7000, stc_std_int, sizeof stc_std_int);
    seen->count = 0;
    unicorn.emu_start(e->uc, 0x7000, e->until, 0, 0);
    if (seen->count != 1 || seen->vectors[0] != 0x21 || seen->is_int != 1 || seen->next != 0x7004)
        return "a software interrupt does not arrive as one";
    if (*env_u32(e, ENV_CC_OP) != CC_OP_EFLAGS || !(*env_u64(e, ENV_CC_SRC) & FLAG_CF) || *env_u32(e, ENV_DF) != ~0u)
        return "the flags are not where they should be";
    return NULL;
}

/* The guest's TSC, ahead of the host's by what we poke. */
static const char *check_tsc(struct engine *e, struct seen *seen)
{
    static const u8 rdtsc_int[4] = {0x0f, 0x31, 0xcd, 0x21};
    const u64 ahead = 1ull << 62;
    memcpy(e->domain->memory + 0x7800, rdtsc_int, sizeof rdtsc_int);
    seen->count = 0;
    *env_u64(e, ENV_TSC_OFFSET) = ahead;
    unicorn.emu_start(e->uc, 0x7800, e->until, 0, 0);
    *env_u64(e, ENV_TSC_OFFSET) = 0;
    return seen->count == 1 && env_u64(e, ENV_REGS)[RDX] >> 30 == 1 ? NULL : "the TSC's offset is not where it should be";
}

struct table_register { /* uc_x86_mmr */
    u16 selector;
    u64 base;
    u32 limit, flags;
};

/* Registers that a call can write, read back where we poke them. */
static const char *check_registers(struct engine *e)
{
    struct table_register gdt = {0, 0x1234000, 0x567, 0}, ldt = {0x58, 0x2345000, 0x678, 0};
    u64 fs = 0x3456000, gs = 0x4567000;
    unicorn.reg_write(e->uc, UC_X86_REG_GDTR, &gdt);
    unicorn.reg_write(e->uc, UC_X86_REG_LDTR, &ldt);
    unicorn.reg_write(e->uc, UC_X86_REG_FS_BASE, &fs);
    unicorn.reg_write(e->uc, UC_X86_REG_GS_BASE, &gs);
    const struct segment *g = (struct segment *)(e->env + ENV_GDT), *l = (struct segment *)(e->env + ENV_LDT);
    if (g->base != gdt.base || g->limit != gdt.limit || l->base != ldt.base || l->limit != ldt.limit || l->selector != 0x58)
        return "the descriptor tables' registers are not where they should be";
    if (segment_of(e, SEG_FS)->base != fs || segment_of(e, SEG_GS)->base != gs)
        return "the segments are not where they should be";
    u32 expected = HF_PE | HF_LMA | HF_CS64;
    return (*env_u32(e, ENV_HFLAGS) & expected) == expected ? NULL : "the mode flags are not where they should be";
}

static const char *check_kick(struct engine *e, struct seen *seen)
{
    static const u8 loop[2] = {0xeb, 0xfe};
    memcpy(e->domain->memory + 0x6000, loop, sizeof loop);
    seen->count = 0;
    *env_u32(e, ENV_OLD_EXCEPTION) = ~0u;
    *env_u64(e, ENV_EFLAGS) |= FLAG_IF;
    kick(e);
    unicorn.emu_start(e->uc, 0x6000, e->until, 0, 1000000);
    return seen->count == 1 && seen->vectors[0] == 13 && seen->errors[0] == 2 ? NULL : "a kick does not arrive";
}

/* Code whose translation shows what blocks.c wants to know. */
static const char *check_blocks(struct engine *e, struct seen *seen)
{
    static const u8 code[] = {
        0xbe, 0, 0x90, 0, 0, 0xbf, 0, 0x90, 0, 0, 0xa4, /* movsb from and to 0x9000 */
        0x74, 0,                                        /* jz to the next */
        0xb8, 0, 0x81, 0, 0, 0xff, 0xe0,                /* jmp *%rax, to 0x8100 */
    };
    static const u8 end[2] = {0xcd, 0x21};
    memcpy(e->domain->memory + 0x8000, code, sizeof code);
    memcpy(e->domain->memory + 0x8100, end, sizeof end);
    seen->count = 0;
    learn_translator(1);
    unicorn.emu_start(e->uc, 0x8000, e->until, 0, 0);
    learn_translator(0);
    if (seen->count != 1 || seen->vectors[0] != 0x21)
        return "code that jumps does not arrive";
    if (!translator_is_known(e))
        return "its translator emits other operations";
    return blocks_are_known(e, 0x8100) ? NULL : "blocks of translated code are not what they should be";
}

static const char *check_instance(struct engine *e)
{
    static struct seen seen;
    size_t hook;
    u64 *m = (u64 *)e->domain->memory, cr4 = 0x620, cr3 = 0x10000, cr0 = 0x80050033;
    if (!locate(e))
        return "the processor state cannot be found";
    m[0x10000 / 8] = 0x11007;
    m[0x11000 / 8] = 0x12007;
    m[0x12000 / 8] = 0x87;
    unicorn.reg_write(e->uc, UC_X86_REG_CR4, &cr4);
    unicorn.reg_write(e->uc, UC_X86_REG_CR3, &cr3);
    unicorn.reg_write(e->uc, UC_X86_REG_CR0, &cr0);
    seen = (struct seen){.e = e};
    if (unicorn.hook_add(e->uc, &hook, UC_HOOK_INTR, (void *)note_interrupt, &seen, 1, 0))
        return "interrupts cannot be hooked";
    const char *why = check_fault(e, &seen);
    if (!why)
        why = check_flags(e, &seen);
    if (!why)
        why = check_tsc(e, &seen);
    if (!why)
        why = check_blocks(e, &seen);
    if (!why)
        why = check_kick(e, &seen);
    return why ? why : check_registers(e);
}

const char *engine_probe(void)
{
    static struct domain d;
    static struct engine e;
    if (!unicorn.handle)
        return "the library is not loaded";
    if (!exit_flag_is_known())
        return "its exit-request flag is not where it should be";
    e = (struct engine){.domain = &d, .until = ~0ull >> 1};
    d.memory = mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d.memory == MAP_FAILED)
        return "no memory for the probe";
    const char *why = "it opens no instance";
    if (!unicorn.open(UC_ARCH_X86, UC_MODE_64, &e.uc)) {
        unicorn.ctl(e.uc, UC_CTL_WRITE(UC_CTL_CPU_MODEL, 1u), UC_CPU_X86_SKYLAKE_SERVER);
        unicorn.ctl(e.uc, UC_CTL_WRITE(UC_CTL_TCG_BUFFER_SIZE, 1u), 1u << 20);
        unicorn.ctl(e.uc, UC_CTL_WRITE(UC_CTL_TLB_TYPE, 1u), UC_TLB_CPU);
        why = unicorn.mem_map_ptr(e.uc, 0, 2 << 20, UC_PROT_ALL, d.memory) ? "memory cannot be mapped" : check_instance(&e);
        unicorn.close(e.uc);
    }
    munmap(d.memory, 2 << 20);
    return why;
}
