"""What a transaction sees, and what becomes of it."""

import pytest

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import Perm
from xenion.dom0.xenstore.quota import Quota
from xenion.dom0.xenstore.transaction import Transaction
from xenion.dom0.xenstore.tree import Tree

OURS = (Perm(0, 0),)
THEIRS = (Perm(5, 0),)


def tree(*paths: str) -> Tree:
    made = Tree()
    made.create(["/"], b"", OURS)
    for path in paths:
        made.create([path], b"old", OURS)
    return made


def value_at(view: Tree | Transaction, path: str) -> bytes | None:
    found = view.get(path)
    return None if found is None else found.value


def children_at(view: Tree | Transaction, path: str) -> list[str]:
    found = view.get(path)
    assert found is not None
    return list(found.children)


def commit(transaction: Transaction) -> None:
    transaction.close()
    assert not transaction.conflicts
    transaction.apply()


def test_what_was_touched_stays_as_it_was_seen() -> None:
    made = tree("/a", "/b")
    transaction = Transaction(made, None)
    assert value_at(transaction, "/a") == b"old"
    assert children_at(transaction, "/") == ["a", "b"]
    made.replace("/a", b"outside", OURS)
    made.create(["/c"], b"", OURS)
    transaction.replace("/b", b"inside", OURS)
    assert value_at(transaction, "/a") == b"old"
    assert children_at(transaction, "/") == ["a", "b"]
    assert value_at(made, "/b") == b"old"


@pytest.mark.parametrize("outside", ["write", "remove", "create", "a child"])
def test_a_touched_node_that_changed_is_a_conflict(outside: str) -> None:
    made = tree("/a")
    transaction = Transaction(made, None)
    transaction.get("/a")
    transaction.get("/absent")
    assert not transaction.conflicts
    if outside == "write":
        made.replace("/a", b"old", OURS)
    elif outside == "remove":
        made.remove("/a")
    else:
        made.create(["/absent" if outside == "create" else "/a/x"], b"", OURS)
    assert transaction.conflicts


@pytest.mark.parametrize("gone", ["/a/x", "/a"])
def test_removing_what_went_meanwhile(gone: str) -> None:
    """The transaction sees the child from before, and the parent from after."""
    made = tree("/a", "/a/x")
    transaction = Transaction(made, None)
    transaction.get("/a/x")
    made.remove(gone)
    assert [path for path, _ in transaction.remove("/a/x")] == ["/a/x"]
    parent = transaction.get("/a")
    assert (parent is None) == (gone == "/a")
    assert parent is None or (len(parent.children), parent.children.size) == (0, 0)
    assert transaction.conflicts


def test_making_what_came_meanwhile() -> None:
    made = tree("/a")
    transaction = Transaction(made, None)
    assert transaction.get("/a/x") is None
    made.create(["/a/x"], b"", OURS)
    transaction.create(["/a/x"], b"", OURS)
    assert children_at(transaction, "/a") == ["x"]
    parent = transaction.get("/a")
    assert parent is not None
    assert (parent.children.listing(), parent.children.size, len(parent.children)) == (b"x\0", 2, 1)
    assert transaction.conflicts


def test_an_untouched_node_is_no_conflict() -> None:
    made = tree("/a", "/b")
    transaction = Transaction(made, None)
    transaction.get("/a")
    made.replace("/b", b"new", OURS)
    assert not transaction.conflicts


def test_applying_writes_removes_and_creates() -> None:
    made = tree("/a", "/b", "/b/x", "/b/y", "/c")
    transaction = Transaction(made, None)
    transaction.replace("/a", b"new", OURS)
    transaction.remove("/b")
    transaction.create(["/d", "/d/e"], b"born", THEIRS)
    transaction.create(["/f"], b"gone again", OURS)
    transaction.remove("/f")
    transaction.create(["/b"], b"anew", OURS)
    transaction.create(["/b/y"], b"", OURS)
    assert children_at(transaction, "/") == ["a", "c", "d", "b"]
    assert value_at(transaction, "/b/x") is None
    commit(transaction)
    assert children_at(made, "/") == ["a", "c", "d", "b"]
    assert children_at(made, "/b") == ["y"]
    values = {path: value_at(made, path) for path in sorted(made.paths())}
    assert values == {
        "/": b"",
        "/a": b"new",
        "/b": b"anew",
        "/b/y": b"",
        "/c": b"old",
        "/d": b"",
        "/d/e": b"born",
    }
    assert (made.owned_by(0), made.owned_by(5)) == (5, 2)


def test_listings_are_those_of_the_transaction() -> None:
    made = tree("/a", "/b")
    transaction = Transaction(made, None)
    transaction.create(["/c"], b"", OURS)
    root = transaction.get("/")
    assert root is not None
    assert (root.children.listing(), root.children.size, len(root.children)) == (b"a\0b\0c\0", 6, 3)
    transaction.remove("/a")
    transaction.remove("/c")
    root = transaction.get("/")
    assert root is not None
    assert (root.children.listing(), root.children.size, len(root.children)) == (b"b\0", 2, 1)


def test_a_commit_copies_no_directory() -> None:
    made = tree("/a")
    before = made.get("/")
    transaction = Transaction(made, None)
    transaction.create(["/b"], b"", OURS)
    commit(transaction)
    after = made.get("/")
    assert before is not None
    assert after is not None
    assert after.children is before.children
    assert not before.children.pins


def test_a_transaction_touches_a_bounded_number_of_nodes() -> None:
    transaction = Transaction(tree("/a"), Quota(transaction_nodes=2))
    transaction.get("/a")
    transaction.get("/x")
    transaction.get("/a")
    with pytest.raises(StoreError) as caught:
        transaction.get("/y")
    assert caught.value.errno is Errno.ENOSPC


def test_a_transaction_holds_a_bounded_number_of_bytes() -> None:
    transaction = Transaction(tree("/a", "/b"), Quota(transaction_bytes=1000))
    for _ in range(100):
        transaction.replace("/a", b"x" * 900, OURS)
    with pytest.raises(StoreError) as caught:
        transaction.replace("/b", b"x" * 200, OURS)
    assert caught.value.errno is Errno.ENOSPC
    with pytest.raises(StoreError):
        transaction.create(["/c", "/c/d"], b"x" * 200, OURS)
    assert value_at(transaction, "/c") is None
    with pytest.raises(StoreError):
        transaction.get("/" + "y" * 200)
    transaction.remove("/a")
    transaction.replace("/b", b"x" * 200, OURS)


def test_growth_is_against_the_start() -> None:
    made = tree("/a", "/b")
    transaction = Transaction(made, None)
    made.create(["/outside"], b"", THEIRS)
    transaction.create(["/x"], b"", THEIRS)
    transaction.replace("/b", b"", THEIRS)
    transaction.remove("/a")
    assert transaction.growth() == {5: 2}
    assert transaction.owned_by(5) == 3


def test_a_subtree_event_outlives_an_exact_one() -> None:
    transaction = Transaction(tree(), None)
    transaction.note_change("/a", exact=True)
    transaction.note_change("/b", exact=False)
    transaction.note_change("/b", exact=True)
    transaction.note_change("/a", exact=False)
    transaction.note_change("/c", exact=True)
    assert list(transaction.changes.items()) == [("/a", False), ("/b", False), ("/c", True)]
