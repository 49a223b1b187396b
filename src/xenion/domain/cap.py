"""A limit to the CPU time of a domain process, where no control group keeps it: the guest is held for a while.

Time is counted from one origin, not from period to period, so that what a hold comes too late for is taken from the
next ones and the average is exact. What was not used is forgotten after a period.
"""

import time
from collections.abc import Callable

from xenion.dom0.loop import Loop, Timer

PERIOD_NS = 30_000_000
SOONEST_NS, LATEST_NS = 1_000_000, 10_000_000


class Cap:
    """For Dom0's thread. `hold` and `let_go` stop the guest and have it go on."""

    def __init__(
        self,
        loop: Loop,
        hold: Callable[[], None],
        let_go: Callable[[], None],
        clock: Callable[[], int] = time.monotonic_ns,
        used: Callable[[], int] = time.process_time_ns,
    ) -> None:
        self._loop = loop
        self._hold = hold
        self._let_go = let_go
        self._clock = clock
        self._used = used
        self._timer: Timer | None = None
        self._percent = 0
        self._began = self._base = 0

    def set(self, percent: int) -> None:
        """Of one CPU, all threads together; 0: no limit."""
        self.stop()
        self._percent = percent
        if percent:
            self._began, self._base = self._clock(), self._used()
            self._look()

    def stop(self) -> None:
        """The guest is not held by this any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        self._percent = 0
        self._let_go()

    def _look(self) -> None:
        now, share = self._clock() - self._began, PERIOD_NS * self._percent // 100
        used = self._used() - self._base
        allowed = (now // PERIOD_NS + 1) * share
        if used < allowed - 2 * share:  # it was idle
            self._base -= allowed - 2 * share - used
            used = allowed - 2 * share
        if used >= allowed:
            self._hold()
            wait = used // share * PERIOD_NS - now
        else:
            self._let_go()
            wait = min(max(allowed - used, SOONEST_NS), LATEST_NS)
        self._timer = self._loop.later(wait / 1e9, self._look)
