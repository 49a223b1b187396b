"""What follows from a request: who holds the guest, what the journal says, when a pause is answered."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import pytest

from tests.descriptors import descriptors
from tests.unit.domain.holding_kit import HeldGuest
from xenion.dom0.loop import Loop
from xenion.domain import requests
from xenion.domain.control import Refusal, Request
from xenion.domain.devices import DeviceError, DeviceOrder
from xenion.domain.process import DomainProcess
from xenion.domain.requests import BUILDING, HOLDER, STOPPED, Requests
from xenion.domain.saved.state import Head
from xenion.domain.saves import Moving
from xenion.processor import CpuidLeaf


class Process:
    """As much of a process as requests ask for."""

    def __init__(self) -> None:
        self.machine: HeldGuest | None = HeldGuest()
        self.running = True
        self.kinds: list[str] = []
        self.files: dict[str, list[int]] = {"log": [], "report": [], "core": []}
        self.journal = SimpleNamespace(add=self.kinds.append, trim=lambda through: through == 3)
        self.dumps, self.saves = SimpleNamespace(), SimpleNamespace(busy=False)
        self.log, self.report, self.core = (
            SimpleNamespace(replace=self.files[kind].append) for kind in ("log", "report", "core")
        )
        self.requests = Requests(cast("DomainProcess", self))
        self.answers: list[Any] = []
        self.open = True
        self.arriving: list[Request] = []
        self.arrive = self.arriving.append

    def send(self, message: dict[str, Any]) -> None:
        self.answers.append(message.get("done", message.get("error")))

    def ask(self, word: str, fds: list[int] | None = None, **fields: Any) -> Any:
        """The answer, or None while there is none."""
        self.answers.clear()
        request = Request(cast("Any", self), 1, fields, fds or [])
        try:
            self.requests.handlers()[word](request)
        except Refusal as refusal:
            request.refuse(str(refusal))
        return self.answers[0] if self.answers else None


@pytest.fixture
def process() -> Iterator[Process]:
    before = descriptors()
    yield Process()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def guest(process: Process) -> HeldGuest:
    assert process.machine is not None
    return process.machine


def test_a_pause_is_answered_when_the_guest_holds_still(process: Process) -> None:
    assert process.ask("pause") is None
    process.requests.look()
    assert process.answers == []
    guest(process).domain.parked = True
    process.requests.look()
    process.requests.look()
    assert process.answers == [{}]
    assert process.kinds == ["paused"]


def test_a_pause_that_is_taken_back_is_answered(process: Process) -> None:
    process.ask("pause")
    assert process.ask("unpause") == {}
    assert process.answers == [{}, {}]
    assert process.kinds == ["paused", "unpaused"]


def test_what_others_hold_is_not_ours_to_let_go(process: Process) -> None:
    guest(process).hold("dump")
    assert process.ask("unpause") == {}
    assert process.kinds == []
    process.ask("pause")
    assert process.kinds == ["paused"]
    assert guest(process).holders == {"dump", HOLDER}
    process.ask("unpause")
    assert guest(process).holders == {"dump"}


def test_a_pause_of_a_guest_that_stops_meanwhile_is_refused(process: Process) -> None:
    process.ask("pause")
    process.running = False
    process.requests.look()
    assert process.answers == [STOPPED]


@pytest.mark.parametrize("word", ["pause", "unpause", "shutdown", "sysrq", "nmi"])
def test_what_needs_a_guest_that_runs(process: Process, word: str) -> None:
    fields: dict[str, Any] = {"mode": "reboot", "key": "s", "vcpu": 0}
    process.running = False
    assert process.ask(word, **fields) == STOPPED
    process.machine = None
    assert process.ask(word, **fields) == BUILDING
    assert process.kinds == []


@pytest.mark.parametrize(
    ("holder", "states"),
    [
        ("", ["running", "blocked", "offline"]),
        ("xend", ["paused", "paused", "offline"]),
        ("cap", ["running", "blocked", "offline"]),
    ],
)
def test_virtual_cpus(process: Process, holder: str, states: list[str]) -> None:
    """One that a cap holds for a moment is running; it is the one whose turn it is."""
    turn = "offline" if holder else "running"
    guest(process).domain.vcpus = [
        SimpleNamespace(state=SimpleNamespace(online=online), runstate=runstate, seconds=1.5)
        for online, runstate in ((1, turn), (1, "blocked"), (0, "offline"))
    ]
    if holder:
        guest(process).hold(holder)
    assert process.ask("vcpus") == {"vcpus": [{"state": state, "cpu_seconds": 1.5} for state in states]}


@pytest.mark.parametrize("kind", ["log", "report", "core"])
def test_a_new_file(process: Process, kind: str) -> None:
    fd = os.memfd_create("file")
    assert process.ask(kind, fds=[fd]) == {}
    assert process.files[kind] == [fd]
    os.close(fd)
    assert "0 descriptors" in process.ask(kind)
    assert "2 descriptors" in process.ask(kind, fds=[os.memfd_create("a"), os.memfd_create("b")])
    assert process.files[kind] == [fd]


def test_trim(process: Process) -> None:
    assert process.ask("trim", through=3) == {"trimmed": True}
    assert process.ask("trim", through=2) == {"trimmed": False}
    assert "whole number" in process.ask("trim", through="3")


# --- the store and devices


def pipe_end() -> int:
    reader, writer = os.pipe()
    os.close(writer)
    return reader


class Devices:
    """As much of a domain's devices as requests ask for: `gone` is what a detached one is told with."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.gone: Any = None
        self.refuses = ""

    def _refuse(self, fds: Sequence[int]) -> None:
        for fd in fds:
            os.close(fd)
        if self.refuses:
            raise DeviceError(self.refuses)

    def add(self, order: DeviceOrder) -> None:
        self.asked.append((order.kind, order.devid, order.description, order.config, len(order.fds)))
        self._refuse(order.fds)

    def detach(self, kind: str, devid: int, then: Any, *, force: bool) -> None:
        self.asked.append((kind, devid, force))
        self._refuse(())
        self.gone = then

    def configure(self, kind: str, devid: int, changes: Any, fds: Sequence[int]) -> dict[str, Any]:
        self.asked.append((kind, devid, changes, len(fds)))
        self._refuse(fds)
        return {"packets": 3}

    def reconnect(self, kind: str, devid: int, description: Any, fds: Sequence[int]) -> None:
        self.asked.append((kind, devid, description, len(fds)))
        self._refuse(fds)

    def standby(self, kind: str, devid: int, description: Any, fds: Sequence[int]) -> None:
        self.asked.append(("standby", kind, devid, description, len(fds)))
        self._refuse(fds)

    def describe(self) -> list[dict[str, Any]]:
        return [{"kind": "vbd", "devid": 1}]


