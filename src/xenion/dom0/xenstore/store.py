"""The store, with xenstored's rules (docs/misc/xenstore.txt).

One thread at a time may use a store and its connections; they never block.
"""

from collections import OrderedDict
from collections.abc import KeysView

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX
from xenion.dom0.xenstore.access import check_room, check_size, create, existing, find, may_read
from xenion.dom0.xenstore.belongings import empty_kinds, roots
from xenion.dom0.xenstore.connection import ANY_DEPTH, Connection
from xenion.dom0.xenstore.domains import Domain
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.journal import Journal, Record, no_journal
from xenion.dom0.xenstore.paths import ROOT, domain_path, parent_of
from xenion.dom0.xenstore.perms import DOM0_ONLY, NOBODY, READ, WRITE, Perms, perms_text
from xenion.dom0.xenstore.quota import Quota, with_quota
from xenion.dom0.xenstore.scope import Scope
from xenion.dom0.xenstore.transaction import Transaction
from xenion.dom0.xenstore.tree import Node, Tree, View, size_of
from xenion.dom0.xenstore.watches import WatchTable

__all__ = ["DOM0_ONLY", "INTRODUCE_DOMAIN", "RECENT", "RELEASE_DOMAIN", "Store"]

INTRODUCE_DOMAIN = "@introduceDomain"
RELEASE_DOMAIN = "@releaseDomain"
RECENT = 1000
"""Paths that are remembered as changed."""


