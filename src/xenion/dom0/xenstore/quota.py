"""What one guest may take from the store; the numbers are xenstored's own defaults."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quota:
    """Limits of each unprivileged connection. Sizes are bytes."""

    nodes: int = 1000
    """Nodes that it owns."""
    node_size: int = 2048
    """A node must stay below this, with its header, permissions, value and its children's names."""
    watches: int = 128
    transactions: int = 10
    """Open at the same time."""
    transaction_nodes: int = 1024
    """Nodes that one transaction may touch."""
    permissions: int = 5
    """Entries of one node."""
    outstanding: int = 20
    """Messages that wait to be read by the guest before its further requests wait too."""
    queued: int = 1 << 20
    """Watch events that wait; beyond, those of one watch merge into one for the watch's own path."""
