"""Devices through boots: what comes and goes, who is told, and what is closed when."""

import errno
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.descriptors import descriptors
from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.xenbus.fake_backend import FakeBackend
from tests.unit.dom0.xenstore.replaceable import DOMID, Client
from xenion.dom0.guest import Guest
from xenion.dom0.xenbus.backend import Backend
from xenion.dom0.xenstore.connection import Connection
from xenion.domain.devices import DeviceError, DeviceOrder, Devices

FRONT = f"/local/domain/{DOMID}/device/vbd"


class FakeResource:
    """Owns the descriptors that it came with, and notices a second end."""

    def __init__(self, order: DeviceOrder) -> None:
        if order.description.get("bad"):
            raise DeviceError("nothing can be done with it")
        self.fds = list(order.fds)
        self.backends: list[FakeBackend] = []
        self.changes: list[Mapping[str, Any]] = []
        self.closed = False
        self.serving = False
        self.announced = 0
        self.locked = True
        self.taken = ""
        """Who has it, once it is unlocked."""
        self.log: list[str] = []
        """What stood by for it, and what it went on with."""

    def backend(self, guest: Guest, devid: int) -> Backend:
        assert not self.closed
        assert not self.serving, "two back ends at once"
        self.serving = True
        self.backends.append(FakeBackend(devid))
        return self.backends[-1]

    def forget(self) -> None:
        assert not any(backend.held for backend in self.backends), "it has something of the guest still"
        self.serving = False

    def describe(self) -> dict[str, Any]:
        return {"size": 8}

    def configure(self, changes: Mapping[str, Any], fds: Sequence[int]) -> dict[str, Any]:
        self.changes.append(changes)
        self.fds += fds
        return {"told": len(fds)}

    def reconnect(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        self.changes.append(description)
        self.fds += fds

    def standby(self, description: Mapping[str, Any], fds: Sequence[int]) -> None:
        self.log.append(f"{description['is']} stands by")
        self.fds += fds

    def switch(self) -> None:
        assert not any(backend.held for backend in self.backends), "its guest writes to it"
        if "bad stands by" in self.log:
            raise DeviceError("what stands by is of no use")
        self.log.append("switched")

    def sync(self, then: Callable[[int], None]) -> None:
        then(0)

    def announce(self) -> None:
        assert self.backends, "the guest has no back end yet"
        self.announced += 1

    def unlock(self) -> None:
        self.locked = False

    def lock(self) -> None:
        if self.taken:
            raise DeviceError(self.taken)
        self.locked = True

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.closed = True
        for fd in self.fds:
            os.close(fd)


class Bench(Client):
    """A domain's process without a machine."""

    def __init__(self) -> None:
        super().__init__()
        self.store.connect()
        self.resources: dict[int, FakeResource] = {}
        self.gone: list[tuple[str, int]] = []
        self.told: list[str] = []
        self.devices = Devices(
            self.loop, self.client, DOMID, {"vbd": self.make}, self.told.append, self.on_gone
        )
        self.me = Connection(DOMID)

    def make(self, order: DeviceOrder) -> FakeResource:
        made = self.resources[order.devid] = FakeResource(order)
        return made

    def on_gone(self, kind: str, devid: int) -> None:
        assert self.resources[devid].closed, "xend may give the image to others now"
        self.gone.append((kind, devid))

    def add(self, devid: int, *fds: int, **description: Any) -> None:
        self.devices.add(DeviceOrder("vbd", devid, description, {"target": "x"}, fds))

    def boot(self) -> None:
        self.devices.boot(FakeGuest(self.loop))
        self.store.settle()

    def says(self, devid: int, state: int) -> None:
        self.store.store.write(self.me, f"{FRONT}/{devid}/state", b"%d" % state)
        self.store.settle()

    def detach(self, devid: int, *, force: bool = False) -> Callable[[], int]:
        """How often its end has been told."""
        ends: list[int] = []
        self.devices.detach("vbd", devid, lambda: ends.append(1), force=force)
        self.store.settle()
        return lambda: len(ends)

    def states(self) -> dict[int, str]:
        return {entry["devid"]: entry["state"] for entry in self.devices.describe()}

    @property
    def settled(self) -> bool:
        return self.devices._stopped.is_set()


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = descriptors()
    made = Bench()
    yield made
    made.devices.close()
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def pipe_end() -> int:
    """A descriptor to give away."""
    reader, writer = os.pipe()
    os.close(writer)
    return reader


# --- boots


def test_a_guest_that_boots_finds_all_that_was_there_and_what_comes(bench: Bench) -> None:
    bench.add(1)
    assert bench.states() == {1: "Unknown"}
    bench.boot()
    bench.add(2)
    bench.store.settle()
    assert bench.states() == {1: "InitWait", 2: "InitWait"}
    assert bench.store.value(f"{FRONT}/2/virtual-device") == b"2"
    bench.says(1, 4)
    assert bench.states() == {1: "Connected", 2: "InitWait"}


def test_each_boot_has_new_back_ends_around_the_same_resource(bench: Bench) -> None:
    bench.add(1, pipe_end())
    for boot in range(3):
        bench.boot()
        bench.says(1, 3)
        assert bench.resources[1].backends[boot].held
        bench.devices.stop()
        assert bench.settled
    assert len(bench.resources[1].backends) == 3
    assert not bench.resources[1].closed


def test_what_an_earlier_boot_has_left_in_the_store_goes(bench: Bench) -> None:
    left = f"/local/domain/0/backend/vbd/{DOMID}/99/state"
    bench.client.write(left, "4")
    bench.store.settle()
    assert bench.store.value(left) == b"4"
    bench.boot()
    assert bench.store.value(left) is None


def test_a_guest_that_has_stopped_is_let_go_when_the_last_request_has_ended(bench: Bench) -> None:
    for devid in (1, 2, 3):
        bench.add(devid)
    bench.boot()
    for devid in (1, 2):
        bench.says(devid, 3)
        bench.resources[devid].backends[0].slow = True
    bench.devices.stop()
    assert not bench.settled
    bench.resources[1].backends[0].let_go()
    assert not bench.settled
    bench.resources[2].backends[0].let_go()
    assert bench.settled


def test_settling_waits_on_another_thread(bench: Bench) -> None:
    bench.add(1)
    bench.boot()
    bench.says(1, 3)
    backend = bench.resources[1].backends[0]
    backend.slow = True
    bench.devices.stop()
    bench.loop.start(lambda: None)
    held_at_its_end: list[bool] = []

    def settle() -> None:
        bench.devices.settle()
        held_at_its_end.append(backend.held)

    waiter = threading.Thread(target=settle)
    waiter.start()
    bench.loop.call_and_wait(backend.let_go)
    waiter.join(60)
    bench.loop.stop()
    bench.loop._thread.join(60)  # type: ignore[union-attr]
    assert held_at_its_end == [False]


# --- attaching


def test_one_that_is_there_already_is_refused_and_its_descriptors_are_closed(bench: Bench) -> None:
    bench.add(1, pipe_end())
    with pytest.raises(DeviceError, match="there is a vbd 1 already"):
        bench.add(1, pipe_end(), pipe_end())
    assert not bench.resources[1].closed


def test_a_kind_that_there_is_none_of_is_refused(bench: Bench) -> None:
    with pytest.raises(DeviceError, match="kind 'vtpm'"):
        bench.devices.add(DeviceOrder("vtpm", 1, {}, {}, [pipe_end()]))


def test_one_that_cannot_be_made_is_not_there(bench: Bench) -> None:
    bench.boot()
    with pytest.raises(DeviceError, match="nothing can be done"):
        bench.add(1, bad=True)
    assert bench.devices.describe() == []
    bench.add(1)


# --- detaching


def test_before_and_between_boots_it_goes_at_once(bench: Bench) -> None:
    for _ in range(2):
        bench.add(1, pipe_end())
        assert bench.detach(1)() == 1
        bench.boot()
        bench.devices.stop()
    assert bench.gone == [("vbd", 1)] * 2
    assert bench.devices.describe() == []


def test_one_that_the_guest_uses_goes_when_it_lets_go(bench: Bench) -> None:
    bench.add(1, pipe_end())
    bench.boot()
    bench.says(1, 3)
    ends = bench.detach(1)
    assert (ends(), bench.gone) == (0, [])
    assert bench.devices.describe()[0]["detaching"]
    bench.says(1, 6)
    assert (ends(), bench.gone) == (1, [("vbd", 1)])
    bench.add(1)


def test_who_asks_twice_is_told_twice_of_one_end(bench: Bench) -> None:
    bench.add(1, pipe_end())
    bench.boot()
    bench.says(1, 3)
    gently, by_force = bench.detach(1), bench.detach(1, force=True)
    assert (gently(), by_force(), bench.gone) == (1, 1, [("vbd", 1)])


def test_a_guest_that_stops_while_it_is_detached(bench: Bench) -> None:
    for devid in (1, 2, 3):
        bench.add(devid, pipe_end())
    bench.boot()
    bench.says(1, 3)
    bench.says(2, 3)
    bench.resources[2].backends[0].slow = True
    ends = [bench.detach(1), bench.detach(2)]
    bench.devices.stop()
    assert [end() for end in ends] == [1, 0]
    assert not bench.settled
    bench.resources[2].backends[0].let_go()
    assert [end() for end in ends] == [1, 1]
    assert bench.settled
    bench.boot()
    assert bench.states() == {3: "InitWait"}


def test_one_that_nobody_has_is_refused(bench: Bench) -> None:
    fds = [pipe_end() for _ in range(3)]
    with pytest.raises(DeviceError, match="the domain has no vbd 7"):
        bench.devices.detach("vbd", 7, lambda: None, force=True)
    with pytest.raises(DeviceError, match="the domain has no vbd 7"):
        bench.devices.configure("vbd", 7, {}, fds[:1])
    with pytest.raises(DeviceError, match="the domain has no vbd 7"):
        bench.devices.reconnect("vbd", 7, {}, fds[1:2])
    with pytest.raises(DeviceError, match="the domain has no vbd 7"):
        bench.devices.standby("vbd", 7, {}, fds[2:])


# --- the rest


def test_changes_reach_the_resource(bench: Bench) -> None:
    bench.add(1)
    assert bench.devices.configure("vbd", 1, {"grown": True}, [pipe_end()]) == {"told": 1}
    bench.devices.reconnect("vbd", 1, {"nbd": {}}, [pipe_end()])
    assert bench.resources[1].changes == [{"grown": True}, {"nbd": {}}]


def test_descriptions(bench: Bench) -> None:
    bench.add(1)
    assert bench.devices.describe() == [
        {
            "kind": "vbd",
            "devid": 1,
            "config": {"target": "x"},
            "state": "Unknown",
            "detaching": False,
            "size": 8,
        }
    ]


def test_after_the_last_boot_nothing_comes_any_more(bench: Bench) -> None:
    bench.add(1, pipe_end())
    bench.devices.close()
    assert bench.resources[1].closed
    with pytest.raises(DeviceError, match="stopped for good"):
        bench.add(2, pipe_end())


# --- a guest that is held, saved and restored


def hold(bench: Bench) -> list[str]:
    """Why not, when they rest."""
    said: list[str] = []
    bench.devices.hold(said.append)
    return said


def connected(bench: Bench, *devids: int) -> None:
    for devid in devids:
        bench.add(devid)
    bench.boot()
    for devid in devids:
        bench.says(devid, 3)


def late_syncs(bench: Bench, devid: int, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[int], None]]:
    """What the device's resource is asked to call when all is on the disk."""
    waiting: list[Callable[[int], None]] = []
    monkeypatch.setattr(bench.resources[devid], "sync", waiting.append)
    return waiting


