"""Permissions of a node: the first entry is its owner and the default, the others are for single domains."""

import re
from functools import lru_cache
from typing import NamedTuple

from xenion.abi.errno import Errno
from xenion.abi.xen import DOMID_ANY
from xenion.dom0.xenstore.errors import StoreError

READ = 1
WRITE = 2

_ACCESS = {"n": 0, "r": READ, "w": WRITE, "b": READ | WRITE}
_LETTER = "nrwb"
_parse = re.compile(r"([nrwb])([0-9]{1,5})", re.ASCII).fullmatch
DOMID_MAX = 0xFFFF
NOBODY = -1


class Perm(NamedTuple):
    """What ``domid`` may do: an or of READ and WRITE."""

    domid: int
    access: int

    def __str__(self) -> str:
        return f"{_LETTER[self.access]}{self.domid}"


Perms = tuple[Perm, ...]
"""Never empty. The owner may always read and write, whatever its entry says."""

DOM0_ONLY: Perms = (Perm(0, 0),)


def parse_perm(text: str) -> Perm:
    """One entry as xenstore writes it (``r5``); StoreError EINVAL for anything else."""
    found = _parse(text)
    if found is None or int(found[2]) > DOMID_MAX:
        raise StoreError(
            Errno.EINVAL, f"not a permission: {text[:20]!r}, want one of n r w b and a domain id"
        )
    return Perm(int(found[2]), _ACCESS[found[1]])


@lru_cache(1024)
def perms_text(perms: Perms) -> bytes:
    """All entries as xenstore writes them, a space between them."""
    return " ".join(map(str, perms)).encode("ascii")


@lru_cache(1024)
def parse_perms(text: bytes) -> Perms:
    """What ``perms_text`` wrote; StoreError EINVAL for anything else."""
    return tuple([parse_perm(entry) for entry in text.decode("latin-1").split(" ")])


def access_of(perms: Perms, domid: int, target: int = NOBODY) -> int:
    """What an unprivileged domain may do, which may also do all that its target may."""
    who = (domid, target, DOMID_ANY)
    owner = perms[0]
    if owner.domid in who:
        return READ | WRITE
    for perm in perms[1:]:
        if perm.domid in who:
            return perm.access
    return owner.access
