"""What is refused by whoever reads a saved domain, from a file or from another host."""

from collections.abc import Callable

import pytest

from tests.unit.domain.saved.test_format import holding
from tests.unit.vmm.saved_kit import empty_domain, hypervisors_pages
from xenion.domain.saved.format import SavedFileError
from xenion.domain.saved.read import SavedDomain


def refused(data: bytes, why: str, echo: Callable[[int], None] | None = None) -> None:
    """And whatever it did, the hypervisor's pages are its own."""
    with empty_domain() as domain:
        before = hypervisors_pages(domain)
        with holding(data) as fd, pytest.raises(SavedFileError, match=why):
            SavedDomain(fd).fill(domain, echo)
        assert hypervisors_pages(domain) == before
