"""What a domain's own process may reach in the store: it acts as domain 0, but for its domain only."""

from xenion.dom0.xenstore.paths import domain_path, vm_path

BACKENDS = "/local/domain/0/backend"
KINDS = 64
"""Kinds of back ends that there may be before a domain's process may not add one."""

_DAEMON = "/tool/xenstored"


class Scope:
    """Below /local/domain/DOMID, /vm/UUID and /local/domain/0/backend/KIND/DOMID; paths are absolute and valid."""

    def __init__(self, domid: int, uuid: str) -> None:
        self.roots = (domain_path(domid), vm_path(uuid))
        self.domid = domid
        self._domid = str(domid)
        self.keys = (self._domid, f"vm {uuid}")
        """What `whose` says of the nodes here."""

    def backends(self, kind: str) -> str:
        """The domain's back ends of one kind."""
        return f"{BACKENDS}/{kind}/{self._domid}"

    def may_write(self, path: str) -> bool:
        """Change, or create with what is missing above it."""
        for root in self.roots:
            if path.startswith(root) and path[len(root) : len(root) + 1] in ("", "/"):
                return True
        # "", local, domain, 0, backend, KIND, DOMID
        return path.startswith(BACKENDS + "/") and path.split("/", 7)[6:7] == [self._domid]

    def may_read(self, path: str) -> bool:
        return self.may_write(path) or path == _DAEMON or path.startswith(_DAEMON + "/")

    def may_make(self, path: str) -> bool:
        """Ensure that it exists: its own, and the parents of its back ends."""
        return self.may_write(path) or path == BACKENDS or is_kind(path)


def is_kind(path: str) -> bool:
    """Whether it is the parent of one kind of back ends."""
    return path.startswith(BACKENDS + "/") and path.count("/") == BACKENDS.count("/") + 1


def whose(path: str) -> str:
    """Whom a node is for: a domain's id, the UUID of a VM behind a word, or nothing of them."""
    parts = path.split("/", 7)
    match parts[1:4]:
        case ["local", "domain", "0"]:
            return parts[6] if len(parts) > 6 and parts[4] == "backend" else ""
        case ["local", "domain", domid]:
            return domid
        case ["vm", uuid, *_]:
            return f"vm {uuid}"
    return ""
