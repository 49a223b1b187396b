"""Work that blocks, in a thread, and whose result must not get lost when nobody wants it any more."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_thread(work: Callable[[], T], drop: Callable[[T], None]) -> T:
    """What `work` returns. Whoever waits is cancelled at once; `drop` gets the result then, when it is there."""
    task = asyncio.ensure_future(asyncio.to_thread(work))

    def over(done: "asyncio.Future[T]") -> None:
        if not done.cancelled() and done.exception() is None:
            drop(done.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(over)
        raise
