"""What CPUID shows a PV domain: the processor's policy and Xen's own leaves (arch-x86/cpuid.h)."""

from collections.abc import Sequence

from xenion.abi.cpuid import (
    XEN_CPUID_FIRST_LEAF,
    XEN_CPUID_SIGNATURE_EBX,
    XEN_CPUID_SIGNATURE_ECX,
    XEN_CPUID_SIGNATURE_EDX,
)
from xenion.abi.version import MAJOR, MINOR
from xenion.processor import CpuidLeaf

LAST_LEAF = XEN_CPUID_FIRST_LEAF + 2
HYPERCALL_PAGES = 1
HYPERCALL_MSR = 0x40000000
PRESERVE_AD = 1


def domain_leaves(policy: Sequence[CpuidLeaf]) -> tuple[CpuidLeaf, ...]:
    """The processor's leaves and Xen's; a leaf that is not here reads as zeroes."""
    return (
        *policy,
        CpuidLeaf(
            XEN_CPUID_FIRST_LEAF, None, LAST_LEAF,
            XEN_CPUID_SIGNATURE_EBX, XEN_CPUID_SIGNATURE_ECX, XEN_CPUID_SIGNATURE_EDX,
        ),
        CpuidLeaf(XEN_CPUID_FIRST_LEAF + 1, None, MAJOR << 16 | MINOR, 0, 0, 0),
        CpuidLeaf(XEN_CPUID_FIRST_LEAF + 2, None, HYPERCALL_PAGES, HYPERCALL_MSR, PRESERVE_AD, 0),
    )  # fmt: skip


def lookup(leaves: Sequence[CpuidLeaf], leaf: int, subleaf: int) -> tuple[int, int, int, int]:
    """eax, ebx, ecx, edx."""
    for row in leaves:
        if row.leaf == leaf and row.subleaf in (None, subleaf):
            return row.eax, row.ebx, row.ecx, row.edx
    return 0, 0, 0, 0
