"""What is in the store for one domain, whoever has put it there."""

from xenion.dom0.xenstore.scope import BACKENDS, Scope
from xenion.dom0.xenstore.tree import Tree


def roots(tree: Tree, scope: Scope) -> list[str]:
    """The tops of its trees, there or not: its home, its VM's path, its back ends of each kind."""
    return [*scope.roots, *(scope.backends(kind) for kind in _kinds(tree))]


def empty_kinds(tree: Tree, scope: Scope) -> list[str]:
    """Kinds of back ends that have none when this domain's are gone."""
    found = []
    for kind in _kinds(tree):
        path = f"{BACKENDS}/{kind}"
        node = tree.get(path)
        others = 0 if node is None else len(node.children) - (tree.get(scope.backends(kind)) is not None)
        if node is not None and not others and not node.value:
            found.append(path)
    return found


def _kinds(tree: Tree) -> list[str]:
    node = tree.get(BACKENDS)
    return [] if node is None else list(node.children)
