"""Tasks: progress, waiting, cancelling, and ends of every kind."""

import asyncio
from typing import Any

import pytest

from tests.unit.xend.kit import run, within
from xenion.api.errors import ApiError
from xenion.xend import tasks
from xenion.xend.tasks import RunningTask, Tasks


async def done(task: RunningTask) -> dict[str, Any]:
    return {"a": 1}


async def forever(task: RunningTask) -> dict[str, Any]:
    await asyncio.Event().wait()
    return {}


def test_done() -> None:
    async def work() -> None:
        every = Tasks()
        task = every.start("create", "web", done)
        assert (task.shown()["state"], every.running) == ("running", 1)
        await within(task.over())
        shown = task.shown()
        assert (shown["state"], shown["result"], shown["error"], every.running) == ("done", {"a": 1}, None, 0)
        assert every.get(task.id) is task
        assert every.all() == [task]
        seconds = shown["seconds"]
        assert task.shown()["seconds"] == seconds >= 0

    run(work)


def test_what_it_counts() -> None:
    """The newest of it, and who waits for news gets it."""

    async def work() -> None:
        every = Tasks()
        task = every.start("migrate", "web", forever)
        assert task.shown()["figures"] == {}
        waiting = asyncio.ensure_future(task.wait(20, task.shown()["seen"]))
        await asyncio.sleep(0)
        task.tell({"round": 1})
        await within(waiting)
        task.tell({"round": 2, "pages": 7})
        task.step("x", 0.5)
        assert task.shown()["figures"] == {"round": 2, "pages": 7}
        await task.cancel()
        assert task.shown()["figures"] == {"round": 2, "pages": 7}

    run(work)


def test_found_by_its_word_while_it_runs() -> None:
    """Who asks again gets it, and what cancels it cancels what was asked first."""

    async def work() -> None:
        every = Tasks()
        task = every.start("create", "web", forever, "word")
        assert every.of_request("word") is task
        assert every.of_request("another") is None
        assert every.of_request("") is None
        await task.cancel()
        assert every.of_request("word") is None

    run(work)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [(ApiError("refused", "no"), "refused", "no"), (KeyError("x"), "failed", "a bug of xend's")],
)
def test_failed(error: Exception, code: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(task: RunningTask) -> dict[str, Any]:
        raise error

    async def work() -> None:
        task = Tasks().start("create", "web", fail)
        await within(task.over())
        shown = task.shown()
        assert shown["state"] == "failed"
        assert shown["error"] is not None
        assert shown["error"]["code"] == code
        assert says in shown["error"]["message"]

    run(work)
    assert bool(caplog.records) == (code == "failed")


def test_cancelled() -> None:
    async def work() -> None:
        task = Tasks().start("create", "web", forever)
        await asyncio.sleep(0)
        await within(task.cancel())
        shown = task.shown()
        assert shown["state"] == "cancelled"
        assert shown["error"] == {"code": "wrong-state", "message": "create of web was cancelled"}
        await within(task.cancel())

    run(work)


def test_cancelled_at_once() -> None:
    """It has begun all the same, and what it holds is let go."""
    closed = []

    async def holding(task: RunningTask) -> dict[str, Any]:
        try:
            return await forever(task)
        finally:
            closed.append(task)

    async def work() -> None:
        task = Tasks().start("create", "web", holding)
        await within(task.cancel())
        assert (task.shown()["state"], closed) == ("cancelled", [task])

    run(work)


def test_cancelled_while_its_end_is_told() -> None:
    """It is over then: what it did stays done."""

    async def work() -> None:
        reached, go = asyncio.Event(), asyncio.Event()

        async def hook(task: RunningTask) -> None:
            reached.set()
            await go.wait()

        task = Tasks().start("create", "web", done)
        task.ended.append(hook)
        await within(reached.wait())
        cancelling = asyncio.ensure_future(task.cancel())
        await asyncio.sleep(0)
        assert task.shown()["state"] == "running"
        go.set()
        await within(cancelling)
        assert task.shown()["state"] == "done"

    run(work)


def test_a_hook_that_fails_does_not_keep_it_running(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        seen = []

        async def broken(task: RunningTask) -> None:
            raise OSError("no")

        async def hook(task: RunningTask) -> None:
            seen.append((task.ending, task.state))

        task = Tasks().start("create", "web", done)
        task.ended += [broken, hook]
        await within(task.over())
        assert task.state == "done"
        assert seen == [("done", "running")]

    run(work)
    assert len(caplog.records) == 1


def test_waited_for() -> None:
    async def work() -> None:
        go = asyncio.Event()

        async def steps(task: RunningTask) -> dict[str, Any]:
            task.step("half", 0.5)
            await go.wait()
            return {}

        task = Tasks().start("dump", "web", steps)
        await within(task.wait(20, 0))
        first = task.shown()
        assert (first["step"], first["progress"]) == ("half", 0.5)
        await within(task.wait(0.01, first["seen"]))
        assert task.shown()["seen"] == first["seen"]
        await within(task.wait(20, first["seen"] - 1))
        waiting = asyncio.ensure_future(task.wait(20, first["seen"]))
        await asyncio.sleep(0)
        go.set()
        await within(waiting)
        assert task.shown()["state"] == "done"
        await within(task.wait(20, task.shown()["seen"]))

    run(work)


def test_too_many_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MOST_RUNNING", 2)
    monkeypatch.setattr(tasks, "KEPT", 3)

    async def work() -> None:
        every = Tasks()
        ended = [every.start("x", "", done) for _ in range(2)]
        for task in ended:
            await within(task.over())
        running = [every.start("x", "", forever) for _ in range(2)]
        with pytest.raises(ApiError) as caught:
            every.start("x", "", done)
        assert caught.value.code == "too-many"
        await asyncio.sleep(0)
        for task in running:
            await within(task.cancel())
        assert every.all() == [ended[1], *running]
        with pytest.raises(ApiError) as caught:
            every.get(ended[0].id)
        assert caught.value.code == "no-such-task"
        monkeypatch.setattr(tasks, "KEPT_S", -1)
        assert every.all() == []

    run(work)


def test_the_end_of_xend_is_no_end_of_a_task() -> None:
    """The next xend finds what was done; the log must not say that it was cancelled."""
    seen: list[str] = []

    async def work() -> RunningTask:
        async def hook(task: RunningTask) -> None:
            seen.append(task.ending)

        task = Tasks().start("create", "web", forever)
        task.ended.append(hook)
        await asyncio.sleep(0)
        return task

    assert run(work).state == "running"
    assert seen == []
