from collections.abc import Iterator

import pytest

from tests.unit.dom0.xenstore.pump_kit import Restored
from tests.unit.dom0.xenstore.replaceable import Client
from tests.unit.dom0.xenstore.ring_guest import RingGuest
from xenion.dom0.xenstore.renumber import Renumbering


@pytest.fixture
def bench() -> Iterator[Client]:
    """A client of a store that can be cut off."""
    made = Client()
    made.store.connect()
    yield made
    made.close()


@pytest.fixture
def guest() -> Iterator[RingGuest]:
    made = RingGuest()
    yield made
    made.close()


@pytest.fixture
def restored() -> Iterator[Restored]:
    """Makes another one, on another store, that goes on where the given one was held."""
    made: list[RingGuest] = []

    def restore(guest: RingGuest, renumbering: Renumbering | None = None) -> RingGuest:
        other = RingGuest()
        made.append(other)
        other.memory[:] = guest.memory
        other.pump.serve(other, other, lambda: None)
        other.pump.restore(guest.pump.state(), renumbering)
        other.pump.on_event()
        return other

    yield restore
    for other in made:
        other.close()
