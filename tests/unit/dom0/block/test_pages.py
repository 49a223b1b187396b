"""Pages of requests, mapped for one or for many."""

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from xenion.dom0.block.pages import Page, Pages
from xenion.dom0.guest import GrantError


def test_without_persistence_nothing_stays(guest: FakeGuest) -> None:
    pages = Pages(guest, 0)
    once: list[Page] = []
    page = pages.add(501, False, 1, once)
    assert once == [page]
    assert pages.known == {}
    assert not pages.persistent
    with pytest.raises(GrantError):
        pages.add(501, True, 1, once)
    pages.retired += once
    pages.unmap_retired()
    assert guest.mapped == []


def test_the_one_that_was_not_used_for_longest_goes(guest: FakeGuest) -> None:
    pages = Pages(guest, 4)
    once: list[Page] = []
    for number, ref in enumerate((1, 2, 3, 4), start=1):
        pages.add(ref, False, number, once).last = number
    pages.known[1].last = 5
    pages.add(6, False, 6, once).last = 6
    assert sorted(pages.known) == [1, 3, 4, 6]
    assert once == []
    assert len(guest.mapped) == 5  # the guest has still to be told of what was written to it
    pages.unmap_retired()
    assert sorted(m.ref for m in guest.mapped if isinstance(m.ref, int)) == [1, 3, 4, 6]
    pages.unmap_all()
    assert guest.mapped == []


def test_what_runs_stays(guest: FakeGuest) -> None:
    pages = Pages(guest, 2)
    once: list[Page] = []
    for ref in (1, 2, 3, 4):
        pages.add(ref, True, 7, once).last = 7
    assert sorted(pages.known) == [1, 2]
    assert len(once) == 2
    pages.add(5, True, 8, once).last = 8
    assert 5 in pages.known


def test_persistent_grants_are_for_both_directions(guest: FakeGuest) -> None:
    pages = Pages(guest, 2)
    with pytest.raises(GrantError):
        pages.add(501, False, 1, [])
    assert guest.mapped == []
