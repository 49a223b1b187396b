"""Runs of frames, against sets of them."""

from collections.abc import Set
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.vmm.runs import Run, common, frames_of, joined, without

FRAMES = st.sets(st.integers(0, 60), max_size=40)
ANY = st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12)
END = (1 << 64) - 1


def runs_of(frames: set[int], cut: Set[int] = frozenset()) -> list[Run]:
    """In order and apart from each other; those in `cut` begin a run of their own, next to the one before."""
    made: list[Run] = []
    for frame in sorted(frames):
        if made and sum(made[-1]) == frame and frame not in cut:
            made[-1] = made[-1][0], made[-1][1] + 1
        else:
            made.append((frame, 1))
    return made


def check(runs: list[Run]) -> set[int]:
    """In order, none is empty, and no frame is there twice."""
    assert all(count > 0 for _, count in runs)
    assert all(sum(one) <= other[0] for one, other in pairwise(runs))
    return set(frames_of(runs))


def test_frames() -> None:
    assert list(frames_of([(3, 2), (9, 1)])) == [3, 4, 9]
    assert list(frames_of([])) == []


@pytest.mark.parametrize(
    ("runs", "made"),
    [
        ([], []),
        ([(5, 1), (3, 2)], [(3, 3)]),
        ([(1, 9), (2, 3)], [(1, 9)]),
        ([(1, 3), (1, 3)], [(1, 3)]),
        ([(4, 2), (1, 2)], [(1, 2), (4, 2)]),
        ([(1, 4), (3, 5), (8, 1)], [(1, 8)]),
    ],
)
def test_joined(runs: list[Run], made: list[Run]) -> None:
    assert joined(runs) == made


@given(ANY)
def test_any_runs_are_joined(runs: list[Run]) -> None:
    made = joined(runs)
    assert check(made) == set(frames_of(runs))
    assert all(sum(one) < other[0] for one, other in pairwise(made)), "two that touch are one"
    assert joined(made) == made


@given(FRAMES, FRAMES, FRAMES)
def test_what_two_have_in_common(these: set[int], those: set[int], cut: set[int]) -> None:
    assert check(common(runs_of(these, cut), runs_of(those))) == these & those
    assert check(common(runs_of(these), runs_of(those, cut))) == these & those


@given(FRAMES, FRAMES, FRAMES)
def test_what_one_has_and_the_other_has_not(these: set[int], those: set[int], cut: set[int]) -> None:
    assert check(without(runs_of(these, cut), runs_of(those))) == these - those
    assert check(without(runs_of(these), runs_of(those, cut))) == these - those


@given(FRAMES, FRAMES)
def test_the_two_parts_are_all_of_it(these: set[int], those: set[int]) -> None:
    ours, theirs = runs_of(these), runs_of(those)
    assert joined([*common(ours, theirs), *without(ours, theirs)]) == ours


def test_the_last_frames() -> None:
    """Numbers are as large as a file may say."""
    last = [(END - 3, 4)]
    assert common([(0, END)], last) == [(END - 3, 3)]
    assert without(last, [(0, END)]) == [(END, 1)]
    assert joined([(END, 1), *last]) == last


def test_many_take_no_longer_than_one_look() -> None:
    """A hundred thousand of them against as many."""
    these = [(at, 2) for at in range(0, 400_000, 4)]
    those = [(at, 2) for at in range(1, 400_000, 4)]
    assert len(common(these, those)) == len(without(these, those)) == 100_000


def test_one_that_is_cut_by_many() -> None:
    many = [(at, 1) for at in range(0, 200_000, 2)]
    assert len(without([(0, 200_000)], many)) == 100_000
    assert without(many, [(0, 200_000)]) == []