class WithDevices(Process):
    def __init__(self) -> None:
        super().__init__()
        self.devices = Devices()
        self.loop = Loop()
        self.sockets: list[socket.socket] = []
        self.store = SimpleNamespace(connect=lambda *streams: self.sockets.extend(streams))

    def close(self) -> None:
        for stream in self.sockets:
            stream.close()
        self.loop.close()


@pytest.fixture
def full() -> Iterator[WithDevices]:
    before = descriptors()
    made = WithDevices()
    yield made
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


ORDER: dict[str, Any] = {"kind": "vbd", "devid": 1, "description": {"a": 1}, "config": {"b": 2}}


def test_new_connections_to_the_store(full: WithDevices) -> None:
    ends = [*socket.socketpair(), *socket.socketpair()]
    assert full.ask("store", fds=[ends[0].detach(), ends[2].detach()]) == {}
    full.sockets[1].send(b"x")
    assert ends[3].recv(1) == b"x", "the second is the back ends'"
    for end in ends:
        end.close()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_the_store_takes_two_connections(full: WithDevices, count: int) -> None:
    assert f"{count} descriptors" in full.ask("store", fds=[pipe_end() for _ in range(count)])
    assert full.sockets == []


@pytest.mark.parametrize("first", [False, True])
def test_what_is_no_socket_is_no_connection_to_the_store(full: WithDevices, first: bool) -> None:
    ours, theirs = socket.socketpair()
    fds = [ours.detach(), pipe_end()]
    assert "no sockets" in full.ask("store", fds=fds[::-1] if first else fds)
    assert theirs.recv(1) == b""
    theirs.close()


def test_devices(full: WithDevices) -> None:
    assert full.ask("devices") == {"devices": [{"kind": "vbd", "devid": 1}]}


@pytest.mark.parametrize("fds", [0, 1, 8])
def test_attach(full: WithDevices, fds: int) -> None:
    assert full.ask("attach", fds=[pipe_end() for _ in range(fds)], **ORDER) == {}
    assert full.devices.asked == [("vbd", 1, {"a": 1}, {"b": 2}, fds)]


@pytest.mark.parametrize("key", list(ORDER))
def test_attach_needs_all_of_it(full: WithDevices, key: str) -> None:
    assert f"{key!r}" in full.ask("attach", fds=[pipe_end()], **(ORDER | {key: None}))
    assert full.devices.asked == []


