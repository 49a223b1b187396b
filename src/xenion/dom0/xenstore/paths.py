"""Node names: syntax and arithmetic (docs/misc/xenstore.txt)."""

import re
from collections.abc import Iterator

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX
from xenion.dom0.xenstore.errors import StoreError

ROOT = "/"

_valid_path = re.compile(r"/|(?:/[A-Za-z0-9_@-]+)+").fullmatch


_component = re.compile(r"[A-Za-z0-9_@-]{1,256}").fullmatch


def is_component(name: str) -> bool:
    """Whether it can be one part of a path."""
    return _component(name) is not None


def domain_path(domid: int) -> str:
    """A domain's home, the base of its relative paths."""
    return f"/local/domain/{domid}"


def vm_path(uuid: str) -> str:
    """Where the toolstack keeps what the guest does not see."""
    return f"/vm/{uuid}"


def absolute(path: str, base: str) -> str:
    """The absolute form of a path named by a client whose home is ``base``; StoreError EINVAL."""
    if path[:1] == "/":
        limit = XENSTORE_ABS_PATH_MAX
        full = path
    else:
        limit = XENSTORE_REL_PATH_MAX
        full = f"{base}/{path}"
    if len(path) > limit:
        raise StoreError(Errno.EINVAL, f"a path of {len(path)} bytes, more than {limit}")
    if not path or path[0] == "@" or _valid_path(full) is None:
        raise StoreError(Errno.EINVAL, f"not a path: {path[:80]!r}")
    return full


def parent_of(path: str) -> str:
    """The path above; the root's parent is the root."""
    return path[: path.rindex("/")] or ROOT


def leaf_of(path: str) -> str:
    """The last component; empty for the root."""
    return path[path.rindex("/") + 1 :]


def child_of(path: str, leaf: str) -> str:
    """The path of a child."""
    return f"/{leaf}" if path == ROOT else f"{path}/{leaf}"


def ancestors(path: str) -> Iterator[str]:
    """Every path above, nearest first, the root last; nothing for the root."""
    while path != ROOT:
        path = parent_of(path)
        yield path
