"""Nodes, their children and who owns them."""

from xenion.dom0.xenstore.journal import Record
from xenion.dom0.xenstore.perms import Perm
from xenion.dom0.xenstore.tree import Node, Tree, subtree

OURS = (Perm(0, 0),)


def tree(*paths: str) -> Tree:
    made = Tree()
    made.create(["/"], b"", OURS)
    for path in paths:
        made.create([path], b"", OURS)
    return made


def node(made: Tree, path: str) -> Node:
    found = made.get(path)
    assert found is not None
    return found


def test_size_counts_header_entry_value_and_names() -> None:
    made = tree("/ab", "/c")
    made.replace("/", b"12345", OURS)
    assert node(made, "/").size == 24 + 8 + 5 + 5
    made.remove("/ab")
    assert node(made, "/").size == 24 + 8 + 5 + 2


def test_every_change_has_a_generation_of_its_own() -> None:
    made = tree("/a")
    seen = [node(made, "/").generation, node(made, "/a").generation]
    made.replace("/a", b"1", OURS)
    seen.append(node(made, "/a").generation)
    made.create(["/a/b"], b"", OURS)
    seen.append(node(made, "/a").generation)
    made.remove("/a/b")
    seen.append(node(made, "/a").generation)
    assert len(set(seen)) == 5
    assert made.generation == max(seen)


def test_owners_are_counted_and_those_named_are_known() -> None:
    made = tree("/a", "/b")
    made.replace("/a", b"", (Perm(5, 0), Perm(6, 1)))
    made.replace("/a", b"again", (Perm(5, 0), Perm(6, 1)))
    assert (made.owned_by(0), made.owned_by(5), len(made)) == (2, 1, 3)
    assert (made.naming(5), made.naming(6), made.naming(0)) == (["/a"], ["/a"], [])
    made.remove("/a")
    assert (made.owned_by(0), made.owned_by(5), made.naming(5)) == (2, 0, [])


def test_children_are_in_the_order_they_came() -> None:
    made = tree("/b", "/a", "/c")
    made.remove("/b")
    made.create(["/b"], b"", OURS)
    assert list(node(made, "/").children) == ["a", "c", "b"]
    assert node(made, "/").children.listing() == b"a\0c\0b\0"


def test_children_are_copied_only_for_who_must_see_the_old_ones() -> None:
    made = tree("/a")
    before = node(made, "/")
    made.create(["/b"], b"", OURS)
    assert node(made, "/").children is before.children
    before = node(made, "/")
    before.children.pins += 1
    made.create(["/c"], b"", OURS)
    assert (list(before.children), list(node(made, "/").children)) == (["a", "b"], ["a", "b", "c"])


def test_a_subtree_goes_the_deepest_first() -> None:
    made = tree("/a")
    made.create(["/a/b", "/a/b/c"], b"v", OURS)
    assert [name for name, _ in subtree(made, "/a")] == ["/a", "/a/b", "/a/b/c"]
    assert [name for name, _ in made.remove("/a")] == ["/a/b/c", "/a/b", "/a"]
    assert made.paths() == ["/"]


def test_changes_are_told() -> None:
    told: list[tuple[object, ...]] = []
    made = tree("/a")
    made.journal = lambda *record: told.append(record)
    made.create(["/a/b", "/a/b/c"], b"v", OURS)
    made.replace("/a/b", b"w", (Perm(0, 0), Perm(5, 1)))
    made.remove("/a/b")
    assert told == [
        (Record.NODE, b"/a/b", b"n0", b""),
        (Record.NODE, b"/a/b/c", b"n0", b"v"),
        (Record.NODE, b"/a/b", b"n0 r5", b"w"),
        (Record.GONE, b"/a/b"),
    ]
