"""A vCPU's registers as Xen's tools read them."""

from dataclasses import replace

import pytest

from tests.unit.domain.dump.guest import small_kernel
from tests.unit.vmm.kernel import L4, REGISTERS, Kernel
from xenion.abi.arch_x86_64 import VcpuGuestContext
from xenion.domain.dump.registers import prstatus
from xenion.processor import GENERAL
from xenion.vmm.context import guest_context


def context(kernel: Kernel, *, kernel_mode: bool) -> VcpuGuestContext:
    state = kernel.vcpu.state
    state.kernel_mode, state.gs_kernel, state.gs_user = kernel_mode, 0x7000, 0x8000
    return guest_context(kernel.vcpu, REGISTERS)


@pytest.mark.parametrize(
    ("kernel_mode", "flags", "gs_kernel", "gs_user"),
    [(True, 1 << 5 | 1 << 2, 0x6000, 0x8000), (False, 1 << 5, 0x7000, 0x6000)],
)
def test_the_mode_decides_which_base_is_whose(
    kernel_mode: bool, flags: int, gs_kernel: int, gs_user: int
) -> None:
    with small_kernel() as kernel:
        found = context(kernel, kernel_mode=kernel_mode)
    assert found.flags == flags
    assert (found.fs_base, found.gs_base_kernel, found.gs_base_user) == (0x5000, gs_kernel, gs_user)


def test_guest_context() -> None:
    with small_kernel() as kernel:
        state = kernel.vcpu.state
        state.traps[14] = {"address": 0x1234, "cs": 0xE033, "flags": 4}
        state.iopl, state.user_cr3, state.gdt_frames[13] = 1 << 12, 0x9000, 77
        kernel.domain.set_fault_address(kernel.vcpu, 0xABC)
        found = context(kernel, kernel_mode=True)
        root = kernel.mfn(L4) << 12
    assert {name: getattr(found.user_regs, name) for name in GENERAL} == REGISTERS.general
    assert (found.user_regs.rip, found.user_regs.rflags) == (REGISTERS.rip, 0x1246)
    gate = found.trap_ctxt[14]
    assert (gate.vector, gate.flags, gate.cs, gate.address) == (14, 4, 0xE033, 0x1234)
    assert list(found.ctrlreg)[:5] == [0x80050033, 0x9000, 0xABC, root, 0x620]
    assert (found.gdt_frames[13], found.debugreg[6]) == (77, 0xFFFF0FF0)


def test_values_of_64_bits_are_kept() -> None:
    high = replace(REGISTERS, general=dict.fromkeys(GENERAL, (1 << 64) - 2))
    with small_kernel() as kernel:
        assert prstatus(kernel.vcpu, high).pr_reg.r15 == (1 << 64) - 2
        assert guest_context(kernel.vcpu, high).user_regs.rsp == (1 << 64) - 2
