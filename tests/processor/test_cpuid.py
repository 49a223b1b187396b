"""The CPUID policy: what is advertised works, what is not raises #UD, and every level sees the same."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.processor.conftest import Run
from xenion.processor import CpuidLeaf
from xenion.processor.choose import open_processor
from xenion.vmm.cpuid import domain_leaves, lookup

USER = ".section .user\nstart:\n"

READ = """
    mov $leaves, %rsi
    mov $answers, %rdi
next: mov (%rsi), %eax
    mov 4(%rsi), %ecx
    cpuid
    mov %eax, (%rdi)
    mov %ebx, 4(%rdi)
    mov %ecx, 8(%rdi)
    mov %edx, 12(%rdi)
    add $16, %rdi
    add $8, %rsi
    cmp $answers, %rsi
    jne next
    int3
"""


def policy(processor: str) -> Sequence[CpuidLeaf]:
    return domain_leaves(open_processor(processor).features.cpuid)


def queries(leaves: Sequence[CpuidLeaf]) -> list[tuple[int, int]]:
    """Every leaf of the policy, its neighbours, and some that nobody has."""
    asked = {(r.leaf + near, r.subleaf or sub) for r in leaves for near in (0, 1) for sub in (0, 1)}
    return sorted(
        asked | {(0x20000000, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x40000100, 0), (7, 2), (0xD, 0), (0xD, 1)}
    )


@pytest.mark.parametrize("user", [False, True], ids=["kernel", "user"])
def test_every_level_sees_the_policy(run: Run, processor: str, user: bool) -> None:
    leaves = policy(processor)
    asked = queries(leaves)
    data = "\n".join(f".long {leaf:#x}, {sub:#x}" for leaf, sub in asked)
    source = f'start: {READ}\n.section {".udata" if user else ".data"}, "aw"\nleaves: {data}\nanswers: .skip {16 * len(asked)}'
    out = run((".section .user\n" if user else "") + source, user=user)
    assert out.done
    raw = out.read("answers", 16 * len(asked))
    words = memoryview(raw).cast("I")
    seen = {query: tuple(words[4 * i : 4 * i + 4]) for i, query in enumerate(asked)}
    assert seen == {(leaf, sub): lookup(leaves, leaf, sub) for leaf, sub in asked}


def test_cpuid_clears_the_upper_halves(run: Run) -> None:
    out = run(
        USER
        + "mov $-1, %rbx; mov $-1, %rdx; movabs $0xffffffff00000000, %rax; movabs $0xffffffff00000000, %rcx; cpuid; int3",
        user=True,
    )
    assert [out[r] >> 32 for r in ("rax", "rbx", "rcx", "rdx")] == [0] * 4


# --- what is advertised. NAME -> (leaf, register, bit, code that leaves 1 in rax when the instruction is right)

EDX1, ECX1, EBX7, ECX8, EDX8 = (1, "edx"), (1, "ecx"), (7, "ebx"), (0x80000001, "ecx"), (0x80000001, "edx")
OK = "sete %al; movzx %al, %eax; int3"

FEATURES: dict[str, tuple[tuple[int, str], int, str]] = {
    "fpu": (EDX1, 0, f"fld1; fldpi; fmulp; fistpl UDATA; cmpl $3, UDATA; {OK}"),
    "tsc": (EDX1, 4, f"rdtsc; mov %eax, %ebx; rdtsc; cmp %eax, %ebx; setne %al; movzx %al, %eax; int3"),
    "cx8": (EDX1, 8, f"mov $1, %eax; xor %edx, %edx; movq $1, UDATA; mov $7, %ebx; mov $9, %ecx; cmpxchg8b UDATA;"
            f"jne bad; movabs $0x900000007, %rax; cmp %rax, UDATA; {OK}"),
    "cmov": (EDX1, 15, f"xor %eax, %eax; mov $5, %ebx; cmp %eax, %eax; cmove %ebx, %eax; cmp $5, %eax; {OK}"),
    "clflush": (EDX1, 19, f"movq $3, UDATA; clflush UDATA; cmpq $3, UDATA; {OK}"),
    "mmx": (EDX1, 23, f"movq $0x0102, UDATA; movq UDATA, %mm0; paddb %mm0, %mm0; movq %mm0, UDATA; emms; cmpq $0x0204, UDATA; {OK}"),
    "fxsr": (EDX1, 24, f"mov $-1, %eax; movd %eax, %xmm5; fxsave UDATA; pxor %xmm5, %xmm5; fxrstor UDATA; movd %xmm5, %ebx;"
             f"cmp $-1, %ebx; {OK}"),
    "sse": (EDX1, 25, f"movl $0x40000000, UDATA; movss UDATA, %xmm0; mulss %xmm0, %xmm0; movss %xmm0, UDATA; cmpl $0x40800000, UDATA; {OK}"),
    "sse2": (EDX1, 26, f"mov $6, %eax; cvtsi2sd %eax, %xmm0; mulsd %xmm0, %xmm0; cvtsd2si %xmm0, %eax; cmp $36, %eax; {OK}"),
    "sse3": (ECX1, 0, f"mov $3, %eax; cvtsi2sd %eax, %xmm0; unpcklpd %xmm0, %xmm0; haddpd %xmm0, %xmm0; cvtsd2si %xmm0, %eax; cmp $6, %eax; {OK}"),
    "pclmulqdq": (ECX1, 1, f"mov $0x1b, %eax; movq %rax, %xmm0; mov $0x1d, %eax; movq %rax, %xmm1; pclmulqdq $0, %xmm1, %xmm0; movq %xmm0, %rax; cmp $0x11f, %rax; {OK}"),
    "ssse3": (ECX1, 9, f"mov $-5, %eax; movd %eax, %xmm0; pabsd %xmm0, %xmm0; movd %xmm0, %eax; cmp $5, %eax; {OK}"),
    "cx16": (ECX1, 13, f"movq $1, UDATA; movq $2, UDATA + 8; mov $1, %eax; mov $2, %edx; mov $7, %ebx; mov $9, %ecx; cmpxchg16b UDATA;"
             f"jne bad; cmpq $7, UDATA; jne bad; cmpq $9, UDATA + 8; {OK}"),
    "sse4_1": (ECX1, 19, f"mov $-1, %eax; movd %eax, %xmm0; pmovsxdq %xmm0, %xmm0; movq %xmm0, %rax; cmp $-1, %rax; {OK}"),
    "sse4_2": (ECX1, 20, f"xor %eax, %eax; mov $0x12345678, %ebx; crc32l %ebx, %eax; cmp $0xfa745634, %eax; {OK}"),
    "movbe": (ECX1, 22, f"movl $0x11223344, UDATA; movbe UDATA, %eax; cmp $0x44332211, %eax; {OK}"),
    "popcnt": (ECX1, 23, f"mov $0xf0f01, %eax; popcnt %eax, %eax; cmp $9, %eax; {OK}"),
    "aes": (ECX1, 25, f"pxor %xmm0, %xmm0; pxor %xmm1, %xmm1; aesenc %xmm1, %xmm0; movd %xmm0, %eax; cmp $0x63636363, %eax; {OK}"),
    "rdrand": (ECX1, 30, f"rdrand %rax; mov $0, %eax; adc $0, %eax; cmp $1, %eax; {OK}"),
    "bmi1": (EBX7, 3, f"mov $0x50, %eax; blsr %eax, %eax; cmp $0x40, %eax; jne bad; mov $0xf0, %ebx; andn %rbx, %rax, %rcx; cmp $0xb0, %rcx; {OK}"),
    "bmi2": (EBX7, 8, f"mov $0xff, %eax; mov $0x0f0f, %ebx; pdep %ebx, %eax, %eax; cmp $0x0f0f, %eax; jne bad;"
             f"mov $3, %edx; mov $5, %eax; mulx %rax, %rax, %rcx; cmp $15, %rax; {OK}"),
    "lahf": (ECX8, 0, f"xor %eax, %eax; stc; lahf; cmp $0x47, %ah; {OK}"),
    "abm": (ECX8, 5, f"mov $0x00800000, %eax; lzcnt %eax, %eax; cmp $8, %eax; {OK}"),
    "syscall": (EDX8, 11, ""),
    "nx": (EDX8, 20, ""),
    "long_mode": (EDX8, 29, "mov $1, %eax; int3"),
}  # fmt: skip
"""`syscall` and NX have tests of their own."""

NOT_INSTRUCTIONS = {
    EDX1: {2, 5, 6},  # DE, MSR, PAE: of the hypervisor's side
    ECX1: {31},  # HYPERVISOR
    EBX7: set(),
    ECX8: set(),
    EDX8: {0, 2, 4, 5, 6, 8, 15, 23, 24},  # copies of leaf 1
}


@pytest.mark.parametrize("name", [n for n, f in FEATURES.items() if f[2]])
def test_an_advertised_feature_works(run: Run, processor: str, name: str) -> None:
    (leaf, register), bit, code = FEATURES[name]
    row = dict(zip(("eax", "ebx", "ecx", "edx"), lookup(policy(processor), leaf, 0), strict=True))
    if not row[register] >> bit & 1:
        pytest.skip(f"{processor} does not advertise it")
    out = run(
        f"{USER}{code.replace('; ', chr(10)).replace(';', chr(10))}\nbad: xor %eax, %eax\nint3", user=True
    )
    assert out.done
    assert out["rax"] == 1


def test_every_advertised_bit_has_a_test(processor: str) -> None:
    """A feature that is switched on needs a row above."""
    for (leaf, register), known in NOT_INSTRUCTIONS.items():
        row = dict(zip(("eax", "ebx", "ecx", "edx"), lookup(policy(processor), leaf, 0), strict=True))
        tested = known | {bit for where, bit, _ in FEATURES.values() if where == (leaf, register)}
        assert {bit for bit in range(32) if row[register] >> bit & 1} <= tested, f"{leaf:#x} {register}"


def test_aes_and_carryless_multiplication_agree_with_known_answers(run: Run) -> None:
    """FIPS 197's example of one encryption, with its expanded key made by aeskeygenassist."""
    key, plain = bytes(range(16)), bytes(i * 0x11 for i in range(16))
    expand = ""
    for i, rcon in enumerate((1, 2, 4, 8, 16, 32, 64, 128, 0x1B, 0x36)):
        expand += f"aeskeygenassist ${rcon}, %xmm1, %xmm2\ncall expand\n"
        expand += ("aesenclast" if i == 9 else "aesenc") + " %xmm1, %xmm0\n"
    source = f"""{USER}
        movups key, %xmm1
        movups plain, %xmm0
        pxor %xmm1, %xmm0
        {expand}
        movups %xmm0, plain
        int3
    expand: pshufd $0xff, %xmm2, %xmm2
        movdqa %xmm1, %xmm3
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pslldq $4, %xmm3
        pxor %xmm3, %xmm1
        pxor %xmm2, %xmm1
        ret
    .section .udata, "aw"
    key: .byte {", ".join(map(str, key))}
    plain: .byte {", ".join(map(str, plain))}
    """
    assert run(source, user=True).read("plain", 16).hex() == "69c4e0d86a7b0430d8cdb78070b4c55a"


