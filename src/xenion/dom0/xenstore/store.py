"""An in-memory store for a domain alone, with xenstored's rules (docs/misc/xenstore.txt).

One thread at a time may use a store and its connections; they never block.
"""

from itertools import pairwise

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import ROOT, ancestors, child_of, domain_path, leaf_of, parent_of
from xenion.dom0.xenstore.perms import READ, WRITE, Perm, Perms, access_of
from xenion.dom0.xenstore.tree import Generations, Node, Transaction, Tree, View
from xenion.dom0.xenstore.watches import WatchTable

DOM0_ONLY: Perms = (Perm(0, 0),)

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"


class Store:
    """The tree, who watches it and which domains are introduced.

    Paths are given as a client names them, absolute or relative to its home. ``tx`` is the id of a
    transaction of that connection, or 0. Every operation either happens completely or raises StoreError and
    changes nothing.
    """

    def __init__(self) -> None:
        self._tree = Tree(Generations())
        self.watch_table = WatchTable()
        self.introduced: set[int] = set()
        self._special: dict[str, Perms] = {INTRODUCE_DOMAIN: DOM0_ONLY, RELEASE_DOMAIN: DOM0_ONLY}
        self._tree.put(ROOT, Node(b"", DOM0_ONLY, ("tool",), 0))
        self._tree.put("/tool", Node(b"", DOM0_ONLY, ("xenstored",), 0))
        self._tree.put("/tool/xenstored", Node(b"", DOM0_ONLY, (), 0))

    # Reading

    def node(self, connection: Connection, path: str, tx: int = 0) -> Node:
        """A node that the client may read. StoreError EINVAL, EACCES, ENOENT."""
        view = self._view(connection, tx)
        return _existing(view, connection, connection.absolute(path), READ)

    def read(self, connection: Connection, path: str, tx: int = 0) -> bytes:
        """A node's value. Errors as ``node``."""
        return self.node(connection, path, tx).value

    def directory(self, connection: Connection, path: str, tx: int = 0) -> tuple[str, ...]:
        """The names of a node's children, oldest first. Errors as ``node``."""
        return self.node(connection, path, tx).children

    def get_perms(self, connection: Connection, path: str, tx: int = 0) -> Perms:
        """A node's permissions. Errors as ``node``."""
        return self.node(connection, path, tx).perms

    # Writing

    def write(self, connection: Connection, path: str, value: bytes, tx: int = 0) -> None:
        """Set a node's value; creates it and missing parents. StoreError EINVAL, EACCES, ENOSPC."""
        if len(value) > XENSTORE_PAYLOAD_MAX:
            raise StoreError(Errno.E2BIG, f"a value of {len(value)} bytes could never be read")
        view = self._view(connection, tx)
        full = connection.absolute(path)
        node = _find(view, connection, full, WRITE)
        if node is None:
            _create(view, connection, full, value)
        else:
            _replace(view, connection, full, Node(value, node.perms, node.children, 0))
        self._changed(view, full)

    def mkdir(self, connection: Connection, path: str, tx: int = 0) -> None:
        """Create a node and missing parents; one that exists stays as it is. Errors as ``write``."""
        view = self._view(connection, tx)
        full = connection.absolute(path)
        if _find(view, connection, full, WRITE) is None:
            _create(view, connection, full, b"")
            self._changed(view, full)

    def remove(self, connection: Connection, path: str, tx: int = 0) -> None:
        """Delete a node and all below it. One that is missing is fine if its parent exists.

        StoreError EINVAL (the root too), EACCES, ENOENT. As in xenstored the right to write the node
        suffices, those below are not asked.
        """
        view = self._view(connection, tx)
        full = connection.absolute(path)
        if _find(view, connection, full, WRITE) is None:
            if view.get(parent_of(full)) is None:
                raise StoreError(Errno.ENOENT, f"the parent of {full[:80]} does not exist")
            return
        if full == ROOT:
            raise StoreError(Errno.EINVAL, "the root cannot be removed")
        self._remove_tree(view, full)

    def set_perms(self, connection: Connection, path: str, perms: Perms, tx: int = 0) -> None:
        """Set a node's permissions, or who gets a special event. Only for the node's owner and Dom0.

        StoreError EINVAL, EACCES, ENOENT, ENOSPC; EPERM when a guest would give its node away.
        """
        if not perms:
            raise StoreError(Errno.EINVAL, "no permission given")
        if not connection.privileged and len(perms) > connection.quota.permissions:
            raise StoreError(
                Errno.ENOSPC, f"a node may have {connection.quota.permissions} permission entries"
            )
        if path[:1] == "@":
            self._set_special_perms(connection, path, perms)
            return
        view = self._view(connection, tx)
        full = connection.absolute(path)
        node = _existing(view, connection, full, WRITE)
        if not connection.privileged:
            if node.perms[0].domid != connection.domid:
                raise StoreError(Errno.EACCES, f"{full[:80]} belongs to domain {node.perms[0].domid}")
            if perms[0].domid != connection.domid:
                raise StoreError(Errno.EPERM, "only domain 0 may change a node's owner")
        _replace(view, connection, full, Node(node.value, perms, node.children, 0))
        self._changed(view, full, node.perms)

    def _set_special_perms(self, connection: Connection, name: str, perms: Perms) -> None:
        if name not in self._special:
            raise StoreError(Errno.EINVAL, f"{name[:80]!r} is no event that has permissions")
        if not connection.privileged:
            raise StoreError(Errno.EACCES, f"{name} belongs to domain 0")
        self._special[name] = perms

    # Watches and transactions

    def watch(self, connection: Connection, path: str, token: bytes) -> None:
        """Watch a path or a special event, and be told at once. StoreError EINVAL, EEXIST, E2BIG."""
        self.watch_table.add(connection, path, token)
        self.watch_table.fire_first(connection, path, token)

    def unwatch(self, connection: Connection, path: str, token: bytes) -> None:
        """Take a watch back. StoreError ENOENT, EINVAL."""
        self.watch_table.remove(connection, path, token)

    def begin(self, connection: Connection, tx: int = 0) -> int:
        """Start a transaction and return its id. StoreError ENOSPC; EBUSY inside another one."""
        if tx:
            connection.transaction(tx)
            raise StoreError(Errno.EBUSY, "transactions do not nest")
        limit = None if connection.privileged else connection.quota.transaction_nodes
        return connection.begin(Transaction(self._tree, limit))

    def end(self, connection: Connection, tx: int, *, commit: bool) -> None:
        """Commit or drop a transaction, which is over in either case.

        StoreError ENOENT; EAGAIN when what it touched has changed; ENOSPC when the guest owns too many nodes
        then.
        """
        transaction = connection.transaction(tx)
        del connection.transactions[tx]
        if not commit:
            return
        if transaction.conflicts_with(self._tree):
            raise StoreError(Errno.EAGAIN, "what the transaction touched has changed")
        self._check_growth(connection, transaction)
        before = {path: self._perms_of(path) for path in transaction.changes}
        transaction.apply_to(self._tree)
        for path, exact in transaction.changes.items():
            self._fire(path, before[path], exact=exact)

    def _check_growth(self, connection: Connection, transaction: Transaction) -> None:
        if connection.privileged:
            return
        for domid, more in transaction.growth().items():
            if self._tree.owned_by(domid) + more > connection.quota.nodes:
                raise StoreError(
                    Errno.ENOSPC, f"domain {domid} would own more than {connection.quota.nodes} nodes"
                )

    # Connections and domains

    def reset(self, connection: Connection) -> None:
        """Drop a client's watches and transactions."""
        self.watch_table.remove_all(connection)
        connection.transactions.clear()

    def disconnect(self, connection: Connection) -> None:
        """Drop all that a client has here, what waits for it too."""
        self.reset(connection)
        connection.discard_queue()

    def introduce(self, domid: int) -> None:
        """A domain is connected now; fires @introduceDomain."""
        self.introduced.add(domid)
        self._fire_special(INTRODUCE_DOMAIN)

    def release(self, domid: int) -> None:
        """A domain is gone: its nodes go with all below them, and its permissions, lest a successor has them.

        Fires @releaseDomain. Disconnect its connection first.
        """
        for path in self._tree.paths():
            node = self._tree.get(path)
            if node is None or path == ROOT:
                continue
            if node.perms[0].domid == domid:
                self._remove_tree(self._tree, path)
            elif any(perm.domid == domid for perm in node.perms):
                self._tree.put(path, Node(node.value, _without(node.perms, domid), node.children, 0))
        for name, perms in self._special.items():
            self._special[name] = _without(perms, domid)
        self.introduced.discard(domid)
        self._fire_special(RELEASE_DOMAIN)

    def domain_path(self, domid: int) -> str:
        """A domain's home, whether or not there is such a domain."""
        return domain_path(domid)

    # Inside

    def _view(self, connection: Connection, tx: int) -> View:
        return connection.transaction(tx) if tx else self._tree

    def _remove_tree(self, view: View, path: str) -> None:
        parent = view.get(parent_of(path))
        subtree = _subtree(view, path)
        if parent is None or not subtree:
            raise AssertionError(f"{path} has no parent or is gone")
        leaf = leaf_of(path)
        children = tuple(child for child in parent.children if child != leaf)
        for below, _ in reversed(subtree):
            view.remove(below)
        view.put(parent_of(path), Node(parent.value, parent.perms, children, 0))
        for below, node in reversed(subtree):
            self._changed(view, below, node.perms, exact=below != path)

    def _changed(self, view: View, path: str, before: Perms | None = None, *, exact: bool = False) -> None:
        if isinstance(view, Transaction):
            view.note_change(path, exact=exact)
        else:
            self._fire(path, before, exact=exact)

    def _perms_of(self, path: str) -> Perms | None:
        node = self._tree.get(path)
        return None if node is None else node.perms

    def _fire(self, path: str, before: Perms | None, *, exact: bool) -> None:
        def may_see(connection: Connection) -> bool:
            if connection.privileged:
                return True
            candidates = (before, self._perms_of(path), self._perms_of(parent_of(path)))
            return any(perms and access_of(perms, connection.domid) & READ for perms in candidates)

        self.watch_table.fire(path, may_see, exact=exact)

    def _fire_special(self, name: str) -> None:
        def may_see(connection: Connection) -> bool:
            return connection.privileged or bool(access_of(self._special[name], connection.domid) & READ)

        self.watch_table.fire(name, may_see, exact=True)


