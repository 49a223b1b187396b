"""A vCPU as the cold half of the VMM sees it: its state in the core, and its guest's memory."""

from ctypes import LittleEndianStructure, sizeof
from typing import TYPE_CHECKING, Any, TypeVar

from xenion.abi.errno import Errno
from xenion.abi.vcpu import RUNSTATE_blocked, RUNSTATE_offline, RUNSTATE_runnable, RUNSTATE_running
from xenion.core import ffi, lib
from xenion.vmm.errors import GuestError

if TYPE_CHECKING:
    from xenion.vmm.domain import Domain

S = TypeVar("S", bound=LittleEndianStructure)

HYPERVISOR_VIRT_END = 0xFFFF880000000000
USER_END = 1 << 47
END_OF_ADDRESSES = 1 << 64
LIMIT = 1 << 20
"""No single argument of a guest is larger than this."""
RUNSTATES = {
    RUNSTATE_running: "running",
    RUNSTATE_runnable: "running",  # only the host knows which of the two it is
    RUNSTATE_blocked: "blocked",
    RUNSTATE_offline: "offline",
}


def address_okay(address: int) -> bool:
    """Xen's access_ok: the user half, or above the hypervisor's hole."""
    return address < USER_END or address >= HYPERVISOR_VIRT_END


class Vcpu:
    """`state` is the core's `struct vcpu`."""

    def __init__(self, domain: "Domain", state: Any) -> None:
        self.domain = domain
        self.state = state
        self.io_bitmap = self.io_ports = 0

    def read(self, address: int, size: int) -> bytes:
        """Guest memory at a virtual address of the current mode; GuestError(EFAULT)."""
        if size > LIMIT:
            raise GuestError(Errno.EINVAL)
        if not 0 <= address <= END_OF_ADDRESSES - size:
            raise GuestError(Errno.EFAULT)
        buffer = bytearray(size)
        if lib.core_copy_from(self.state, ffi.from_buffer(buffer), address, size):
            raise GuestError(Errno.EFAULT)
        return bytes(buffer)

    def read_as_kernel(self, address: int, size: int) -> bytes:
        """Through the guest kernel's tables, whichever mode the vCPU is in."""
        mode, self.state.kernel_mode = self.state.kernel_mode, 1
        try:
            return self.read(address, size)
        finally:
            self.state.kernel_mode = mode

    def write(self, address: int, data: bytes | bytearray) -> None:
        if not 0 <= address <= END_OF_ADDRESSES - len(data):
            raise GuestError(Errno.EFAULT)
        if lib.core_copy_to(self.state, address, ffi.from_buffer(data), len(data)):
            raise GuestError(Errno.EFAULT)

    def read_struct(self, address: int, kind: type[S]) -> S:
        """One snapshot: check and use the copy, never the guest's memory again."""
        return kind.from_buffer_copy(self.read(address, sizeof(kind)))

    def write_struct(self, address: int, value: LittleEndianStructure) -> None:
        self.write(address, bytes(value))

    def read_words(self, address: int, count: int) -> list[int]:
        """`count` 64-bit words."""
        return list(memoryview(self.read(address, count * 8)).cast("Q")) if count else []

    @property
    def flags(self) -> int:
        return int(lib.core_get_flags(self.state))

    @property
    def runstate(self) -> str:
        """Any thread: "running", "blocked" or "offline"."""
        return RUNSTATES[self.state.runstate]

    @property
    def seconds(self) -> float:
        """Any thread: how long it has been running so far, as far as the host knows."""
        state = self.state
        ns = state.runstate_time[RUNSTATE_running]
        if state.runstate == RUNSTATE_running:
            ns += max(self.domain.system_time() - state.runstate_entry, 0)
        return float(ns) / 1e9

    @property
    def id(self) -> int:
        return int(self.state.id)
