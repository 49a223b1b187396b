"""The way from the compiled processors to the cold half of the VMM: by domain, for a callback has no other context."""

from typing import Any

from xenion.core import ffi, lib
from xenion.processor import Callbacks

_callbacks: dict[Any, Callbacks] = {}


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
