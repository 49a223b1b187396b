"""The host's CPU time that running a domain takes: one thread counts, any may ask."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class CpuTime:
    """What `counting` has covered so far, on whatever threads one after the other."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used = self._since = 0.0
        self._clock: int | None = None

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Counts the CPU time of the calling thread."""
        with self._lock:
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            self._since = time.clock_gettime(self._clock)
        try:
            yield
        finally:
            with self._lock:
                self._used, self._clock = self._now(), None

    def _now(self) -> float:
        """Under the lock, so that the thread whose clock this is has not ended."""
        return (
            self._used if self._clock is None else self._used + time.clock_gettime(self._clock) - self._since
        )

    @property
    def seconds(self) -> float:
        with self._lock:
            return self._now()
