"""Nothing that a thread has opened stays open because whoever asked for it was cancelled."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from xenion.xend.threads import in_thread


def within(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_a_result() -> None:
    dropped: list[int] = []

    async def work() -> None:
        assert await in_thread(lambda: 7, dropped.append) == 7
        with pytest.raises(ZeroDivisionError):
            await in_thread(lambda: 1 // 0, dropped.append)

    within(work)
    assert dropped == []


@pytest.mark.parametrize("fails", [False, True])
def test_cancelled(fails: bool) -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()
    dropped: list[int] = []

    def slow() -> int:
        begun.set()
        go_on.wait(30)
        ended.set()
        return 1 // (0 if fails else 1)

    async def work() -> None:
        gone = asyncio.Event()

        def drop(result: int) -> None:
            dropped.append(result)
            gone.set()

        task = asyncio.ensure_future(in_thread(slow, drop))
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert dropped == []
        go_on.set()
        if not fails:
            await gone.wait()

    within(work)
    assert ended.wait(30)
    assert dropped == ([] if fails else [1])
