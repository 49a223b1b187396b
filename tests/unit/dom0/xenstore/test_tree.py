"""Nodes, who owns them, and what a transaction sees."""

import pytest

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import Perm
from xenion.dom0.xenstore.tree import Generations, Node, Transaction, Tree


def node(value: bytes = b"", owner: int = 0, children: tuple[str, ...] = ()) -> Node:
    return Node(value, (Perm(owner, 0),), children, 0)


def tree(**values: bytes) -> Tree:
    made = Tree(Generations())
    for name, value in values.items():
        made.put(f"/{name}", node(value))
    return made


def value_at(view: Tree | Transaction, path: str) -> bytes | None:
    found = view.get(path)
    return None if found is None else found.value


def test_size_counts_header_entry_value_and_names() -> None:
    assert node(b"12345", children=("ab", "c")).size == 24 + 8 + 5 + 5


def test_every_write_has_its_own_generation() -> None:
    made = tree(a=b"1")
    first = made.get("/a")
    made.put("/a", node(b"1"))
    second = made.get("/a")
    assert first is not None
    assert second is not None
    assert second.generation > first.generation


def test_owners_are_counted() -> None:
    made = tree(a=b"", b=b"")
    made.put("/a", node(owner=5))
    made.put("/a", node(b"again", owner=5))
    assert (made.owned_by(0), made.owned_by(5), len(made)) == (1, 1, 2)
    made.remove("/a")
    assert (made.owned_by(0), made.owned_by(5), len(made)) == (1, 0, 1)


def test_a_transaction_neither_sees_nor_shows_changes() -> None:
    made = tree(a=b"old", b=b"old")
    transaction = Transaction(made, None)
    made.put("/a", node(b"outside"))
    transaction.put("/b", node(b"inside"))
    assert value_at(transaction, "/a") == b"old"
    assert value_at(made, "/b") == b"old"


@pytest.mark.parametrize("outside", ["write", "remove", "create"])
def test_a_touched_node_that_changed_is_a_conflict(outside: str) -> None:
    made = tree(a=b"old")
    transaction = Transaction(made, None)
    transaction.get("/a")
    transaction.get("/absent")
    assert not transaction.conflicts_with(made)
    if outside == "write":
        made.put("/a", node(b"old"))
    elif outside == "remove":
        made.remove("/a")
    else:
        made.put("/absent", node())
    assert transaction.conflicts_with(made)


def test_an_untouched_node_is_no_conflict() -> None:
    made = tree(a=b"old", b=b"old")
    transaction = Transaction(made, None)
    transaction.get("/a")
    made.put("/b", node(b"new"))
    assert not transaction.conflicts_with(made)


def test_applying_writes_and_removes() -> None:
    made = tree(a=b"1", b=b"2")
    transaction = Transaction(made, None)
    transaction.put("/a", node(b"new"))
    transaction.remove("/b")
    transaction.put("/c", node(b"born"))
    transaction.put("/d", node(b"gone again"))
    transaction.remove("/d")
    transaction.apply_to(made)
    assert {path: value_at(made, path) for path in made.paths()} == {"/a": b"new", "/c": b"born"}


def test_a_transaction_touches_a_bounded_number_of_nodes() -> None:
    transaction = Transaction(tree(a=b""), 2)
    transaction.get("/a")
    transaction.get("/x")
    transaction.get("/a")
    with pytest.raises(StoreError) as caught:
        transaction.get("/y")
    assert caught.value.errno is Errno.ENOSPC


def test_growth_is_against_the_start() -> None:
    made = tree(a=b"")
    transaction = Transaction(made, None)
    made.put("/outside", node(owner=5))
    transaction.put("/x", node(owner=5))
    transaction.put("/y", node(owner=5))
    transaction.remove("/a")
    assert transaction.growth() == {5: 2}


def test_a_subtree_event_outlives_an_exact_one() -> None:
    transaction = Transaction(tree(), None)
    transaction.note_change("/a", exact=True)
    transaction.note_change("/b", exact=False)
    transaction.note_change("/b", exact=True)
    transaction.note_change("/a", exact=False)
    transaction.note_change("/c", exact=True)
    assert list(transaction.changes.items()) == [("/a", False), ("/b", False), ("/c", True)]
