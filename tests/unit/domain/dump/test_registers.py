"""A vCPU's registers as gdb reads them."""

from tests.unit.domain.dump.guest import small_kernel
from tests.unit.vmm.kernel import REGISTERS
from xenion.domain.dump.registers import prstatus
from xenion.processor import GENERAL


def test_prstatus() -> None:
    with small_kernel() as kernel:
        thread = prstatus(kernel.vcpu, REGISTERS)
    assert thread.pr_pid == 1
    user = thread.pr_reg
    assert {name: getattr(user, name) for name in GENERAL} == REGISTERS.general
    assert {name: getattr(user, name) for name in REGISTERS.selectors} == REGISTERS.selectors
    assert (user.rip, user.eflags, user.orig_rax) == (REGISTERS.rip, 0x246, (1 << 64) - 1)
    assert (user.fs_base, user.gs_base) == (0x5000, 0x6000)
