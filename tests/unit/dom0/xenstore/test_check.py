"""A store that is sound, and stores that are not."""

import pytest

from xenion.dom0.xenstore.check import check
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.perms import Perm
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.tree import Node

DOM0 = Connection(0)


@pytest.fixture
def store() -> Store:
    made = Store()
    made.write(DOM0, "/a/b", b"")
    made.set_perms(DOM0, "/a", (Perm(5, 0), Perm(6, 1)))
    return made


def node(store: Store, path: str) -> Node:
    found = store.tree.get(path)
    assert found is not None
    return found


def test_a_sound_store(store: Store) -> None:
    assert check(store) == []


def test_a_child_that_is_missing(store: Store) -> None:
    del store.tree._nodes["/a/b"]
    assert check(store) == ["4 nodes have 4 children in all", "domain 0 owns 3 nodes and not 4"]


def test_a_parent_that_does_not_know_its_child(store: Store) -> None:
    node(store, "/a").children.drop("b")
    assert check(store) == ["/a/b is not among its parent's children", "5 nodes have 3 children in all"]


def test_sizes_owners_and_names(store: Store) -> None:
    node(store, "/a").children.size += 1
    store.tree._owned[5] += 1
    del store.tree._naming[6]
    assert check(store) == [
        "the names of /a's children are not 3 bytes",
        "/a is not known to be named in its permissions",
        "domain 5 owns 1 nodes and not 2",
    ]