def test_a_domain_without_devices_rests_at_once(bench: Bench) -> None:
    assert hold(bench) == [""]
    bench.add(1)
    assert hold(bench) == [""], "no guest has seen it yet"
    bench.devices.let_go()


def test_they_rest_when_the_last_one_does(bench: Bench) -> None:
    connected(bench, 1, 2, 3)
    backends = [bench.resources[devid].backends[0] for devid in (1, 2, 3)]
    backends[0].slow = backends[1].slow = True
    said = hold(bench)
    backends[1].let_go()
    assert said == []
    backends[0].let_go()
    assert said == [""]
    assert not any(backend.held for backend in backends)
    backends[0].slow = backends[1].slow = False
    bench.devices.let_go()
    bench.store.settle()
    assert all(backend.held for backend in backends)
    assert bench.states() == {1: "Connected", 2: "Connected", 3: "Connected"}
    assert said == [""]


def test_what_the_guest_has_written_is_on_the_disk_before_they_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected(bench, 1, 2)
    bench.resources[1].backends[0].slow = True
    waiting = late_syncs(bench, 1, monkeypatch)
    said = hold(bench)
    assert waiting == [], "it is still writing"
    bench.resources[1].backends[0].let_go()
    assert (len(waiting), said) == (1, [])
    waiting[0](0)
    assert said == [""]


