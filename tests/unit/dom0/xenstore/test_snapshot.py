"""A snapshot is the store, and what it says may be said twice."""

from pathlib import Path

from tests.unit.dom0.xenstore.stores import contents
from tests.unit.dom0.xenstore.test_statefile import busy
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.frames import Frame, records_of
from xenion.dom0.xenstore.replay import apply
from xenion.dom0.xenstore.snapshot import SHARE, snapshot
from xenion.dom0.xenstore.store import Store


def read_back(shares: list[bytes], into: Store) -> None:
    for share in shares:
        for record in records_of(Path("state"), Frame(share, 0, 0)):
            apply(into, *record)


def test_it_is_the_store_and_may_be_read_twice() -> None:
    store, other = Store(), Store()
    other.tree.remove("/tool")
    busy(store)
    shares = list(snapshot(store))
    read_back(shares, other)
    assert contents(other) == contents(store)
    assert list(other.recent) == list(store.recent)
    assert other.tree.paths() == store.tree.paths()
    read_back(shares, other)
    assert contents(other) == contents(store)


def test_it_comes_in_shares() -> None:
    store = Store()
    for number in range(3 * SHARE):
        store.write(Connection(0), f"/{number}", b"")
    assert len(list(snapshot(store))) == 1 + 4
