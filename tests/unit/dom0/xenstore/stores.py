"""Stores to compare."""

from typing import Any

from xenion.dom0.xenstore.check import check
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.store import Store


def contents(store: Store) -> dict[str, Any]:
    """All that outlives the store's process, but for which paths changed lately."""
    assert check(store) == []
    nodes = {path: store.tree.get(path) for path in store.tree.paths()}
    return {
        "nodes": {
            path: (node.value, node.perms, frozenset(node.children))
            for path, node in nodes.items()
            if node is not None
        },
        "domains": {
            domain.domid: (
                domain.uuid,
                domain.guest.target,
                domain.guest.quota,
                *map(watches, domain.connections),
            )
            for domain in store.domains.values()
        },
        "special": store.special,
        "quota": store.quota,
        "features": store.features,
    }


def watches(connection: Connection) -> set[tuple[str, bytes, int, int]]:
    """Everything about a client's watches."""
    return {
        (watch.path, watch.token, watch.depth, watch.base_length) for watch in connection.watches.values()
    }
