"""A small domain that never runs, to be dumped."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.vmm.kernel import PAGES, Kernel
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain


@contextmanager
def small_domain() -> Iterator[Domain]:
    notify_fd = os.eventfd(0, os.EFD_NONBLOCK)
    domain = Domain(
        SoftwareProcessor(),
        domid=7,
        nr_pages=PAGES,
        handle=bytes(16),
        notify_fd=notify_fd,
        console_output=lambda data: None,
    )
    try:
        yield domain
    finally:
        domain.close()
        os.close(notify_fd)


@contextmanager
def small_kernel() -> Iterator[Kernel]:
    with small_domain() as domain:
        yield Kernel(domain, [])


@contextmanager
def new_file(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)
