"""VCPUOP_initialise of another vCPU: what is taken over from its context, and what is refused."""

from collections.abc import Iterator

import pytest

from tests.unit.vmm.kernel import BASE, L2, L4, PAGES, Kernel, built
from xenion.abi.arch_x86_64 import (
    FLAT_KERNEL_CS,
    FLAT_KERNEL_SS,
    XEN_LEGACY_MAX_VCPUS,
    VcpuGuestContext,
    VGCF_failsafe_disables_events,
    VGCF_i387_valid,
    VGCF_in_kernel,
    VGCF_syscall_disables_events,
)
from xenion.abi.errno import Errno
from xenion.abi.vcpu import VCPUOP_initialise, VCPUOP_register_vcpu_info, VCPUOP_up, VcpuRegisterVcpuInfo
from xenion.abi.xen import Hypercall
from xenion.vmm.memory import PAGE_SIZE

VCPUS = XEN_LEGACY_MAX_VCPUS + 1
OTHER, LAST = 1, VCPUS - 1
"""The last one has no vcpu_info in the shared info."""
CONTEXT, PLACE, INFO = 10, 12, 13
"""Pages of the guest's for arguments (the context takes two) and for a vcpu_info."""
NON_CANONICAL = 1 << 47
PERIOD_NS = 10_000_000


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """Of a domain with more vCPUs than the shared info has room for."""
    with built(nr_vcpus=VCPUS) as made:
        yield made


@pytest.fixture
def context(kernel: Kernel) -> VcpuGuestContext:
    """What a kernel gives that uses one page table for all of its vCPUs."""
    context = VcpuGuestContext(flags=VGCF_in_kernel, kernel_sp=BASE + 8, gs_base_kernel=BASE + 16)
    context.user_regs.rip, context.user_regs.rsp, context.user_regs.rflags = BASE + 24, BASE + 32, 0x1001
    context.user_regs.cs, context.user_regs.ss = FLAT_KERNEL_CS, FLAT_KERNEL_SS
    context.ctrlreg[3] = kernel.mfn(L4) * PAGE_SIZE
    return context


def initialise(kernel: Kernel, context: VcpuGuestContext, number: int = OTHER) -> int:
    return kernel.call(Hypercall.vcpu_op, VCPUOP_initialise, number, kernel.put(context, CONTEXT))


def test_its_registers(kernel: Kernel, context: VcpuGuestContext) -> None:
    context.user_regs.r15, context.user_regs.rdi, context.user_regs.rax = 15, 7, 1
    assert initialise(kernel, context) == 0
    registers = kernel.domain.processor.registers(OTHER)
    assert (registers.rip, registers.cr3) == (BASE + 24, kernel.mfn(L4) * PAGE_SIZE)
    general = registers.general
    assert [general[name] for name in ("rsp", "r15", "rdi", "rax", "rbx")] == [BASE + 32, 15, 7, 1, 0]
    assert registers.rflags == 0x203  # interrupts are on, I/O privilege is kept elsewhere
    assert kernel.domain.vcpus[OTHER].state.iopl == 0x1000
    assert registers.selectors["cs"] == FLAT_KERNEL_CS
    assert registers.bases["gs"] == BASE + 16


def test_its_handlers(kernel: Kernel, context: VcpuGuestContext) -> None:
    trap = context.trap_ctxt[14]
    trap.address, trap.flags, trap.cs = BASE + 14, 4, FLAT_KERNEL_CS
    context.event_callback_eip, context.failsafe_callback_eip, context.syscall_callback_eip = (1, 2, 3)
    context.flags |= VGCF_syscall_disables_events | VGCF_failsafe_disables_events
    assert initialise(kernel, context) == 0
    state = kernel.domain.vcpus[OTHER].state
    assert (state.traps[14].address, state.traps[14].flags, state.traps[14].cs) == (
        BASE + 14,
        4,
        FLAT_KERNEL_CS,
    )
    assert state.traps[13].address == 0
    assert (state.event_callback, state.failsafe_callback, state.syscall_callback) == (1, 2, 3)
    assert (state.syscall_masks, state.failsafe_masks, state.kernel_sp) == (1, 1, BASE + 8)


def test_its_debug_registers(kernel: Kernel, context: VcpuGuestContext) -> None:
    """What can be one is; a bad value leaves the register as every vCPU has it in the beginning."""
    context.debugreg[:] = [BASE, NON_CANONICAL, 0, 0, 0, 0, 0x4000, 1 << 13]
    assert initialise(kernel, context) == 0
    registers = list(kernel.domain.vcpus[OTHER].state.debugreg)
    assert registers == [BASE, 0, 0, 0, 0, 0, 0xFFFF4FF0, 0x400]


def test_an_application(kernel: Kernel, context: VcpuGuestContext) -> None:
    """It has its own table, and its own base of GS; the kernel's is kept for the way back."""
    context.flags, context.ctrlreg[1] = 0, kernel.mfn(L4) * PAGE_SIZE
    context.gs_base_user = 0x7000
    assert initialise(kernel, context) == 0
    state = kernel.domain.vcpus[OTHER].state
    assert (state.kernel_mode, state.user_cr3) == (0, kernel.mfn(L4) * PAGE_SIZE)
    assert (state.gs_kernel, state.gs_user) == (BASE + 16, 0x7000)
    assert kernel.domain.processor.registers(OTHER).bases["gs"] == 0x7000


