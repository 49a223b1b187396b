"""Threads for what may wait."""

import threading

import pytest

from xenion.dom0.block.workers import Workers
from xenion.dom0.loop import Loop


def test_they_come_when_needed_and_never_too_many(loop: Loop) -> None:
    workers = Workers(loop, 3)
    before = threading.active_count()
    gate, running = threading.Event(), threading.Semaphore(0)
    ended: list[int] = []

    def job(number: int) -> int:
        running.release()
        assert gate.wait(60)
        return number

    for number in range(7):
        workers.submit(lambda number=number: job(number), ended.append)  # type: ignore[misc]
    assert threading.active_count() - before == 3
    for _ in range(3):
        assert running.acquire(timeout=60)
    assert not running.acquire(blocking=False)
    assert ended == []
    gate.set()
    while len(ended) < 7:
        loop.turn(10)
    assert sorted(ended) == list(range(7))
    workers.close()
    assert threading.active_count() == before


def test_one_job_after_the_other_needs_one_thread(loop: Loop) -> None:
    workers = Workers(loop, 8)
    before = threading.active_count()
    ended: list[int] = []
    for number in range(50):
        workers.submit(lambda: threading.get_ident(), ended.append)
        while len(ended) <= number:
            loop.turn(10)
    assert threading.active_count() == before + 1
    assert len(set(ended)) == 1
    assert ended[0] != threading.get_ident()
    workers.close()


def test_without_room_for_a_thread_the_work_is_done_here(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers(loop, 8)
    ended: list[int] = []
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", none_left)
        workers.submit(lambda: threading.get_ident(), ended.append)
        assert ended == [], "never from within submit"
        loop.turn(0)
    workers.submit(lambda: threading.get_ident(), ended.append)
    while len(ended) < 2:
        loop.turn(10)
    assert ended[0] == threading.get_ident() != ended[1]
    workers.close()


def test_results_come_on_the_loops_thread(loop: Loop) -> None:
    workers = Workers(loop, 8)
    seen: list[int] = []
    for _ in range(2000):
        workers.submit(lambda: 0, lambda _: seen.append(threading.get_ident()))
    while len(seen) < 2000:
        loop.turn(10)
    assert set(seen) == {threading.get_ident()}
    workers.close()


def test_a_bug_in_a_job_ends_the_loop(loop: Loop) -> None:
    workers = Workers(loop, 1)
    workers.submit(lambda: [][0], lambda _: None)
    with pytest.raises(IndexError):
        loop.turn(10)
    workers.close()
