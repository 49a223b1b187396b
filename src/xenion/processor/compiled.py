"""What the compiled processors have in common on Python's side."""

from collections.abc import Sequence
from typing import Any

from xenion.core import ffi, lib
from xenion.processor import GENERAL, SEGMENTS, Callbacks, CpuidLeaf, Registers

ANY_SUBLEAF = 0xFFFFFFFF

_callbacks: dict[Any, Callbacks] = {}
"""By domain: a C callback has no other context."""


def register(state: Any, callbacks: Callbacks) -> dict[str, Any]:
    """A `struct processor_callbacks`: what comes for the domain `state` goes to `callbacks` until `forget`."""
    _callbacks[state] = callbacks
    return {"cold_call": lib.on_cold_call, "cold_trap": lib.on_cold_trap}


def forget(state: Any) -> None:
    _callbacks.pop(state, None)


@ffi.def_extern(error=-38)  # type: ignore[untyped-decorator]  # cffi has no types
def on_cold_call(vcpu: Any, number: int, args: Any) -> int:
    return _callbacks[vcpu.domain].cold_call(vcpu, number, ffi.unpack(args, 6))


@ffi.def_extern(error=0)  # type: ignore[untyped-decorator]  # cffi has no types
def on_cold_trap(vcpu: Any, vector: int, error: int) -> int:
    return int(_callbacks[vcpu.domain].cold_trap(vcpu, vector, error))


def leaf_rows(leaves: Sequence[CpuidLeaf]) -> Any:
    """An array of `struct cpuid_leaf`."""
    return ffi.new(
        "struct cpuid_leaf[]",
        [
            (r.leaf, ANY_SUBLEAF if r.subleaf is None else r.subleaf, r.eax, r.ebx, r.ecx, r.edx)
            for r in leaves
        ],
    )


def read_registers(vcpu: Any, rflags: int, segments: Any) -> Registers:
    """Of the core's `vcpu`; `segments` fills arrays of bases and selectors."""
    bases, selectors = ffi.new("uint64_t[6]"), ffi.new("uint16_t[6]")
    segments(bases, selectors)
    return Registers(
        general=dict(zip(GENERAL, ffi.unpack(vcpu.regs, 16), strict=True)),
        rip=vcpu.rip,
        rflags=rflags,
        cr2=vcpu.cr2,
        cr3=vcpu.loaded_cr3,
        selectors=dict(zip(SEGMENTS, selectors, strict=True)),
        bases=dict(zip(SEGMENTS, bases, strict=True)),
    )
