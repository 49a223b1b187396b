"""The nodes of a store, and the view of them that a transaction has."""

from typing import NamedTuple, Protocol

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import Perms

ABSENT = -1
"""The generation of a node that does not exist."""

# xenstored's database record: its fixed header, and one permission entry. They count towards the entry size.
_RECORD_HEADER = 24
_RECORD_PERM = 8


class Node(NamedTuple):
    """One node; never changed, always replaced. Every replacement has a generation of its own."""

    value: bytes
    perms: Perms
    children: tuple[str, ...]
    generation: int

    @property
    def size(self) -> int:
        """Bytes that xenstored's quota counts for this node."""
        names = sum(map(len, self.children)) + len(self.children)
        return _RECORD_HEADER + _RECORD_PERM * len(self.perms) + len(self.value) + names


class View(Protocol):
    """Nodes as one request sees them: the store's own, or a transaction's."""

    def get(self, path: str) -> Node | None:
        """The node, or None."""

    def put(self, path: str, node: Node) -> None:
        """Create or replace a node; it gets a new generation."""

    def remove(self, path: str) -> None:
        """Delete a node that exists; the caller takes care of its parent and children."""

    def owned_by(self, domid: int) -> int:
        """How many nodes a domain owns."""


class Generations:
    """Numbers that never repeat within one store."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """A number above all before."""
        self._last += 1
        return self._last


class Tree:
    """All nodes by absolute path, and how many each domain owns."""

    def __init__(self, generations: Generations) -> None:
        self._generations = generations
        self._nodes: dict[str, Node] = {}
        self._owned: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, path: str) -> Node | None:
        """See View."""
        return self._nodes.get(path)

    def put(self, path: str, node: Node) -> None:
        """See View."""
        value, perms, children, _ = node
        old = self._nodes.get(path)
        self._nodes[path] = Node(value, perms, children, self._generations.next())
        if old is None or old.perms[0].domid != perms[0].domid:
            if old is not None:
                self._owned[old.perms[0].domid] -= 1
            owner = perms[0].domid
            self._owned[owner] = self._owned.get(owner, 0) + 1

    def remove(self, path: str) -> None:
        """See View."""
        node = self._nodes.pop(path)
        self._owned[node.perms[0].domid] -= 1

    def owned_by(self, domid: int) -> int:
        """See View."""
        return self._owned.get(domid, 0)

    def owners(self) -> dict[int, int]:
        """How many nodes each domain owns."""
        return dict(self._owned)

    def paths(self) -> list[str]:
        """Every path, in no particular order."""
        return list(self._nodes)

    def copy(self) -> "Tree":
        """An independent tree with the same nodes."""
        twin = Tree(self._generations)
        twin._nodes = self._nodes.copy()
        twin._owned = self._owned.copy()
        return twin


class Transaction:
    """A copy of the tree that remembers which nodes were touched, so that it can be replayed or refused.

    It conflicts when any node it touched, present or absent, parents of created nodes included, has changed
    since it began (xenstored's rule).
    """

    def __init__(self, tree: Tree, touch_limit: int | None) -> None:
        self._tree = tree.copy()
        self._owned_at_start = tree.owners()
        self._touch_limit = touch_limit
        self._seen: dict[str, int] = {}
        self._written: dict[str, None] = {}
        self.changes: dict[str, bool] = {}
        """Paths whose watches fire on commit, in order; True when only watches on that very path do."""

    def get(self, path: str) -> Node | None:
        """See View. StoreError ENOSPC when the transaction touches too many nodes."""
        node = self._tree.get(path)
        if path not in self._seen:
            if self._touch_limit is not None and len(self._seen) >= self._touch_limit:
                raise StoreError(Errno.ENOSPC, f"a transaction may touch {self._touch_limit} nodes")
            self._seen[path] = ABSENT if node is None else node.generation
        return node

    def put(self, path: str, node: Node) -> None:
        """See View."""
        self._written[path] = None
        self._tree.put(path, node)

    def remove(self, path: str) -> None:
        """See View."""
        self._written[path] = None
        self._tree.remove(path)

    def owned_by(self, domid: int) -> int:
        """See View."""
        return self._tree.owned_by(domid)

    def note_change(self, path: str, *, exact: bool) -> None:
        """Remember a change for the watches; a subtree's event outlives an exact one."""
        self.changes[path] = self.changes.get(path, True) and exact

    def conflicts_with(self, tree: Tree) -> bool:
        """Whether a touched node is no longer what the transaction saw."""
        for path, generation in self._seen.items():
            node = tree.get(path)
            if (ABSENT if node is None else node.generation) != generation:
                return True
        return False

    def apply_to(self, tree: Tree) -> None:
        """Make ``tree`` have what was written here; only without a conflict."""
        for path in self._written:
            node = self._tree.get(path)
            if node is not None:
                tree.put(path, node)
            elif tree.get(path) is not None:
                tree.remove(path)

    def growth(self) -> dict[int, int]:
        """Domains that the transaction made own more nodes, and by how many."""
        before = self._owned_at_start
        grown = {domid: count - before.get(domid, 0) for domid, count in self._tree.owners().items()}
        return {domid: more for domid, more in grown.items() if more > 0}
