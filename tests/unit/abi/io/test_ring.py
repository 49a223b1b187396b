"""io/ring.h as gcc lays it out."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io import ring

# Each structure's fields with their offsets, and its size: gcc's numbers for the headers of Xen 4.17.
LAYOUTS: dict[type, str] = {
    ring.SringHeader: "req_prod 0, req_event 4, rsp_prod 8, rsp_event 12, pvt 16, _pad 20; 64",
}


@pytest.mark.parametrize("structure", LAYOUTS, ids=lambda structure: structure.__name__)
def test_layout(structure: type, describe: Callable[[type], str]) -> None:
    assert describe(structure) == LAYOUTS[structure]


INDEX = st.integers(0, ring.RING_IDX_MASK)


@pytest.mark.parametrize(
    ("area", "entry", "slots"),
    [(4096, 112, 32), (4096, 12, 256), (4096, 8, 256), (65536, 112, 512), (64, 8, 0), (0, 8, 0), (72, 8, 1)],
)
def test_ring_size(area: int, entry: int, slots: int) -> None:
    assert ring.ring_size(area, entry) == slots


@given(st.integers(64, 1 << 20), st.integers(1, 4096))
def test_ring_size_is_the_largest_power_of_two_that_fits(area: int, entry: int) -> None:
    slots = ring.ring_size(area, entry)
    assert 64 + slots * entry <= area
    assert 64 + max(2 * slots, 1) * entry > area
    assert slots & (slots - 1) == 0


@given(INDEX, st.integers(0, 4096))
def test_distance_survives_wrapping(consumer: int, ahead: int) -> None:
    assert ring.ring_distance((consumer + ahead) & ring.RING_IDX_MASK, consumer) == ahead


@given(INDEX, st.integers(0, 64), st.integers(-64, 128))
def test_notify_only_when_the_event_was_passed(old: int, pushed: int, event_ahead: int) -> None:
    new = (old + pushed) & ring.RING_IDX_MASK
    event = (old + event_ahead) & ring.RING_IDX_MASK
    assert ring.ring_notify(old, new, event) == (0 < event_ahead <= pushed)
