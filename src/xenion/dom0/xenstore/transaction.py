"""What a transaction sees and would change."""

from collections.abc import Iterable, Iterator

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import leaf_of, parent_of
from xenion.dom0.xenstore.perms import Perms
from xenion.dom0.xenstore.quota import Quota
from xenion.dom0.xenstore.tree import Children, Node, Tree, subtree


class _Changed(Children):
    """Children that a transaction has changed: those that the node had, less some, and some more.

    A transaction that conflicts may have seen a child before, or after, it came or went here: to add one that is
    here, or drop one that is not, changes nothing.
    """

    __slots__ = ("added", "base", "removed")

    def __init__(self, base: Children) -> None:
        super().__init__()
        self.base = base
        self.size = base.size
        self.added: dict[str, None] = {}
        self.removed: set[str] = set()

    def __iter__(self) -> Iterator[str]:
        yield from [name for name in self.base if name not in self.removed]
        yield from self.added

    def __len__(self) -> int:
        return len(self.base) - len(self.removed) + len(self.added)

    def listing(self) -> bytes:
        if not self.removed:
            return self.base.listing() + "".join([name + "\0" for name in self.added]).encode("ascii")
        return "".join([name + "\0" for name in self]).encode("ascii")

    def changeable(self) -> Children:
        return self

    def __contains__(self, name: str) -> bool:
        return name in self.added or (name in self.base.names and name not in self.removed)

    def add(self, name: str) -> None:
        if name not in self:
            self.added[name] = None
            self.size += len(name) + 1

    def drop(self, name: str) -> None:
        if name in self:
            if name in self.added:
                del self.added[name]
            else:
                self.removed.add(name)
            self.size -= len(name) + 1

    def apply_to(self, children: Children) -> Children:
        """The same change to the same names elsewhere."""
        changed = children.changeable()
        for name in self.removed:
            changed.drop(name)
        for name in self.added:
            changed.add(name)
        return changed


class Transaction:
    """Remembers each node that was touched, and what became of it here.

    A node is first seen as it is then, and from then on as this transaction left it. It conflicts when any
    node it touched, present or absent, parents of created nodes included, has changed since it was touched;
    what it saw was then true at one moment: now. `close` it in any case.
    """

    def __init__(self, tree: Tree, quota: Quota | None) -> None:
        self._tree = tree
        self._quota = quota
        self._held = 0
        self._seen: dict[str, Node | None] = {}
        self._now: dict[str, Node | None] = {}
        self._grown: dict[int, int] = {}
        self.changes: dict[str, bool] = {}
        """Paths whose watches fire on commit, in order; True when only watches on that very path do."""

    def get(self, path: str) -> Node | None:
        """See View. StoreError ENOSPC when the transaction touches too many nodes."""
        if path in self._now:
            return self._now[path]
        if path in self._seen:
            return self._seen[path]
        self._hold(len(path), 1)
        node = self._seen[path] = self._tree.get(path)
        if node is not None:
            node.children.pins += 1
        return node

    def create(self, missing: list[str], value: bytes, perms: Perms) -> None:
        """See View. StoreError ENOSPC when the transaction holds too much."""
        last = len(missing) - 1
        for path in (parent_of(missing[0]), *missing):
            self.get(path)
        self._hold(len(value))
        for number, path in enumerate(missing):
            parent_path = parent_of(path)
            parent = self._existing(parent_path)
            children = self._changeable(parent)
            children.add(leaf_of(path))
            self._now[parent_path] = Node(parent.value, parent.perms, children)
            self._now[path] = Node(value if number == last else b"", perms)
            self._count(perms, 1)

    def replace(self, path: str, value: bytes, perms: Perms) -> None:
        """See View. StoreError ENOSPC when the transaction holds too much."""
        old = self._existing(path)
        self._hold(len(value) - (len(old.value) if path in self._now else 0))
        self._now[path] = Node(value, perms, old.children)
        self._count(old.perms, -1)
        self._count(perms, 1)

    def remove(self, path: str) -> list[tuple[str, Node]]:
        """See View."""
        parent_path = parent_of(path)
        parent = self.get(parent_path)
        removed = subtree(self, path)
        removed.reverse()
        for name, node in removed:
            if name in self._now:
                self._hold(-len(node.value))
            self._now[name] = None
            self._count(node.perms, -1)
        if parent is not None:  # or it went after the transaction saw its child
            children = self._changeable(parent)
            children.drop(leaf_of(path))
            self._now[parent_path] = Node(parent.value, parent.perms, children)
        return removed

    def owned_by(self, domid: int) -> int:
        """See View."""
        return self._tree.owned_by(domid) + self._grown.get(domid, 0)

    def made_for(self, keys: Iterable[str]) -> int:
        """See View. All that this transaction makes counts, for who may make for somebody only."""
        return self._tree.made_for(keys) + self.net_growth

    def note_change(self, path: str, *, exact: bool) -> None:
        """Remember a change for the watches; a subtree's event outlives an exact one."""
        self.changes[path] = self.changes.get(path, True) and exact

    def growth(self) -> dict[int, int]:
        """Domains that the transaction makes own more nodes, and by how many."""
        return {domid: more for domid, more in self._grown.items() if more > 0}

    @property
    def net_growth(self) -> int:
        """How many more nodes there would be."""
        return sum(self._grown.values())

    @property
    def conflicts(self) -> bool:
        """Whether a touched node is no longer what the transaction saw."""
        get = self._tree.get
        return any(get(path) is not node for path, node in self._seen.items())

    def close(self) -> None:
        """Nothing is to be seen through this any more."""
        for node in self._seen.values():
            if node is not None:
                node.children.pins -= 1

    def apply(self) -> None:
        """Make the tree have what was written here; only without a conflict, and after `close`."""
        tree = self._tree
        gone = [path for path, node in self._now.items() if node is None and self._seen.get(path) is not None]
        for path in gone:
            tree.drop(path)
        for path in sorted(self._now, key=len):  # a parent is shorter than its children
            node = self._now[path]
            if node is not None:
                before = self._seen.get(path)
                only_children = (
                    before is not None and node.value is before.value and node.perms is before.perms
                )
                told = path in self.changes or not only_children
                tree.update(path, node, self._children_of(node, before), told=told)

    def _children_of(self, node: Node, before: Node | None) -> Children:
        """What the children of a node become, in the tree."""
        children = node.children
        if not isinstance(children, _Changed):
            return children
        if before is not None and children.base is before.children:
            return children.apply_to(before.children)
        return Children(children)

    def _existing(self, path: str) -> Node:
        node = self.get(path)
        if node is None:
            raise AssertionError(f"{path} is missing in the transaction")
        return node

    def _changeable(self, node: Node) -> Children:
        return node.children if isinstance(node.children, _Changed) else _Changed(node.children)

    def _count(self, perms: Perms, by: int) -> None:
        owner = perms[0].domid
        self._grown[owner] = self._grown.get(owner, 0) + by

    def _hold(self, more: int, nodes: int = 0) -> None:
        """Account for bytes and nodes; StoreError before anything is kept."""
        quota = self._quota
        if quota is not None:
            if nodes and len(self._seen) >= quota.transaction_nodes:
                raise StoreError(Errno.ENOSPC, f"a transaction may touch {quota.transaction_nodes} nodes")
            if more > 0 and self._held + more > quota.transaction_bytes:
                raise StoreError(Errno.ENOSPC, f"a transaction may hold {quota.transaction_bytes} bytes")
        self._held += more
