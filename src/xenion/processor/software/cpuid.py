"""The CPUID policy of the software processor: exactly what its engine does right.

No AVX, FMA, PCID or XSAVE: the engine runs their encodings wrongly or not at all, so a guest must not be led to them.
No ERMS: string moves are its slowest copy. The vendor is AMD, whose `syscall` rules are the ones the engine follows.
"""

from collections.abc import Iterable

from xenion.processor import CpuidLeaf

FPU, DE, TSC, MSR, PAE, CX8, CMOV, CLFSH, MMX, FXSR, SSE, SSE2 = 0, 2, 4, 5, 6, 8, 15, 19, 23, 24, 25, 26
SSE3, PCLMULQDQ, SSSE3, CX16, SSE4_1, SSE4_2, MOVBE, POPCNT, AES, RDRAND, HYPERVISOR = (
    0, 1, 9, 13, 19, 20, 22, 23, 25, 30, 31,
)  # fmt: skip
BMI1, BMI2 = 3, 8
LAHF, ABM = 0, 5
SYSCALL, NX, LM = 11, 20, 29
INVARIANT_TSC = 8

FAMILY_MODEL_STEPPING = 0x60FB1
"""Family 15, model 107, stepping 1: the generic 64-bit AMD processor that emulators present."""

PHYSICAL_BITS, VIRTUAL_BITS = 40, 48
BRAND = b"Xenion software processor"


def bits(numbers: Iterable[int]) -> int:
    return sum(1 << n for n in numbers)


def _text(leaf: int, limit: int, vendor: bytes) -> CpuidLeaf:
    """A vendor leaf: ebx, edx and ecx carry the name in that order."""
    word = [int.from_bytes(vendor[i : i + 4], "little") for i in (0, 4, 8)]
    return CpuidLeaf(leaf, None, limit, word[0], word[2], word[1])


def _brand(leaf: int) -> CpuidLeaf:
    at = (leaf - 0x80000002) * 16
    text = BRAND.ljust(48, b"\0")[at : at + 16]
    return CpuidLeaf(leaf, None, *(int.from_bytes(text[i : i + 4], "little") for i in (0, 4, 8, 12)))


_COMMON = (FPU, DE, TSC, MSR, PAE, CX8, CMOV, MMX, FXSR)

LEAVES = (
    _text(0, 7, b"AuthenticAMD"),
    CpuidLeaf(
        1,
        None,
        FAMILY_MODEL_STEPPING,
        8 << 8 | 1 << 16,  # CLFLUSH line of 64 bytes, one logical processor
        bits((SSE3, PCLMULQDQ, SSSE3, CX16, SSE4_1, SSE4_2, MOVBE, POPCNT, AES, RDRAND, HYPERVISOR)),
        bits((*_COMMON, CLFSH, SSE, SSE2)),
    ),
    CpuidLeaf(7, 0, 0, bits((BMI1, BMI2)), 0, 0),
    _text(0x80000000, 0x80000008, b"AuthenticAMD"),
    CpuidLeaf(
        0x80000001, None, FAMILY_MODEL_STEPPING, 0, bits((LAHF, ABM)), bits((*_COMMON, SYSCALL, NX, LM))
    ),
    _brand(0x80000002),
    _brand(0x80000003),
    _brand(0x80000004),
    CpuidLeaf(0x80000007, None, 0, 0, 0, bits((INVARIANT_TSC,))),
    CpuidLeaf(0x80000008, None, PHYSICAL_BITS | VIRTUAL_BITS << 8, 0, 0, 0),
)
