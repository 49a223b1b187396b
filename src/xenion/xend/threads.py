"""Work whose result must not get lost when nobody wants it any more."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
WAITING = 64
_pools: "WeakKeyDictionary[asyncio.AbstractEventLoop, ThreadPoolExecutor]" = WeakKeyDictionary()
"""Apart from the threads of `asyncio.to_thread`, in which short work on files is done: a peer that says nothing has one
for as long as it is waited for."""


async def in_thread(work: Callable[[], T], drop: Callable[[T], None]) -> T:
    """What `work`, which waits for somebody else, returns.

    Whoever waits is cancelled at once; `drop` gets the result then, when it is there.
    """
    task = asyncio.get_running_loop().run_in_executor(_pool(), work)

    def over(done: "asyncio.Future[T]") -> None:
        if not done.cancelled() and done.exception() is None:
            drop(done.result())

    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(over)
        raise


def _pool() -> ThreadPoolExecutor:
    loop = asyncio.get_running_loop()
    if loop not in _pools:
        _pools[loop] = ThreadPoolExecutor(WAITING, "waiting")
    return _pools[loop]


async def to_its_end(work: Coroutine[Any, Any, T], undo: Callable[[T], Awaitable[None]]) -> T:
    """What `work` returns, which cannot be left in the middle: whoever is cancelled waits for it, and undoes it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            await undo(task.result())
        raise
