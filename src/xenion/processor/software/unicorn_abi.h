/* What this processor needs of Unicorn 2.1.4 (include/unicorn/{unicorn,x86}.h), and where the pinned build keeps the parts
 * that it shows through no call. layout.c tries every one of these offsets on a live instance before any guest runs. */
#ifndef XENION_UNICORN_ABI_H
#define XENION_UNICORN_ABI_H

#define UC_ARCH_X86 4
#define UC_MODE_64 8
#define UC_PROT_ALL 7
#define UC_HOOK_INTR 1
#define UC_HOOK_INSN 2
#define UC_HOOK_INSN_INVALID 16384
#define UC_X86_INS_CPUID 113
#define UC_X86_INS_SYSCALL 699
#define UC_CPU_X86_SKYLAKE_SERVER 22
#define UC_TLB_CPU 0
#define UC_CTL_CPU_MODEL 7
#define UC_CTL_TLB_TYPE 12
#define UC_CTL_TCG_BUFFER_SIZE 13
#define UC_CTL_WRITE(type, args) ((type) | ((args) << 26) | (1u << 30))

#define UC_X86_REG_FPSW 31
#define UC_X86_REG_RAX 35
#define UC_X86_REG_RBX 37
#define UC_X86_REG_RCX 38
#define UC_X86_REG_RDX 40
#define UC_X86_REG_CR0 50
#define UC_X86_REG_CR3 53
#define UC_X86_REG_CR4 54
#define UC_X86_REG_FP0 82
#define UC_X86_REG_XMM0 122
#define UC_X86_REG_GDTR 243
#define UC_X86_REG_LDTR 244
#define UC_X86_REG_FPCW 246
#define UC_X86_REG_FPTAG 247
#define UC_X86_REG_MSR 248
#define UC_X86_REG_MXCSR 249
#define UC_X86_REG_FS_BASE 250
#define UC_X86_REG_GS_BASE 251
#define UC_X86_REG_RFLAGS 253

/* bytes from the start of CPUX86State; all of a vCPU's registers are in the first ENV_SIZE */
#define ENV_SIZE 5600
#define ENV_REGS 0
#define ENV_EIP 128
#define ENV_EFLAGS 136
#define ENV_CC_SRC 152
#define ENV_CC_OP 168
#define ENV_DF 172
#define ENV_HFLAGS 176
#define ENV_SEGMENTS 184
#define ENV_LDT 328
#define ENV_GDT 376
#define ENV_CR 424
#define ENV_ERROR_CODE 5384
#define ENV_EXCEPTION_IS_INT 5388
#define ENV_EXCEPTION_NEXT_EIP 5392
#define ENV_OLD_EXCEPTION 5496
#define ENV_TSC_OFFSET 5512

/* from CPUState */
#define CPU_INTERRUPT_REQUEST 28
#define CPU_ENV_POINTER 296
#define CPU_ICOUNT_POINTER 304

/* from uc_struct */
#define UC_NO_EXIT_REQUEST 0x7f2

#define CC_OP_EFLAGS 1

#endif
