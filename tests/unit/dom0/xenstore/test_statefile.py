"""A store outlives its process, as it was acknowledged."""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.xenstore.stores import contents
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import Perms, parse_perm
from xenion.dom0.xenstore.statefile import StateError, StateFile
from xenion.dom0.xenstore.store import Store

UUID = "6c2e0e6e-0b60-4f0d-9f0e-7b1e4d2c3a10"
DOM0 = Connection(0)


def perms(text: str) -> Perms:
    return tuple(parse_perm(entry) for entry in text.split())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "xenstored.state"


def opened(path: Path, *, least_growth: int = 1 << 20) -> tuple[Store, StateFile]:
    store = Store()
    return store, StateFile(path, store, least_growth=least_growth)


def busy(store: Store) -> None:
    """One of everything that is kept."""
    store.introduce(5, UUID)
    store.introduce(6, "other")
    domain = store.domains[5]
    store.write(DOM0, "/local/domain/5/name", b"guest\0\xff")
    store.mkdir(DOM0, "/local/domain/5/data")
    store.set_perms(DOM0, "/local/domain/5/data", perms("n5 r6"))
    store.write(domain.guest, "data/a/b", b"deep")
    store.remove(domain.guest, "data/a")
    store.write(domain.process, f"/vm/{UUID}/name", b"guest")
    store.watch(domain.guest, "data", b"relative\xff")
    store.watch(domain.guest, "/local/domain/5/name", b"absolute", 0)
    store.watch(domain.process, "/local/domain/0/backend/vbd/5", b"t")
    store.watch(domain.process, "/local/domain/5/gone", b"t")
    store.unwatch(domain.process, "/local/domain/5/gone", b"t")
    store.watch(store.domains[6].guest, "@releaseDomain", b"t")
    store.set_perms(DOM0, "@releaseDomain", perms("n0 r5"))
    store.set_target(domain, store.domains[6])
    store.set_quota(None, "nodes", 2000)
    store.set_quota(domain, "watches", 0)
    store.set_features(7, 3)
    tx = store.begin(DOM0)
    store.write(DOM0, "/in/a/transaction", b"1", tx)
    store.remove(DOM0, "/tool", tx)
    store.end(DOM0, tx, commit=True)


def test_everything_is_there_again(path: Path) -> None:
    store, state = opened(path)
    busy(store)
    state.commit()
    state.close()
    again, state = opened(path)
    assert contents(again) == contents(store)
    assert set(again.recent) >= set(store.recent)
    assert [connection.connected for connection in again.domains[5].connections] == [False, False]
    assert again.tree.generation >= store.tree.generation
    again.release(5)
    state.commit()
    state.close()
    third, state = opened(path)
    assert contents(third) == contents(again)
    assert list(third.domains) == [6]
    state.close()


def test_children_keep_their_order(path: Path) -> None:
    store, state = opened(path)
    for name in ("c", "a", "b"):
        store.mkdir(DOM0, f"/{name}")
    state.commit()
    state.close()
    again, state = opened(path)
    assert again.directory(DOM0, "/") == ("tool", "c", "a", "b")
    state.close()


def test_what_was_not_committed_is_not_there(path: Path) -> None:
    store, state = opened(path)
    store.write(DOM0, "/a", b"")
    state.commit()
    size = state.size
    store.write(DOM0, "/b", b"")
    assert path.stat().st_size == size
    state.close()
    again, state = opened(path)
    assert again.directory(DOM0, "/") == ("tool", "a")
    state.close()


def test_a_torn_end_is_cut_and_written_over(path: Path) -> None:
    store, state = opened(path)
    store.write(DOM0, "/a", b"")
    state.commit()
    whole = path.stat().st_size
    store.write(DOM0, "/b", b"x" * 100)
    state.commit()
    state.close()
    os.truncate(path, path.stat().st_size - 1)
    again, state = opened(path)
    assert path.stat().st_size == whole
    again.write(DOM0, "/c", b"")
    state.commit()
    state.close()
    third, state = opened(path)
    assert third.directory(DOM0, "/") == ("tool", "a", "c")
    state.close()


def test_a_damaged_file_is_refused_and_left_alone(path: Path) -> None:
    store, state = opened(path)
    for number in range(10):
        store.write(DOM0, f"/{number}", b"value")
        state.commit()
    state.close()
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(StateError, match="damaged at byte"):
        opened(path)
    assert path.read_bytes() == damaged