def test_the_one_that_asks_goes_on_with_its_own(kernel: Kernel, context: VcpuGuestContext) -> None:
    context.user_regs.rdi = 7
    kernel.vcpu.state.regs[7] = 77
    before = kernel.domain.processor.registers(0)
    assert initialise(kernel, context) == 0
    after = kernel.domain.processor.registers(0)
    assert after.general == before.general
    assert (after.cr3, after.selectors, after.bases) == (before.cr3, before.selectors, before.bases)


def test_its_tick_begins(kernel: Kernel, context: VcpuGuestContext) -> None:
    state = kernel.domain.vcpus[OTHER].state
    assert (state.period, state.period_due) == (PERIOD_NS, 0)
    assert initialise(kernel, context) == 0
    assert state.period_due == PERIOD_NS  # of a clock that stands still


def test_a_tick_that_was_stopped_does_not(kernel: Kernel, context: VcpuGuestContext) -> None:
    state = kernel.domain.vcpus[OTHER].state
    state.period = 0
    assert initialise(kernel, context) == 0
    assert state.period_due == 0


# --- refusals


def test_only_once(kernel: Kernel, context: VcpuGuestContext) -> None:
    assert initialise(kernel, context) == 0
    context.user_regs.rip = BASE + 4096
    assert initialise(kernel, context) == -Errno.EEXIST
    assert kernel.domain.processor.registers(OTHER).rip == BASE + 24


def test_a_refusal_leaves_it_as_it_was(kernel: Kernel, context: VcpuGuestContext) -> None:
    """It may not be brought up, and can be initialised."""
    context.event_callback_eip, context.ctrlreg[3] = 1, kernel.mfn(L2) * PAGE_SIZE
    assert initialise(kernel, context) == -Errno.EINVAL
    state = kernel.domain.vcpus[OTHER].state
    assert (state.initialised, state.event_callback, state.cr3) == (0, 0, 0)
    assert kernel.call(Hypercall.vcpu_op, VCPUOP_up, OTHER, 0) == -Errno.EINVAL
    context.ctrlreg[3] = kernel.mfn(L4) * PAGE_SIZE
    assert initialise(kernel, context) == 0


def test_no_floating_point_registers(kernel: Kernel, context: VcpuGuestContext) -> None:
    context.flags |= VGCF_i387_valid
    assert initialise(kernel, context) == -Errno.EOPNOTSUPP


ADDRESSES = (
    "event_callback_eip",
    "failsafe_callback_eip",
    "syscall_callback_eip",
    "fs_base",
    "gs_base_kernel",
    "gs_base_user",
)


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses_that_are_none(kernel: Kernel, context: VcpuGuestContext, name: str) -> None:
    good = getattr(context, name)
    setattr(context, name, NON_CANONICAL)
    assert initialise(kernel, context) == -Errno.EINVAL
    setattr(context, name, good)
    assert initialise(kernel, context) == 0


def test_a_beginning_that_is_no_address(kernel: Kernel, context: VcpuGuestContext) -> None:
    context.user_regs.rip = NON_CANONICAL
    assert initialise(kernel, context) == -Errno.EINVAL


@pytest.mark.parametrize("vector", [0, 255])
def test_a_handler_that_is_no_address(kernel: Kernel, context: VcpuGuestContext, vector: int) -> None:
    context.trap_ctxt[vector].address = NON_CANONICAL
    assert initialise(kernel, context) == -Errno.EINVAL


@pytest.mark.parametrize("entries", ["gdt_ents", "ldt_ents"])
@pytest.mark.parametrize("count", [8193, 1 << 32, 2**64 - 1])
def test_descriptor_tables_too_long(
    kernel: Kernel, context: VcpuGuestContext, entries: str, count: int
) -> None:
    setattr(context, entries, count)
    assert initialise(kernel, context) == -Errno.EINVAL


@pytest.mark.parametrize("register", [1, 3])
def test_tables_beyond_the_memory(kernel: Kernel, context: VcpuGuestContext, register: int) -> None:
    context.ctrlreg[register] = 2**64 - PAGE_SIZE
    assert initialise(kernel, context) == -Errno.EINVAL


def test_a_context_from_nowhere(kernel: Kernel) -> None:
    at = Kernel.address(PAGES - 1)
    assert kernel.call(Hypercall.vcpu_op, VCPUOP_initialise, OTHER, at) == -Errno.EFAULT


def test_one_beyond_the_shared_info_needs_a_place_for_its_own(
    kernel: Kernel, context: VcpuGuestContext
) -> None:
    assert initialise(kernel, context, LAST) == -Errno.EINVAL
    place = kernel.put(VcpuRegisterVcpuInfo(mfn=kernel.mfn(INFO), offset=64), PLACE)
    assert kernel.call(Hypercall.vcpu_op, VCPUOP_register_vcpu_info, LAST, place) == 0
    assert initialise(kernel, context, LAST) == 0
    assert kernel.domain.memory.bytes[kernel.mfn(INFO) * PAGE_SIZE + 65] == 1  # upcalls masked


def test_the_last_one_of_the_shared_info_has_its_place(kernel: Kernel, context: VcpuGuestContext) -> None:
    assert initialise(kernel, context, LAST - 1) == 0
