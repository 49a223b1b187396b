"""physdev_op (physdev.h): a domain without devices of its own has an I/O privilege level and nothing else."""

from xenion.abi.errno import Errno
from xenion.abi.physdev import PHYSDEVOP_set_iobitmap, PHYSDEVOP_set_iopl, PhysdevSetIobitmap, PhysdevSetIopl
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import Vcpu, address_okay

MOST_PORTS = 65536
IOPL_SHIFT = 12


def physdev_op(vcpu: Vcpu, args: list[int]) -> int:
    command, address = args[0] & 0xFFFFFFFF, args[1]
    if command == PHYSDEVOP_set_iopl:
        iopl = vcpu.read_struct(address, PhysdevSetIopl).iopl
        if iopl > 3:
            raise GuestError(Errno.EINVAL)
        vcpu.state.iopl = iopl << IOPL_SHIFT
        return 0
    if command == PHYSDEVOP_set_iobitmap:
        request = vcpu.read_struct(address, PhysdevSetIobitmap)
        if request.nr_ports > MOST_PORTS or not address_okay(request.bitmap):
            raise GuestError(Errno.EINVAL)
        vcpu.io_bitmap, vcpu.io_ports = request.bitmap, request.nr_ports
        return 0
    raise GuestError(Errno.ENOSYS)
