"""Which watches a change concerns."""

from collections.abc import Callable

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_REL_PATH_MAX
from xenion.dom0.xenstore.connection import Connection, Watch
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import ancestors


class WatchTable:
    """Every client's watches, by the path they watch."""

    def __init__(self) -> None:
        self._by_path: dict[str, list[Watch]] = {}

    def add(self, connection: Connection, path: str, token: bytes) -> None:
        """Set a watch and fire it once. StoreError EINVAL, EEXIST, E2BIG."""
        watched = _watched_path(connection, path)
        key = (watched, token)
        if key in connection.watches:
            raise StoreError(Errno.EEXIST, f"{path[:80]!r} is watched with the same token")
        if not connection.privileged and len(connection.watches) >= connection.quota.watches:
            raise StoreError(Errno.E2BIG, f"{connection.quota.watches} watches are set")
        watch = Watch(connection, watched, token, relative=watched != path)
        connection.watches[key] = watch
        self._by_path.setdefault(watched, []).append(watch)

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

    def remove_all(self, connection: Connection) -> None:
        """Take all watches of a client back."""
        for watch in connection.watches.values():
            self._forget(watch)
        connection.watches.clear()

    def _forget(self, watch: Watch) -> None:
        others = self._by_path[watch.path]
        others.remove(watch)
        if not others:
            del self._by_path[watch.path]

    def fire(self, path: str, may_see: Callable[[Connection], bool], *, exact: bool) -> None:
        """Tell the watches on ``path`` and, unless ``exact``, those on every path above it."""
        if not self._by_path:
            return
        seen: dict[Connection, bool] = {}
        for watched in (path,) if exact else (path, *ancestors(path)):
            for watch in self._by_path.get(watched, ()):
                connection = watch.connection
                allowed = seen.get(connection)
                if allowed is None:
                    allowed = seen[connection] = may_see(connection)
                if allowed:
                    connection.queue_event(watch, path)


def _watched_path(connection: Connection, path: str) -> str:
    """The absolute form of what a client wants to watch; special events stay as they are."""
    if path[:1] != "@":
        return connection.absolute(path)
    if len(path) > XENSTORE_REL_PATH_MAX:
        raise StoreError(Errno.EINVAL, f"a special event's name of {len(path)} bytes")
    return path
