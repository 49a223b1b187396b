"""How fast a disk may be used: bytes and requests a second."""

import time
from collections.abc import Callable

BURST_SECONDS = 0.1
NO_TIME = 1e-6
"""Not worth waiting for, and perhaps less than a clock can tell."""


class Bucket:
    """Tokens that come at `rate` a second, at most BURST_SECONDS' worth saved; spending may leave a debt.

    With a debt what was spent never exceeds, over any time t, rate x (t + BURST_SECONDS) and one spending.
    """

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._most = rate * BURST_SECONDS
        self._level = self._most
        self._at = now

    def wait(self, now: float) -> float:
        """Seconds until something may be spent; 0 for now."""
        self._level = min(self._level + (now - self._at) * self._rate, self._most)
        self._at = now
        wait = -self._level / self._rate
        return wait if wait > NO_TIME else 0.0

    def spend(self, tokens: float) -> None:
        self._level -= tokens


class Limiter:
    """Two buckets; a limit of 0 is none."""

    def __init__(
        self, bytes_per_s: float, requests_per_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if bytes_per_s < 0 or requests_per_s < 0:
            raise ValueError("a limit of a disk is a number of bytes or requests a second, or 0 for none")
        self._clock = clock
        now = clock()
        self._bytes = Bucket(bytes_per_s, now) if bytes_per_s else None
        self._requests = Bucket(requests_per_s, now) if requests_per_s else None

    def wait(self) -> float:
        """Seconds until the next request may start; 0 for now."""
        now = self._clock()
        return max((bucket.wait(now) for bucket in (self._bytes, self._requests) if bucket), default=0.0)

    def spend(self, length: int) -> None:
        """A request of `length` bytes starts."""
        if self._bytes is not None:
            self._bytes.spend(length)
        if self._requests is not None:
            self._requests.spend(1)
