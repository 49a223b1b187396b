"""Instruction-set features: an instruction of each, for what the CPUID policy offers and for what it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK = "sete %al; movzx %al, %eax; int3"
"""The end of a feature's code: 1 in rax if the last comparison found what was expected."""

EDX1, ECX1, EBX7, ECX8, EDX8 = (1, "edx"), (1, "ecx"), (7, "ebx"), (0x80000001, "ecx"), (0x80000001, "edx")


@dataclass(frozen=True)
class Feature:
    """`where`: leaf and register of its bit. `code` leaves 1 in rax if it is right; empty: it is tested elsewhere."""

    where: tuple[int, str]
    bit: int
    code: str


def feature(where: tuple[int, str], bit: int, *code: str) -> Feature:
    return Feature(where, bit, "\n".join("; ".join([*code, OK]).split("; ")) if code else "")


FEATURES: Final = {
    "fpu": feature(EDX1, 0, "fld1; fldpi; fmulp; fistpl UDATA; cmpl $3, UDATA"),
    "tsc": feature(EDX1, 4, "rdtsc; shl $32, %rdx; or %rdx, %rax; cmp $1, %rax; setb %al; cmp $0, %al"),
    "cx8": feature(
        EDX1, 8, "mov $1, %eax; xor %edx, %edx; movq $1, UDATA; mov $7, %ebx; mov $9, %ecx; cmpxchg8b UDATA",
        "jne bad; movabs $0x900000007, %rax; cmp %rax, UDATA",
    ),
    "cmov": feature(EDX1, 15, "xor %eax, %eax; mov $5, %ebx; cmp %eax, %eax; cmove %ebx, %eax; cmp $5, %eax"),
    "clflush": feature(EDX1, 19, "movq $3, UDATA; clflush UDATA; cmpq $3, UDATA"),
    "mmx": feature(
        EDX1, 23, "movq $0x0102, UDATA; movq UDATA, %mm0; paddb %mm0, %mm0; movq %mm0, UDATA; emms",
        "cmpq $0x0204, UDATA",
    ),
    "fxsr": feature(
        EDX1, 24, "mov $-1, %eax; movd %eax, %xmm5; fxsave UDATA; pxor %xmm5, %xmm5; fxrstor UDATA",
        "movd %xmm5, %ebx; cmp $-1, %ebx",
    ),
    "sse": feature(
        EDX1, 25, "movl $0x40000000, UDATA; movss UDATA, %xmm0; mulss %xmm0, %xmm0; movss %xmm0, UDATA",
        "cmpl $0x40800000, UDATA",
    ),
    "sse2": feature(
        EDX1, 26, "mov $6, %eax; cvtsi2sd %eax, %xmm0; mulsd %xmm0, %xmm0; cvtsd2si %xmm0, %eax; cmp $36, %eax"
    ),
    "sse3": feature(
        ECX1, 0, "mov $3, %eax; cvtsi2sd %eax, %xmm0; unpcklpd %xmm0, %xmm0; haddpd %xmm0, %xmm0",
        "cvtsd2si %xmm0, %eax; cmp $6, %eax",
    ),
    "pclmulqdq": feature(
        ECX1, 1, "mov $0x1b, %eax; movq %rax, %xmm0; mov $0x1d, %eax; movq %rax, %xmm1",
        "pclmulqdq $0, %xmm1, %xmm0; movq %xmm0, %rax; cmp $0x11f, %rax",
    ),
    "ssse3": feature(ECX1, 9, "mov $-5, %eax; movd %eax, %xmm0; pabsd %xmm0, %xmm0; movd %xmm0, %eax; cmp $5, %eax"),
    "cx16": feature(
        ECX1, 13, "movq $1, UDATA; movq $2, UDATA + 8; mov $1, %eax; mov $2, %edx; mov $7, %ebx; mov $9, %ecx",
        "cmpxchg16b UDATA; jne bad; cmpq $7, UDATA; jne bad; cmpq $9, UDATA + 8",
    ),
    "sse4_1": feature(
        ECX1, 19, "mov $-1, %eax; movd %eax, %xmm0; pmovsxdq %xmm0, %xmm0; movq %xmm0, %rax; cmp $-1, %rax"
    ),
    "sse4_2": feature(ECX1, 20, "xor %eax, %eax; mov $0x12345678, %ebx; crc32l %ebx, %eax; cmp $0xfa745634, %eax"),
    "movbe": feature(ECX1, 22, "movl $0x11223344, UDATA; movbe UDATA, %eax; cmp $0x44332211, %eax"),
    "popcnt": feature(ECX1, 23, "mov $0xf0f01, %eax; popcnt %eax, %eax; cmp $9, %eax"),
    "aes": feature(
        ECX1, 25, "pxor %xmm0, %xmm0; pxor %xmm1, %xmm1; aesenc %xmm1, %xmm0; movd %xmm0, %eax; cmp $0x63636363, %eax"
    ),
    "rdrand": feature(ECX1, 30, "rdrand %rax; mov $0, %eax; adc $0, %eax; cmp $1, %eax"),
    "bmi1": feature(
        EBX7, 3, "mov $0x50, %eax; blsr %eax, %eax; cmp $0x40, %eax; jne bad",
        "mov $0xf0, %ebx; andn %rbx, %rax, %rcx; cmp $0xb0, %rcx",
    ),
    "bmi2": feature(
        EBX7, 8, "mov $0xff, %eax; mov $0x0f0f, %ebx; pdep %ebx, %eax, %eax; cmp $0x0f0f, %eax; jne bad",
        "mov $3, %edx; mov $5, %eax; mulx %rax, %rax, %rcx; cmp $15, %rax",
    ),
    "lahf": feature(ECX8, 0, "xor %eax, %eax; stc; lahf; cmp $0x47, %ah"),
    "abm": feature(ECX8, 5, "mov $0x00800000, %eax; lzcnt %eax, %eax; cmp $8, %eax"),
    "syscall": feature(EDX8, 11),
    "nx": feature(EDX8, 20),
    "long_mode": feature(EDX8, 29, "cmp %eax, %eax"),
}  # fmt: skip

