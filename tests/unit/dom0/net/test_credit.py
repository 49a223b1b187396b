"""The rate limit: bytes a window, as xen-netback has it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.net.credit import BURST_LEAST, Credit


def test_without_a_limit_everything_goes() -> None:
    credit = Credit(0, 50_000, 0.0)
    assert credit.unlimited
    assert credit.take(1 << 40, 0.0) == 0
    assert credit.node == ""


def test_a_window_s_bytes_and_then_the_next() -> None:
    credit = Credit(10_000, 100_000, 5.0)
    assert credit.node == "1000,100000"
    assert credit.take(1000, 5.0) == 0
    assert credit.take(1, 5.02) == pytest.approx(0.08)
    assert credit.take(1, 5.1) == 0


def test_a_frame_longer_than_a_window_s_share_saves_up() -> None:
    credit = Credit(10_000, 100_000, 0.0)
    now = 0.0
    while wait := credit.take(65_535, now):
        now += wait
    assert now == pytest.approx(6.5)


def test_a_changed_rate() -> None:
    credit = Credit(0, 50_000, 0.0)
    credit.set(20_000, 50_000)
    assert credit.node == "1000,50000"
    assert credit.take(1001, 0.0) > 0
    assert credit.take(1000, 0.0) == 0
    credit.set(0, 50_000)
    assert credit.take(10**9, 0.0) == 0


@given(
    st.integers(1, 10**9),
    st.integers(1, 10**6),
    st.lists(st.tuples(st.integers(0, 65_535), st.floats(0, 0.2)), max_size=200),
)
def test_no_more_than_the_rate_and_a_burst(rate: int, window: int, packets: list[tuple[int, float]]) -> None:
    credit = Credit(rate, window, 0.0)
    now, sent = 0.0, 0
    share = max(rate * window // 10**6, 1)
    for size, pause in packets:
        now += pause
        wait = credit.take(size, now)
        assert wait >= 0
        if not wait:
            sent += size
    windows = now / (window / 10**6)
    assert sent <= share * (windows + 1.01) + max(BURST_LEAST, share)
