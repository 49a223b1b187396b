"""Which watches a change concerns."""

from collections.abc import Callable, Iterable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_REL_PATH_MAX
from xenion.dom0.xenstore.connection import ANY_DEPTH, Connection, Watch
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.journal import Journal, Record, no_journal
from xenion.dom0.xenstore.paths import ROOT

MaySee = Callable[[Connection], bool]


class WatchTable:
    """Every client's watches, by the path they watch."""

    def __init__(self, journal: Journal = no_journal) -> None:
        self.journal = journal
        self._by_path: dict[str, dict[Watch, None]] = {}

    def add(self, connection: Connection, path: str, token: bytes, depth: int = ANY_DEPTH) -> None:
        """Set a watch; `fire_first` belongs to it. StoreError EINVAL, EACCES, EEXIST, E2BIG."""
        watched = _watched_path(connection, path)
        if connection.scope is not None and not connection.scope.may_read(watched):
            raise StoreError(Errno.EACCES, f"{watched[:80]!r} is not for this domain's process")
        key = (watched, token)
        if key in connection.watches:
            raise StoreError(Errno.EEXIST, f"{path[:80]!r} is watched with the same token")
        if connection.limited and len(connection.watches) >= connection.quota.watches:
            raise StoreError(Errno.E2BIG, f"{connection.quota.watches} watches are set")
        self._set(connection, path, token, depth)
        if connection.name:
            self.journal(Record.WATCH, connection.name, _key(path, token), b"%d" % depth)

    def fire_first(self, connection: Connection, path: str, token: bytes) -> None:
        """The event that tells a client that its new watch is set; after the reply to its request."""
        watch = connection.watches[_watched_path(connection, path), token]
        connection.queue_event(watch, watch.path)

    def remove(self, connection: Connection, path: str, token: bytes) -> None:
        """Take a watch back. StoreError ENOENT, EINVAL."""
        watch = connection.watches.pop((_watched_path(connection, path), token), None)
        if watch is None:
            raise StoreError(Errno.ENOENT, f"{path[:80]!r} is not watched with that token")
        self._forget(watch)
        if connection.name:
            self.journal(Record.UNWATCH, connection.name, _key(path, token))

    def remove_all(self, connection: Connection) -> None:
        """Take all watches of a client back."""
        if not connection.watches:
            return
        for watch in connection.watches.values():
            self._forget(watch)
        connection.watches.clear()
        if connection.name:
            self.journal(Record.UNWATCH_ALL, connection.name)

    def restore(self, connection: Connection, path: str, token: bytes, depth: int) -> None:
        """Set a watch that was set once; nobody is told. One that is set is fine."""
        if (_watched_path(connection, path), token) not in connection.watches:
            self._set(connection, path, token, depth)

    def discard(self, connection: Connection, path: str, token: bytes) -> None:
        """Take a watch back, if it is set."""
        if (_watched_path(connection, path), token) in connection.watches:
            self.remove(connection, path, token)

    def record(self, connection: Connection, journal: Journal) -> None:
        """Tell of all watches of a client, in a snapshot."""
        for watch in connection.watches.values():
            key = _key(watch.path[watch.base_length :], watch.token)
            journal(Record.WATCH, connection.name, key, b"%d" % watch.depth)

    def _set(self, connection: Connection, path: str, token: bytes, depth: int) -> None:
        watched = _watched_path(connection, path)
        watch = Watch(connection, watched, token, relative=watched != path, depth=depth)
        connection.watches[watched, token] = watch
        self._by_path.setdefault(watched, {})[watch] = None

    def _forget(self, watch: Watch) -> None:
        others = self._by_path[watch.path]
        del others[watch]
        if not others:
            del self._by_path[watch.path]

    def fire(self, path: str, may_see: MaySee, *, exact: bool) -> None:
        """Tell the watches on ``path`` and, unless ``exact``, those above it that look down so far."""
        by_path = self._by_path
        if not by_path:
            return
        watches = by_path.get(path)
        concerned = [] if watches is None else [*watches]
        if not exact:
            above, depth = path, 0
            while above != ROOT:
                above = above[: above.rindex("/")] or ROOT
                depth += 1
                watches = by_path.get(above)
                if watches is not None:
                    concerned += [watch for watch in watches if watch.depth >= depth]
        if concerned:
            _tell(concerned, path, may_see)

    def fire_special(self, name: str, domid: int, may_see: MaySee) -> None:
        """Tell those who wait for an event, and those who want to know which domain's it is."""
        plain = self._by_path.get(name, ())
        _tell([watch for watch in plain if watch.depth == ANY_DEPTH], name, may_see)
        which = f"{name}/{domid}"
        _tell([watch for watch in plain if 0 < watch.depth < ANY_DEPTH], which, may_see)
        _tell(self._by_path.get(which, ()), which, may_see)

    def fire_again(
        self, connection: Connection, paths: Iterable[str], may_see: Callable[[str], bool]
    ) -> None:
        """Events of this client may have been lost: its watches fire, and fire for what changed below them."""
        if not connection.watches:
            return
        for watch in connection.watches.values():
            connection.queue_event(watch, watch.path)
        for path in paths:
            if may_see(path):
                self.fire(path, lambda other: other is connection, exact=False)


def _tell(watches: Iterable[Watch], path: str, may_see: MaySee) -> None:
    seen: dict[Connection, bool] = {}
    for watch in watches:
        connection = watch.connection
        allowed = seen.get(connection)
        if allowed is None:
            allowed = seen[connection] = may_see(connection)
        if allowed:
            connection.queue_event(watch, path)


def _key(path: str, token: bytes) -> bytes:
    return path.encode("latin-1") + b"\0" + token


def _watched_path(connection: Connection, path: str) -> str:
    """The absolute form of what a client wants to watch; special events stay as they are."""
    if path[:1] != "@":
        return connection.absolute(path)
    if len(path) > XENSTORE_REL_PATH_MAX:
        raise StoreError(Errno.EINVAL, f"a special event's name of {len(path)} bytes")
    return path
