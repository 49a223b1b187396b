"""Nodes as one client may find and make them."""

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import ancestors, leaf_of, parent_of
from xenion.dom0.xenstore.perms import READ, Perm, Perms, access_of
from xenion.dom0.xenstore.scope import BACKENDS, KINDS, Scope
from xenion.dom0.xenstore.tree import Node, View, size_of


def may_read(connection: Connection, perms: Perms) -> bool:
    """Whether the client may read what has these permissions."""
    return connection.privileged or bool(access_of(perms, connection.domid, connection.target) & READ)


def find(view: View, connection: Connection, path: str, need: int) -> Node | None:
    """A node that the client may access, or None for a missing one that it may know to be missing."""
    node = view.get(path)
    if connection.privileged:
        return node
    if node is not None:
        perms = node.perms
    else:
        # The nearest node above decides whether a client may learn that this one is missing.
        perms = next(above.perms for name in ancestors(path) if (above := view.get(name)) is not None)
    if not access_of(perms, connection.domid, connection.target) & need:
        raise StoreError(Errno.EACCES, f"domain {connection.domid} may not access {path[:80]}")
    return node


def existing(view: View, connection: Connection, path: str, need: int) -> Node:
    """A node that the client may access; StoreError EACCES, ENOENT."""
    node = find(view, connection, path, need)
    if node is None:
        raise StoreError(Errno.ENOENT, f"no node {path[:80]}")
    return node


def create(view: View, connection: Connection, path: str, value: bytes) -> None:
    """Create a node and its missing parents: they inherit permissions, a guest owns what it creates.

    StoreError ENOSPC, and nothing is created.
    """
    missing = [path]
    top = parent_of(path)
    while (parent := view.get(top)) is None:
        missing.append(top)
        top = parent_of(top)
    missing.reverse()
    perms = parent.perms
    if not connection.privileged:
        perms = (Perm(connection.domid, perms[0].access), *perms[1:])
        if view.owned_by(connection.domid) + len(missing) > connection.quota.nodes:
            raise StoreError(
                Errno.ENOSPC, f"domain {connection.domid} may own {connection.quota.nodes} nodes"
            )
    if connection.limited:
        _check_sizes(connection, parent, missing, perms, value)
    if connection.scope is not None:
        check_room(view, connection, connection.scope, len(missing))
        if top == BACKENDS and len(parent.children) >= KINDS:
            raise StoreError(Errno.ENOSPC, f"there are {KINDS} kinds of back ends")
    view.create(missing, value, perms)


def check_room(view: View, connection: Connection, scope: Scope, more: int) -> None:
    """StoreError ENOSPC when a domain's process may not make so many more nodes."""
    if more > 0 and view.made_for(scope.keys) + more > connection.quota.nodes:
        raise StoreError(Errno.ENOSPC, f"{connection.quota.nodes} nodes are there for one domain")


def _check_sizes(
    connection: Connection, parent: Node, missing: list[str], perms: Perms, value: bytes
) -> None:
    check_size(connection, parent.size + len(leaf_of(missing[0])) + 1)
    check_size(connection, size_of(perms, value))
    for below in missing[1:]:
        check_size(connection, size_of(perms, b"") + len(leaf_of(below)) + 1)


def check_size(connection: Connection, size: int) -> None:
    """StoreError ENOSPC for a node that becomes too big."""
    if connection.limited and size >= connection.quota.node_size:
        raise StoreError(Errno.ENOSPC, f"a node of {size} bytes, not below {connection.quota.node_size}")
