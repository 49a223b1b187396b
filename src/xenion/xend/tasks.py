"""Long operations: each goes on by itself, tells how far it is, and can be waited for and cancelled."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from xenion.api.errors import ApiError
from xenion.api.types import Task

MOST_RUNNING = 500
KEPT = 500
KEPT_S = 600.0
_logger = logging.getLogger(__name__)

Work = Callable[["RunningTask"], Awaitable[dict[str, Any]]]
"""Returns the result, or raises ApiError. When it is cancelled it leaves nothing half-made."""


class RunningTask:
    """`ended` holds what has to happen before the task's end is told, such as an entry in the log."""

    def __init__(self, action: str, domain: str, request: str = "") -> None:
        self.request = request
        self.id = secrets.token_hex(8)
        self.action = action
        self.domain = domain
        self.state = "running"
        self.ending = ""
        """What the state is about to become."""
        self.committed = False
        """What it does cannot be undone any more: it is not cancelled."""
        self.failure: ApiError | None = None
        self.result: dict[str, Any] = {}
        self.ended: list[Callable[[RunningTask], Awaitable[None]]] = []
        self._step = ""
        self._progress: float | None = None
        self._figures: dict[str, float] = {}
        self._started_at = time.time()
        self._started = time.monotonic()
        self.over_at: float | None = None
        self._seen = 0
        self._changed = asyncio.Event()
        self.cancelled = False
        """Somebody has asked for its end."""
        self._job: asyncio.Task[None] | None = None

    def run(self, work: Work) -> None:
        self._job = asyncio.get_running_loop().create_task(self._run(work))

    async def _run(self, work: Work) -> None:
        self.ending = await self._outcome(work)
        for hook in self.ended:
            try:
                await hook(self)
            except Exception:
                _logger.exception("the end of task %s of %s", self.action, self.domain)
        if self.ending == "done" and self._progress is not None:
            self._progress = 1.0
        self.state = self.ending
        self.over_at = time.monotonic()
        self._tell()

    async def _outcome(self, work: Work) -> str:
        what = f"{self.action} of {self.domain}"
        try:
            self.result = await work(self)
        except ApiError as error:
            self.failure = error
            return "failed"
        except asyncio.CancelledError:
            if not self.cancelled:  # xend ends, and the next one finds what was done
                raise
            self.failure = ApiError("wrong-state", f"{what} was cancelled")
            return "cancelled"
        except Exception:
            _logger.exception("task %s", what)
            self.failure = ApiError("failed", f"{what} failed by a bug of xend's: see its log")
            return "failed"
        return "done"

    def step(self, text: str, progress: float | None = None) -> None:
        self._step, self._progress = text, progress
        self._tell()

    def tell(self, figures: dict[str, float]) -> None:
        """The newest ones of what it counts."""
        self._figures = figures
        self._tell()

    def _tell(self) -> None:
        self._seen += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait(self, seconds: float, seen: int | None) -> None:
        """Until it has changed since `seen`, is over, or so long."""
        if self.state == "running" and seen in (None, self._seen):
            changed = self._changed
            try:
                await asyncio.wait_for(changed.wait(), seconds)
            except TimeoutError:
                return

    async def cancel(self) -> None:
        """Returns when it is over, however that is."""
        await asyncio.sleep(0)  # it has begun by then: what has not can tell of no end
        if self._job is not None and not (self.ending or self.committed):
            self.cancelled = True
            self._job.cancel()
        await self.over()

    async def over(self) -> None:
        """Waits for its end."""
        if self._job is not None:
            await asyncio.wait([self._job])

    def shown(self) -> Task:
        return {
            "id": self.id,
            "action": self.action,
            "domain": self.domain,
            "state": self.state,  # type: ignore[typeddict-item]
            "step": self._step,
            "progress": self._progress,
            "figures": self._figures,
            "result": self.result,
            "error": None
            if self.failure is None
            else {"code": self.failure.code, "message": self.failure.message},
            "started_at": self._started_at,
            "seconds": (self.over_at or time.monotonic()) - self._started,
            "seen": self._seen,
        }


class Tasks:
    """All that run, and those that have ended lately."""

    def __init__(self) -> None:
        self._tasks: dict[str, RunningTask] = {}

    def start(self, action: str, domain: str, work: Work, request: str = "") -> RunningTask:
        """`request`: a word by which a repetition of what was asked is known. ApiError (too-many)."""
        self._forget()
        if self.running >= MOST_RUNNING:
            raise ApiError("too-many", f"{MOST_RUNNING} tasks are running: wait until one of them has ended")
        task = RunningTask(action, domain, request)
        self._tasks[task.id] = task
        task.run(work)
        return task

    def of_request(self, request: str) -> RunningTask | None:
        """The one that is doing what was asked with this word."""
        running = (task for task in self._tasks.values() if task.state == "running" and not task.cancelled)
        return next((task for task in running if request and task.request == request), None)

    def get(self, number: str) -> RunningTask:
        """ApiError (no-such-task)."""
        task = self._tasks.get(number)
        if task is None:
            raise ApiError(
                "no-such-task", f"there is no task {number}: it has ended long ago, or xend was restarted"
            )
        return task

    def all(self) -> list[RunningTask]:
        self._forget()
        return list(self._tasks.values())

    @property
    def running(self) -> int:
        return sum(task.state == "running" for task in self._tasks.values())

    def _forget(self) -> None:
        now = time.monotonic()
        over = [task for task in self._tasks.values() if task.over_at is not None]
        surplus = max(len(over) - KEPT, 0)
        for index, task in enumerate(over):
            if index < surplus or now - (task.over_at or now) > KEPT_S:
                del self._tasks[task.id]
