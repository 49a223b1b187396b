"""Which watches a change concerns."""

import pytest

from xenion.dom0.xenstore.connection import Connection, Event
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.watches import WatchTable


def fire(table: WatchTable, path: str, *, exact: bool = False) -> None:
    table.fire(path, lambda _connection: True, exact=exact)


def test_a_change_concerns_the_watches_above_it() -> None:
    table, client = WatchTable(), Connection(5)
    for path in ("/", "/a", "/a/b", "/a/b/c", "/ab", "/a/x"):
        table.add(client, path, path.encode())
    fire(table, "/a/b")
    assert client.events() == [Event("/a/b", b"/a/b"), Event("/a/b", b"/a"), Event("/a/b", b"/")]


def test_an_exact_change_concerns_that_path_only() -> None:
    table, client = WatchTable(), Connection(5)
    table.add(client, "/a", b"up")
    table.add(client, "/a/b", b"here")
    fire(table, "/a/b", exact=True)
    assert client.events() == [Event("/a/b", b"here")]


def test_who_may_not_see_is_not_told() -> None:
    table, one, two = WatchTable(), Connection(5), Connection(6)
    table.add(one, "/a", b"t")
    table.add(two, "/a", b"t")
    table.fire("/a", lambda connection: connection is two, exact=False)
    assert one.events() == []
    assert two.events() == [Event("/a", b"t")]


def test_a_removed_watch_is_silent() -> None:
    table, client = WatchTable(), Connection(5)
    table.add(client, "data", b"t")
    table.add(client, "data", b"u")
    table.remove(client, "/local/domain/5/data", b"t")
    fire(table, "/local/domain/5/data/x")
    assert client.events() == [Event("data/x", b"u")]
    table.remove_all(client)
    fire(table, "/local/domain/5/data/x")
    assert client.events() == []
    assert client.watches == {}
    assert table._by_path == {}


def refused(table: WatchTable, client: Connection, path: str) -> str:
    with pytest.raises(StoreError) as caught:
        table.add(client, path, b"t")
    return caught.value.name


def test_refusals() -> None:
    table, client = WatchTable(), Connection(5)
    table.add(client, "x", b"t")
    assert refused(table, client, "/local/domain/5/x") == "EEXIST"
    assert refused(table, client, "") == "EINVAL"
    assert refused(table, client, "@" + "x" * 2048) == "EINVAL"
    with pytest.raises(StoreError, match="ENOENT"):
        table.remove(client, "x", b"other")


def test_ten_thousand_watches_stop_at_the_quota() -> None:
    table, client, dom0 = WatchTable(), Connection(5), Connection(0)
    added = 0
    for number in range(10_000):
        if added < 128:
            table.add(client, f"/w/{number}", b"t")
            added += 1
        else:
            assert refused(table, client, f"/w/{number}") == "E2BIG"
    assert added == len(client.watches) == 128
    for number in range(200):
        table.add(dom0, f"/w/{number}", b"t")
