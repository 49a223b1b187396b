"""The nodes of a store."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from xenion.dom0.xenstore.journal import Journal, Record, no_journal
from xenion.dom0.xenstore.paths import ROOT, child_of, leaf_of, parent_of
from xenion.dom0.xenstore.perms import Perms, perms_text
from xenion.dom0.xenstore.scope import whose

# xenstored's database record: its fixed header, and one permission entry. They count towards the entry size.
_RECORD_HEADER = 24
_RECORD_PERM = 8


class Children:
    """The names of a node's children, oldest first; successive versions of the node share them.

    A change is made in place unless a transaction must go on to see what it saw (``pins``): then the newer
    version gets a copy.
    """

    __slots__ = ("_listing", "names", "pins", "size")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.names = dict.fromkeys(names)
        self.size = sum(map(len, self.names)) + len(self.names)
        """Bytes of the names, each with a NUL."""
        self.pins = 0
        self._listing: bytes | None = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)

    def listing(self) -> bytes:
        """The names as DIRECTORY gives them, each with a NUL."""
        if self._listing is None:
            self._listing = "".join([name + "\0" for name in self.names]).encode("ascii")
        return self._listing

    def changeable(self) -> "Children":
        """These, or a copy of them when somebody must not see what is about to be changed."""
        if not self.pins:
            return self
        copy = Children()
        copy.names = self.names.copy()
        copy.size = self.size
        return copy

    def add(self, name: str) -> None:
        self.names[name] = None
        self.size += len(name) + 1
        self._listing = None

    def drop(self, name: str) -> None:
        del self.names[name]
        self.size -= len(name) + 1
        self._listing = None


NO_CHILDREN = Children()
"""Of every node that has none."""
NO_CHILDREN.pins = 1


class Node:
    """One version of a node: never changed but for its children, always replaced."""

    __slots__ = ("children", "generation", "perms", "value")

    def __init__(
        self, value: bytes, perms: Perms, children: Children = NO_CHILDREN, generation: int = 0
    ) -> None:
        self.value = value
        self.perms = perms
        self.children = children
        self.generation = generation
        """Of this version; no other one in the store, before or after, has it."""

    @property
    def size(self) -> int:
        """Bytes that xenstored's quota counts for this node."""
        return size_of(self.perms, self.value) + self.children.size


def size_of(perms: Perms, value: bytes) -> int:
    """Bytes that xenstored's quota counts for a node without children."""
    return _RECORD_HEADER + _RECORD_PERM * len(perms) + len(value)


class View(Protocol):
    """Nodes as one request sees them: the store's own, or a transaction's."""

    def get(self, path: str) -> Node | None:
        """The node, or None."""

    def create(self, missing: list[str], value: bytes, perms: Perms) -> None:
        """Make nodes that are missing, each the parent of the next; the first one's exists, the last has the value."""

    def replace(self, path: str, value: bytes, perms: Perms) -> None:
        """Give a node that exists another value and other permissions."""

    def remove(self, path: str) -> list[tuple[str, Node]]:
        """Delete a node that exists, but for the root, and all below it; what was deleted, the deepest first."""

    def owned_by(self, domid: int) -> int:
        """How many nodes a domain owns."""

    def made_for(self, keys: Iterable[str]) -> int:
        """How many nodes are there for somebody (xenion.dom0.xenstore.scope: `whose`)."""


