"""What Xenion aims at, as data. Targets are reported with every run and never asserted."""

from collections.abc import Mapping
from dataclasses import dataclass

from benches.rows import MEMORY_ROW

SUBJECT = "xenion"

AHEAD = 1.0
# Two medians of one program on a quiet machine still differ by a few per cent.
LEVEL = 1.05


@dataclass(frozen=True)
class Target:
    """SUBJECT's median on `row` is at most `at_most` times that of `against`; units if that is None."""

    row: str
    against: str | None
    at_most: float


TARGETS = tuple(
    Target(row, against, at_most)
    for row, against, at_most in (
        ("alu_200M", "xen-tcg", LEVEL),
        ("syscall", "xen-tcg", 1 / 3),
        ("page_fault", "xen-tcg", 1 / 3),
        ("fork_exit_wait", "xen-tcg", AHEAD),
        ("fork_exec_wait", "xen-tcg", AHEAD),
        ("memset_256M", "xen-tcg", 1 / 2),
        ("pipe_pingpong", "xen-tcg", 1 / 2),
        ("kernel_to_init", "xen-tcg", AHEAD),
        ("exec_to_init", "xen-tcg", AHEAD),
        ("whole_run", "xen-tcg", AHEAD),
        ("alu_200M", "tcg", 1.75),
        ("syscall", "tcg", 1.75),
        ("page_fault", "tcg", 1.75),
        ("fork_exit_wait", "tcg", 2.5),
        ("fork_exec_wait", "tcg", 2.5),
        ("memset_256M", "tcg", 1.75),
        ("pipe_pingpong", "tcg", 1.75),
        ("kernel_to_init", "tcg", 2.0),
        (MEMORY_ROW.name, None, 90.0),
    )
)


@dataclass(frozen=True)
class Verdict:
    """A target with what was measured: a ratio, or a figure in the row's unit for a target against nobody."""

    target: Target
    measured: float

    @property
    def met(self) -> bool:
        """Whether the target is reached."""
        return self.measured <= self.target.at_most


Medians = Mapping[str, Mapping[str, float]]
"""Row -> peer -> median."""


def ratio(medians: Medians, row: str, peer: str) -> float | None:
    """SUBJECT's median over the peer's on a row, or None where either is missing."""
    by_peer = medians.get(row, {})
    ours, theirs = by_peer.get(SUBJECT), by_peer.get(peer)
    return ours / theirs if ours is not None and theirs else None


def judge(medians: Medians) -> list[Verdict]:
    """A verdict for every target of which both sides were measured."""
    verdicts = []
    for target in TARGETS:
        if target.against is None:
            measured = medians.get(target.row, {}).get(SUBJECT)
        else:
            measured = ratio(medians, target.row, target.against)
        if measured is not None:
            verdicts.append(Verdict(target, measured))
    return verdicts