def test_a_file_that_grows_is_written_anew_while_the_store_goes_on(path: Path) -> None:
    store, state = opened(path, least_growth=1000)
    for number in range(500):
        store.write(DOM0, f"/many/{number}", b"value")
    state.commit()
    assert state.has_work
    turns = 0
    for turn in range(10_000):
        if not state.has_work:
            break
        state.work()
        store.write(DOM0, f"/many/{499 - turn}", b"changed meanwhile")
        store.remove(DOM0, f"/many/{turn}")
        store.write(DOM0, f"/new/{turn}", b"")
        state.commit()
        turns += 1
    assert turns > 3
    before = path.stat().st_size
    assert before == state.size
    state.close()
    again, state = opened(path)
    assert contents(again) == contents(store)
    state.close()
    assert [other.name for other in path.parent.iterdir()] == [path.name]


def test_the_file_does_not_grow_with_the_number_of_changes(path: Path) -> None:
    store, state = opened(path, least_growth=2000)
    longest = 0
    for number in range(2000):
        store.write(DOM0, f"/few/{number % 10}", b"value")
        state.commit()
        while state.has_work:
            state.work()
        longest = max(longest, state.size)
    assert longest < 5000
    state.close()


def test_without_room_for_another_file_this_one_goes_on(path: Path) -> None:
    store, state = opened(path, least_growth=100)
    (path.parent / f"{path.name}.new").mkdir()
    for number in range(20):
        store.write(DOM0, f"/{number}", b"value")
        state.commit()
        if state.has_work:
            state.work()
    (path.parent / f"{path.name}.new").rmdir()
    store.write(DOM0, "/last", b"x" * 2000)
    state.commit()
    while state.has_work:
        state.work()
    state.close()
    again, state = opened(path)
    assert contents(again) == contents(store)
    state.close()


def test_what_cannot_be_kept_is_an_error(path: Path) -> None:
    store, state = opened(path)
    state.close()
    state._fd = os.open("/dev/full", os.O_WRONLY)
    store.write(DOM0, "/a", b"")
    with pytest.raises(StateError, match="cannot be written: No space left"):
        state.commit()
    state.close()


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="cannot be used"):
        opened(tmp_path / "missing" / "state")


Step = Callable[[Store], None]
PATHS = [
    "/local/domain/5/data",
    "/local/domain/5/data/a",
    "/a",
    "/a/b",
    "/a/b/c",
    "/local/domain/0/backend/vbd/5/x",
]


def at(action: str, number: int, name: str) -> Step:
    """One change, if it is possible."""
    domid = 5 + number % 2

    def act(store: Store) -> None:
        domain = store.domains.get(domid)
        match action:
            case "introduce" if domain is None:
                store.introduce(domid, f"u{domid}")
            case "release" if domain is not None:
                store.release(domid)
            case "write":
                store.write(DOM0, name, b"%d" % number)
            case "remove":
                store.remove(DOM0, name)
            case "chmod":
                store.set_perms(DOM0, name, perms(("n0", "n5", "n0 r5 r6")[number % 3]))
            case "watch" if domain is not None:
                store.watch(domain.connections[number % 2], name, b"t")
            case "unwatch" if domain is not None:
                store.unwatch(domain.connections[number % 2], name, b"t")
            case "reset" if domain is not None:
                store.reset(domain.guest)
            case "transaction":
                tx = store.begin(DOM0)
                if store.tree.get("/a") is not None:
                    store.remove(DOM0, "/a", tx)
                store.write(DOM0, name, b"tx", tx)
                store.end(DOM0, tx, commit=True)

    return act


steps = st.builds(
    at,
    st.sampled_from(
        [
            "introduce",
            "release",
            "write",
            "write",
            "remove",
            "chmod",
            "watch",
            "unwatch",
            "reset",
            "transaction",
        ]
    ),
    st.integers(0, 5),
    st.sampled_from(PATHS),
)


@given(st.lists(st.tuples(steps, st.booleans(), st.booleans()), max_size=40))
def test_a_store_is_what_it_was_at_the_last_commit(script: list[tuple[Step, bool, bool]]) -> None:
    """Whatever happens, and however far the next snapshot has come; killed then, without a word."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state"
        store, state = opened(path, least_growth=300)
        kept, recent = contents(store), set(store.recent)
        for step, work, commit in script:
            with suppress(StoreError):
                step(store)
            if commit:
                state.commit()
            if worked := work and state.has_work:
                state.work()
            if commit or worked:
                kept, recent = contents(store), set(store.recent)
        again, other = opened(path)
        assert contents(again) == kept
        assert recent <= set(again.recent)
        other.close()
        state.close()
