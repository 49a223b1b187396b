"""A vCPU's registers as gdb reads them."""

from tests.unit.domain.dump.guest import small_kernel
from xenion.domain.dump.registers import prstatus
from xenion.processor import GENERAL, Registers

REGISTERS = Registers(
    general={name: 0x100 + number for number, name in enumerate(GENERAL)},
    rip=0xFFFFFFFF81000010,
    rflags=0x246,
    cr2=0,
    cr3=0,
    selectors={"cs": 0xE033, "ss": 0xE02B, "ds": 1, "es": 2, "fs": 3, "gs": 4},
    bases={"cs": 0, "ss": 0, "ds": 0, "es": 0, "fs": 0x5000, "gs": 0x6000},
)


def test_prstatus() -> None:
    with small_kernel() as kernel:
        thread = prstatus(kernel.vcpu, REGISTERS)
    assert thread.pr_pid == 1
    user = thread.pr_reg
    assert {name: getattr(user, name) for name in GENERAL} == REGISTERS.general
    assert {name: getattr(user, name) for name in REGISTERS.selectors} == REGISTERS.selectors
    assert (user.rip, user.eflags, user.orig_rax) == (REGISTERS.rip, 0x246, (1 << 64) - 1)
    assert (user.fs_base, user.gs_base) == (0x5000, 0x6000)
