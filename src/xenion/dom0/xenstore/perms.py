"""Permissions of a node: the first entry is its owner and the default, the others are for single domains."""

import re
from typing import NamedTuple

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError

READ = 1
WRITE = 2

_ACCESS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
_LETTER = "nrwb"
_parse = re.compile(r"([nrwb])([0-9]{1,5})", re.ASCII).fullmatch
DOMID_MAX = 0xFFFF


class Perm(NamedTuple):
    """What ``domid`` may do: an or of READ and WRITE."""

    domid: int
    access: int

    def __str__(self) -> str:
        return f"{_LETTER[self.access]}{self.domid}"


Perms = tuple[Perm, ...]
"""Never empty. The owner may always read and write, whatever its entry says."""


def parse_perm(text: str) -> Perm:
    """One entry as xenstore writes it (``r5``); StoreError EINVAL for anything else."""
    found = _parse(text)
    if found is None or int(found[2]) > DOMID_MAX:
        raise StoreError(
            Errno.EINVAL, f"not a permission: {text[:20]!r}, want one of n r w b and a domain id"
        )
    return Perm(int(found[2]), _ACCESS[found[1]])


def access_of(perms: Perms, domid: int) -> int:
    """What an unprivileged domain may do."""
    owner = perms[0]
    if owner.domid == domid:
        return READ | WRITE
    for perm in perms[1:]:
        if perm.domid == domid:
            return perm.access
    return owner.access
