"""Calls for privileged domains and for other kinds of guest: refused as Xen refuses an ordinary one."""

from xenion.abi.errno import Errno
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu


def refused(vcpu: Vcpu, args: list[int]) -> int:
    """platform_op, domctl, sysctl, kexec ... from an unprivileged domain."""
    raise GuestError(Errno.EPERM)


def not_for_pv(vcpu: Vcpu, args: list[int]) -> int:
    """hvm_op, dm_op: about a guest of another kind."""
    raise GuestError(Errno.ENOSYS)
