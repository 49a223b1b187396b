"""Makes a store what its records say."""

from collections.abc import Callable

from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.journal import Record
from xenion.dom0.xenstore.paths import parent_of
from xenion.dom0.xenstore.perms import parse_perms
from xenion.dom0.xenstore.store import Store

Applied = Callable[[Store, bytes, bytes, bytes], None]


def apply(store: Store, kind: Record, a: bytes, b: bytes, c: bytes) -> None:
    """One record; ValueError or StoreError for what no store has written. What it says may be so already."""
    _APPLIED[kind](store, a, b, c)


def _held(store: Store, a: bytes, b: bytes, c: bytes) -> None:
    path, perms = a.decode("ascii"), parse_perms(b)
    if store.tree.get(path) is not None:
        store.tree.replace(path, c, perms)
        return
    missing = [path]
    while store.tree.get(parent_of(missing[0])) is None:
        missing.insert(0, parent_of(missing[0]))
    store.tree.create(missing, c, perms)


def _node(store: Store, a: bytes, b: bytes, c: bytes) -> None:
    _held(store, a, b, c)
    store.changed_lately(a.decode("ascii"))


def _gone(store: Store, a: bytes, _b: bytes, _c: bytes) -> None:
    path = a.decode("ascii")
    if store.tree.get(path) is not None:
        store.tree.remove(path)
    store.changed_lately(path)


def _watch(store: Store, a: bytes, b: bytes, c: bytes) -> None:
    path, token = b.split(b"\0", 1)
    client = _client(store, a)
    if client is not None:
        store.watch_table.restore(client, path.decode("latin-1"), token, int(c))


def _unwatch(store: Store, a: bytes, b: bytes, _c: bytes) -> None:
    path, token = b.split(b"\0", 1)
    client = _client(store, a)
    if client is not None:
        store.watch_table.discard(client, path.decode("latin-1"), token)


def _unwatch_all(store: Store, a: bytes, _b: bytes, _c: bytes) -> None:
    client = _client(store, a)
    if client is not None:
        store.watch_table.remove_all(client)


def _domain(store: Store, a: bytes, b: bytes, _c: bytes) -> None:
    if int(a) not in store.domains:
        domain = store.introduce(int(a), b.decode("ascii"))
        for connection in domain.connections:
            connection.connected = False


def _released(store: Store, a: bytes, _b: bytes, _c: bytes) -> None:
    store.release(int(a))


def _target(store: Store, a: bytes, b: bytes, _c: bytes) -> None:
    domain = store.domains.get(int(a))
    if domain is not None:
        domain.guest.target = int(b)


def _special(store: Store, a: bytes, b: bytes, _c: bytes) -> None:
    store.special[a.decode("ascii")] = parse_perms(b)


def _quota(store: Store, a: bytes, b: bytes, c: bytes) -> None:
    domain = store.domains.get(int(a)) if a else None
    if domain is not None or not a:
        store.set_quota(domain, b.decode("ascii"), int(c))


def _features(store: Store, a: bytes, b: bytes, _c: bytes) -> None:
    store.set_features(int(a), int(b))


def _recent(store: Store, a: bytes, _b: bytes, _c: bytes) -> None:
    store.changed_lately(a.decode("ascii"))


def _client(store: Store, name: bytes) -> Connection | None:
    domain = store.domains.get(int(name.split(b" ")[1]))
    if domain is None:
        return None
    return next(connection for connection in domain.connections if connection.name == name)


_APPLIED: dict[Record, Applied] = {
    Record.NODE: _node,
    Record.GONE: _gone,
    Record.WATCH: _watch,
    Record.UNWATCH: _unwatch,
    Record.UNWATCH_ALL: _unwatch_all,
    Record.DOMAIN: _domain,
    Record.RELEASED: _released,
    Record.TARGET: _target,
    Record.SPECIAL: _special,
    Record.QUOTA: _quota,
    Record.FEATURES: _features,
    Record.HELD: _held,
    Record.RECENT: _recent,
}
