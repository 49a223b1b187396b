"""What requests carry: strings, each with a NUL, and numbers in them (docs/misc/xenstore.txt).

Text is Latin-1 on the way in, so that every byte is a character that a check can refuse.
"""

import re

from xenion.abi.errno import Errno
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import DOMID_MAX

OK = b"OK\0"
_decimal = re.compile(r"[0-9]{1,10}", re.ASCII).fullmatch


def text(raw: bytes) -> str:
    """A string without its NUL."""
    return raw.decode("latin-1")


def only_string(payload: bytes) -> str:
    """A payload that is one string, its NUL included."""
    if payload.find(b"\0") != len(payload) - 1 or not payload:
        raise StoreError(Errno.EINVAL, "the payload is not one string with its NUL")
    return payload[:-1].decode("latin-1")


def all_strings(payload: bytes) -> list[bytes]:
    """Every string with a NUL; what follows the last NUL is reserved and ignored."""
    return payload.split(b"\0")[:-1]


def strings(payload: bytes, fewest: int, most: int | None = None) -> list[bytes]:
    """Every string with a NUL, when it is the right number of them; StoreError EINVAL."""
    found = all_strings(payload)
    if not fewest <= len(found) <= (fewest if most is None else most):
        raise StoreError(Errno.EINVAL, f"{len(found)} strings in the payload, want {fewest}")
    return found


def number(raw: bytes | str, limit: int) -> int:
    """An unsigned decimal number; StoreError EINVAL."""
    digits = raw if isinstance(raw, str) else text(raw)
    if _decimal(digits) is None or int(digits) > limit:
        raise StoreError(Errno.EINVAL, f"not a number up to {limit}: {digits[:20]!r}")
    return int(digits)


def domid(raw: bytes | str) -> int:
    """A domain's id; StoreError EINVAL."""
    return number(raw, DOMID_MAX)
