"""The store's rules as conversations, and the store against an obvious model of itself."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.connection import Connection, Event
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import READ, WRITE, Perm, Perms, parse_perm
from xenion.dom0.xenstore.store import Store

HOME = "/local/domain/5"


def perms(text: str) -> Perms:
    return tuple(parse_perm(entry) for entry in text.split())


class Talk:
    """A store, Dom0, and domain 5 with a read-only home and a `data` of its own."""

    def __init__(self) -> None:
        self.store = Store()
        self.dom0 = Connection(0)
        self.guest = Connection(5)
        self.store.mkdir(self.dom0, HOME)
        self.store.set_perms(self.dom0, HOME, perms("n0 r5"))
        self.store.mkdir(self.dom0, f"{HOME}/data")
        self.store.set_perms(self.dom0, f"{HOME}/data", perms("n5"))


@pytest.fixture
def talk() -> Talk:
    return Talk()


class refused:
    """Expect a StoreError of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        assert isinstance(error, StoreError), f"not refused with {self._name}: {error!r}"
        assert error.name == self._name
        return True


# Nodes


def test_written_is_read(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"one\0two")
    assert talk.store.read(talk.guest, "data/a") == b"one\0two"
    assert talk.store.read(talk.dom0, f"{HOME}/data/a") == b"one\0two"
    talk.store.write(talk.guest, "data/a", b"")
    assert talk.store.read(talk.guest, "data/a") == b""


