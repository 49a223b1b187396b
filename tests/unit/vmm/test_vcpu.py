"""A guest's memory as hypercalls in Python reach it."""

import pytest

from tests.unit.vmm.kernel import FIRST_FREE, L1, PAGES, Kernel
from xenion.abi.errno import Errno
from xenion.abi.sched import SchedShutdown
from xenion.vmm.errors import GuestError
from xenion.vmm.vcpu import LIMIT, address_okay


def error_of(kernel: Kernel, address: int, size: int) -> Errno:
    with pytest.raises(GuestError) as read:
        kernel.vcpu.read(address, size)
    return read.value.errno


def test_reads_and_writes(kernel: Kernel) -> None:
    at = kernel.address(FIRST_FREE, 4090)
    kernel.vcpu.write(at, b"over a page border")
    assert kernel.vcpu.read(at, 18) == b"over a page border"
    kernel.vcpu.write_struct(at, SchedShutdown(reason=3))
    assert kernel.vcpu.read_struct(at, SchedShutdown).reason == 3
    assert kernel.vcpu.read_words(at, 0) == []


@pytest.mark.parametrize(
    "address",
    [0, 1 << 47, 0xFFFF800000000000, 2**64 - 1, 2**64, -1, Kernel.address(PAGES), Kernel.address(L1)],
)
def test_wild_addresses(kernel: Kernel, address: int) -> None:
    assert error_of(kernel, address, 8) == Errno.EFAULT
    with pytest.raises(GuestError):
        kernel.vcpu.write(address, b"12345678")


def test_nothing_that_is_longer_than_any_argument(kernel: Kernel) -> None:
    assert error_of(kernel, kernel.address(), LIMIT + 1) == Errno.EINVAL
    assert error_of(kernel, kernel.address(), 2**63) == Errno.EINVAL


def test_address_okay() -> None:
    assert address_okay(0)
    assert address_okay((1 << 47) - 1)
    assert not address_okay(1 << 47)
    assert not address_okay(0xFFFF87FFFFFFFFFF)
    assert address_okay(0xFFFF880000000000)


def test_the_kernels_tables_whichever_mode(kernel: Kernel) -> None:
    at = kernel.put(b"x")
    kernel.vcpu.state.kernel_mode = 0
    assert kernel.vcpu.read_as_kernel(at, 1) == b"x"
    assert kernel.vcpu.state.kernel_mode == 0
