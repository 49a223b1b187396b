"""What the tests of virtual disks share."""

from collections.abc import Iterator

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from xenion.dom0.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    """Turned by the test itself."""
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def guest(loop: Loop) -> FakeGuest:
    """64 pages; page n is granted by reference n + 1 for writing, by n + 501 for reading."""
    made = FakeGuest(loop)
    for frame in range(len(made.frames)):
        made.grant(frame + 1, frame)
        made.grant(frame + 501, frame, write=False)
    return made