NOT_INSTRUCTIONS: Final = {
    EDX1: {2, 5, 6},  # DE, MSR, PAE: the hypervisor's side
    ECX1: {31},  # HYPERVISOR
    EBX7: set[int](),
    ECX8: set[int](),
    EDX8: {0, 2, 4, 5, 6, 8, 15, 23, 24},  # copies of leaf 1
}
"""Bits without an instruction of their own."""

UNADVERTISED: Final = {
    "avx": "vaddps %ymm0, %ymm1, %ymm2",
    "avx_128": "vaddps %xmm0, %xmm1, %xmm2",
    "avx_128_move": "vmovups %xmm0, %xmm1",
    "avx2": "vpaddd %ymm0, %ymm1, %ymm2",
    "vzeroupper": "vzeroupper",
    "fma": "vfmadd132ps %xmm0, %xmm1, %xmm2",
    "f16c": "vcvtph2ps %xmm0, %xmm1",
    "avx512": "vaddps %zmm0, %zmm1, %zmm2",
    "xsave": "xsave64 UDATA",
    "xsaveopt": "xsaveopt64 UDATA",
    "xgetbv": "xgetbv",
    "xsavec": "xsavec64 UDATA",
    "fsgsbase": "rdfsbase %rax",
    "fsgsbase_write": "wrgsbase %rax",
    "rdtscp": "rdtscp",
    "rdpid": "rdpid %rax",
    "rdseed": "rdseed %rax",
    "adx": "adcx %rax, %rbx",
    "sha": "sha1nexte %xmm0, %xmm1",
    "clflushopt": "clflushopt UDATA",
    "clwb": "clwb UDATA",
    "sse4a": "insertq %xmm0, %xmm1",
    "3dnow": "pfadd %mm0, %mm1",
    "fma4": "vfmaddps %xmm0, %xmm1, %xmm2, %xmm3",
    "xop": "vpcmov %xmm0, %xmm1, %xmm2, %xmm3",
    "tbm": "blcfill %eax, %eax",
    "rtm": "xbegin 1f; 1:",
    "pku": "rdpkru",
    "smap": "clac",
    "monitor": "monitor",
    "mwait": "mwait",
    "invpcid": "invpcid UDATA, %rax",
    "vmx": "vmcall",
    "svm": "vmmcall",
    "vmrun": "vmrun",
    "gfni": "gf2p8mulb %xmm0, %xmm1",
    "movdiri": "movdiri %rax, UDATA",
    "movdir64b": "movdir64b UDATA, %rax",
    "waitpkg": "tpause %ecx",
    "serialize": "serialize",
    "clzero": "clzero",
    "rdpru": "rdpru",
    "mcommit": "mcommit",
}
"""An instruction of each feature that no leaf offers. They run with UDATA in rax, and rcx and rdx zero."""
