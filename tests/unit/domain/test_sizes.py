"""What is asked of the guest through its store, and what is told of what it has done."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xenion.config.domain import DomainConfig
from xenion.domain.sizes import LOOKS, PAGES_PER_MIB, SizeError, Sizes

CONFIG = DomainConfig(name="web", kernel=Path("/k"), memory_mib=64, maxmem_mib=96, vcpus=2, maxvcpus=4)


class Place:
    """The loop, the store and the domain of a guest; time goes by in `look`."""

    def __init__(self) -> None:
        self.domain = SimpleNamespace(
            pages=64 * PAGES_PER_MIB, max_pages=96 * PAGES_PER_MIB, vcpus=[None] * 4
        )
        self.nodes: dict[str, str] = {}
        self.timers: list[Callable[[], None]] = []
        self.told: list[tuple[int, int, int]] = []
        loop: Any = SimpleNamespace(later=self._later)
        store: Any = SimpleNamespace(write_node=self.nodes.__setitem__)
        self.sizes = Sizes(CONFIG, cast("Any", self.domain), loop, store, self._tell)

    def _tell(self) -> None:
        sizes = self.sizes
        self.told.append((sizes.vcpus, sizes.memory_mib, sizes.maxmem_mib))

    def _later(self, seconds: float, action: Callable[[], None]) -> Any:
        self.timers.append(action)
        return SimpleNamespace(cancel=self.timers.clear)

    def look(self, mib: float | None = None) -> None:
        """The guest has so much by the next look."""
        if mib is not None:
            self.domain.pages = int(mib * PAGES_PER_MIB)
        self.timers.pop()()


@pytest.fixture
def place() -> Place:
    return Place()


def test_virtual_cpus_are_on_or_off(place: Place) -> None:
    place.sizes.set_vcpus(3)
    states = [place.nodes[f"cpu/{n}/availability"] for n in range(4)]
    assert states == ["online", "online", "online", "offline"]
    assert place.told == [(3, 64, 96)]


@pytest.mark.parametrize("count", [0, 5, -1])
def test_counts_that_cannot_be(place: Place, count: int) -> None:
    with pytest.raises(SizeError, match=f"from 1 to 4 virtual CPUs online, not {count}"):
        place.sizes.set_vcpus(count)
    assert (place.nodes, place.told) == ({}, [])


def test_memory_is_told_when_it_has_come_to_rest(place: Place) -> None:
    place.sizes.set_memory(32)
    assert place.nodes == {"memory/target": str(32 * 1024)}
    place.look(50)
    place.look(40)
    assert place.told == []
    place.look()
    assert place.told == [(2, 40, 96)], "it may stay so"
    place.look(32)
    place.look()
    assert place.told == [(2, 40, 96), (2, 32, 96)]
    assert place.timers == []


def test_a_guest_that_does_nothing_is_not_looked_at_for_ever(place: Place) -> None:
    place.sizes.set_memory(32)
    place.sizes.set_memory(40)
    assert len(place.timers) == 1
    for _ in range(LOOKS):
        place.look()
    assert (place.timers, place.told) == ([], [])


def test_no_one_looks_after_the_guests_end(place: Place) -> None:
    place.sizes.set_memory(32)
    place.sizes.stop()
    place.sizes.stop()
    assert place.timers == []


@pytest.mark.parametrize("mib", [0, 97])
def test_amounts_that_cannot_be(place: Place, mib: int) -> None:
    with pytest.raises(SizeError, match=f"from 1 to 96 MiB of memory, not {mib}"):
        place.sizes.set_memory(mib)
    assert (place.nodes, place.timers) == ({}, [])


def test_the_limit(place: Place) -> None:
    place.sizes.set_most(80)
    assert place.domain.max_pages == 80 * PAGES_PER_MIB
    assert place.nodes == {"memory/static-max": str(80 * 1024)}
    assert place.told == [(2, 64, 80)]
    with pytest.raises(SizeError, match="from 1 to 80 MiB"):
        place.sizes.set_memory(81)
    place.sizes.set_most(96)
    place.sizes.set_memory(96)


@pytest.mark.parametrize("mib", [63, 97])
def test_limits_that_cannot_be(place: Place, mib: int) -> None:
    with pytest.raises(SizeError, match="from 64 MiB"):
        place.sizes.set_most(mib)
    assert (place.domain.max_pages, place.told) == (96 * PAGES_PER_MIB, [])
