"""Checks that cannot pass on a processor, by probe: each belongs to a row of the limits in docs/processor.md."""

from __future__ import annotations

from collections.abc import Mapping

from tests.processor.kit.limits import LIMITS, names_of

CHECKS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "selectors": {"traps": frozenset({"kernel.cs_register", "kernel.ss_register"})},
    "host_cpuid": {"privops": frozenset({"cpuid.native_signature", "cpuid.native_features_agree"})},
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


def limited(probe: str, processor: str) -> frozenset[str]:
    """The checks of a probe that must fail on this processor here."""
    names = names_of(processor)
    rows = (row for row in CHECKS if names & set(LIMITS[row].processors))
    return frozenset().union(*(CHECKS[row].get(probe, frozenset()) for row in rows))
