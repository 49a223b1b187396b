"""How long the memory of a guest that runs is copied before the guest is held for the rest: in rounds, each of what was
written during the one before."""

from dataclasses import dataclass

from xenion.vmm.memory import PAGE_SIZE

MOST_ROUNDS, NO_BETTER_ROUNDS = 30, 4
BETTER = 0.9
"""A round is better than another one if it leaves less than this part of what that one has left."""
HOPED_S = 0.03
"""So long may the rest take: the guest is held for it."""


@dataclass(frozen=True, slots=True)
class Round:
    """`pages` were copied in `seconds`, in `sent` bytes; `written` pages have changed meanwhile, `hot` of them in each
    round so far."""

    number: int
    pages: int
    sent: int
    seconds: float
    written: int
    hot: int


class Rounds:
    """`worst_s`: what the rest may take at most; None: whatever it takes."""

    def __init__(self, worst_s: float | None = None) -> None:
        self.last: Round | None = None
        self._worst_s = worst_s
        self._pages = self._least = 0
        self._seconds = 0.0
        self._no_better = 0

    def add(self, one: Round) -> None:
        if self.last is None or one.written < BETTER * self._least:
            self._least, self._no_better = one.written, 0
        else:
            self._no_better += 1
        self.last = one
        self._pages += one.pages
        self._seconds += one.seconds

    @property
    def pages_per_s(self) -> float:
        """How fast they have been copied so far."""
        return self._pages / self._seconds if self._seconds else 0.0

    @property
    def written_per_s(self) -> float:
        """How fast the guest writes others, as of the last round."""
        return self.last.written / self.last.seconds if self.last is not None and self.last.seconds else 0.0

    @property
    def rest_s(self) -> float:
        """How long it would take to copy what is left now."""
        if self.last is None or not self.last.written:
            return 0.0
        speed = self.pages_per_s
        return self.last.written / speed if speed else float("inf")

    @property
    def enough(self) -> bool:
        """Another round would make it no better, or need not."""
        if self.last is None:
            return False
        tired = self.last.number >= MOST_ROUNDS or self._no_better >= NO_BETTER_ROUNDS
        return tired or self.rest_s <= min(HOPED_S, self._worst_s or HOPED_S)

    @property
    def why_not(self) -> str:
        """Why the guest is not to be held for what is left; empty: it may be."""
        if self._worst_s is None or self.rest_s <= self._worst_s:
            return ""
        return (
            f"its guest would stand still for about {self.rest_s * 1000:.0f} ms, more than "
            f"{self._worst_s * 1000:.0f} ms: {self.pace}"
        )

    @property
    def pace(self) -> str:
        """Who is faster, the guest or we."""
        writes, copied = (rate * PAGE_SIZE / (1 << 20) for rate in (self.written_per_s, self.pages_per_s))
        return f"it writes {writes:.0f} MiB/s of its memory anew, and {copied:.0f} MiB/s are copied"

    def figures(self) -> dict[str, float]:
        """For people."""
        one = self.last
        if one is None:
            return {}
        return {
            "round": one.number,
            "pages": one.pages,
            "sent_bytes": one.sent,
            "seconds": round(one.seconds, 4),
            "written_pages": one.written,
            "hot_pages": one.hot,
            "written_per_s": round(self.written_per_s, 1),
            "copied_per_s": round(self.pages_per_s, 1),
            "downtime_s": round(min(self.rest_s, 1e6), 4),
        }
