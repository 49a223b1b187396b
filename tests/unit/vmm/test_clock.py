"""The scaling of the TSC, as a guest computes with it."""

from hypothesis import given
from hypothesis import strategies as st

from xenion.vmm.clock import LOOKS, multiplier, scaling


def scaled(ticks: int, mul: int, shift: int) -> int:
    return ((ticks << shift if shift >= 0 else ticks >> -shift) * mul) >> 32


@given(hertz=st.floats(1e5, 1e11), seconds=st.integers(1, 10**5))
def test_multiplier(hertz: float, seconds: int) -> None:
    """Right to a few parts in 2^31, the precision there is."""
    mul, shift = multiplier(hertz)
    assert 1 << 31 <= mul < 1 << 32
    assert -128 <= shift <= 127
    ticks = int(hertz * seconds)
    exact = ticks * 10**9 / hertz
    assert abs(scaled(ticks, mul, shift) - exact) <= exact / 2**30 + 2 ** max(shift, -shift) + 1


def test_a_gigahertz_is_one_to_one() -> None:
    mul, shift = multiplier(1e9)
    assert scaled(123456789, mul, shift) == 123456789


def test_measured_once_a_clock() -> None:
    calls = []

    def tsc() -> int:
        calls.append(1)
        return len(calls) * 50_000_000

    assert scaling(tsc) == scaling(tsc)
    assert len(calls) == 2 * LOOKS
