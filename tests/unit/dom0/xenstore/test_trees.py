"""Trees of the store, read and written back, while a guest or the end of the store comes in between."""

import pytest

from tests.unit.dom0.xenstore.replaceable import DOMID, Client
from xenion.dom0.xenstore import trees
from xenion.dom0.xenstore.perms import READ, Perm
from xenion.dom0.xenstore.trees import KeptNode, TreesError, read_trees, write_trees

HOME, VM = f"/local/domain/{DOMID}", "/vm/00000000-1111-2222-3333-444444444444"
GUESTS = f"n{DOMID}\0"
DOM0S = f"n0\0r{DOMID}\0"


def put(bench: Client, path: str, value: bytes = b"", perms: tuple[Perm, ...] = (Perm(DOMID, 0),)) -> None:
    store, dom0 = bench.store.store, bench.store.dom0
    store.write(dom0, path, value)
    store.set_perms(dom0, path, perms)


def begin(bench: Client, *roots: str) -> list[list[KeptNode] | TreesError]:
    """What is told, once the store has moved."""
    told: list[list[KeptNode] | TreesError] = []
    read_trees(bench.client, roots, told.append)
    return told


def read(bench: Client, *roots: str) -> list[KeptNode]:
    told = begin(bench, *roots)
    bench.said()
    (found,) = told
    assert isinstance(found, list)
    return found


def small_tree(bench: Client) -> list[KeptNode]:
    put(bench, HOME)
    put(bench, f"{HOME}/data", bytes(range(256)))
    put(bench, f"{HOME}/data/a", b"", (Perm(0, 0), Perm(DOMID, READ)))
    put(bench, VM, b"", (Perm(0, 0), Perm(DOMID, READ)))
    put(bench, f"{VM}/name", b"web")
    return [
        KeptNode(HOME, b"", GUESTS),
        KeptNode(VM, b"", DOM0S),
        KeptNode(f"{HOME}/data", bytes(range(256)), GUESTS),
        KeptNode(f"{VM}/name", b"web", GUESTS),
        KeptNode(f"{HOME}/data/a", b"", DOM0S),
    ]


def test_all_nodes_with_values_and_permissions(bench: Client) -> None:
    expected = small_tree(bench)
    found = read(bench, HOME, VM)
    assert sorted(found, key=lambda node: node.path) == sorted(expected, key=lambda node: node.path)


def test_parents_come_before_their_children(bench: Client) -> None:
    for path in ("a/b/c/d", "a/x", "e/f"):
        put(bench, f"{HOME}/{path}")
    paths = [node.path for node in read(bench, HOME)]
    for path in paths:
        parent = path.rpartition("/")[0]
        assert path == HOME or paths.index(parent) < paths.index(path)
    assert len(paths) == len(set(paths)) == 8


@pytest.mark.parametrize("roots", [(), (HOME,), (VM, HOME)])
def test_roots_that_are_missing_are_none(bench: Client, roots: tuple[str, ...]) -> None:
    assert read(bench, *roots) == []


def test_a_node_that_goes_while_it_is_read_is_none(bench: Client) -> None:
    small_tree(bench)
    told = begin(bench, HOME)
    while not told:
        bench.store.move(200, 200)
        if bench.store.value(f"{HOME}/data") is not None:
            bench.store.store.remove(bench.store.dom0, f"{HOME}/data")
    assert told == [[KeptNode(HOME, b"", GUESTS)]]


def test_what_the_store_refuses_is_told_and_ends_it(bench: Client) -> None:
    put(bench, f"{HOME}/a")
    told = begin(bench, "/tool/xenstored", HOME, "no path", HOME)
    bench.said()
    (error,) = told
    assert isinstance(error, TreesError)
    assert "no path" in str(error)
    assert "EINVAL" in str(error)


def test_a_directory_that_no_message_can_carry(bench: Client) -> None:
    for number in range(500):
        put(bench, f"{HOME}/name-{number}")
    told = begin(bench, HOME)
    bench.said()
    (error,) = told
    assert isinstance(error, TreesError)
    assert str(error) == f"the store does not tell of {HOME} (E2BIG)"


@pytest.mark.parametrize("most", [1, 4, 5])
def test_too_many_nodes(bench: Client, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    small_tree(bench)
    monkeypatch.setattr(trees, "NODES", most)
    told = begin(bench, HOME, VM)
    bench.said()
    (found,) = told
    if most < 5:
        assert isinstance(found, TreesError)
        assert "too many nodes" in str(found)
    else:
        assert isinstance(found, list)


def test_the_store_goes_and_comes_while_they_are_read(bench: Client) -> None:
    expected = small_tree(bench)
    told = begin(bench, HOME, VM)
    for _ in range(30):
        bench.store.move(60, 60)
        bench.store.cut()
        bench.store.connect()
    bench.said()
    (found,) = told
    assert isinstance(found, list)
    assert {node.path: node for node in found} == {node.path: node for node in expected}


# --- written


def test_what_was_read_is_written_as_it_was(bench: Client) -> None:
    small_tree(bench)
    found = read(bench, HOME, VM)
    after = Client()
    after.store.connect()
    told: list[str] = []
    after.client.on_refused = told.append
    write_trees(after.client, (HOME, VM), found)
    after.said()
    assert told == []
    assert read(after, HOME, VM) == found
    after.close()


def test_what_was_there_goes(bench: Client) -> None:
    put(bench, f"{HOME}/left/over", b"x")
    put(bench, f"{VM}/left", b"x")
    write_trees(bench.client, (HOME, VM), [KeptNode(f"{HOME}/a", b"1", GUESTS)])
    bench.said()
    assert [node.path for node in read(bench, HOME, VM)] == [HOME, f"{HOME}/a"]


def test_what_cannot_be_written_is_told_and_the_rest_is_there(bench: Client) -> None:
    """What was saved may have been tampered with."""
    told: list[str] = []
    bench.client.on_refused = told.append
    nodes = [
        KeptNode("/local/domain/6/a", b"", GUESTS),
        KeptNode("no path", b"", GUESTS),
        KeptNode(f"{HOME}/a", b"x" * 4096, GUESTS),
        KeptNode(f"{HOME}/b", b"1", "nonsense"),
        KeptNode(f"{HOME}/c", b"1", ""),
        KeptNode(f"{HOME}/d\0e", b"1", GUESTS),
        KeptNode(f"{HOME}/f", b"1", GUESTS),
    ]
    write_trees(bench.client, (HOME,), nodes)
    bench.client.settle(lambda: bench.answers.append("settled"))
    assert bench.said() == ["settled"]
    assert told
    assert bench.store.value(f"{HOME}/f") == b"1"
    assert bench.store.value("/local/domain/6/a") is None
