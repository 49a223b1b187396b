"""Dom0's thread in a domain process: waits for descriptors, clocks and other threads, and calls who asked for it."""

import heapq
import itertools
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

LOOK_SECONDS = 0.5
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Timer:
    """What `Loop.later` gives; `cancel` may be called at any time on the loop's thread."""

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Only `call` and `stop` are for other threads; every action runs on the thread that is in `run`."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake_fd, READ, self._on_wake)
        self._calls: deque[Callable[[], None]] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def watch(self, fd: int, mask: int, action: Callable[[int], None]) -> None:
        """`action(mask)` when `fd` is ready for what `mask` says; 0 stops watching it. Again for another mask."""
        known = fd in self._selector.get_map()
        if not mask:
            if known:
                self._selector.unregister(fd)
        elif known:
            self._selector.modify(fd, mask, action)
        else:
            self._selector.register(fd, mask, action)

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def call(self, action: Callable[[], None]) -> None:
        """Any thread: `action` runs soon."""
        self._calls.append(action)
        os.eventfd_write(self._wake_fd, 1)

    def call_and_wait(self, action: Callable[[], None]) -> bool:
        """Another thread: returns when `action` has run; false if it has not, because the loop has stopped."""
        done = threading.Event()

        def run() -> None:
            try:
                action()
            finally:
                done.set()

        self.call(run)
        while not done.wait(LOOK_SECONDS):
            if not self.running:
                return done.is_set()
        return True

    @property
    def running(self) -> bool:
        """Its thread is there and serves."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, on_failure: Callable[[], None]) -> None:
        """In a thread of its own. A bug of ours ends it: `on_failure` is called while the exception is handled."""
        self._thread = threading.Thread(target=self._guarded, args=(on_failure,), name="dom0", daemon=True)
        self._thread.start()

    def _guarded(self, on_failure: Callable[[], None]) -> None:
        try:
            self.run()
        except Exception:  # noqa: BLE001  whatever it was goes to the report
            on_failure()

    def stop(self) -> None:
        self.call(self._stop)

    def _stop(self) -> None:
        self._stopped = True

    def run(self) -> None:
        while not self._stopped:
            self.turn(self._time_left())

    def turn(self, timeout: float | None) -> None:
        """Waits once, then does what is due."""
        for key, mask in self._selector.select(timeout):
            if self._selector.get_map().get(key.fd) == key:  # not taken back by an action of this turn
                key.data(mask)
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            if timer.action is not None:
                timer.action()

    def _time_left(self) -> float | None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - time.monotonic(), 0.0) if self._timers else None

    def _on_wake(self, mask: int) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        while self._calls:
            self._calls.popleft()()

    def close(self) -> None:
        """After its thread has ended."""
        if self._thread is not None:
            self._thread.join()
        self._selector.close()
        os.close(self._wake_fd)