def test_one_that_was_not_connected_is_synced_all_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.add(1)
    bench.boot()
    waiting = late_syncs(bench, 1, monkeypatch)
    said = hold(bench)
    waiting[0](0)
    assert said == [""]


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_one_that_cannot_be_synced_is_told_when_all_rest(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    connected(bench, 1, 2, 3)
    syncs = {devid: late_syncs(bench, devid, monkeypatch) for devid in (1, 2, 3)}
    said = hold(bench)
    for devid, (then,) in syncs.items():
        assert said == []
        then(errno.ENOSPC if devid == failing else 0)
    assert said == [f"vbd {failing}: No space left on device"]
    bench.devices.let_go()
    bench.store.settle()
    assert bench.states() == {1: "Connected", 2: "Connected", 3: "Connected"}


def test_they_can_be_held_again(bench: Bench) -> None:
    connected(bench, 1)
    for _ in range(3):
        assert hold(bench) == [""]
        bench.devices.let_go()
        bench.store.settle()
    assert bench.resources[1].backends[0].calls == ["connect", *["disconnect", "connect"] * 3]


def test_a_guest_that_stops_while_they_are_held(bench: Bench) -> None:
    connected(bench, 1, 2)
    bench.resources[1].backends[0].slow = True
    said = hold(bench)
    bench.devices.stop()
    assert not bench.settled
    bench.resources[1].backends[0].let_go()
    assert bench.settled
    bench.devices.let_go()
    assert said == [], "of a guest that has gone nobody is told that its devices rest"
    bench.boot()
    bench.says(1, 3)
    assert bench.states() == {1: "Connected", 2: "InitWait"}


def test_a_restored_guest_finds_them_as_they_were(bench: Bench) -> None:
    connected(bench, 1)
    bench.add(2)
    bench.store.settle()
    hold(bench)
    nodes = {path: bench.store.value(path) for path in (f"{FRONT}/1/state", f"{FRONT}/2/virtual-device")}
    after = Devices(bench.loop, bench.client, DOMID, {"vbd": bench.make}, bench.told.append, bench.on_gone)
    for devid in (1, 2):
        after.add(DeviceOrder("vbd", devid, {}, {"target": "x"}, ()))
    bench.devices.stop()
    after.resume(FakeGuest(bench.loop))
    bench.store.settle()
    bench.devices = after
    assert bench.states() == {1: "Connected", 2: "InitWait"}
    assert [bench.resources[devid].announced for devid in (1, 2)] == [1, 1]
    assert bench.resources[1].backends[0].calls == ["connect"]
    assert {path: bench.store.value(path) for path in nodes} == nodes
    bench.add(3)
    bench.store.settle()
    assert bench.states()[3] == "InitWait", "what comes now is shown to it"
    bench.says(2, 3)
    assert bench.states()[2] == "Connected"
    bench.devices.stop()
    assert bench.settled


def test_only_a_guest_that_goes_on_is_announced(bench: Bench) -> None:
    bench.add(1)
    bench.boot()
    bench.devices.stop()
    bench.boot()
    bench.add(2)
    assert [bench.resources[devid].announced for devid in (1, 2)] == [0, 0]


# --- gone on elsewhere


def stand_by(bench: Bench, devid: int, what: str) -> None:
    bench.devices.standby("vbd", devid, {"is": what}, [pipe_end(), pipe_end()])


def test_what_stands_by_reaches_its_resource_alone(bench: Bench) -> None:
    for devid in (1, 2):
        bench.add(devid)
    stand_by(bench, 2, "an image")
    assert [bench.resources[devid].log for devid in (1, 2)] == [[], ["an image stands by"]]


def test_all_are_switched_while_they_are_held(bench: Bench) -> None:
    """Also one that the guest does not use; and it finds them as they were."""
    connected(bench, 1, 2)
    bench.add(3)
    bench.store.settle()
    for devid in (1, 3):
        stand_by(bench, devid, "an image")
    assert hold(bench) == [""]
    bench.devices.switch()
    bench.devices.let_go()
    bench.store.settle()
    assert [bench.resources[devid].log[-1] for devid in (1, 2, 3)] == ["switched"] * 3
    assert bench.states() == {1: "Connected", 2: "Connected", 3: "InitWait"}
    assert [len(bench.resources[devid].backends) for devid in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize("bad", [1, 2, 3])
def test_one_that_cannot_be_switched(bench: Bench, bad: int) -> None:
    """It is told, and they go on as they can."""
    connected(bench, 1, 2, 3)
    for devid in (1, 2, 3):
        stand_by(bench, devid, "bad" if devid == bad else "an image")
    hold(bench)
    with pytest.raises(DeviceError, match=r"^what stands by is of no use$"):
        bench.devices.switch()
    assert [bench.resources[devid].log[-1] == "switched" for devid in (1, 2, 3)] == [
        devid < bad for devid in (1, 2, 3)
    ]
    bench.devices.let_go()
    bench.store.settle()
    assert bench.states() == {1: "Connected", 2: "Connected", 3: "Connected"}


def test_without_devices_there_is_nothing_to_switch(bench: Bench) -> None:
    bench.devices.switch()


# --- left to another host


def test_all_are_left_to_another_host_and_taken_back(bench: Bench) -> None:
    for devid in (1, 2, 3):
        bench.add(devid)
    for _ in range(2):
        bench.devices.unlock()
        assert not any(resource.locked for resource in bench.resources.values())
        bench.devices.lock()
        assert all(resource.locked for resource in bench.resources.values())


@pytest.mark.parametrize("taken", [1, 2, 3])
def test_all_or_none_are_taken_back(bench: Bench, taken: int) -> None:
    for devid in (1, 2, 3):
        bench.add(devid)
    bench.devices.unlock()
    bench.resources[taken].taken = "another domain uses it"
    for _ in range(2):
        with pytest.raises(DeviceError, match=f"^vbd {taken}: another domain uses it$"):
            bench.devices.lock()
        assert not any(resource.locked for resource in bench.resources.values())
    bench.resources[taken].taken = ""
    bench.devices.lock()
    assert all(resource.locked for resource in bench.resources.values())


def test_without_devices_there_is_nothing_to_leave(bench: Bench) -> None:
    bench.devices.unlock()
    bench.devices.lock()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.integers(1, 3), st.integers(0, 6)),
        st.tuples(st.sampled_from(["add", "slow", "let go"]), st.integers(1, 3), st.just(0)),
        st.tuples(st.just("detach"), st.integers(1, 3), st.integers(0, 1)),
        st.tuples(st.sampled_from(["boot", "stop", "break"]), st.just(0), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=80)
@given(STEPS)
def test_whatever_comes_and_goes_each_end_is_told_once_and_nothing_is_held(
    steps: list[tuple[str, int, int]],
) -> None:
    before = descriptors()
    bench = Bench()
    ends: list[Callable[[], int]] = []
    made: list[FakeResource] = []
    runs = False
    for step, devid, how in steps:
        here = {entry["devid"] for entry in bench.devices.describe()}
        if step == "add" and devid not in here:
            bench.add(devid, pipe_end())
            made.append(bench.resources[devid])
        elif step == "says" and bench.store.value(f"{FRONT}/{devid}/state") is not None:
            bench.says(devid, how)
        elif step == "slow" and devid in here and bench.resources[devid].backends:
            bench.resources[devid].backends[-1].slow = True
        elif step == "let go" and devid in here and bench.resources[devid].backends:
            bench.resources[devid].backends[-1].let_go()
        elif step == "detach" and devid in here:
            ends.append(bench.detach(devid, force=bool(how)))
        elif step == "boot" and not runs and bench.settled:
            bench.boot()
            runs = True
        elif step == "stop" and runs:
            bench.devices.stop()
            runs = False
        elif step == "break":
            bench.store.connect()
            bench.store.settle()
    if runs:
        bench.devices.stop()
    for resource in made:
        for backend in resource.backends:
            backend.let_go()
    assert bench.settled
    assert [end() for end in ends] == [1] * len(ends)
    assert not any(backend.held for resource in made for backend in resource.backends)
    assert sum(resource.closed for resource in made) == len(bench.gone)
    bench.devices.close()
    assert all(resource.closed for resource in made)
    bench.close()
    assert set(descriptors()) <= set(before)
