"""What a domain's process writes for xend while people look on: cores, saved domains, and domains that move."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.logstate import clean
from xenion.xend.part import Part
from xenion.xend.tasks import RunningTask, Tasks


class Closes(Protocol):
    def close(self) -> None: ...


C = TypeVar("C", bound=Closes)
REMARKS = 20
STUCK_S = 60.0
"""What does not get on for so long is given up."""


def begin(
    tasks: Tasks, action: str, live: Live, path: Path, write: Callable[[RunningTask, Part], Awaitable[Any]]
) -> RunningTask:
    """A task that writes what gets the name `path` when it is whole; otherwise nothing is left. ApiError."""
    return begin_with(tasks, action, live, Part(live, path), write)


def begin_with(
    tasks: Tasks, action: str, live: Live, closed: C, write: Callable[[RunningTask, C], Awaitable[Any]]
) -> RunningTask:
    """A task that closes what it writes into. ApiError."""

    async def work(task: RunningTask) -> Any:
        try:
            return await write(task, closed)
        finally:
            closed.close()

    try:
        return tasks.start(action, live.name, work)
    except ApiError:
        closed.close()
        raise


async def written(
    live: Live,
    task: RunningTask,
    step: str,
    request: str,
    fd: int,
    fields: Mapping[str, Any],
    figures: Callable[[dict[str, float]], None] = lambda _: None,
    size: Callable[[], int] = lambda: 0,
) -> dict[str, Any]:
    """The answer of the domain's process to `request`, which "cancel-" and the request make it give up. `figures`: who
    gets those that it tells; `size` of what it has written grows while it gets on. ApiError."""
    moved, grown = asyncio.Event(), size()

    def progress(done: int, total: int) -> None:
        task.step(step, done / total if total else None)
        moved.set()

    task.step(step, 0.0)
    asked = live.ask(request, fds=[fd], progress=progress, figures=figures, timeout=None, **fields)
    answer = asyncio.ensure_future(asked)
    try:
        while not answer.done():
            moved.clear()
            waiting = asyncio.ensure_future(moved.wait())
            done, _ = await asyncio.wait([answer, waiting], timeout=STUCK_S, return_when="FIRST_COMPLETED")
            waiting.cancel()
            before, grown = grown, size()
            if not done and grown == before:
                await give_up(live, request, answer)
                raise ApiError("failed", f"the process of {live.name} does not answer: `xm destroy` ends it")
        return answer.result()
    except asyncio.CancelledError:
        await give_up(live, request, answer)
        raise


async def give_up(live: Live, request: str, answer: "asyncio.Future[Any] | None" = None) -> None:
    """The process may come to itself later: then it writes no more."""
    if answer is not None:
        answer.cancel()
    with suppress(ApiError):
        await live.ask(f"cancel-{request}")


def remarks_of(answer: dict[str, Any]) -> list[str]:
    """The process may be its guest's: some sentences, or nothing."""
    said = answer.get("remarks")
    return [clean(str(remark)) for remark in said[:REMARKS]] if isinstance(said, list) else []
