"""What a store tells of its changes, so that it can be had again: records, each with three byte strings at most.

A record is idempotent: what is read back may have been seen already (xenion.dom0.xenstore.statefile writes a
snapshot while the store goes on).
"""

from collections.abc import Callable
from enum import IntEnum

FORMAT = 1
"""Of what is below; another number for another meaning."""


class Record(IntEnum):
    """Kinds, with the strings that they take; numbers are decimal, permissions as xenstore writes them."""

    NODE = 1
    """path, permissions with spaces, value: created or changed."""
    GONE = 2
    """path: it and all below it."""
    WATCH = 3
    """client's name, path NUL token, depth: set; the path as the client gave it."""
    UNWATCH = 4
    """client's name, path NUL token."""
    UNWATCH_ALL = 5
    """client's name."""
    DOMAIN = 6
    """domid, UUID: introduced."""
    RELEASED = 7
    """domid."""
    TARGET = 8
    """domid, the domid that it may act for."""
    SPECIAL = 9
    """a special event's name, permissions: who is told of it."""
    QUOTA = 10
    """domid or nothing for new domains, the quota's name, its value."""
    FEATURES = 11
    """domid, or-ed bits."""
    HELD = 12
    """As NODE, in a snapshot: no change."""
    RECENT = 13
    """path, in a snapshot: it has changed lately."""


Journal = Callable[..., None]
"""Called as ``journal(Record, a, b, c)``; strings that are left out are empty."""


def no_journal(_record: Record, _a: bytes = b"", _b: bytes = b"", _c: bytes = b"") -> None:
    """For a store that nobody needs again."""
