"""A domain that was built but never ran: its kernel's memory is what the tests put there."""

from collections.abc import Iterator

import pytest

from tests.unit.vmm.kernel import Kernel, built


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    with built() as made:
        yield made
