"""When enough has been copied of a guest that runs."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.domain.saved.rounds import BETTER, HOPED_S, MOST_ROUNDS, NO_BETTER_ROUNDS, Round, Rounds

PER_S = 100_000
"""Pages that are copied."""
SHORT = int(PER_S * HOPED_S)


def one(number: int, written: int, pages: int = 10_000, seconds: float = 0.1) -> Round:
    return Round(number, pages, pages * 4096, seconds, written, 0)


def after(*written: int, worst_s: float | None = None) -> Rounds:
    """Rounds of so many pages each, which leave these."""
    rounds = Rounds(worst_s)
    for number, left in enumerate(written, 1):
        assert not rounds.enough, f"it would have ended before round {number}"
        rounds.add(one(number, left))
    return rounds


def test_before_the_first() -> None:
    rounds = Rounds(0.0)
    assert (rounds.enough, rounds.why_not, rounds.figures()) == (False, "", {})
    assert (rounds.rest_s, rounds.pages_per_s, rounds.written_per_s) == (0.0, 0.0, 0.0)


def test_the_rest_is_short() -> None:
    assert after(SHORT).enough
    assert after(0).enough
    assert not after(SHORT + 1).enough


def test_ever_less() -> None:
    rounds = after(50_000, 40_000, 30_000, 20_000, 10_000, 5_000, 4_000)
    assert not rounds.enough
    rounds.add(one(8, SHORT))
    assert rounds.enough


def test_it_gets_no_better() -> None:
    rounds = after(50_000, *[50_000] * (NO_BETTER_ROUNDS - 1))
    assert not rounds.enough
    rounds.add(one(NO_BETTER_ROUNDS + 1, 50_000))
    assert rounds.enough


def test_a_little_better_is_no_better() -> None:
    little = int(50_000 * BETTER)
    assert after(50_000, *[little] * NO_BETTER_ROUNDS).enough
    assert not after(50_000, *[little] * (NO_BETTER_ROUNDS - 1), little - 1).enough


def test_worse_and_better_again() -> None:
    """What counts is the best so far, and rounds that follow each other."""
    rounds = after(50_000, 60_000, 70_000, 60_000, 40_000, 50_000, 50_000, 39_000)
    assert not rounds.enough
    rounds.add(one(9, 38_000))
    assert rounds.enough


def test_so_many_rounds_and_no_more() -> None:
    rounds, left = Rounds(), 10**9
    for number in range(1, MOST_ROUNDS + 1):
        assert not rounds.enough
        left = int(left * BETTER) - 1
        rounds.add(one(number, left))
    assert rounds.enough
    assert rounds.rest_s > HOPED_S


@pytest.mark.parametrize("worst_s", [None, 0.5, 10.0])
def test_the_guest_may_be_held(worst_s: float | None) -> None:
    rounds = after(*[50_000] * (NO_BETTER_ROUNDS + 1), worst_s=worst_s)
    assert rounds.rest_s == pytest.approx(0.5)
    assert rounds.why_not == ""


@pytest.mark.parametrize("worst_s", [0.0, 0.1, 0.499])
def test_the_guest_is_not_to_be_held(worst_s: float) -> None:
    why_not = after(*[50_000] * (NO_BETTER_ROUNDS + 1), worst_s=worst_s).why_not
    assert "about 500 ms" in why_not
    assert f"more than {worst_s * 1000:.0f} ms" in why_not
    assert "it writes 1953 MiB/s of its memory anew, and 391 MiB/s are copied" in why_not


def test_nothing_is_left() -> None:
    assert after(0, worst_s=0.0).why_not == ""


def test_what_people_are_told() -> None:
    rounds = after(20_000)
    rounds.add(Round(2, 20_000, 12_345, 0.123456, 30_000, 77))
    assert rounds.figures() == {
        "round": 2,
        "pages": 20_000,
        "sent_bytes": 12_345,
        "seconds": 0.1235,
        "written_pages": 30_000,
        "hot_pages": 77,
        "written_per_s": pytest.approx(30_000 / 0.123456, abs=0.1),
        "copied_per_s": pytest.approx(30_000 / 0.223456, abs=0.1),
        "downtime_s": pytest.approx(0.2235, abs=1e-4),
    }


ROUNDS = st.lists(
    st.tuples(
        st.integers(0, 1 << 40),
        st.integers(0, 10**13),
        st.one_of(st.sampled_from([0, 1]), st.integers(0, 1 << 40)),
    ),
    min_size=1,
    max_size=40,
)
"""Pages, nanoseconds, what is left."""


@given(ROUNDS, st.none() | st.floats(0, 1e6))
def test_any_rounds(found: list[tuple[int, int, int]], worst_s: float | None) -> None:
    """On a clock that stands still, too."""
    rounds = Rounds(worst_s)
    for number, (pages, ns, written) in enumerate(found, 1):
        rounds.add(Round(number, pages, pages * 4096, ns / 1e9, written, 0))
        figures = rounds.figures()
        assert all(math.isfinite(value) and value >= 0 for value in figures.values())
        assert json.loads(json.dumps(figures, allow_nan=False)) == figures
        assert rounds.rest_s >= 0
        assert isinstance(rounds.pace, str)
        if not written or number >= MOST_ROUNDS:
            assert rounds.enough
        if worst_s is None or not written:
            assert rounds.why_not == ""
        elif rounds.rest_s > worst_s:
            assert rounds.why_not
