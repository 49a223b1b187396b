"""Saves without a machine: a guest that comes to rest, and a stream that is written, as the test lets them."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.descriptors import descriptors
from tests.unit.domain.holding_kit import Asked, Dom0Thread, HeldGuest
from xenion.dom0.xenstore.trees import KeptNode, TreesError
from xenion.domain import saves
from xenion.domain.control import Request
from xenion.domain.devices import DeviceError, Devices
from xenion.domain.machine import Machine
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.rounds import Round, Rounds
from xenion.domain.saved.state import Head
from xenion.domain.saved.write import Echo
from xenion.domain.saves import Moving, Saves
from xenion.vmm.saved import UnsavableError
from xenion.vmm.written import WriteWatch

HEAD = Head(
    config={}, uuid="u", domid=7, known_as=7, name="web", processor="software", saved_at=0.0, xenion="1"
)
NODES = [KeptNode("/local/domain/7", b"", "n7\0")]
OK: dict[str, Any] = {"remarks": []}
WATCH = cast("WriteWatch", object())
LIVE = Moving(WATCH)


class Guest(HeldGuest):
    """A machine, its devices and its part of the store: each comes to rest at once, or when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.domain = SimpleNamespace(parked=False, stopping=False, suspended=False, may_suspend=False)
        self.store = self.pump = self
        self.log: list[str] = []
        self.stuck = ""
        """What does not come to rest: devices, store or tree."""
        self._late: Callable[[], None] = lambda: None
        self.why_not = ""
        self.nodes: list[KeptNode] | TreesError = NODES
        self.state_error = ""
        self.feature = b"1"
        self.asked: list[tuple[str, str]] = []

    @property
    def held(self) -> bool:
        return bool(self.holders)

    def read_node(self, path: str, then: Callable[[bytes], None]) -> None:
        assert path == "control/feature-suspend"
        then(self.feature)

    def write_node(self, path: str, value: str) -> None:
        self.asked.append((path, value))

    def rests(self, what: str, then: Callable[[], None]) -> None:
        self.log.append(what)
        if self.stuck == what:
            self._late = then
        else:
            then()

    def comes_to_rest(self) -> None:
        """What was stuck, once."""
        late, self._late = self._late, lambda: None
        late()

    def read(self, then: Callable[[list[KeptNode] | TreesError], None]) -> None:
        self.rests("tree", lambda: then(self.nodes))

    def state(self, nodes: list[KeptNode]) -> str:
        self.log.append("state")
        if self.state_error:
            raise UnsavableError(self.state_error)
        assert nodes == NODES
        return "the state"


class Pump:
    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def hold(self, then: Callable[[], None]) -> None:
        self._guest.rests("store", then)

    def go_on(self) -> None:
        self._guest.log.append("store goes on")


