"""Runs of frames (first, count), in order and apart from each other."""

from collections.abc import Iterable, Iterator, Sequence

Run = tuple[int, int]


def frames_of(runs: Iterable[Run]) -> Iterator[int]:
    for first, count in runs:
        yield from range(first, first + count)


def joined(runs: Iterable[Run]) -> list[Run]:
    """Of runs that come in any order and may overlap."""
    made: list[Run] = []
    for first, count in sorted(runs):
        end = first + count
        if made and first <= sum(made[-1]):
            start = made[-1][0]
            made[-1] = start, max(end, sum(made[-1])) - start
        else:
            made.append((first, count))
    return made


def common(these: Sequence[Run], those: Sequence[Run]) -> list[Run]:
    """What is in both."""
    made, i, j = [], 0, 0
    while i < len(these) and j < len(those):
        (first, count), (other, others) = these[i], those[j]
        low, high = max(first, other), min(first + count, other + others)
        if low < high:
            made.append((low, high - low))
        if first + count < other + others:
            i += 1
        else:
            j += 1
    return made


def without(these: Iterable[Run], those: Iterable[Run]) -> list[Run]:
    """What is in `these` only."""
    made: list[Run] = []
    others = list(those)
    j = 0
    for first, count in these:
        at, end = first, first + count
        while j < len(others) and sum(others[j]) <= at:
            j += 1
        k = j
        while k < len(others) and others[k][0] < end:
            if at < others[k][0]:
                made.append((at, others[k][0] - at))
            at = max(at, sum(others[k]))
            k += 1
        if at < end:
            made.append((at, end - at))
    return made
