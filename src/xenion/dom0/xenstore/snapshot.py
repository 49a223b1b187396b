"""A store as records, a share at a time, while it goes on."""

from collections.abc import Iterator

from xenion.dom0.xenstore.domains import Domain
from xenion.dom0.xenstore.frames import record
from xenion.dom0.xenstore.journal import Journal, Record
from xenion.dom0.xenstore.perms import NOBODY, perms_text
from xenion.dom0.xenstore.quota import NAMES, Quota, quota_value
from xenion.dom0.xenstore.store import Store

SHARE = 128
"""Nodes that are written at a time."""


def snapshot(store: Store) -> Iterator[bytes]:
    """What the store is. Whoever adds all changes since the first share to the shares has the store of then."""
    parts: list[bytes] = []

    def add(kind: Record, a: bytes = b"", b: bytes = b"", c: bytes = b"") -> None:
        parts.extend(record(kind, a, b, c))

    _add_quota(add, b"", store.quota)
    for domain in store.domains.values():
        _add_domain(store, domain, add)
    for domid, bits in store.features.items():
        add(Record.FEATURES, b"%d" % domid, b"%d" % bits)
    for name, perms in store.special.items():
        add(Record.SPECIAL, name.encode("ascii"), perms_text(perms))
    for path in store.recent:
        add(Record.RECENT, path.encode("ascii"))
    paths = store.tree.paths()
    yield b"".join(parts)
    for start in range(0, len(paths), SHARE):
        parts.clear()
        for path in paths[start : start + SHARE]:
            node = store.tree.get(path)
            if node is not None:
                add(Record.HELD, path.encode("ascii"), perms_text(node.perms), node.value)
        yield b"".join(parts)


def _add_domain(store: Store, domain: Domain, add: Journal) -> None:
    domid = b"%d" % domain.domid
    add(Record.DOMAIN, domid, domain.uuid.encode("ascii"))
    _add_quota(add, domid, domain.guest.quota)
    if domain.guest.target != NOBODY:
        add(Record.TARGET, domid, b"%d" % domain.guest.target)
    for connection in domain.connections:
        store.watch_table.record(connection, add)


def _add_quota(add: Journal, whose: bytes, quota: Quota) -> None:
    for name in NAMES:
        add(Record.QUOTA, whose, name.encode("ascii"), b"%d" % quota_value(quota, name))
