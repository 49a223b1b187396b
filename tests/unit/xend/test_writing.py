"""What a domain's process writes for xend: its progress is told, and it is given up when nobody wants it any more."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.unit.xend.kit import run, within
from xenion.api.errors import ApiError
from xenion.xend import writing
from xenion.xend.live import Live
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import give_up, written


class Process:
    """Answers when the test says so."""

    name = "web"

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.progress: Callable[[int, int], None] = lambda done, total: None
        self.figures: Callable[[dict[str, float]], None] = lambda figures: None
        self.refuses_to_cancel = False
        self.steps: list[tuple[str, float | None]] = []

    async def ask(self, what: str, **fields: Any) -> dict[str, Any]:
        self.asked.append((what, fields))
        if what.startswith("cancel-"):
            if self.refuses_to_cancel:
                raise ApiError("wrong-state", "web has just ended")
            return {}
        self.progress, self.figures = fields["progress"], fields["figures"]
        return await self.answer

    def step(self, text: str, progress: float | None = None) -> None:
        self.steps.append((text, progress))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.asked]

    def write(self, *more: Callable[..., Any]) -> "asyncio.Task[dict[str, Any]]":
        fields = {"by": "1", "live": True}
        work = written(cast("Live", self), cast("RunningTask", self), "saving it", "save", 7, fields, *more)
        return asyncio.get_running_loop().create_task(work)

    async def begun(self, *more: Callable[..., Any]) -> "asyncio.Task[dict[str, Any]]":
        task = self.write(*more)
        while not self.asked:
            await asyncio.sleep(0)
        return task


def test_written() -> None:
    async def work() -> None:
        process = Process()
        task = await process.begun()
        process.progress(1, 4)
        await asyncio.sleep(0)
        process.progress(0, 0)
        process.answer.set_result({"remarks": []})
        assert await within(task) == {"remarks": []}
        assert process.steps == [("saving it", 0.0), ("saving it", 0.25), ("saving it", None)]
        ((word, fields),) = process.asked
        del fields["progress"], fields["figures"]
        assert (word, fields) == ("save", {"fds": [7], "timeout": None, "by": "1", "live": True})

    run(work)


def test_figures_go_to_who_wants_them() -> None:
    async def work() -> None:
        process, seen = Process(), list[dict[str, float]]()
        task = await process.begun(seen.append)
        process.figures({"round": 1})
        process.answer.set_result({})
        await within(task)
        assert seen == [{"round": 1}]
        task = await (nobody := Process()).begun()
        nobody.figures({"round": 1})
        nobody.answer.set_result({})
        assert await within(task) == {}

    run(work)


def test_a_refusal_gives_nothing_up() -> None:
    async def work() -> None:
        process = Process()
        task = await process.begun()
        process.answer.set_exception(ApiError("wrong-state", "no"))
        with pytest.raises(ApiError, match="no"):
            await within(task)
        assert process.words == ["save"]

    run(work)


@pytest.mark.parametrize("refuses", [False, True])
def test_cancelled(refuses: bool) -> None:
    async def work() -> None:
        process = Process()
        process.refuses_to_cancel = refuses
        task = await process.begun()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await within(task)
        assert process.words == ["save", "cancel-save"]
        assert process.answer.cancelled()

    run(work)


@pytest.mark.parametrize("moves", [0, 3])
def test_what_does_not_get_on_is_given_up(moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        process = Process()
        task = await process.begun()
        for done in range(moves):
            process.progress(done, 9)
            await asyncio.sleep(0)
        with pytest.raises(ApiError, match="does not answer") as caught:
            await within(task)
        assert caught.value.code == "failed"
        assert process.words == ["save", "cancel-save"]
        assert process.answer.cancelled()

    monkeypatch.setattr(writing, "STUCK_S", 0.01)
    run(work)


def test_what_gets_on_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes: each step begins the wait anew."""

    async def work() -> None:
        process = Process()
        task = await process.begun()
        waits = []
        wait = asyncio.wait

        async def watched(*args: Any, **more: Any) -> Any:
            waits.append(more["timeout"])
            return await wait(*args, **more)

        monkeypatch.setattr(asyncio, "wait", watched)
        await asyncio.sleep(0)
        for done in range(20):
            process.progress(done, 20)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        process.answer.set_result({})
        monkeypatch.setattr(asyncio, "wait", wait)
        assert await within(task) == {}
        assert len(waits) > 1
        assert set(waits) == {writing.STUCK_S}

    run(work)


def test_what_grows_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no step to tell of, but somebody reads it."""
    sizes = iter([0, 10, 20, 30, 30])

    async def work() -> None:
        process = Process()
        task = await process.begun(lambda _: None, lambda: next(sizes))
        with pytest.raises(ApiError, match="does not answer"):
            await within(task)
        assert list(sizes) == []

    monkeypatch.setattr(writing, "STUCK_S", 0.01)
    run(work)


def test_nothing_is_left_of_it() -> None:
    async def work() -> None:
        process = Process()
        task = await process.begun()
        for done in range(5):
            process.progress(done, 5)
            await asyncio.sleep(0)
        process.answer.set_result({})
        await within(task)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work)


def test_given_up_without_an_answer_to_wait_for() -> None:
    async def work() -> None:
        process = Process()
        await give_up(cast("Live", process), "dump")
        process.refuses_to_cancel = True
        await give_up(cast("Live", process), "dump")
        assert process.words == ["cancel-dump"] * 2

    run(work)
