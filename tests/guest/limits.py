"""Checks that cannot pass on a processor, by probe: each belongs to a row of the limits in docs/processor.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.processor.kit.limits import LIMITS, names_of

CHECKS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "selectors": {"traps": frozenset({"kernel.cs_register", "kernel.ss_register"})},
    "host_cpuid": {"privops": frozenset({"cpuid.native_features_agree"})},
    "hypervisor_cpuid": {"privops": frozenset({"cpuid.native_signature"})},
    "host_segments": {
        "descriptors": frozenset({"gdt.reserved_selectors_there"}),
        "segments": frozenset({"user.gs_selector"}),
        "iret": frozenset({"compat.vector", "compat.rip"}),
    },
    "lazy_fpu": {
        "fpu_taskswitch": frozenset(
            {"set.nm", "set.nm.rip", "set.nm.clears_ts", "set.sse.nm", "mov_cr0.nm", "user.nm"}
        )
    },
    "nested_task": {"iret": frozenset({"flags.nt_kept", "user.flags.nt_kept"})},
}
"""Row -> probe -> names of checks."""


@dataclass(frozen=True)
class Limited:
    """Checks of a probe: those that must fail on a processor here, and those that do on some hosts."""

    must: frozenset[str]
    may: frozenset[str]


def limited(probe: str, processor: str) -> Limited:
    names = names_of(processor)
    must: set[str] = set()
    may: set[str] = set()
    for row, checks in CHECKS.items():
        limit = LIMITS[row]
        if here := names & set(limit.processors):
            (may if here & set(limit.varies) else must).update(checks.get(probe, ()))
    return Limited(frozenset(must), frozenset(may))
