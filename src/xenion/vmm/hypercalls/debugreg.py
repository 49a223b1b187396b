"""set_debugreg, get_debugreg: values are kept and read back; breakpoints do not fire."""

from xenion.abi.errno import Errno
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu, address_okay

DR_ALIASES = {4: 6, 5: 7}  # without CR4.DE, which no domain has here
DR6_DEFAULT, DR6_RESERVED_ZERO = 0xFFFF0FF0, 1 << 12
DR7_DEFAULT, DR7_RESERVED_ZERO, DR7_GENERAL_DETECT = 0x400, 0xD800, 1 << 13


def set_debugreg(vcpu: Vcpu, args: list[int]) -> int:
    write_debugreg(vcpu, args[0] & 0xFFFFFFFF, args[1])
    return 0


def write_debugreg(vcpu: Vcpu, number: int, value: int) -> None:
    """GuestError: there is no such register (ENODEV), or the value cannot be (EPERM, EINVAL)."""
    number = DR_ALIASES.get(number, number)
    if number > 7:
        raise GuestError(Errno.ENODEV)
    if number < 4 and not address_okay(value):
        raise GuestError(Errno.EPERM)
    if number >= 6 and value >> 32:
        raise GuestError(Errno.EINVAL)
    if number == 6:
        value = value & ~DR6_RESERVED_ZERO | DR6_DEFAULT
    if number == 7:
        value = value & ~DR7_RESERVED_ZERO | DR7_DEFAULT
        if value & DR7_GENERAL_DETECT or _wants_io_breakpoint(value):
            raise GuestError(Errno.EPERM)
    vcpu.state.debugreg[number] = value


def _wants_io_breakpoint(dr7: int) -> bool:
    """Only with CR4.DE, which no domain has here."""
    return bool(dr7 & 0xFF) and any(dr7 >> shift & 3 == 2 for shift in range(16, 32, 4))


def get_debugreg(vcpu: Vcpu, args: list[int]) -> int:
    number = DR_ALIASES.get(args[0], args[0])
    if number <= 7:
        return int(vcpu.state.debugreg[number])
    raise GuestError(Errno.ENODEV)
