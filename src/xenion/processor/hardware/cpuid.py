"""The CPUID policy of the hardware processor: what the host's KVM supports, less what a PV guest in ring 3 cannot have.

Software KVMs do not intercept `cpuid`, so applications may see the host's: what they find there and use without asking
the kernel has to work, above all the extended states (AVX), which the guest's kernel must know of to save them.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from xenion.processor import CpuidLeaf

XSAVE, OSXSAVE = 1 << 26, 1 << 27
STATES = 0b11100111
"""x87, SSE, AVX and AVX-512; not MPX, PKRU and AMX."""

LEGACY_BYTES = 576
"""x87 and SSE states, and the header."""
ALIGNED = 2

_LEAF_1_ECX_OFF = sum(1 << bit for bit in (2, 3, 4, 5, 6, 7, 8, 14, 15, 17, 18, 21, 24))
"""DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, xTPR, PDCM, PCID, DCA, x2APIC, TSC deadline."""
_LEAF_1_EDX_OFF = sum(1 << bit for bit in (1, 3, 7, 9, 11, 12, 13, 14, 16, 17, 21, 22, 28, 29, 31))
"""VME, PSE, MCE, APIC, SEP, MTRR, PGE, MCA, PAT, PSE-36, DS, ACPI, HTT, TM, PBE."""
_LEAF_7_EBX_OFF = sum(1 << bit for bit in (0, 1, 2, 4, 7, 10, 11, 12, 14, 15, 20, 22, 25))
"""FSGSBASE, TSC_ADJUST, SGX, HLE, SMEP, INVPCID, RTM, PQM, MPX, PQE, SMAP, Intel PT."""
_LEAF_7_ECX_OFF = sum(1 << bit for bit in (2, 3, 4, 5, 7, 16, 22, 29, 30, 31))
"""UMIP, PKU, OSPKE, WAITPKG, CET_SS, LA57, RDPID, ENQCMD, SGX_LC, PKS."""
_LEAF_7_EDX_KEPT = sum(1 << bit for bit in (2, 3, 4, 8, 23))
"""AVX512_4VNNIW, AVX512_4FMAPS, FSRM, AVX512_VP2INTERSECT, AVX512_FP16."""
_EXTENDED_ECX_KEPT = sum(1 << bit for bit in (0, 5, 6, 7, 8, 11, 16, 21))
"""LAHF, ABM, SSE4A, misaligned SSE, 3DNow prefetch, XOP, FMA4, TBM."""
_EXTENDED_EDX_OFF = sum(1 << bit for bit in (1, 3, 7, 9, 12, 13, 14, 16, 17, 25, 26, 27))
"""As in leaf 1, and FFXSR, pages of 1 GiB, RDTSCP."""
_XSAVE_KEPT = 0b0111
"""XSAVEOPT, XSAVEC, XGETBV with ECX 1; not XSAVES, which is for ring 0."""
_HYPERVISOR = 1 << 31
_INVARIANT_TSC = 1 << 8

_PASSED_ON = {0, 2, 4, 0x80000000, *range(0x80000002, 0x80000007), 0x80000008}


def _states(leaf: CpuidLeaf, states: int) -> Iterator[CpuidLeaf]:
    """Leaf 13: sub-leaf 0 for all states that are kept, and one for each of them."""
    if leaf.subleaf == 0:
        yield replace(leaf, eax=leaf.eax & states, ebx=leaf.ecx, edx=0)
    elif leaf.subleaf == 1:
        yield replace(leaf, eax=leaf.eax & _XSAVE_KEPT, ebx=0, ecx=0, edx=0)
    elif leaf.subleaf is not None and leaf.subleaf < 64 and states >> leaf.subleaf & 1:
        yield leaf


def _kept(leaf: CpuidLeaf, states: int) -> Iterator[CpuidLeaf]:
    if leaf.leaf == 1:
        ecx = (leaf.ecx & ~(_LEAF_1_ECX_OFF | OSXSAVE)) | _HYPERVISOR
        yield replace(
            leaf, ebx=leaf.ebx & 0xFF00 | 1 << 16, ecx=ecx | (OSXSAVE if ecx & XSAVE else 0),
            edx=leaf.edx & ~_LEAF_1_EDX_OFF,
        )  # fmt: skip
    elif leaf.leaf == 7 and leaf.subleaf == 0:
        yield replace(
            leaf, eax=0, ebx=leaf.ebx & ~_LEAF_7_EBX_OFF, ecx=leaf.ecx & ~_LEAF_7_ECX_OFF,
            edx=leaf.edx & _LEAF_7_EDX_KEPT,
        )  # fmt: skip
    elif leaf.leaf == 13:
        yield from _states(leaf, states)
    elif leaf.leaf == 0x80000001:
        yield replace(leaf, ecx=leaf.ecx & _EXTENDED_ECX_KEPT, edx=leaf.edx & ~_EXTENDED_EDX_OFF)
    elif leaf.leaf == 0x80000007:
        yield replace(leaf, eax=0, ebx=0, ecx=0, edx=_INVARIANT_TSC)
    elif leaf.leaf in _PASSED_ON:
        yield leaf


def _compact_size(rows: Iterable[CpuidLeaf]) -> int:
    """Bytes of an XSAVE area with all states in the compacted form: leaf 13, sub-leaf 1, EBX."""
    size = LEGACY_BYTES
    for row in sorted(rows, key=lambda row: row.subleaf or 0):
        if row.leaf == 13 and row.subleaf and row.subleaf > 1:
            start = -(-size // 64) * 64 if row.ecx & ALIGNED else size
            size = start + row.eax
    return size


def policy(host: Iterable[CpuidLeaf], states: int = STATES) -> tuple[CpuidLeaf, ...]:
    """What a guest is shown, of what the host can give; empty sub-leaves are as good as none. `states`: those, as in
    XCR0, that can be had.
    """
    kept = [shown for leaf in host for shown in _kept(leaf, states & STATES)]
    shown = [row for row in kept if not row.subleaf or row.eax | row.ebx | row.ecx | row.edx]
    size = _compact_size(shown)
    return tuple(replace(row, ebx=size) if (row.leaf, row.subleaf) == (13, 1) else row for row in shown)


def xcr0_of(leaves: Iterable[CpuidLeaf]) -> int:
    """The extended states that a policy shows; 0 without XSAVE."""
    rows = list(leaves)
    if not any(row.leaf == 1 and row.ecx & XSAVE for row in rows):
        return 0
    return next((row.eax for row in rows if (row.leaf, row.subleaf) == (13, 0)), 0)