def _find(view: View, connection: Connection, path: str, need: int) -> Node | None:
    """A node that the client may access, or None for a missing one that it may know to be missing."""
    node = view.get(path)
    if connection.privileged:
        return node
    if node is not None:
        perms = node.perms
    else:
        # The nearest node above decides whether a client may learn that this one is missing.
        perms = next(above.perms for name in ancestors(path) if (above := view.get(name)) is not None)
    if not access_of(perms, connection.domid) & need:
        raise StoreError(Errno.EACCES, f"domain {connection.domid} may not access {path[:80]}")
    return node


def _existing(view: View, connection: Connection, path: str, need: int) -> Node:
    node = _find(view, connection, path, need)
    if node is None:
        raise StoreError(Errno.ENOENT, f"no node {path[:80]}")
    return node


def _create(view: View, connection: Connection, path: str, value: bytes) -> None:
    """Create a node and its missing parents: they inherit permissions, a guest owns what it creates."""
    missing = [path]
    top = parent_of(path)
    while (parent := view.get(top)) is None:
        missing.append(top)
        top = parent_of(top)
    perms = parent.perms
    if not connection.privileged:
        perms = (Perm(connection.domid, perms[0].access), *perms[1:])
        if view.owned_by(connection.domid) + len(missing) > connection.quota.nodes:
            raise StoreError(
                Errno.ENOSPC, f"domain {connection.domid} may own {connection.quota.nodes} nodes"
            )
    grown = Node(parent.value, parent.perms, (*parent.children, leaf_of(missing[-1])), 0)
    nodes = [(path, Node(value, perms, (), 0))]
    nodes += [(above, Node(b"", perms, (leaf_of(below),), 0)) for below, above in pairwise(missing)]
    nodes.append((top, grown))
    for _, node in nodes:
        _check_size(connection, node)
    for name, node in nodes:
        view.put(name, node)


def _replace(view: View, connection: Connection, path: str, node: Node) -> None:
    _check_size(connection, node)
    view.put(path, node)


def _check_size(connection: Connection, node: Node) -> None:
    if not connection.privileged and node.size >= connection.quota.node_size:
        raise StoreError(Errno.ENOSPC, f"a node of {node.size} bytes, not below {connection.quota.node_size}")


def _without(perms: Perms, domid: int) -> Perms:
    """The permissions without a domain that is not their owner; Dom0's own for those that it does own."""
    return tuple(perm for perm in perms if perm.domid != domid) or DOM0_ONLY


def _subtree(view: View, path: str) -> list[tuple[str, Node]]:
    """A node and all below it, parents first; empty when it is missing."""
    found: list[tuple[str, Node]] = []
    todo = [path]
    while todo:
        name = todo.pop()
        node = view.get(name)
        if node is not None:
            found.append((name, node))
            todo.extend(child_of(name, leaf) for leaf in node.children)
    return found
