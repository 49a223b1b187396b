"""What the tests of domains that move share."""

from collections.abc import Iterator

import pytest

from tests.write_watches import METHODS, is_protected, open_watch
from xenion.vmm.written import WriteWatch


@pytest.fixture(params=METHODS)
def watch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteWatch]:
    """Each way to know what has been written."""
    opened = open_watch(request.param, monkeypatch)
    yield opened
    assert not is_protected(), "a watch goes on"
    opened.close()
