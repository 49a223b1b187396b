"""Whether a store's parts agree with each other; what does not is a bug of ours."""

from collections import Counter

from xenion.dom0.xenstore.paths import ROOT, leaf_of, parent_of
from xenion.dom0.xenstore.store import Store


def check(store: Store) -> list[str]:
    """A sentence for each thing that is wrong; empty when all is well."""
    tree = store.tree
    wrong: list[str] = []
    owners: Counter[int] = Counter()
    naming: dict[int, set[str]] = {0: set()}
    parents = 0
    for path in tree.paths():
        node = tree.get(path)
        if node is None:
            continue
        owners[node.perms[0].domid] += 1
        parents += len(node.children)
        above = tree.get(parent_of(path))
        if path != ROOT and (above is None or leaf_of(path) not in above.children.names):
            wrong.append(f"{path} is not among its parent's children")
        if node.children.size != sum(map(len, node.children)) + len(node.children):
            wrong.append(f"the names of {path}'s children are not {node.children.size} bytes")
        for domid in {perm.domid for perm in node.perms}:
            if domid not in naming:
                naming[domid] = set(tree.naming(domid))
        if any(perm.domid and path not in naming[perm.domid] for perm in node.perms):
            wrong.append(f"{path} is not known to be named in its permissions")
    if parents != len(tree) - 1:
        wrong.append(f"{len(tree)} nodes have {parents} children in all")
    wrong += [
        f"domain {domid} owns {count} nodes and not {tree.owned_by(domid)}"
        for domid, count in owners.items()
        if count != tree.owned_by(domid)
    ]
    return wrong