def test_missing_parents_are_created_empty(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a/b/c", b"deep")
    assert talk.store.directory(talk.guest, "data") == ("a",)
    assert talk.store.directory(talk.guest, "data/a") == ("b",)
    assert talk.store.read(talk.guest, "data/a/b") == b""


def test_mkdir_leaves_a_node_as_it_is(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"kept")
    talk.store.mkdir(talk.guest, "data/a")
    assert talk.store.read(talk.guest, "data/a") == b"kept"


def test_removing(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a/b/c", b"deep")
    talk.store.write(talk.guest, "data/z", b"")
    talk.store.remove(talk.guest, "data/a")
    assert talk.store.directory(talk.guest, "data") == ("z",)
    for path in ("data/a", "data/a/b/c"):
        with refused("ENOENT"):
            talk.store.read(talk.guest, path)
    talk.store.remove(talk.guest, "data/a")
    with refused("ENOENT"):
        talk.store.remove(talk.guest, "data/a/b/c")
    with refused("EINVAL"):
        talk.store.remove(talk.dom0, "/")
    with refused("EACCES"):
        talk.store.remove(talk.guest, "/")


def test_a_value_nobody_could_read_is_refused(talk: Talk) -> None:
    talk.store.write(talk.dom0, "/big", b"x" * 4096)
    with refused("E2BIG"):
        talk.store.write(talk.dom0, "/big", b"x" * 4097)


# Permissions


def test_a_guest_writes_only_where_it_may(talk: Talk) -> None:
    for path in ("name", "new", "/local/domain/6/data", "/x", "/"):
        with refused("EACCES"):
            talk.store.write(talk.guest, path, b"")
        with refused("EACCES"):
            talk.store.mkdir(talk.guest, path)
    with refused("EACCES"):
        talk.store.remove(talk.guest, HOME)


def test_what_a_guest_may_not_see_it_may_not_know(talk: Talk) -> None:
    talk.store.write(talk.dom0, "/secret/there", b"")
    for path in ("/secret/there", "/secret/missing", "/nowhere"):
        with refused("EACCES"):
            talk.store.read(talk.guest, path)
    with refused("ENOENT"):
        talk.store.read(talk.guest, "missing")


def test_a_guest_owns_what_it_creates(talk: Talk) -> None:
    talk.store.set_perms(talk.dom0, f"{HOME}/data", perms("r0 b5 w6"))
    talk.store.write(talk.guest, "data/a/b", b"")
    assert talk.store.get_perms(talk.guest, "data/a/b") == (
        Perm(5, READ),
        Perm(5, READ | WRITE),
        Perm(6, WRITE),
    )
    talk.store.write(talk.dom0, f"{HOME}/data/c", b"")
    assert talk.store.get_perms(talk.dom0, f"{HOME}/data/c") == perms("r0 b5 w6")


def test_set_perms_is_for_the_owner(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"")
    talk.store.set_perms(talk.guest, "data/a", perms("n5 r0 r6"))
    other = Connection(6)
    assert talk.store.read(other, f"{HOME}/data/a") == b""
    with refused("EACCES"):
        talk.store.write(other, f"{HOME}/data/a", b"")
    with refused("EACCES"):
        talk.store.set_perms(other, f"{HOME}/data/a", perms("n6"))
    with refused("EPERM"):
        talk.store.set_perms(talk.guest, "data/a", perms("n0"))
    with refused("EACCES"):
        talk.store.set_perms(talk.guest, HOME, perms("n5"))
    with refused("EINVAL"):
        talk.store.set_perms(talk.guest, "data/a", ())
    with refused("ENOSPC"):
        talk.store.set_perms(talk.guest, "data/a", perms("n5 r0 r1 r2 r3 r4"))
    talk.store.set_perms(talk.dom0, f"{HOME}/data/a", perms("n0"))
    with refused("EACCES"):
        talk.store.read(talk.guest, "data/a")


def test_write_permission_alone_does_not_let_set_perms(talk: Talk) -> None:
    talk.store.write(talk.dom0, "/shared", b"")
    talk.store.set_perms(talk.dom0, "/shared", perms("n0 b5"))
    talk.store.write(talk.guest, "/shared", b"mine")
    with refused("EACCES"):
        talk.store.set_perms(talk.guest, "/shared", perms("n0 b5 b6"))


# Quota


def test_a_guest_owns_a_thousand_nodes_at_most(talk: Talk) -> None:
    for number in range(989):
        talk.store.write(talk.guest, f"data/{number // 100}/{number}", b"")
    assert talk.store.tree.owned_by(5) == 1 + 10 + 989
    with refused("ENOSPC"):
        talk.store.write(talk.guest, "data/0/straw", b"")
    with refused("ENOENT"):
        talk.store.read(talk.guest, "data/0/straw")
    talk.store.write(talk.guest, "data/0", b"existing nodes may still change")
    talk.store.write(talk.dom0, f"{HOME}/name", b"Dom0 has no quota")
    talk.store.remove(talk.guest, "data/0/0")
    talk.store.write(talk.guest, "data/0/again", b"")


def test_creating_past_the_quota_leaves_nothing_behind(talk: Talk) -> None:
    before = set(talk.store.tree.paths())
    with refused("ENOSPC"):
        talk.store.write(talk.guest, "data" + "/a" * 1000, b"")
    assert set(talk.store.tree.paths()) == before


def test_a_node_stays_below_2048_bytes(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"x" * 2015)
    with refused("ENOSPC"):
        talk.store.write(talk.guest, "data/a", b"x" * 2016)
    with refused("ENOSPC"):
        talk.store.write(talk.guest, "data/b", b"x" * 2016)
    assert talk.store.read(talk.guest, "data/a") == b"x" * 2015
    assert talk.store.directory(talk.guest, "data") == ("a",)


def test_a_nodes_children_count_for_its_size(talk: Talk) -> None:
    made = 0
    with refused("ENOSPC"):
        for number in range(100):
            talk.store.write(talk.guest, f"data/{number:050}", b"")
            made += 1
    assert made == (2047 - 32) // 51
    assert len(talk.store.directory(talk.guest, "data")) == made


# Watches


def test_a_watch_fires_at_once_and_on_changes_below(talk: Talk) -> None:
    talk.store.watch(talk.guest, "data", b"t")
    assert talk.guest.events() == [Event("data", b"t")]
    talk.store.write(talk.dom0, f"{HOME}/data/a/b", b"")
    assert talk.guest.events() == [Event("data/a/b", b"t")]
    talk.store.mkdir(talk.guest, "data/a/b")
    assert talk.guest.events() == []
    talk.store.set_perms(talk.guest, "data", perms("n5"))
    assert talk.guest.events() == [Event("data", b"t")]
    talk.store.unwatch(talk.guest, "data", b"t")
    talk.store.write(talk.guest, "data/a", b"")
    assert talk.guest.events() == []


def test_removing_a_tree_tells_each_watch_inside_its_own_path(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a/b/c", b"")
    for path in ("data", "data/a/b", "data/a/b/c"):
        talk.store.watch(talk.guest, path, path.encode())
    talk.guest.events()
    talk.store.remove(talk.dom0, f"{HOME}/data/a")
    assert sorted(talk.guest.events()) == [
        Event("data/a", b"data"),
        Event("data/a/b", b"data/a/b"),
        Event("data/a/b/c", b"data/a/b/c"),
    ]


def test_a_guest_is_not_told_of_what_it_may_not_read(talk: Talk) -> None:
    talk.store.watch(talk.guest, "/", b"all")
    talk.guest.events()
    talk.store.write(talk.dom0, "/secret", b"")
    assert talk.guest.events() == []
    talk.store.write(talk.dom0, f"{HOME}/name", b"x")
    assert talk.guest.events() == [Event(f"{HOME}/name", b"all")]


def test_losing_access_is_told(talk: Talk) -> None:
    talk.store.mkdir(talk.dom0, "/a/b")
    talk.store.set_perms(talk.dom0, "/a/b", perms("n0 r5"))
    talk.store.watch(talk.guest, "/a/b", b"t")
    talk.guest.events()
    talk.store.set_perms(talk.dom0, "/a/b", perms("n0"))
    assert talk.guest.events() == [Event("/a/b", b"t")]
    talk.store.write(talk.dom0, "/a/b", b"hidden")
    assert talk.guest.events() == []


def test_special_events_are_for_whom_dom0_lets(talk: Talk) -> None:
    for name in ("@introduceDomain", "@releaseDomain", "@other"):
        talk.store.watch(talk.guest, name, b"t")
        talk.store.watch(talk.dom0, name, b"t")
    talk.guest.events()
    talk.dom0.events()
    talk.store.introduce(7)
    talk.store.release(7)
    assert talk.guest.events() == []
    assert talk.dom0.events() == [Event("@introduceDomain", b"t"), Event("@releaseDomain", b"t")]
    with refused("EACCES"):
        talk.store.set_perms(talk.guest, "@releaseDomain", perms("r5"))
    with refused("EINVAL"):
        talk.store.set_perms(talk.guest, "@other", perms("r5"))
    talk.store.set_perms(talk.dom0, "@releaseDomain", perms("n0 r5"))
    talk.store.release(7)
    assert talk.guest.events() == [Event("@releaseDomain", b"t")]


# Transactions


def test_a_transaction_is_isolated_both_ways(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"old")
    tx = talk.store.begin(talk.guest)
    assert talk.store.read(talk.guest, "data/a", tx) == b"old"
    assert talk.store.directory(talk.guest, "data", tx) == ("a",)
    talk.store.write(talk.dom0, f"{HOME}/data/a", b"outside")
    talk.store.write(talk.dom0, f"{HOME}/data/c", b"outside")
    assert talk.store.read(talk.guest, "data/a", tx) == b"old"
    assert talk.store.directory(talk.guest, "data", tx) == ("a",)
    talk.store.write(talk.guest, "data/b", b"inside", tx)
    with refused("ENOENT"):
        talk.store.read(talk.guest, "data/b")
    with refused("EAGAIN"):
        talk.store.end(talk.guest, tx, commit=True)
    with refused("ENOENT"):
        talk.store.read(talk.guest, "data/b")
    with refused("ENOENT"):
        talk.store.end(talk.guest, tx, commit=True)


def test_changes_elsewhere_do_not_conflict(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a", b"old")
    tx = talk.store.begin(talk.guest)
    talk.store.write(talk.guest, "data/a", b"new", tx)
    talk.store.write(talk.dom0, f"{HOME}/name", b"renamed")
    talk.store.end(talk.guest, tx, commit=True)
    assert talk.store.read(talk.guest, "data/a") == b"new"
    assert talk.store.read(talk.guest, "name") == b"renamed"


def test_two_creations_in_one_directory_conflict(talk: Talk) -> None:
    one, two = talk.store.begin(talk.guest), talk.store.begin(talk.guest)
    talk.store.write(talk.guest, "data/one", b"", one)
    talk.store.write(talk.guest, "data/two", b"", two)
    talk.store.end(talk.guest, one, commit=True)
    with refused("EAGAIN"):
        talk.store.end(talk.guest, two, commit=True)
    assert talk.store.directory(talk.guest, "data") == ("one",)


def test_a_dropped_transaction_leaves_nothing(talk: Talk) -> None:
    tx = talk.store.begin(talk.guest)
    talk.store.write(talk.guest, "data/a", b"", tx)
    talk.store.remove(talk.guest, "data", tx)
    talk.store.end(talk.guest, tx, commit=False)
    assert talk.store.directory(talk.guest, "data") == ()


def test_watches_fire_on_commit_only_and_once(talk: Talk) -> None:
    talk.store.watch(talk.dom0, f"{HOME}/data", b"t")
    talk.dom0.events()
    tx = talk.store.begin(talk.guest)
    talk.store.write(talk.guest, "data/a", b"1", tx)
    talk.store.write(talk.guest, "data/a", b"2", tx)
    talk.store.write(talk.guest, "data/b", b"", tx)
    assert talk.dom0.events() == []
    talk.store.end(talk.guest, tx, commit=True)
    assert talk.dom0.events() == [Event(f"{HOME}/data/a", b"t"), Event(f"{HOME}/data/b", b"t")]


def test_a_removal_in_a_transaction_is_told_to_who_could_read(talk: Talk) -> None:
    talk.store.write(talk.guest, "data/a/b", b"")
    talk.store.watch(talk.guest, "data/a/b", b"t")
    talk.guest.events()
    tx = talk.store.begin(talk.dom0)
    talk.store.remove(talk.dom0, f"{HOME}/data/a", tx)
    talk.store.end(talk.dom0, tx, commit=True)
    assert talk.guest.events() == [Event("data/a/b", b"t")]


def test_transactions_do_not_nest_and_belong_to_their_client(talk: Talk) -> None:
    tx = talk.store.begin(talk.guest)
    with refused("EBUSY"):
        talk.store.begin(talk.guest, tx)
    with refused("ENOENT"):
        talk.store.begin(talk.guest, 99)
    with refused("ENOENT"):
        talk.store.read(talk.dom0, "/", tx)


def test_the_node_quota_holds_across_transactions(talk: Talk) -> None:
    for name in "ab":
        talk.store.mkdir(talk.guest, f"data/{name}")
    one, two = talk.store.begin(talk.guest), talk.store.begin(talk.guest)
    for number in range(600):
        talk.store.write(talk.guest, f"data/a/{number // 60}/{number}", b"", one)
        talk.store.write(talk.guest, f"data/b/{number // 60}/{number}", b"", two)
    talk.store.end(talk.guest, one, commit=True)
    with refused("ENOSPC"):
        talk.store.end(talk.guest, two, commit=True)
    assert talk.store.directory(talk.guest, "data/b") == ()


# Clients and domains


def test_reset_forgets_watches_and_transactions(talk: Talk) -> None:
    talk.store.watch(talk.guest, "data", b"t")
    tx = talk.store.begin(talk.guest)
    talk.store.reset(talk.guest)
    talk.guest.events()
    talk.store.write(talk.guest, "data/a", b"")
    assert talk.guest.events() == []
    with refused("ENOENT"):
        talk.store.end(talk.guest, tx, commit=True)


def test_a_released_domain_leaves_neither_nodes_nor_rights(talk: Talk) -> None:
    talk.store.introduce(5)
    talk.store.write(talk.guest, "data/a", b"")
    talk.store.write(talk.dom0, "/shared", b"")
    talk.store.set_perms(talk.dom0, "/shared", perms("n0 r5 r6"))
    talk.store.set_perms(talk.dom0, "@introduceDomain", perms("n0 r5"))
    talk.store.disconnect(talk.guest)
    talk.store.release(5)
    assert talk.store.introduced == set()
    assert talk.store.directory(talk.dom0, HOME) == ()
    assert talk.store.get_perms(talk.dom0, "/shared") == perms("n0 r6")
    assert talk.store.special["@introduceDomain"] == perms("n0")
    assert talk.store.tree.owned_by(5) == 0


# Against a model

PATHS = ["/", "/g", "/g/a", "/g/b", "/g/a/c", "/g/a/c/d", "/o", "/o/x", "/r/y"]
PERMS = ["n5", "n0", "r5 w6", "n0 r5", "w0 b5", "n6 b5"]
Result = bytes | tuple[str, ...] | str | None


@dataclass
class Model:
    """Every path with value and permissions; the rules written down without any care for speed."""

    nodes: dict[str, tuple[bytes, Perms]] = field(default_factory=dict)

    def copy(self) -> "Model":
        return Model(dict(self.nodes))

    def may(self, who: int, path: str, need: int) -> bool:
        while path not in self.nodes:
            path = path.rpartition("/")[0] or "/"
        owner, *others = self.nodes[path][1]
        if who in (0, owner.domid):
            return True
        return bool(next((perm.access for perm in others if perm.domid == who), owner.access) & need)

    def above(self, path: str) -> list[str]:
        parts = path.split("/")[1:]
        return ["/" + "/".join(parts[:length]) for length in range(len(parts))]

    def act(self, who: int, verb: str, path: str, value: str) -> Result:
        """The result, or the error's name after a `!`."""
        if not self.may(who, path, READ if verb in ("read", "list", "perms") else WRITE):
            return "!EACCES"
        missing = path not in self.nodes
        if verb in ("write", "mkdir"):
            if missing or verb == "write":
                self.create(who, path, value.encode() if verb == "write" else b"")
            return None
        if verb == "rm":
            return self.remove(path)
        if missing:
            return "!ENOENT"
        if verb == "chmod":
            return self.chmod(who, path, perms(value))
        if verb == "read":
            return self.nodes[path][0]
        if verb == "perms":
            return " ".join(map(str, self.nodes[path][1]))
        start = path.rstrip("/") + "/"
        inside = (name[len(start) :] for name in self.nodes if name.startswith(start) and name != path)
        return tuple(sorted(name for name in inside if "/" not in name))

    def create(self, who: int, path: str, value: bytes) -> None:
        for name in [*self.above(path), path]:
            if name not in self.nodes:
                first, *rest = self.nodes[self.above(name)[-1]][1]
                owner = Perm(who, first.access) if who else first
                self.nodes[name] = (b"", (owner, *rest))
        self.nodes[path] = (value, self.nodes[path][1])

    def remove(self, path: str) -> Result:
        if path == "/":
            return "!EINVAL"
        if self.above(path)[-1] not in self.nodes:
            return "!ENOENT"
        self.nodes = {
            name: node
            for name, node in self.nodes.items()
            if name != path and not name.startswith(path + "/")
        }
        return None

    def chmod(self, who: int, path: str, new: Perms) -> Result:
        if who and self.nodes[path][1][0].domid != who:
            return "!EACCES"
        if who and new[0].domid != who:
            return "!EPERM"
        self.nodes[path] = (self.nodes[path][0], new)
        return None


@dataclass
class Open:
    """A transaction that is open in the store, with what it saw."""

    connection: Connection
    tx: int
    changes: int
    model: Model
    said: list[tuple[tuple[int, str, str, str], Result]] = field(default_factory=list)


class Machine:
    """The store and the model side by side."""

    def __init__(self) -> None:
        self.store = Store()
        self.clients = {domid: Connection(domid) for domid in (0, 5)}
        self.open: dict[int, Open] = {}
        self.changes = 0
        dom0 = self.clients[0]
        self.store.remove(dom0, "/tool")
        for path, who in (("/g", "n5"), ("/o", "n0"), ("/r", "r0")):
            self.store.mkdir(dom0, path)
            self.store.set_perms(dom0, path, perms(who))
        self.model = Model({"/": (b"", perms("n0")), "/g": (b"", perms("n5"))})
        self.model.nodes |= {"/o": (b"", perms("n0")), "/r": (b"", perms("r0"))}

    def act(self, who: int, slot: int, verb: str, path: str, value: str) -> None:
        running = self.open.get(slot)
        if verb in ("commit", "abort"):
            if running is not None:
                del self.open[slot]
                self.end(running, commit=verb == "commit")
        elif slot and running is None:
            client = self.clients[who]
            self.open[slot] = Open(client, self.store.begin(client), self.changes, self.model.copy())
        elif running is not None:
            who = running.connection.domid
            result = self.ask(running.connection, verb, path, value, running.tx)
            if self.changes == running.changes:
                assert result == running.model.act(who, verb, path, value)
            running.said.append(((who, verb, path, value), result))
        else:
            result = self.ask(self.clients[who], verb, path, value, 0)
            assert result == self.model.act(who, verb, path, value)
            self.changes += result is None

    def ask(self, client: Connection, verb: str, path: str, value: str, tx: int) -> Result:
        try:
            match verb:
                case "read":
                    return self.store.read(client, path, tx)
                case "list":
                    return tuple(sorted(self.store.directory(client, path, tx)))
                case "perms":
                    return " ".join(map(str, self.store.get_perms(client, path, tx)))
                case "write":
                    self.store.write(client, path, value.encode(), tx)
                case "mkdir":
                    self.store.mkdir(client, path, tx)
                case "rm":
                    self.store.remove(client, path, tx)
                case "chmod":
                    self.store.set_perms(client, path, perms(value), tx)
        except StoreError as error:
            return f"!{error.name}"
        return None

    def end(self, running: Open, *, commit: bool) -> None:
        """A commit that succeeds is as if all its requests came now; one that fails had an excuse."""
        try:
            self.store.end(running.connection, running.tx, commit=commit)
        except StoreError as error:
            assert (error.errno, commit) == (Errno.EAGAIN, True)  # noqa: PT017  (not the only right outcome)
            assert self.changes > running.changes
            return
        if commit:
            for request, result in running.said:
                assert self.model.act(*request) == result
                self.changes += result is None

    def check(self) -> None:
        dom0 = self.clients[0]
        assert set(self.store.tree.paths()) == set(self.model.nodes)
        for path, (value, who) in self.model.nodes.items():
            assert self.store.read(dom0, path) == value
            assert self.store.get_perms(dom0, path) == who
            assert tuple(sorted(self.store.directory(dom0, path))) == self.model.act(0, "list", path, "")
        owners = [who[0].domid for _, who in self.model.nodes.values()]
        for domid in (0, 5, 6):
            assert self.store.tree.owned_by(domid) == owners.count(domid)


requests = st.tuples(
    st.sampled_from([0, 5]),
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from(["read", "list", "perms", "write", "write", "mkdir", "rm", "chmod", "commit", "abort"]),
    st.sampled_from(PATHS),
    st.sampled_from(PERMS),
)


@given(st.lists(requests, max_size=40))
def test_the_store_is_its_model(script: list[tuple[int, int, str, str, str]]) -> None:
    machine = Machine()
    for request in script:
        machine.act(*request)
        machine.check()
