"""How hypercalls are declared. `vmm.hypercalls` collects the table; docs/support.md is generated from it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from xenion.abi.xen import Hypercall
from xenion.vmm.vcpu import Vcpu

Handler: TypeAlias = Callable[[Vcpu, list[int]], int]
"""Takes the vCPU and six arguments, returns the result; raises GuestError for a negative one."""


class Status(Enum):
    FULL = "full"
    PARTIAL = "partial"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Entry:
    """One hypercall. `handler` None: the core answers it all, or (absent) it is -ENOSYS."""

    number: Hypercall
    status: Status
    note: str = ""
    handler: Handler | None = None
    in_core: bool = False


def full(number: Hypercall, handler: Handler, note: str = "") -> Entry:
    return Entry(number, Status.FULL, note, handler)


def partial(number: Hypercall, handler: Handler, note: str) -> Entry:
    return Entry(number, Status.PARTIAL, note, handler)


def core(number: Hypercall, note: str = "", status: Status = Status.FULL) -> Entry:
    return Entry(number, status, note, in_core=True)


def absent(number: Hypercall, note: str) -> Entry:
    return Entry(number, Status.ABSENT, note)
