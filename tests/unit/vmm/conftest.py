"""A domain that was built but never ran: its kernel's memory is what the tests put there."""

import os
from collections.abc import Iterator

import pytest

from tests.unit.vmm.kernel import PAGES, Kernel
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    notify_fd = os.eventfd(0, os.EFD_NONBLOCK)
    output: list[bytes] = []
    domain = Domain(
        SoftwareProcessor(),
        domid=7,
        nr_pages=PAGES,
        handle=bytes(range(16)),
        notify_fd=notify_fd,
        console_output=output.append,
    )
    yield Kernel(domain, output)
    domain.close()
    os.close(notify_fd)
