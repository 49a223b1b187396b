"""The processor protocol: what the VMM needs of something that runs a domain's vCPUs.

A processor drives the core: it calls the core's trap entries and gives it a `struct platform` of operations. What the
core does not answer itself comes to the two callbacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "GENERAL",
    "KVM",
    "SEGMENTS",
    "Callbacks",
    "CpuidLeaf",
    "Features",
    "Processor",
    "ProcessorError",
    "Registers",
]

KVM = Path("/dev/kvm")
GENERAL = ("rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", *(f"r{n}" for n in range(8, 16)))
SEGMENTS = ("es", "cs", "ss", "ds", "fs", "gs")


class ProcessorError(Exception):
    """A processor cannot be used or has failed; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class CpuidLeaf:
    """One row of the CPUID policy; `subleaf` None answers any."""

    leaf: int
    subleaf: int | None
    eax: int
    ebx: int
    ecx: int
    edx: int


@dataclass(frozen=True, slots=True)
class Features:
    """What a processor offers: data, so that nobody has to try."""

    name: str
    cpuid: Sequence[CpuidLeaf]
    max_vcpus: int
    notes: Sequence[str] = field(default=())
    ring_3_kernel: bool = False
    """The guest's kernel is in ring 3, as on real hardware, not in ring 1."""
    hole_slot: int = 256
    """L4 slot of the hypervisor's hole: Xen's first, unless the processor cannot have it there."""
    takes_turns: bool = False
    """The domain's vCPUs take turns on one thread; otherwise each has one."""
    own_tsc: bool = True
    """A guest's TSC may count otherwise than the host's."""
    ioctls: Sequence[int] = ()
    """Requests that it makes while its guest runs, and to start another one."""


@dataclass(frozen=True, slots=True)
class Callbacks:
    """The cold half of the VMM. `cold_call(vcpu, number, args)` answers a hypercall (result or negative errno);
    `cold_trap(vcpu, vector, error)` is true when it emulated the instruction."""

    cold_call: Callable[[Any, int, Sequence[int]], int]
    cold_trap: Callable[[Any, int, int], bool]


@dataclass(frozen=True, slots=True)
class Registers:
    """A vCPU's registers for reports; 64-bit values."""

    general: dict[str, int]
    rip: int
    rflags: int
    cr2: int
    cr3: int
    selectors: dict[str, int]
    bases: dict[str, int]


class Processor(Protocol):
    """Runs one domain (`state`: the core's `struct domain`)."""

    @property
    def features(self) -> Features: ...

    def attach(self, state: Any, notify_fd: int, callbacks: Callbacks) -> None:
        """Becomes the domain's processor: memory and frame table are in place, page tables may not be yet."""

    def set_cpuid(self, leaves: Sequence[CpuidLeaf]) -> None: ...

    def start(self, rip: int, rsp: int, rsi: int) -> None:
        """Sets vCPU 0 up as Xen hands a new domain over; its page tables are loaded. The others are down."""

    def run(self) -> None:
        """Runs guest code without the GIL until the domain is stopped; raises ProcessorError if it cannot go on."""

    def registers(self, vcpu: int) -> Registers: ...

    def read_fpu(self, vcpu: int) -> bytes:
        """Of one that is held, an XSAVE image, or only its FXSAVE64 part where there are no extended states.
        ProcessorError."""

    def write_fpu(self, vcpu: int, image: bytes) -> None:
        """ProcessorError; ValueError: it is another processor's."""

    def tsc_changed(self) -> None:
        """The domain's `tsc_offset` was set, before it runs. Without `own_tsc` it stays 0."""

    def read_xcr0(self, vcpu: int) -> int:
        """The extended states that the guest has chosen; 0: there is no such choice."""

    def write_xcr0(self, value: int) -> bool:
        """The guest's kernel chooses its extended states; false: it cannot have these."""

    def tsc(self) -> int:
        """The host's."""

    def close(self) -> None: ...
