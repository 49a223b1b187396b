"""How nodes are found and made."""

import pytest

from xenion.dom0.xenstore.access import create, existing, find
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import READ, WRITE, Perm
from xenion.dom0.xenstore.quota import Quota
from xenion.dom0.xenstore.transaction import Transaction
from xenion.dom0.xenstore.tree import Tree

DOM0 = Connection(0)


@pytest.fixture
def tree() -> Tree:
    made = Tree()
    made.create(["/"], b"", (Perm(0, 0),))
    made.create(["/g"], b"", (Perm(5, READ),))
    return made


def test_who_may_not_know_is_not_told_whether_it_is_there(tree: Tree) -> None:
    other = Connection(6)
    tree.create(["/secret"], b"", (Perm(0, 0),))
    for path in ("/secret", "/nothing", "/secret/nothing"):
        with pytest.raises(StoreError, match="EACCES"):
            find(tree, other, path, READ)
    assert find(tree, other, "/g/nothing", READ) is None
    with pytest.raises(StoreError, match="ENOENT"):
        existing(tree, other, "/g/nothing", READ)
    with pytest.raises(StoreError, match="EACCES"):
        existing(tree, other, "/g", WRITE)


def test_what_is_made_inherits_and_belongs_to_its_maker(tree: Tree) -> None:
    create(tree, Connection(6), "/g/a/b", b"v")
    create(tree, DOM0, "/g/c", b"")
    perms = {path: node.perms for path in ("/g/a", "/g/a/b", "/g/c") if (node := tree.get(path)) is not None}
    assert perms == {
        "/g/a": (Perm(6, READ),),
        "/g/a/b": (Perm(6, READ),),
        "/g/c": (Perm(5, READ),),
    }


@pytest.mark.parametrize(
    ("quota", "path", "value"),
    [
        (Quota(nodes=2), "/g/a/b", b""),
        (Quota(node_size=50), "/g/a", b"x" * 20),
        (Quota(node_size=50), "/g/" + "a" * 20, b""),
        (Quota(node_size=50), "/g/a/" + "b" * 20 + "/c", b""),
    ],
)
def test_too_much_makes_nothing(tree: Tree, quota: Quota, path: str, value: bytes) -> None:
    guest = Connection(5, quota=quota)
    for view in (tree, Transaction(tree, quota)):
        with pytest.raises(StoreError, match="ENOSPC"):
            create(view, guest, path, value)
        assert view.get("/g/a") is None
    assert tree.paths() == ["/", "/g"]
