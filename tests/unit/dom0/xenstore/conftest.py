from collections.abc import Iterator

import pytest

from tests.unit.dom0.xenstore.replaceable import Client


@pytest.fixture
def bench() -> Iterator[Client]:
    """A client of a store that can be cut off."""
    made = Client()
    made.store.connect()
    yield made
    made.close()
