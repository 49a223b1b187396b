"""The trap table, and the two calls that set its entry for NMIs."""

import struct
from collections.abc import Callable

import pytest

from tests.unit.vmm.kernel import Kernel
from xenion.abi.arch_x86_64 import FLAT_KERNEL_CS, TrapInfo
from xenion.abi.callback import (
    CALLBACKOP_register,
    CALLBACKOP_unregister,
    CallbackRegister,
    CALLBACKTYPE_nmi,
    CallbackUnregister,
)
from xenion.abi.errno import Errno
from xenion.abi.nmi import (
    XEN_NMIREASON_unknown,
    XENNMI_register_callback,
    XENNMI_unregister_callback,
    XennmiCallback,
)
from xenion.abi.xen import Hypercall
from xenion.vmm.memory import PAGE_SIZE

NMI = 2
HANDLER = 0xFFFFFFFF81000000
NON_CANONICAL = 1 << 47
NMI_REASON = 3088 + 16
"""Offset of arch.nmi_reason in the shared info page."""

Register = Callable[[Kernel, int], int]


def by_callback_op(kernel: Kernel, address: int) -> int:
    request = kernel.put(CallbackRegister(type=CALLBACKTYPE_nmi, address=address))
    return kernel.call(Hypercall.callback_op, CALLBACKOP_register, request)


def by_nmi_op(kernel: Kernel, address: int) -> int:
    request = kernel.put(XennmiCallback(handler_address=address))
    return kernel.call(Hypercall.nmi_op, XENNMI_register_callback, request)


def entry(kernel: Kernel) -> tuple[int, int, int]:
    trap = kernel.vcpu.state.traps[NMI]
    return trap.address, trap.cs, trap.flags


both_ways = pytest.mark.parametrize("register", [by_callback_op, by_nmi_op])


@both_ways
def test_an_nmi_handler_is_an_entry_of_the_trap_table(kernel: Kernel, register: Register) -> None:
    """In the kernel, with events masked; no software interrupt of an application's may raise it."""
    assert register(kernel, HANDLER) == 0
    assert entry(kernel) == (HANDLER, FLAT_KERNEL_CS, 4)
    assert kernel.vcpu.state.nmi_pending == 0


@both_ways
def test_a_bad_address_changes_nothing(kernel: Kernel, register: Register) -> None:
    register(kernel, HANDLER)
    assert register(kernel, NON_CANONICAL) == -Errno.EINVAL
    assert entry(kernel)[0] == HANDLER


@both_ways
def test_an_nmi_whose_reason_is_still_there_comes_again(kernel: Kernel, register: Register) -> None:
    at = kernel.domain.memory.shared_info_mfn * PAGE_SIZE + NMI_REASON
    struct.pack_into("<Q", kernel.domain.memory.bytes, at, XEN_NMIREASON_unknown)
    assert register(kernel, HANDLER) == 0
    assert kernel.vcpu.state.nmi_pending == 1


@both_ways
def test_taking_it_away(kernel: Kernel, register: Register) -> None:
    register(kernel, HANDLER)
    request = kernel.put(CallbackUnregister(type=CALLBACKTYPE_nmi))
    assert kernel.call(Hypercall.callback_op, CALLBACKOP_unregister, request) == 0
    assert entry(kernel) == (0, 0, 0)
    register(kernel, HANDLER)
    assert kernel.call(Hypercall.nmi_op, XENNMI_unregister_callback, 0) == 0
    assert entry(kernel) == (0, 0, 0)


def test_the_trap_table_sets_it_and_takes_it_away(kernel: Kernel) -> None:
    """As Linux does, which knows no other way."""
    by_nmi_op(kernel, HANDLER)
    table = bytes(TrapInfo(vector=NMI, flags=4, cs=FLAT_KERNEL_CS, address=HANDLER + 64)) + bytes(16)
    assert kernel.call(Hypercall.set_trap_table, kernel.put(table)) == 0
    assert entry(kernel)[0] == HANDLER + 64
    assert kernel.call(Hypercall.set_trap_table, 0) == 0
    assert entry(kernel) == (0, 0, 0)