class Store:
    """The tree, who watches it and which domains are introduced.

    Paths are given as a client names them, absolute or relative to its home. ``tx`` is the id of a
    transaction of that connection, or 0. Every operation either happens completely or raises StoreError and
    changes nothing.
    """

    def __init__(self) -> None:
        self.tree = Tree()
        self.watch_table = WatchTable()
        self.domains: dict[int, Domain] = {}
        self.quota = Quota()
        """Of domains that are introduced from now on."""
        self.features: dict[int, int] = {}
        """Of domains that are not to see all of them."""
        self.special: dict[str, Perms] = {INTRODUCE_DOMAIN: DOM0_ONLY, RELEASE_DOMAIN: DOM0_ONLY}
        """Who is told of these events."""
        self.recent: OrderedDict[str, None] = OrderedDict()
        """Paths that changed lately, the last one last."""
        self.journal: Journal = no_journal
        self.tree.create([ROOT, "/tool", "/tool/xenstored"], b"", DOM0_ONLY)

    def tell(self, journal: Journal) -> None:
        """Changes go to this journal from now on."""
        self.journal = self.tree.journal = self.watch_table.journal = journal

    @property
    def introduced(self) -> KeysView[int]:
        """The domains that are."""
        return self.domains.keys()

    # Reading

    def node(self, connection: Connection, path: str, tx: int = 0) -> Node:
        """A node that the client may read. StoreError EINVAL, EACCES, ENOENT."""
        full = connection.absolute(path)
        if connection.scope is not None and not connection.scope.may_read(full):
            raise _out_of_scope(full)
        return existing(self._view(connection, tx), connection, full, READ)

    def read(self, connection: Connection, path: str, tx: int = 0) -> bytes:
        """A node's value. Errors as ``node``."""
        return self.node(connection, path, tx).value

    def directory(self, connection: Connection, path: str, tx: int = 0) -> tuple[str, ...]:
        """The names of a node's children, oldest first. Errors as ``node``."""
        return tuple(self.node(connection, path, tx).children)

    def get_perms(self, connection: Connection, path: str, tx: int = 0) -> Perms:
        """A node's permissions, or those of a special event. Errors as ``node``."""
        if path[:1] != "@":
            return self.node(connection, path, tx).perms
        perms = self._special_perms(path)
        if not may_read(connection, perms) or connection.scope is not None:
            raise StoreError(Errno.EACCES, f"{path} is not for domain {connection.domid}")
        return perms

    # Writing

    def write(self, connection: Connection, path: str, value: bytes, tx: int = 0) -> None:
        """Set a node's value; creates it and missing parents. StoreError EINVAL, EACCES, ENOSPC."""
        if len(value) > XENSTORE_PAYLOAD_MAX:
            raise StoreError(Errno.E2BIG, f"a value of {len(value)} bytes could never be read")
        view = self._view(connection, tx)
        full = _own(connection, path)
        node = find(view, connection, full, WRITE)
        if node is None:
            create(view, connection, full, value)
        else:
            check_size(connection, size_of(node.perms, value) + node.children.size)
            view.replace(full, value, node.perms)
        self._changed(view, full)

    def mkdir(self, connection: Connection, path: str, tx: int = 0) -> None:
        """Create a node and missing parents; one that exists stays as it is. Errors as ``write``."""
        view = self._view(connection, tx)
        full = connection.absolute(path)
        if connection.scope is not None and not connection.scope.may_make(full):
            raise _out_of_scope(full)
        if find(view, connection, full, WRITE) is None:
            create(view, connection, full, b"")
            self._changed(view, full)

    def remove(self, connection: Connection, path: str, tx: int = 0) -> None:
        """Delete a node and all below it. One that is missing is fine if its parent exists.

        StoreError EINVAL (the root too), EACCES, ENOENT. As in xenstored the right to write the node
        suffices, those below are not asked.
        """
        view = self._view(connection, tx)
        full = _own(connection, path)
        if find(view, connection, full, WRITE) is None:
            if view.get(parent_of(full)) is None:
                raise StoreError(Errno.ENOENT, f"the parent of {full[:80]} does not exist")
            return
        if full == ROOT:
            raise StoreError(Errno.EINVAL, "the root cannot be removed")
        self._remove(view, full)

    def set_perms(self, connection: Connection, path: str, perms: Perms, tx: int = 0) -> None:
        """Set a node's permissions, or who gets a special event. Only for the node's owner and Dom0.

        StoreError EINVAL, EACCES, ENOENT, ENOSPC; EPERM when a guest would give its node away.
        """
        if not perms:
            raise StoreError(Errno.EINVAL, "no permission given")
        if connection.limited and len(perms) > connection.quota.node_permissions:
            raise StoreError(
                Errno.ENOSPC, f"a node may have {connection.quota.node_permissions} permission entries"
            )
        if path[:1] == "@":
            self._set_special_perms(connection, path, perms)
            return
        view = self._view(connection, tx)
        full = _own(connection, path)
        node = existing(view, connection, full, WRITE)
        if connection.scope is not None and perms[0].domid not in (0, connection.scope.domid):
            raise StoreError(Errno.EPERM, "a domain's process gives nodes to its own domain only")
        if not connection.privileged:
            if node.perms[0].domid not in (connection.domid, connection.target):
                raise StoreError(Errno.EACCES, f"{full[:80]} belongs to domain {node.perms[0].domid}")
            if perms[0].domid != node.perms[0].domid:
                raise StoreError(Errno.EPERM, "only domain 0 may change a node's owner")
        check_size(connection, size_of(perms, node.value) + node.children.size)
        view.replace(full, node.value, perms)
        self._changed(view, full, node.perms)

    def _set_special_perms(self, connection: Connection, name: str, perms: Perms) -> None:
        self._special_perms(name)
        if not connection.privileged or connection.scope is not None:
            raise StoreError(Errno.EACCES, f"{name} belongs to domain 0")
        self.special[name] = perms
        self.journal(Record.SPECIAL, name.encode("ascii"), perms_text(perms))

    # Watches and transactions

    def watch(self, connection: Connection, path: str, token: bytes, depth: int = ANY_DEPTH) -> None:
        """Watch a path or a special event, and be told at once. StoreError EINVAL, EACCES, EEXIST, E2BIG."""
        self.watch_table.add(connection, path, token, depth)
        self.watch_table.fire_first(connection, path, token)

    def unwatch(self, connection: Connection, path: str, token: bytes) -> None:
        """Take a watch back. StoreError ENOENT, EINVAL."""
        self.watch_table.remove(connection, path, token)

    def begin(self, connection: Connection, tx: int = 0) -> int:
        """Start a transaction and return its id. StoreError ENOSPC; EBUSY inside another one."""
        if tx:
            connection.transaction(tx)
            raise StoreError(Errno.EBUSY, "transactions do not nest")
        return connection.begin(Transaction(self.tree, connection.quota if connection.limited else None))

    def end(self, connection: Connection, tx: int, *, commit: bool) -> None:
        """Commit or drop a transaction, which is over in either case.

        StoreError ENOENT; EAGAIN when what it touched has changed; ENOSPC when the guest owns too many nodes
        then.
        """
        transaction = connection.transaction(tx)
        del connection.transactions[tx]
        transaction.close()
        if not commit:
            return
        if transaction.conflicts:
            raise StoreError(Errno.EAGAIN, "what the transaction touched has changed")
        self._check_growth(connection, transaction)
        before = {path: self._perms_of(path) for path in transaction.changes}
        transaction.apply()
        for path, exact in transaction.changes.items():
            self._fire(path, before[path], exact=exact)

    def _check_growth(self, connection: Connection, transaction: Transaction) -> None:
        growth = transaction.growth()
        if connection.scope is not None:
            check_room(self.tree, connection, connection.scope, transaction.net_growth)
        if connection.privileged:
            return
        for domid, more in growth.items():
            if self.tree.owned_by(domid) + more > connection.quota.nodes:
                raise StoreError(
                    Errno.ENOSPC, f"domain {domid} would own more than {connection.quota.nodes} nodes"
                )

    # Connections and domains

    def drop_transactions(self, connection: Connection) -> None:
        """None of a client's transactions will end."""
        for transaction in connection.transactions.values():
            transaction.close()
        connection.transactions.clear()

    def reset(self, connection: Connection) -> None:
        """Drop a client's watches and transactions."""
        self.watch_table.remove_all(connection)
        self.drop_transactions(connection)

    def disconnect(self, connection: Connection) -> None:
        """Drop all that a client has here, what waits for it too."""
        self.reset(connection)
        connection.discard_queue()

    def fire_again(self, connection: Connection) -> None:
        """Events of a client may be lost: its watches fire, for their own paths and for what changed lately."""

        def may_see(path: str) -> bool:
            return connection.privileged or self._may_see(connection, path, None)

        self.watch_table.fire_again(connection, list(self.recent), may_see)

    def introduce(self, domid: int, uuid: str = "") -> Domain:
        """A domain is connected now; fires @introduceDomain."""
        domain = self.domains[domid] = Domain(domid, uuid, self.quota)
        self.journal(Record.DOMAIN, b"%d" % domid, uuid.encode("ascii"))
        self._fire_special(INTRODUCE_DOMAIN, domid)
        return domain

    def release(self, domid: int) -> None:
        """A domain is gone: its nodes go with all below them, and its permissions, lest a successor has them.

        So do its trees, when it was introduced with a UUID. Fires @releaseDomain. Whoever speaks for it is
        hung up on.
        """
        domain = self.domains.pop(domid, None)
        if domain is not None:
            for connection in domain.connections:
                self.disconnect(connection)
                if connection.hang_up is not None:
                    connection.hang_up()
            if domain.uuid and domain.process.scope is not None:
                self._remove_trees(domain.process.scope)
        self._forget(domid)
        self.journal(Record.RELEASED, b"%d" % domid)
        self._fire_special(RELEASE_DOMAIN, domid)

    def _remove_trees(self, scope: Scope) -> None:
        for root in (*roots(self.tree, scope), *empty_kinds(self.tree, scope)):
            if self.tree.get(root) is not None:
                self._remove(self.tree, root)

    def _forget(self, domid: int) -> None:
        """Its nodes and rights elsewhere."""
        for path in self.tree.naming(domid):
            node = self.tree.get(path)
            if node is None or path == ROOT:
                continue
            if node.perms[0].domid == domid:
                self._remove(self.tree, path)
            else:
                self.tree.replace(path, node.value, _without(node.perms, domid))
        for name, perms in self.special.items():
            self.special[name] = _without(perms, domid)
        self.features.pop(domid, None)
        for other in self.domains.values():
            if other.guest.target == domid:
                other.guest.target = NOBODY

    def set_target(self, domain: Domain, target: Domain) -> None:
        """Let a domain do all that another one may."""
        domain.guest.target = target.domid
        self.journal(Record.TARGET, b"%d" % domain.domid, b"%d" % target.domid)

    def set_features(self, domid: int, bits: int) -> None:
        """What a domain that is yet to be introduced may use (xs_wire.h: XENSTORE_SERVER_FEATURE_*)."""
        self.features[domid] = bits
        self.journal(Record.FEATURES, b"%d" % domid, b"%d" % bits)

    def set_quota(self, domain: Domain | None, name: str, value: int) -> None:
        """Change a limit of a domain, or of those that come; 0: no limit. StoreError EINVAL."""
        if domain is None:
            self.quota = with_quota(self.quota, name, value)
        else:
            domain.guest.quota = with_quota(domain.guest.quota, name, value)
        who = b"" if domain is None else b"%d" % domain.domid
        self.journal(Record.QUOTA, who, name.encode("ascii"), b"%d" % value)

    def domain_path(self, domid: int) -> str:
        """A domain's home, whether or not there is such a domain."""
        return domain_path(domid)

    # Inside

    def _view(self, connection: Connection, tx: int) -> View:
        return connection.transaction(tx) if tx else self.tree

    def _remove(self, view: View, path: str) -> None:
        for below, node in view.remove(path):
            self._changed(view, below, node.perms, exact=below != path)

    def _changed(self, view: View, path: str, before: Perms | None = None, *, exact: bool = False) -> None:
        if view is self.tree:
            self._fire(path, before, exact=exact)
        else:
            assert isinstance(view, Transaction)  # noqa: S101  (there is no third)
            view.note_change(path, exact=exact)

    def _perms_of(self, path: str) -> Perms | None:
        node = self.tree.get(path)
        return None if node is None else node.perms

    def _fire(self, path: str, before: Perms | None, *, exact: bool) -> None:
        if not exact:
            self.changed_lately(path)

        def may_see(connection: Connection) -> bool:
            return connection.privileged or self._may_see(connection, path, before)

        self.watch_table.fire(path, may_see, exact=exact)

    def changed_lately(self, path: str) -> None:
        """Remember a change, and forget the oldest."""
        recent = self.recent
        recent[path] = None
        recent.move_to_end(path)
        if len(recent) > RECENT:
            recent.popitem(last=False)

    def _may_see(self, connection: Connection, path: str, before: Perms | None) -> bool:
        candidates = (before, self._perms_of(path), self._perms_of(parent_of(path)))
        return any(perms is not None and may_read(connection, perms) for perms in candidates)

    def _fire_special(self, name: str, domid: int) -> None:
        perms = self.special[name]
        self.watch_table.fire_special(name, domid, lambda connection: may_read(connection, perms))

    def _special_perms(self, name: str) -> Perms:
        if name not in self.special:
            raise StoreError(Errno.EINVAL, f"{name[:80]!r} is no event that has permissions")
        return self.special[name]


def _own(connection: Connection, path: str) -> str:
    """The absolute form of a path that the client wants to change. StoreError EINVAL; EACCES for what is not its."""
    full = connection.absolute(path)
    if connection.scope is not None and not connection.scope.may_write(full):
        raise _out_of_scope(full)
    return full


def _out_of_scope(path: str) -> StoreError:
    return StoreError(Errno.EACCES, f"{path[:80]} is not for this domain's process")


def _without(perms: Perms, domid: int) -> Perms:
    """The permissions without a domain that is not their owner; Dom0's own for those that it does own."""
    return tuple(perm for perm in perms if perm.domid != domid) or DOM0_ONLY