@pytest.mark.parametrize(
    ("word", "fields"),
    [
        ("attach", ORDER),
        ("detach", {"kind": "vbd", "devid": 1}),
        ("configure-device", {"kind": "vbd", "devid": 1, "changes": {}}),
        ("reconnect-device", {"kind": "vbd", "devid": 1, "description": {}}),
        ("standby-device", {"kind": "vbd", "devid": 1, "description": {}}),
    ],
)
def test_what_a_device_cannot_do_is_told(full: WithDevices, word: str, fields: dict[str, Any]) -> None:
    full.devices.refuses = "the domain has no vbd 1"
    assert full.ask(word, fds=[pipe_end()], **fields) == "the domain has no vbd 1"
    full.loop.turn(0)
    assert full.answers == ["the domain has no vbd 1"]


def test_configure_and_reconnect(full: WithDevices) -> None:
    fields: dict[str, Any] = {"kind": "vif", "devid": 0}
    assert full.ask("configure-device", changes={"rate": [1, 2]}, **fields) == {"packets": 3}
    assert full.ask("configure-device", changes={"capture": {}}, fds=[pipe_end()], **fields) == {"packets": 3}
    assert full.ask("reconnect-device", description={"nbd": {}}, fds=[pipe_end()], **fields) == {}
    assert full.devices.asked == [
        ("vif", 0, {"rate": [1, 2]}, 0),
        ("vif", 0, {"capture": {}}, 1),
        ("vif", 0, {"nbd": {}}, 1),
    ]
    assert "'changes'" in full.ask("configure-device", fds=[pipe_end()], **fields)
    assert "'description'" in full.ask("reconnect-device", fds=[pipe_end()], **fields)
    assert "0 descriptors" in full.ask("reconnect-device", description={}, **fields)


@pytest.mark.parametrize("fds", [1, 8])
def test_what_stands_by(full: WithDevices, fds: int) -> None:
    fields: dict[str, Any] = {"kind": "vbd", "devid": 1, "description": {"type": "nbd"}}
    assert full.ask("standby-device", fds=[pipe_end() for _ in range(fds)], **fields) == {}
    assert full.devices.asked == [("standby", "vbd", 1, {"type": "nbd"}, fds)]


@pytest.mark.parametrize("key", ["kind", "devid", "description"])
def test_what_stands_by_has_to_be_described(full: WithDevices, key: str) -> None:
    fields: dict[str, Any] = {"kind": "vbd", "devid": 1, "description": {}}
    assert f"{key!r}" in full.ask("standby-device", fds=[pipe_end()], **(fields | {key: None}))
    assert "0 descriptors" in full.ask("standby-device", **fields)
    assert full.devices.asked == []


@pytest.mark.parametrize("late", [False, True])
def test_a_detached_device_is_answered_when_it_is_gone(full: WithDevices, late: bool) -> None:
    fields: dict[str, Any] = {"kind": "vbd", "devid": 1, "force": True}
    assert full.ask("detach", **fields) is None
    assert full.devices.asked == [("vbd", 1, True)]
    if late:
        full.loop.turn(0)
        assert full.answers == []
    full.devices.gone()
    assert full.answers == [{}]
    full.devices.gone()
    full.loop.turn(0)
    assert full.answers == [{}]


@pytest.mark.parametrize(("force", "words"), [(False, "--force takes it away"), (True, "does not answer")])
def test_who_waits_for_a_device_that_does_not_go_is_told_so(
    full: WithDevices, monkeypatch: pytest.MonkeyPatch, force: bool, words: str
) -> None:
    monkeypatch.setattr(requests, "DETACH_SECONDS", 0.001)
    assert full.ask("detach", kind="vbd", devid=1, force=force) is None
    while not full.answers:
        full.loop.turn(0.01)
    assert "vbd 1" in full.answers[0]
    assert words in full.answers[0]
    full.devices.gone()
    assert len(full.answers) == 1


# --- saved and moved


