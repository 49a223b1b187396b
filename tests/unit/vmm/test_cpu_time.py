"""CPU time: what other threads see of one that counts, and what is left of it."""

import threading
import time

from xenion.vmm.cpu_time import CpuTime

SOME = 0.02


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_nothing_was_used_before_the_first_run() -> None:
    assert CpuTime().seconds == 0


def test_it_grows_while_a_thread_counts_and_stays_when_it_is_gone() -> None:
    cpu_time, burnt, end = CpuTime(), threading.Event(), threading.Event()

    def run() -> None:
        with cpu_time.counting():
            burn(SOME)
            burnt.set()
            end.wait()

    for runs in (1, 2):
        thread = threading.Thread(target=run)
        thread.start()
        burnt.wait()
        assert cpu_time.seconds >= runs * SOME
        end.set()
        thread.join()
        used = cpu_time.seconds
        assert used >= runs * SOME
        burn(SOME)
        assert cpu_time.seconds == used
        burnt.clear()
        end.clear()


def test_what_the_thread_used_before_is_not_counted() -> None:
    cpu_time = CpuTime()
    burn(SOME)
    with cpu_time.counting():
        assert cpu_time.seconds < SOME


def test_a_run_that_fails_counts() -> None:
    cpu_time = CpuTime()
    try:
        with cpu_time.counting():
            burn(SOME)
            raise KeyError
    except KeyError:
        assert cpu_time.seconds >= SOME
