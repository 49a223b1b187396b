"""Sizes as people write them: 2G, 1536M."""

import re

from xenion.images.failure import WrongRequestError

_SIZE = re.compile(r"([1-9][0-9]{0,15})([KMGTkmgt]?)(?:i?[Bb])?")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
STEP_BYTES = 1 << 20
MOST_BYTES = 16 << 40
"""What one ext4 file holds."""


class SizeError(WrongRequestError):
    """No size that a disk can have."""


def parse(text: str) -> int:
    """Bytes, rounded up to whole MiB; a number alone is bytes. SizeError."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise SizeError(f"{text!r} is no size: write it as 2G or 1536M.")
    size = -(-int(found[1]) * _UNITS[found[2].upper()] // STEP_BYTES) * STEP_BYTES
    if size >= MOST_BYTES:
        raise SizeError(f"{text} is too large: a root disk has less than {MOST_BYTES >> 40} TiB.")
    return size


def shown(size: int) -> str:
    """A size for people: 405 MiB, 2.0 GiB."""
    if size >= 1 << 30:
        return f"{size / (1 << 30):.1f} GiB"
    return f"{-(-size >> 20)} MiB"