class Back:
    """All devices. `taken`: who has their disks instead, once they are unlocked. `unfit`: why what stands by for them
    is of no use."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self.taken = self.unfit = ""
        self.locked = True

    def hold(self, then: Callable[[str], None]) -> None:
        self._guest.rests("devices", lambda: then(self._guest.why_not))

    def let_go(self) -> None:
        assert self.locked, "they write to what is another host's"
        self._guest.log.append("devices go on")

    def switch(self) -> None:
        assert self._guest.holders, "the guest writes to its disks"
        assert self._guest.log[-1] in ("state", "devices switch"), "they are not at rest"
        if self.unfit:
            raise DeviceError(self.unfit)
        self._guest.log.append("devices switch")

    def unlock(self) -> None:
        self.locked = False

    def lock(self) -> None:
        if self.taken:
            raise DeviceError(self.taken)
        self.locked = True


class Stream:
    """What a save writes: `copy` and `finish` wait for the test. Never used by two threads at once."""

    def __init__(self, bench: "Bench", fd: int, progress: Callable[[int, int], bool]) -> None:
        self._bench, self._fd, self._progress = bench, fd, progress
        self._within = threading.Lock()
        self.watched = False
        self.echo: Echo

    def copy(self, watch: WriteWatch, rounds: Rounds, echo: Echo | None, tell: Callable[[], None]) -> None:
        assert watch is WATCH
        if echo is not None:
            self.echo = echo
        with self._alone():
            self.watched = True
            for one in self._bench.rounds:
                rounds.add(one)
                tell()
            self._wait(self._bench.copying, self._bench.copied)
            self._bench.copy_end(rounds)

    def finish(self, state: object) -> None:
        assert state == "the state"
        with self._alone():
            os.write(self._fd, b"saved")
            self._wait(self._bench.entered, self._bench.go_on)
            self._bench.end()

    def sync(self) -> None:
        with self._alone():
            self._bench.sync_end()

    def _wait(self, here: threading.Event, further: threading.Event) -> None:
        here.set()
        assert further.wait(60)
        if not self._progress(1, 2):
            raise SaveError("the save was cancelled")

    def end(self) -> None:
        with self._alone():
            self.watched = False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        assert self._within.acquire(blocking=False), "another thread is in there"
        try:
            yield
        finally:
            self._within.release()


class Bench(Dom0Thread):
    """Saves on a loop that runs, and a file that is written as the test lets it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.guest = Guest()
        self.guest.pump = cast("Guest", Pump(self.guest))
        self.back = Back(self.guest)
        self.saves = Saves(self.loop, cast("Devices", self.back))
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.copying, self.copied = threading.Event(), threading.Event()
        self.rounds: list[Round] = []
        self.end: Callable[[], None] = lambda: None
        self.copy_end: Callable[[Rounds], None] = lambda rounds: None
        self.sync_end: Callable[[], None] = lambda: None
        self.streams: list[Stream] = []
        self.closed: list[int] = []
        """Descriptors that Saves has closed, each time."""
        monkeypatch.setattr(saves, "Outgoing", self._open)
        monkeypatch.setattr(saves, "os", SimpleNamespace(close=self._close))

    def _close(self, fd: int) -> None:
        self.closed.append(fd)
        os.close(fd)

    def _open(self, domain: object, head: Head, fd: int, progress: Callable[[int, int], bool]) -> Stream:
        assert (domain, head) == (self.guest.domain, HEAD)
        self.streams.append(Stream(self, fd, progress))
        return self.streams[-1]

    def turn(self) -> None:
        self.on_dom0(lambda: None)

    def begin(
        self,
        fds: int = 1,
        *,
        ask: bool = False,
        moving: Moving | None = None,
        keep: bool = False,
        switch: bool = False,
    ) -> Asked:
        asked = Asked("saved", fds)
        request, machine = cast("Request", asked), cast("Machine", self.guest)
        watch = WATCH if keep else None
        begin = partial(self.saves.begin, ask=ask, moving=moving, keep=watch, switch=switch)
        try:
            self.on_dom0(lambda: begin(request, machine, HEAD))
        finally:
            asked.close()
        return asked

    def park(self) -> None:
        self.guest.domain.parked = True
        self.on_dom0(self.saves.look)

    def answered(self, asked: Asked) -> Any:
        """The one answer, when it has come."""
        while not asked.answers:
            self.turn()
        self.turn()
        (answer,) = asked.answers
        return answer

    def whole(self, moving: Moving | None = None) -> Asked:
        """A save whose file is whole, and that xend has not finished."""
        self.copied.set()
        asked = self.begin(moving=moving)
        self.park()
        while not self.held:
            self.turn()
        self.go_on.set()
        assert self.answered(asked) == OK
        return asked

    def finish(self, *, keep: bool) -> bool:
        found: list[bool] = []
        self.on_dom0(lambda: found.append(self.saves.finish(keep=keep)))
        return found[0]

    def switch(self) -> bool:
        found: list[bool] = []
        self.on_dom0(lambda: found.append(self.saves.switch()))
        return found[0]

    def release(self) -> None:
        self.on_dom0(self.saves.release)

    def wind_down(self) -> None:
        self.go_on.set()
        self.copied.set()
        if self.loop.running:
            self.on_dom0(self.saves.cancel)
            self.on_dom0(self.guest.comes_to_rest)
            self.park()
            self.saves.settle()
            assert not [stream for stream in self.streams if stream.watched], "a watch goes on"
        else:
            self.saves.settle()

    @property
    def held(self) -> bool:
        return self.guest.holders == {"save"}

    def goes_on(self) -> bool:
        """The guest, and each of those that had come to rest for it; nobody watches it any more."""
        log = self.guest.log
        rested = "devices" in log
        went_on = log.count("store goes on"), log.count("devices go on")
        calm = not any(stream.watched for stream in self.streams)
        return (
            not self.guest.holders
            and went_on == ((1, 1) if rested else (0, 0))
            and len(self.closed) == 1
            and calm
        )


@contextmanager
def bench_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    before = descriptors()
    made = Bench(monkeypatch)
    yield made
    made.wind_down()
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


@contextmanager
def no_room_for_thread(monkeypatch: pytest.MonkeyPatch, which: int) -> Iterator[None]:
    """The host refuses the one of this number."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def full(thread: threading.Thread) -> None:
        started.append(thread)
        if len(started) == which:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as host:
        host.setattr(threading.Thread, "start", full)
        yield
