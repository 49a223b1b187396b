"""CPUID as a domain sees it: the processor's rows, then Xen's."""

import struct

from xenion.abi.cpuid import XEN_CPUID_FIRST_LEAF
from xenion.processor import CpuidLeaf
from xenion.processor.software.cpuid import LEAVES
from xenion.vmm.cpuid import domain_leaves, lookup

ROWS = domain_leaves(
    [CpuidLeaf(7, 0, 1, 2, 3, 4), CpuidLeaf(7, 1, 5, 6, 7, 8), CpuidLeaf(1, None, 9, 9, 9, 9)]
)


def test_lookup() -> None:
    assert lookup(ROWS, 7, 0) == (1, 2, 3, 4)
    assert lookup(ROWS, 7, 1) == (5, 6, 7, 8)
    assert lookup(ROWS, 7, 2) == (0, 0, 0, 0)
    assert lookup(ROWS, 1, 0xFFFFFFFF) == (9, 9, 9, 9)
    assert lookup(ROWS, 0xFFFFFFFF, 0) == (0, 0, 0, 0)


def test_xens_leaves() -> None:
    last, *signature = lookup(ROWS, XEN_CPUID_FIRST_LEAF, 0)
    assert struct.pack("<3I", *signature) == b"XenVMMXenVMM"
    assert last == XEN_CPUID_FIRST_LEAF + 2
    assert lookup(ROWS, XEN_CPUID_FIRST_LEAF + 1, 0)[0] >> 16 == 4


def test_no_leaf_is_hidden_by_another() -> None:
    seen: set[tuple[int, int | None]] = set()
    for row in domain_leaves(LEAVES):
        assert (row.leaf, None) not in seen
        assert (row.leaf, row.subleaf) not in seen
        assert row.subleaf is not None or not any(leaf == row.leaf for leaf, _ in seen)
        seen.add((row.leaf, row.subleaf))
        assert all(0 <= value < 1 << 32 for value in (row.eax, row.ebx, row.ecx, row.edx))
