"""An event loop on one thread: Dom0's in a domain process, the only one of xenstored and of the network switch.

It waits for descriptors, clocks and other threads, and calls who asked for it.
"""

import heapq
import itertools
import os
import select
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

LOOK_SECONDS = 0.5
CANCELLED_MOST = 64
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_EPOLL_MASKS = {READ: select.EPOLLIN, WRITE: select.EPOLLOUT, READ | WRITE: select.EPOLLIN | select.EPOLLOUT}
_READY = {select.EPOLLIN: READ, select.EPOLLOUT: WRITE}
"""Anything else, an error or a hang-up among it, is for whoever waits for anything."""


class _Watched:
    """A descriptor and who is called for it. A new one for each change: what is ready is known by identity."""

    __slots__ = ("action", "mask")

    def __init__(self, mask: int, action: Callable[[int], None]) -> None:
        self.mask = mask
        self.action = action


class Timer:
    """What `Loop.later` gives; `cancel` may be called at any time on the loop's thread."""

    def __init__(self, loop: "Loop", action: Callable[[], None]) -> None:
        self._loop = loop
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        if self.action is not None:
            self.action = None
            self._loop.cancelled()


class Loop:
    """Only `call` and `stop` are for other threads; every action runs on the thread that is in `run`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watched: dict[int, _Watched] = {}
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.watch(self._wake_fd, READ, self._on_wake)
        self._calls: deque[Callable[[], None]] = deque()
        self._soon: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Timer]] = []
        self._cancelled = 0
        """At most so many of them."""
        self._order = itertools.count()
        self._stopped = False
        self._thread: threading.Thread | None = None

    def watch(self, fd: int, mask: int, action: Callable[[int], None]) -> None:
        """`action(mask)` when `fd` is ready for what `mask` says; 0 stops watching it. Again for another mask."""
        known = self._watched.get(fd)
        if not mask:
            if known is not None:
                del self._watched[fd]
                with suppress(OSError):  # closed already
                    self._epoll.unregister(fd)
            return
        if known is None:
            self._epoll.register(fd, _EPOLL_MASKS[mask])
        elif known.mask != mask:
            self._epoll.modify(fd, _EPOLL_MASKS[mask])
        self._watched[fd] = _Watched(mask, action)

    def soon(self, action: Callable[[], None]) -> None:
        """This thread only: `action` runs at the end of this turn; one that another such action asks for, of the next.

        A turn that has something to do at its end does not wait.
        """
        self._soon.append(action)

    def later(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(self, action)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def cancelled(self) -> None:
        """A timer will do nothing: what is set and cancelled all the time must not pile up until its time comes."""
        self._cancelled += 1
        if self._cancelled > CANCELLED_MOST and self._cancelled * 2 > len(self._timers):
            self._timers = [entry for entry in self._timers if entry[2].action is not None]
            heapq.heapify(self._timers)
            self._cancelled = 0

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

    @property
    def here(self) -> bool:
        """The caller is on its thread."""
        return self._thread is threading.current_thread()

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
        watched = self._watched
        events = self._epoll.poll(0 if self._soon else timeout)
        for fd, event, entry in [(fd, event, watched.get(fd)) for fd, event in events]:
            if entry is not None and watched.get(fd) is entry:  # not taken back by an action of this turn
                entry.action(_READY.get(event, READ | WRITE) & entry.mask)
        while self._timers and self._timers[0][0] <= time.monotonic():
            timer = heapq.heappop(self._timers)[2]
            action, timer.action = timer.action, None
            if action is not None:
                action()
        if self._soon:
            due, self._soon = self._soon, []
            for action in due:
                action()

    def _time_left(self) -> float | None:
        while self._timers and self._timers[0][2].action is None:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - time.monotonic(), 0.0) if self._timers else None

    def _on_wake(self, mask: int) -> None:
        try:
            os.eventfd_read(self._wake_fd)
        except BlockingIOError:
            return
        for _ in range(len(self._calls)):  # those that these ask for have a turn of their own
            self._calls.popleft()()

    def close(self) -> None:
        """After its thread has ended."""
        if self._thread is not None:
            self._thread.join()
        self._epoll.close()
        os.close(self._wake_fd)
