"""What one domain may take from the store; the numbers are xenstored's own defaults where it has them."""

from dataclasses import dataclass, fields, replace

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError

UNLIMITED = 1 << 62
VALUE_MAX = 0x7FFF_FFFF


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of each limited connection. Sizes are bytes."""

    nodes: int = 1000
    """Nodes that it owns."""
    node_size: int = 2048
    """A node must stay below this, with its header, permissions, value and its children's names."""
    watches: int = 128
    transactions: int = 10
    """Open at the same time."""
    transaction_nodes: int = 1024
    """Nodes that one transaction may touch."""
    transaction_bytes: int = 1 << 20
    """Paths and values that one transaction may hold."""
    node_permissions: int = 5
    """Entries of one node."""
    outstanding: int = 20
    """Messages that wait to be read by the guest before its further requests wait too."""
    queued: int = 1 << 20
    """Watch events that wait; beyond, those of one watch merge into one for the watch's own path."""


PROCESS = Quota(
    nodes=8192,
    node_size=1 << 20,
    watches=1024,
    transactions=16,
    transaction_nodes=8192,
    node_permissions=64,
    outstanding=64,
)
"""Of a domain's own process, which acts as domain 0: a guest may have broken out into it."""

DOM0 = Quota(outstanding=128, queued=8 << 20)
"""Of domain 0's clients: they are not limited, but what they do not read must not pile up."""

_FIELDS = {field.name.replace("_", "-"): field.name for field in fields(Quota)}
NAMES = tuple(_FIELDS)
"""As GET_QUOTA and SET_QUOTA know them."""


def quota_value(quota: Quota, name: str) -> int:
    """One limit, 0 for none; StoreError EINVAL for a name that is none."""
    value = int(getattr(quota, _field(name)))
    return 0 if value == UNLIMITED else value


def with_quota(quota: Quota, name: str, value: int) -> Quota:
    """The same but for one limit, 0 for none; StoreError EINVAL for a name that is none."""
    return replace(quota, **{_field(name): value or UNLIMITED})


def _field(name: str) -> str:
    if name not in _FIELDS:
        raise StoreError(Errno.EINVAL, f"no quota {name[:40]!r}")
    return _FIELDS[name]
