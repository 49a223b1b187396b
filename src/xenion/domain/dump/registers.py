"""A vCPU's registers as Linux's prstatus has them, for a core file."""

from xenion.abi.elf import ElfPrstatus, UserRegsStruct
from xenion.processor import Registers
from xenion.vmm.vcpu import Vcpu

NO_SYSTEM_CALL = (1 << 64) - 1


def prstatus(vcpu: Vcpu, registers: Registers) -> ElfPrstatus:
    """A thread of a debugger's, numbered from 1: a thread 0 would be none."""
    user = UserRegsStruct(
        **registers.general,
        **registers.selectors,
        orig_rax=NO_SYSTEM_CALL,
        rip=registers.rip,
        eflags=registers.rflags,
        fs_base=registers.bases["fs"],
        gs_base=registers.bases["gs"],
    )
    return ElfPrstatus(pr_pid=vcpu.id + 1, pr_reg=user)
