"""console_io: the emergency console (xen.h). What a domain writes here joins its console's output."""

from xenion.abi.errno import Errno
from xenion.abi.xen import CONSOLEIO_read, CONSOLEIO_write
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu

CHUNK = 4096


def console_io(vcpu: Vcpu, args: list[int]) -> int:
    command, count, address = args[0] & 0xFFFFFFFF, args[1] & 0xFFFFFFFF, args[2]
    if command == CONSOLEIO_write:
        while count and not vcpu.state.stopped:
            size = min(count, CHUNK)
            vcpu.domain.console_output(vcpu.read(address, size))
            address, count = address + size, count - size
        return 0
    if command == CONSOLEIO_read:
        return 0
    raise GuestError(Errno.ENOSYS)