class Tree:
    """All nodes by absolute path; each change is told to the journal. A parent comes before its children."""

    def __init__(self, journal: Journal = no_journal) -> None:
        self.journal = journal
        self.generation = 0
        """Of the last change."""
        self._nodes: dict[str, Node] = {}
        self._owned: dict[int, int] = {}
        self._naming: dict[int, dict[str, None]] = {}
        self._for: dict[str, int] = {}
        self.get = self._nodes.get
        """See View."""

    def __len__(self) -> int:
        return len(self._nodes)

    def create(self, missing: list[str], value: bytes, perms: Perms) -> None:
        """See View."""
        last = len(missing) - 1
        for number, path in enumerate(missing):
            self._attach(path)
            self._set(path, Node(value if number == last else b"", perms, NO_CHILDREN, self._next()))

    def replace(self, path: str, value: bytes, perms: Perms) -> None:
        """See View."""
        self._set(path, Node(value, perms, self._nodes[path].children, self._next()))

    def remove(self, path: str) -> list[tuple[str, Node]]:
        """See View."""
        removed = subtree(self, path)
        removed.reverse()
        for name, node in removed:
            self._drop(name, node)
        self._detach(path)
        self.journal(Record.GONE, path.encode("ascii"))
        return removed

    def owned_by(self, domid: int) -> int:
        """See View."""
        return self._owned.get(domid, 0)

    def naming(self, domid: int) -> list[str]:
        """The paths of the nodes whose permissions name a domain other than 0."""
        return list(self._naming.get(domid, ()))

    def made_for(self, keys: Iterable[str]) -> int:
        """See View."""
        return sum(self._for.get(key, 0) for key in keys)

    def paths(self) -> list[str]:
        """Every path, a parent before its children."""
        return list(self._nodes)

    # For transactions that are committed

    def update(self, path: str, node: Node, children: Children, *, told: bool) -> None:
        """Put a version of a node in place; its parent and children are taken care of by the caller.

        ``told``: more than its children may have changed.
        """
        new = Node(node.value, node.perms, children, self._next())
        if told:
            self._set(path, new)
        else:
            self._nodes[path] = new

    def drop(self, path: str) -> None:
        """Delete one node; its parent and children are taken care of by the caller."""
        self._drop(path, self._nodes[path])
        self.journal(Record.GONE, path.encode("ascii"))

    # Inside

    def _next(self) -> int:
        self.generation += 1
        return self.generation

    def _set(self, path: str, node: Node) -> None:
        self.journal(Record.NODE, path.encode("ascii"), perms_text(node.perms), node.value)
        old = self._nodes.get(path)
        self._nodes[path] = node
        if old is None:
            self._count(path, node.perms, 1)
            self._count_for(path, 1)
        elif old.perms is not node.perms:
            self._count(path, old.perms, -1)
            self._count(path, node.perms, 1)

    def _attach(self, path: str) -> None:
        if path == ROOT:
            return
        parent_path = parent_of(path)
        parent = self._nodes[parent_path]
        children = parent.children.changeable()
        children.add(leaf_of(path))
        self._nodes[parent_path] = Node(parent.value, parent.perms, children, self._next())

    def _detach(self, path: str) -> None:
        parent_path = parent_of(path)
        parent = self._nodes[parent_path]
        children = parent.children.changeable()
        children.drop(leaf_of(path))
        self._nodes[parent_path] = Node(parent.value, parent.perms, children, self._next())

    def _drop(self, path: str, node: Node) -> None:
        del self._nodes[path]
        self._count(path, node.perms, -1)
        self._count_for(path, -1)

    def _count_for(self, path: str, by: int) -> None:
        key = whose(path)
        if key:
            count = self._for[key] = self._for.get(key, 0) + by
            if not count:
                del self._for[key]

    def _count(self, path: str, perms: Perms, by: int) -> None:
        owner = perms[0].domid
        self._owned[owner] = self._owned.get(owner, 0) + by
        for perm in perms:
            if not perm.domid:
                continue
            if by > 0:
                self._naming.setdefault(perm.domid, {})[path] = None
            else:
                named = self._naming.get(perm.domid, {})
                named.pop(path, None)
                if not named:
                    self._naming.pop(perm.domid, None)


def subtree(view: View, path: str) -> list[tuple[str, Node]]:
    """A node and all below it, parents first; empty when it is missing."""
    found: list[tuple[str, Node]] = []
    todo = [path]
    while todo:
        name = todo.pop()
        node = view.get(name)
        if node is not None:
            found.append((name, node))
            todo.extend([child_of(name, leaf) for leaf in node.children])
    return found