def test_rdrand_differs(run: Run) -> None:
    """From call to call, and from domain to domain."""
    source = USER + "mov $64, %ecx; mov $UDATA, %rdi; again: rdrand %rax; jnc again; stosq; loop again; int3"
    first = run(source, user=True).words(0x410000, 64)
    second = run(source, user=True).words(0x410000, 64)
    assert len({*first, *second}) == 128


@pytest.mark.parametrize("size", ["ax", "eax", "rax"])
def test_rdrand_sets_flags(run: Run, size: str) -> None:
    """Carry, and no other of the arithmetic flags."""
    out = run(f"{USER} mov $0xd5, %eax; mov %al, %ah; sahf; rdrand %{size}; int3", user=True)
    assert out.end.rflags & 0x8D5 == 1


# --- what is not advertised

UNADVERTISED = {
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
    "xgetbv": "xor %ecx, %ecx; fault: xgetbv",
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
    "pku": "xor %ecx, %ecx; fault: rdpkru",
    "smap": "clac",
    "monitor": "xor %ecx, %ecx; xor %edx, %edx; mov $UDATA, %rax; fault: monitor",
    "mwait": "xor %ecx, %ecx; xor %eax, %eax; fault: mwait",
    "invpcid": "xor %eax, %eax; fault: invpcid UDATA, %rax",
    "vmx": "vmcall",
    "svm": "vmmcall",
    "vmrun": "mov $UDATA, %rax; fault: vmrun",
    "gfni": "gf2p8mulb %xmm0, %xmm1",
    "movdiri": "movdiri %rax, UDATA",
    "movdir64b": "mov $UDATA, %rax; fault: movdir64b UDATA, %rax",
    "waitpkg": "xor %eax, %eax; fault: tpause %ecx",
    "serialize": "serialize",
    "clzero": "mov $UDATA, %rax; fault: clzero",
    "rdpru": "xor %ecx, %ecx; fault: rdpru",
    "mcommit": "mcommit",
}
"""An instruction of each feature that no leaf offers."""

RUN_ANYWAY = {
    "avx_128": "vex", "avx_128_move": "vex", "vzeroupper": "vex", "rdtscp": "hidden_features", "rdseed": "hidden_features",
    "adx": "hidden_features", "clflushopt": "hidden_features", "clwb": "hidden_features", "rtm": "hidden_features",
    "sse4a": "hidden_encodings", "waitpkg": "hidden_encodings", "xop": "xop", "tbm": "xop",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.limit(RUN_ANYWAY[n])) if n in RUN_ANYWAY else n for n in UNADVERTISED],
)
def test_what_is_not_advertised_is_undefined(run: Run, name: str) -> None:
    code = UNADVERTISED[name]
    if "fault:" not in code:
        code = f"fault: {code}"
    out = run(f"{USER}{code.replace('; ', chr(10))}\nint3", user=True)
    assert (out.end.fault, out.end.rip) == ((6, None), out.label("fault"))


def test_sysenter_leads_nowhere(run: Run) -> None:
    """It is not advertised, and whatever raises the fault, the hypervisor is not entered by it."""
    out = run(f"{USER}fault: sysenter; int3", user=True)
    assert out.end.fault in ((6, None), (13, 0))
    assert out.end.rip == out.label("fault")