class Saves:
    """As much of them as requests ask for; `stands`: what `finish` answers; `waits`: what `switch` does."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.head: Head
        self.stands = True
        self.waits = True
        self.refuses: Exception | None = None

    def begin(
        self,
        request: Request,
        machine: object,
        head: Head,
        *,
        ask: bool,
        moving: Moving | None = None,
        keep: object = None,
        switch: bool = False,
    ) -> None:
        self.asked.append((ask, moving))
        self.keep, self.switches = keep, switch
        self.head = head
        self._refuse()
        for fd in request.take_fds():
            os.close(fd)
        request.done(remarks=[])

    def release(self) -> None:
        self.asked.append("release")
        self._refuse()

    def switch(self) -> bool:
        self.asked.append("switch")
        self._refuse()
        return self.waits

    def finish(self, *, keep: bool) -> bool:
        self.asked.append(keep)
        self._refuse()
        return self.stands

    def cancel(self) -> None:
        self.asked.append("cancel")

    def echo(self, number: int) -> None:
        self.asked.append(number)

    def _refuse(self) -> None:
        if self.refuses is not None:
            raise self.refuses


class Savable(Process):
    def __init__(self) -> None:
        super().__init__()
        self.saves = Saves()  # type: ignore[assignment]
        self.watch = object()
        self.config = SimpleNamespace(name="now")
        self.identity = SimpleNamespace(uuid=UUID(int=5), domid=9)
        self.destroyed: list[str] = []
        config = SimpleNamespace(to_mapping=lambda: {"name": "then", "memory": 64, "disks": ["old"]})
        features = SimpleNamespace(name="hardware")
        guest(self).config = config  # type: ignore[attr-defined]
        guest(self).domain = SimpleNamespace(
            parked=False,
            domid=4,
            processor=SimpleNamespace(features=features),
            cpuid=[CpuidLeaf(1, None, 2, 3, 4, 5)],
        )

    def destroy(self, reason: str = "destroyed") -> None:
        assert self.answers, "who asks would not hear of it"
        self.destroyed.append(reason)

    @property
    def made(self) -> Saves:
        return cast("Saves", self.saves)


@pytest.fixture
def savable() -> Iterator[Savable]:
    before = descriptors()
    yield Savable()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


BY: dict[str, Any] = {"by": "1.2", "disks": ["xvda"], "vifs": []}


@pytest.mark.parametrize("keep", [False, True, None, "yes"])
def test_one_that_is_to_be_kept(savable: Savable, keep: object) -> None:
    savable.ask("save", [pipe_end()], **BY, keep=keep)
    assert savable.made.keep is (savable.watch if keep is True else None)


@pytest.mark.parametrize("switch", [False, True, None, "yes", 1])
def test_one_whose_disks_are_switched(savable: Savable, switch: object) -> None:
    savable.ask("save", [pipe_end()], **BY, keep=True, switch=switch)
    assert savable.made.switches is (switch is True)


def test_one_that_moves_is_not_switched(savable: Savable) -> None:
    savable.ask("migrate", [pipe_end()], **BY, keep=True, switch=True)
    assert (savable.made.switches, savable.made.keep) == (False, None)


@pytest.mark.parametrize("waits", [True, False])
def test_its_disks_have_been_switched(savable: Savable, waits: bool) -> None:
    savable.made.waits = waits
    assert savable.ask("switched") == {"switched": waits}
    assert savable.made.asked == ["switch"]


def test_disks_that_cannot_be_switched(savable: Savable) -> None:
    savable.made.refuses = DeviceError("disk xvda: what stands by for it has another size")
    assert savable.ask("switched") == "disk xvda: what stands by for it has another size"


@pytest.mark.parametrize("word", ["save", "migrate"])
def test_what_it_is_now(savable: Savable, word: str) -> None:
    """The guest may know itself by another id than the one that it has here."""
    assert savable.ask(word, [pipe_end()], **BY) == {"remarks": []}
    head = savable.made.head
    assert head.config == {"name": "now", "memory": 64, "disks": ["xvda"], "vifs": []}
    assert (head.uuid, head.domid, head.known_as) == (str(UUID(int=5)), 9, 4)
    assert (head.name, head.processor, head.xenion) == ("now", "hardware", "1.2")
    assert head.cpuid == [(1, None, 2, 3, 4, 5)]
    assert abs(head.saved_at - time.time()) < 60


def test_its_processor(savable: Savable) -> None:
    assert savable.ask("processor") == {"processor": "hardware", "cpuid": [(1, None, 2, 3, 4, 5)]}


@pytest.mark.parametrize("ask", [True, False, None, "yes"])
def test_a_save(savable: Savable, ask: object) -> None:
    savable.ask("save", [pipe_end()], ask=ask, **BY)
    assert savable.made.asked == [(ask is True, None)]


@pytest.mark.parametrize(
    ("fields", "ask", "live", "worst_s"),
    [
        ({}, False, False, None),
        ({"live": True}, False, True, None),
        ({"live": True, "worst_ms": 300}, False, True, 0.3),
        ({"live": True, "worst_ms": 0}, False, True, 0.0),
        ({"live": True, "worst_ms": 0.5}, False, True, 0.0005),
        ({"live": True, "worst_ms": None}, False, True, None),
        ({"live": True, "worst_ms": "long"}, False, True, None),
        ({"live": 1, "ask": True}, True, False, None),
        ({"live": False, "ask": True}, True, False, None),
    ],
)
def test_a_migration(
    savable: Savable, fields: dict[str, Any], ask: bool, live: bool, worst_s: float | None
) -> None:
    savable.ask("migrate", [pipe_end()], **fields, **BY)
    ((asked, moving),) = savable.made.asked
    assert asked is ask
    assert (moving.watch, moving.worst_s) == (savable.watch if live else None, worst_s)


@pytest.mark.parametrize("word", ["save", "migrate"])
@pytest.mark.parametrize("key", list(BY))
def test_they_need_all_of_it(savable: Savable, word: str, key: str) -> None:
    assert f"{key!r}" in savable.ask(word, [pipe_end()], **(BY | {key: None}))
    assert savable.made.asked == []


@pytest.mark.parametrize("word", ["save", "migrate"])
def test_they_need_a_guest_that_runs(savable: Savable, word: str) -> None:
    savable.running = False
    assert savable.ask(word, [pipe_end()], **BY) == STOPPED
    savable.machine = None
    assert savable.ask(word, [pipe_end()], **BY) == BUILDING


@pytest.mark.parametrize("word", ["save", "migrate"])
def test_one_that_is_under_way_already(savable: Savable, word: str) -> None:
    savable.made.refuses = Refusal("wait for it")
    assert savable.ask(word, [pipe_end()], **BY) == "wait for it"


@pytest.mark.parametrize("word", ["cancel-save", "cancel-migrate"])
def test_they_are_cancelled(savable: Savable, word: str) -> None:
    assert savable.ask(word) == {}
    assert savable.made.asked == ["cancel"]


def test_what_the_other_host_has_got(savable: Savable) -> None:
    assert savable.ask("echo", number=3) == {}
    assert "whole number" in savable.ask("echo", number="3")
    assert savable.made.asked == [3]


def test_its_disks_are_released(savable: Savable) -> None:
    assert savable.ask("release") == {}
    for error in (Refusal("the domain has gone on"), DeviceError("the domain has gone on")):
        savable.made.refuses = error
        assert savable.ask("release") == "the domain has gone on"


@pytest.mark.parametrize(
    ("fields", "ends"),
    [
        ({"keep": False}, "saved"),
        ({}, "saved"),
        ({"reason": "saved"}, "saved"),
        ({"keep": False, "reason": "migrated"}, "migrated"),
        ({"reason": "anything"}, "saved"),
        ({"reason": ["migrated"]}, "saved"),
        ({"keep": 1}, "saved"),
    ],
)
def test_finished_it_ends(savable: Savable, fields: dict[str, Any], ends: str) -> None:
    assert savable.ask("finish-save", **fields) == {"saved": True}
    assert (savable.made.asked, savable.destroyed) == ([False], [ends])


def test_finished_it_goes_on(savable: Savable) -> None:
    assert savable.ask("finish-save", keep=True, reason="migrated") == {"saved": True}
    assert (savable.made.asked, savable.destroyed) == ([True], [])


@pytest.mark.parametrize("keep", [True, False])
def test_finished_though_it_has_gone_on_before(savable: Savable, keep: bool) -> None:
    """It is not ended: it may be the only one that there is."""
    savable.made.stands = False
    assert savable.ask("finish-save", keep=keep, reason="migrated") == {"saved": False}
    assert savable.destroyed == []


def test_it_cannot_go_on_without_its_disks(savable: Savable) -> None:
    savable.made.refuses = DeviceError("vbd 51712: another domain uses it")
    assert savable.ask("finish-save", keep=True) == "vbd 51712: another domain uses it"
    assert savable.destroyed == []


def test_one_that_has_come_is_told_to_go_on(process: Process) -> None:
    assert process.ask("arrive") is None
    (request,) = process.arriving
    request.done()
    assert process.answers == [{}]


@pytest.mark.parametrize("busy", [True, False])
def test_nothing_is_attached_to_what_is_moved(full: WithDevices, busy: bool) -> None:
    full.saves.busy = busy
    answer = full.ask("attach", fds=[pipe_end()], **ORDER)
    assert (answer == {}, len(full.devices.asked)) == (not busy, int(not busy))
