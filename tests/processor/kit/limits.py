"""What a processor cannot show its guests, row by row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """`real`: what a guest sees on real hardware under Xen; `shows`: what it sees on the `processors` named."""

    real: str
    shows: str
    processors: frozenset[str] = frozenset({"software"})


LIMITS: Mapping[str, Limit] = {}
