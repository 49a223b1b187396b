"""Dumps of a guest that lives: who holds it, who waits, who may go."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.descriptors import descriptors
from tests.unit.domain.holding_kit import Asked, Dom0Thread, HeldGuest
from xenion.domain import dumps
from xenion.domain.control import Refusal, Request
from xenion.domain.dumpcore import DumpError
from xenion.domain.dumps import Dumps
from xenion.domain.machine import Machine


class DumpAsked(Asked):
    """What is told of the progress is among the answers, in order."""

    def progress(self, done: int, total: int) -> None:
        self.answers.append((done, total))


class Bench(Dom0Thread):
    """Dumps on a loop that runs, and a dump that goes on as the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.dumps = Dumps(self.loop)
        self.guest = HeldGuest()
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.end: Callable[[], Any] = lambda: SimpleNamespace(remarks=("a remark",))
        monkeypatch.setattr(dumps, "dump_core", self._dump)

    def _dump(self, domain: object, fd: int, progress: Callable[[int, int], bool]) -> Any:
        self.entered.set()
        assert self.go_on.wait(60)
        if not progress(1, 2):
            raise DumpError("cancelled")
        return self.end()

    def begin(self, **fields: Any) -> DumpAsked:
        asked = DumpAsked("core", **fields)
        request, machine = cast("Request", asked), cast("Machine", self.guest)
        try:
            self.on_dom0(lambda: self.dumps.begin(request, machine))
        finally:
            asked.close()
        return asked

    def park(self) -> None:
        self.guest.domain.parked = True
        self.on_dom0(self.dumps.look)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    before = descriptors()
    made = Bench(monkeypatch)
    yield made
    made.go_on.set()
    made.dumps.settle()
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def test_the_guest_is_held_until_the_dump_is_whole(bench: Bench) -> None:
    asked = bench.begin()
    assert bench.guest.holders == {"dump"}
    assert not bench.entered.is_set()
    bench.park()
    assert bench.entered.wait(60)
    assert bench.guest.holders == {"dump"}
    bench.go_on.set()
    bench.dumps.settle()
    assert asked.answers == [(1, 2), {"remarks": ["a remark"]}]
    assert not bench.guest.holders


def test_a_live_one_holds_nobody(bench: Bench) -> None:
    bench.begin(live=True)
    assert bench.entered.wait(60)
    assert not bench.guest.holders


def test_one_at_a_time(bench: Bench) -> None:
    bench.begin(live=True)
    with pytest.raises(Refusal, match="under way already"):
        bench.begin(live=True)
    bench.go_on.set()
    bench.dumps.settle()
    bench.begin(live=True)


def test_cancelled(bench: Bench) -> None:
    asked = bench.begin(live=True)
    bench.on_dom0(bench.dumps.cancel)
    bench.go_on.set()
    bench.dumps.settle()
    assert asked.answers[-1] == "cancelled"
    asked = bench.begin(live=True)
    bench.dumps.settle()
    assert asked.answers[-1] == {"remarks": ["a remark"]}


def test_nobody_waits_any_more(bench: Bench) -> None:
    asked = bench.begin(live=True)
    asked.abandoned = True
    bench.go_on.set()
    bench.dumps.settle()
    assert asked.answers[-1] == "cancelled"


def test_a_guest_that_cannot_be_stopped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dumps, "PARKING_SECONDS", 0)
    asked = bench.begin()
    while not asked.answers:
        bench.on_dom0(lambda: None)
    assert asked.answers == ["the guest could not be stopped for the dump"]
    assert not bench.guest.holders
    bench.park()
    assert not bench.entered.is_set()


def test_a_bug_of_ours_lets_the_guest_go_on(bench: Bench, capfd: pytest.CaptureFixture[str]) -> None:
    bench.end = lambda: [][0]
    asked = bench.begin()
    bench.park()
    bench.go_on.set()
    bench.dumps.settle()
    assert "process.log" in asked.answers[-1]
    assert not bench.guest.holders
    assert "IndexError" in capfd.readouterr().err


def test_a_host_without_room_for_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as host:
        host.setattr(threading.Thread, "start", full)
        asked = bench.begin(live=True)
    assert asked.answers == ["the host has no room for another thread"]
    bench.begin(live=True)


def test_settling_when_dom0s_thread_is_dead_cancels(bench: Bench) -> None:
    bench.begin(live=True)
    assert bench.entered.wait(60)
    bench.loop.stop()
    while bench.loop.running:
        bench.loop.call_and_wait(lambda: None)
    bench.go_on.set()
    bench.dumps.settle()
    assert not [thread for thread in threading.enumerate() if thread.name == "dump"]
