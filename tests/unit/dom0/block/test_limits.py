"""How fast a disk may be used: token buckets under a clock that a test sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.block.limits import BURST_SECONDS, Bucket, Limiter


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def spend_all(limiter: Limiter, clock: Clock, lengths: list[int]) -> float:
    """Seconds that it took to let all begin."""
    began = clock.now
    for length in lengths:
        while delay := limiter.wait():
            clock.now += delay
        limiter.spend(length)
    return clock.now - began


@given(st.floats(1, 1e9), st.lists(st.integers(1, 1 << 20), min_size=1, max_size=50))
def test_bytes_never_exceed_the_rate_and_reach_it(rate: float, lengths: list[int]) -> None:
    clock = Clock()
    took = spend_all(Limiter(rate, 0, clock), clock, lengths)
    first = sum(lengths[:-1])
    least = (first - rate * BURST_SECONDS) / rate
    assert took >= least * (1 - 1e-6) - 1e-6
    assert took <= max(least, 0) + BURST_SECONDS + lengths[-1] / rate + 1e-3


@given(st.floats(0.5, 1e5), st.integers(2, 200))
def test_requests(rate: float, count: int) -> None:
    clock = Clock()
    took = spend_all(Limiter(0, rate, clock), clock, [1 << 20] * count)
    assert took == pytest.approx(max((count - 1) / rate - BURST_SECONDS, 0), abs=2 / rate)


def test_idleness_saves_no_more_than_the_burst() -> None:
    clock = Clock()
    limiter = Limiter(1000, 0, clock)
    clock.now += 3600
    assert limiter.wait() == 0
    limiter.spend(100)  # the burst
    assert limiter.wait() == 0
    limiter.spend(50)
    assert limiter.wait() == pytest.approx(0.05)


def test_the_stricter_of_two_counts() -> None:
    clock = Clock()
    limiter = Limiter(1000, 2, clock)
    limiter.spend(1100)
    assert limiter.wait() == pytest.approx(1.0)
    clock.now += 1.0
    assert limiter.wait() == 0
    limiter.spend(0)
    assert limiter.wait() == pytest.approx(0.4)


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="0 for none"):
        Limiter(-1, 0)


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = Bucket(10, 0.0)
    bucket.spend(2)
    assert bucket.wait(0.0) == bucket.wait(0.0) == pytest.approx(0.1)
