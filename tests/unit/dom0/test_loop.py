"""Dom0's thread: descriptors, timers, and calls of other threads."""

import os
import threading
from collections.abc import Iterator

import pytest

from xenion.dom0.loop import CANCELLED_MOST, READ, WRITE, Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.stop()
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def test_who_is_ready_is_called(loop: Loop, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    loop.watch(pipe[0], READ, seen.append)
    loop.turn(0)
    assert seen == []
    os.write(pipe[1], b"x")
    loop.turn(None)
    assert seen == [READ]
    loop.watch(pipe[1], WRITE, seen.append)
    loop.watch(pipe[0], 0, seen.append)
    loop.watch(pipe[0], 0, seen.append)
    loop.turn(None)
    assert seen == [READ, WRITE]


def test_what_an_action_takes_back_is_not_called_in_the_same_turn(loop: Loop) -> None:
    first, second = os.eventfd(1), os.eventfd(1)
    seen: list[int] = []

    def only_one(mask: int) -> None:
        seen.append(mask)
        for fd in (first, second):
            loop.watch(fd, 0, only_one)

    for fd in (first, second):
        loop.watch(fd, READ, only_one)
    loop.turn(None)
    loop.turn(0)
    assert seen == [READ]
    os.close(first)
    os.close(second)


def test_a_closed_descriptor_is_taken_back_quietly(loop: Loop, pipe: tuple[int, int]) -> None:
    seen: list[int] = []
    gone, other = os.pipe()
    loop.watch(gone, READ, seen.append)
    os.close(gone)
    os.close(other)
    loop.watch(gone, 0, seen.append)
    loop.turn(0)
    assert seen == []


def test_what_is_due_soon_comes_at_the_end_of_a_turn_that_does_not_wait(loop: Loop) -> None:
    seen: list[str] = []
    event = os.eventfd(1)

    def again() -> None:
        seen.append("first end")
        loop.soon(lambda: seen.append("second end"))

    loop.watch(event, READ, lambda mask: seen.append("ready"))
    loop.soon(again)
    loop.turn(None)
    assert seen == ["ready", "first end"]
    loop.watch(event, 0, lambda mask: None)
    loop.turn(None)
    assert seen == ["ready", "first end", "second end"]
    os.close(event)


def test_timers_come_in_order_unless_they_are_cancelled(loop: Loop) -> None:
    seen: list[str] = []
    loop.later(0.002, lambda: seen.append("second"))
    loop.later(0.001, lambda: seen.append("first"))
    loop.later(0, lambda: seen.append("never")).cancel()
    loop.later(0.003, loop.stop)
    loop.run()
    assert seen == ["first", "second"]


def test_calls_of_other_threads(loop: Loop) -> None:
    seen: list[int] = []
    loop.start(lambda: seen.append(-1))
    for number in range(1000):
        loop.call(lambda number=number: seen.append(number))  # type: ignore[misc]
    assert not loop.here
    assert loop.call_and_wait(lambda: seen.extend((threading.get_ident(), loop.here)))
    assert seen[:-2] == list(range(1000))
    assert seen[-2] != threading.get_ident()
    assert seen[-1] is True


def test_a_bug_ends_it_and_is_told_while_it_is_handled(loop: Loop) -> None:
    told: list[BaseException | None] = []
    told_of = threading.Event()

    def on_failure() -> None:
        import sys

        told.append(sys.exc_info()[1])
        told_of.set()

    loop.start(on_failure)
    loop.call(lambda: [][0])
    assert told_of.wait(60)
    assert isinstance(told[0], IndexError)


def test_a_loop_that_has_ended_runs_nothing_and_says_so(loop: Loop) -> None:
    loop.start(lambda: None)
    assert loop.running
    loop.stop()
    seen: list[int] = []
    while loop.running:
        loop.call_and_wait(lambda: None)
    assert not loop.call_and_wait(lambda: seen.append(1))
    assert seen == []


def test_cancelled_timers_do_not_pile_up(loop: Loop) -> None:
    seen: list[int] = []
    kept = [loop.later(0, lambda number=number: seen.append(number)) for number in range(3)]  # type: ignore[misc]
    for _ in range(10_000):
        loop.later(3600, lambda: seen.append(-1)).cancel()
    assert len(loop._timers) < 3 * CANCELLED_MOST
    kept[1].cancel()
    kept[1].cancel()
    loop.turn(0)
    assert seen == [0, 2]
    kept[0].cancel()  # it has run already


def test_a_timer_may_cancel_all_others_while_it_runs(loop: Loop) -> None:
    seen: list[str] = []

    def cancel() -> None:
        for other in others:
            other.cancel()
        seen.append("cancelled")
        loop.later(0, lambda: seen.append("again"))

    loop.later(0, cancel)
    others = [loop.later(0, lambda: seen.append("other")) for _ in range(2 * CANCELLED_MOST)]
    loop.turn(0)
    loop.turn(0)
    assert seen == ["cancelled", "again"]
