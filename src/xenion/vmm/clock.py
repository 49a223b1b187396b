"""The scaling of the TSC to nanoseconds, as pvclock wants it (vcpu_time_info in xen.h)."""

import time
from collections.abc import Callable
from functools import cache

SAMPLE_SECONDS = 0.02
LOOKS = 5


def multiplier(hertz: float) -> tuple[int, int]:
    """(mul, shift): ns = ((ticks << shift) * mul) >> 32 with mul in [2^31, 2^32)."""
    mul, shift = (10**9 << 32) / hertz, 0
    while mul >= 1 << 32:
        mul, shift = mul / 2, shift + 1
    while mul < 1 << 31:
        mul, shift = mul * 2, shift - 1
    return int(mul), shift


def _frequency(tsc: Callable[[], int]) -> float:
    """Ticks a second against the kernel's monotonic clock, which is disciplined."""
    start = _moment(tsc)
    time.sleep(SAMPLE_SECONDS)
    end = _moment(tsc)
    return (end[1] - start[1]) * 1e9 / (end[0] - start[0])


def _moment(tsc: Callable[[], int]) -> tuple[float, int]:
    """Both clocks at one time: of several looks the one that was interrupted least."""
    looks = [(time.monotonic_ns(), tsc(), time.monotonic_ns()) for _ in range(LOOKS)]
    before, ticks, after = min(looks, key=lambda look: look[2] - look[0])
    return (before + after) / 2, ticks


@cache
def scaling(tsc: Callable[[], int]) -> tuple[int, int]:
    return multiplier(_frequency(tsc))
