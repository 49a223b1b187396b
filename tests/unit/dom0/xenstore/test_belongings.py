"""What is in the store for a domain."""

from xenion.dom0.xenstore.belongings import empty_kinds, roots
from xenion.dom0.xenstore.perms import DOM0_ONLY
from xenion.dom0.xenstore.scope import BACKENDS, Scope
from xenion.dom0.xenstore.tree import Tree


def test_its_trees_and_the_kinds_that_nobody_else_has() -> None:
    tree = Tree()
    scope = Scope(5, "five")
    tree.create(["/"], b"", DOM0_ONLY)
    assert roots(tree, scope) == ["/local/domain/5", "/vm/five"]
    assert empty_kinds(tree, scope) == []
    tree.create(["/local", "/local/domain", "/local/domain/0", BACKENDS], b"", DOM0_ONLY)
    for kind in ("vbd", "vif", "vkbd", "said"):
        tree.create([f"{BACKENDS}/{kind}"], b"x" if kind == "said" else b"", DOM0_ONLY)
    tree.create([f"{BACKENDS}/vbd/5"], b"", DOM0_ONLY)
    tree.create([f"{BACKENDS}/vif/5"], b"", DOM0_ONLY)
    tree.create([f"{BACKENDS}/vif/6"], b"", DOM0_ONLY)
    assert roots(tree, scope) == [
        "/local/domain/5",
        "/vm/five",
        *(f"{BACKENDS}/{kind}/5" for kind in ("vbd", "vif", "vkbd", "said")),
    ]
    assert empty_kinds(tree, scope) == [f"{BACKENDS}/vbd", f"{BACKENDS}/vkbd"]
