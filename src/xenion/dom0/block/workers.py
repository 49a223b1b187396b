"""Threads for what may wait for a device; they come when they are needed."""

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue

from xenion.dom0.loop import Loop

Job = Callable[[], int]
Done = Callable[[int], None]


class Workers:
    """At most `limit` threads. `submit` and `close` belong to Dom0's thread."""

    def __init__(self, loop: Loop, limit: int) -> None:
        self._loop = loop
        self._limit = limit
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._ended: deque[tuple[Done, int]] = deque()
        self._told = False
        self._unfinished = 0
        self._threads: list[threading.Thread] = []

    def submit(self, job: Job, done: Done) -> None:
        """`job` runs in one of the threads; `done` is called on Dom0's with what it returned.

        A host that has no room for the first one lets Dom0's thread wait for it.
        """
        self._unfinished += 1
        if self._unfinished > len(self._threads) and len(self._threads) < self._limit:
            self._add_thread()
        if self._threads:
            self._jobs.put((job, done))
        else:
            self._ended.append((done, job()))
            self._loop.soon(self._tell)

    def _add_thread(self) -> None:
        thread = threading.Thread(target=self._work, name="disk", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the host has no room for another one
            return
        self._threads.append(thread)

    def _work(self) -> None:
        while (task := self._jobs.get()) is not None:
            job, done = task
            try:
                result = job()
            except Exception as error:  # noqa: BLE001  a bug of ours: it ends the loop, as one there would
                self._loop.call(lambda error=error: _raise(error))  # type: ignore[misc]
                return
            self._ended.append((done, result))
            # Dom0's thread clears the mark before it looks: what it does not see now, it is told of.
            if not self._told:
                self._told = True
                self._loop.call(self._tell)

    def _tell(self) -> None:
        self._told = False
        while self._ended:
            done, result = self._ended.popleft()
            self._unfinished -= 1
            done(result)

    def close(self) -> None:
        """Ends the threads; nothing may be unfinished."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()


def _raise(error: Exception) -> None:
    raise error
