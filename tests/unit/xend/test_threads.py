"""Nothing that a thread has opened stays open because whoever asked for it was cancelled."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from xenion.xend.threads import WAITING, in_thread, to_its_end


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


def test_who_waits_for_silent_peers_keeps_nobody_from_files() -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def silent() -> None:
        begun.release()
        go_on.wait(30)

    async def work() -> None:
        waiting = [asyncio.ensure_future(in_thread(silent, lambda _: None)) for _ in range(WAITING)]
        for _ in waiting:
            await asyncio.to_thread(begun.acquire)
        assert await asyncio.to_thread(lambda: 7) == 7
        go_on.set()
        await asyncio.gather(*waiting)

    within(work)


def test_what_is_done_to_its_end_is_undone_for_who_was_cancelled() -> None:
    undone: list[int] = []

    async def undo(result: int) -> None:
        undone.append(result)

    async def work() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def steps() -> int:
            begun.set()
            await go_on.wait()
            return 7

        task = asyncio.ensure_future(to_its_end(steps(), undo))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        assert undone == []
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone == [7]
        begun.clear()
        assert await to_its_end(steps(), undo) == 7
        assert undone == [7]

        async def failing() -> int:
            await steps()
            return 1 // 0

        begun.clear()
        go_on.clear()
        task = asyncio.ensure_future(to_its_end(failing(), undo))
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(ZeroDivisionError):
            await to_its_end(failing(), undo)
        assert undone == [7], "there was nothing to undo"

    within(work)
