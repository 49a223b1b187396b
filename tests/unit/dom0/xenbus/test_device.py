"""A device's states as a conversation with its front end, and with one that says anything at any time."""

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dom0.xenbus.fake_backend import FakeBackend
from tests.unit.dom0.xenstore.replaceable import DOMID, Client
from xenion.abi.io.xenbus import XenbusState as S
from xenion.dom0.xenbus.device import COMPLAINTS, Device, backend_path, frontend_path
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.perms import Perm

ALLOWED = {
    S.InitWait: {S.Connected, S.Closing, S.Closed},
    S.Connected: {S.Closing, S.Closed, S.InitWait},
    S.Closing: {S.Closed, S.InitWait},
    S.Closed: {S.InitWait},
}
"""From one state of a back end to the next, as front ends know it of Linux's and Xen's back ends."""


class Bench(Client):
    """A device of domain 5, and the guest's hand in the store."""

    def __init__(self) -> None:
        super().__init__()
        self.store.connect()
        self.backend = FakeBackend()
        self.front = frontend_path("vbd", DOMID, self.backend.devid)
        self.back = backend_path("vbd", DOMID, self.backend.devid)
        self.logged: list[str] = []
        self.ends: list[str] = []
        self.states: list[S] = []
        """Of the back end, as the store had them one after the other."""
        self.device = self.make()
        self.me = Connection(DOMID)

    def make(self) -> Device:
        device = Device(self.client, DOMID, self.backend, self.logged.append)
        device.start()
        return device

    def step(self) -> None:
        """One exchange with the store."""
        self.store.move()
        self.note_state()

    def note_state(self) -> None:
        value = self.store.value(f"{self.back}/state")
        if value is not None and (not self.states or self.states[-1] != int(value)):
            self.states.append(S(int(value)))

    def settle(self) -> None:
        for _ in range(6):
            self.step()
        self.store.settle()
        self.note_state()

    def says(self, state: int | bytes, **nodes: str) -> None:
        """The front end; a guest that may not write there any more has nothing to say."""
        self.writes("state", state if isinstance(state, bytes) else b"%d" % state, **nodes)

    def writes(self, name: str, value: bytes, **nodes: str) -> None:
        if self.store.value(self.front) is None:
            return
        for more, text in nodes.items():
            self.store.store.write(self.me, f"{self.front}/{more.replace('_', '-')}", text.encode())
        self.store.store.write(self.me, f"{self.front}/{name}", value)
        self.note_state()

    def removes(self, name: str = "") -> None:
        path = f"{self.front}/{name}" if name else self.front
        if self.store.value(path) is not None:
            self.store.store.remove(self.me, path)

    def state(self) -> S | None:
        """The back end's, as the guest reads it."""
        value = self.store.value(f"{self.back}/state")
        return None if value is None else S(int(value))

    def connects(self) -> None:
        self.says(S.Initialised, ring_ref="8", event_channel="3")
        self.settle()
        assert self.state() == S.Connected
        self.says(S.Connected)
        self.settle()

    def detach(self, name: str = "detached", *, force: bool = False) -> None:
        self.device.detach(lambda: self.ends.append(name), force=force)

    def stop(self) -> None:
        self.device.stop(lambda: self.ends.append("stopped"))

    @property
    def present(self) -> bool:
        return self.store.value(self.front) is not None or self.store.value(self.back) is not None


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    made.settle()
    yield made
    made.close()


# --- the plain way


def test_what_the_guest_finds(bench: Bench) -> None:
    guest = bench.store.store
    for path, value in {
        f"{bench.back}/frontend": bench.front,
        f"{bench.back}/frontend-id": "5",
        f"{bench.back}/online": "1",
        f"{bench.back}/state": "2",
        f"{bench.back}/mode": "w",
        f"{bench.front}/backend": bench.back,
        f"{bench.front}/backend-id": "0",
        f"{bench.front}/state": "1",
        f"{bench.front}/virtual-device": "51712",
    }.items():
        assert guest.read(bench.me, path) == value.encode()
    with pytest.raises(StoreError, match="EACCES"):
        guest.write(bench.me, f"{bench.back}/state", b"4")
    assert guest.get_perms(bench.store.dom0, bench.front) == (Perm(DOMID, 0), Perm(0, 1))
    with pytest.raises(StoreError, match="EACCES"):
        guest.read(Connection(6), f"{bench.back}/state")


def test_it_connects_closes_and_connects_again(bench: Bench) -> None:
    for _ in range(3):
        bench.connects()
        assert bench.backend.front["ring-ref"] == "8"
        assert bench.store.value(f"{bench.back}/sectors") == b"8"
        assert bench.store.value(f"{bench.back}/hotplug-status") == b"connected"
        for front, back in ((S.Closing, S.Closing), (S.Closed, S.Closed), (S.Initialising, S.InitWait)):
            bench.says(front)
            bench.settle()
            assert bench.state() == back
        assert not bench.backend.held
    assert bench.backend.calls == ["connect", "disconnect"] * 3
    assert bench.logged == []


def test_the_nodes_are_there_before_the_state_that_tells_of_them(bench: Bench) -> None:
    seen: list[bytes | None] = []
    bench.backend.connect = lambda front: {f"node-{n}": "1" for n in range(50)}  # type: ignore[method-assign]
    bench.says(S.Connected)
    while bench.state() != S.Connected:
        seen.append(bench.store.value(f"{bench.back}/node-49"))
        bench.store.move(200, 200)
    assert bench.store.value(f"{bench.back}/node-49") == b"1"
    assert None in seen


def test_changes_while_it_is_connected_are_written_and_the_front_end_is_made_to_look(bench: Bench) -> None:
    bench.connects()
    events: list[str] = []
    bench.client.watch(f"{bench.back}/state", events.append)
    bench.settle()
    events.clear()
    bench.backend.changed({"sectors": "16"})
    bench.settle()
    assert bench.store.value(f"{bench.back}/sectors") == b"16"
    assert (events, bench.state()) == ([f"{bench.back}/state"], S.Connected)


def test_a_front_end_that_writes_all_at_once_is_seen_as_it_is_in_the_end(bench: Bench) -> None:
    for state in (S.Initialised, S.Connected, S.Closing, S.Closed):
        bench.says(state)
    bench.settle()
    assert bench.state() == S.Closed
    assert not bench.backend.held


def test_one_that_closes_before_it_was_connected(bench: Bench) -> None:
    """Linux's netfront waits for Closing, then for Closed, without end."""
    bench.says(S.Closing)
    bench.settle()
    assert bench.state() == S.Closing
    bench.says(S.Closed)
    bench.settle()
    assert bench.state() == S.Closed
    bench.says(S.Initialising)
    bench.settle()
    assert bench.state() == S.InitWait


@pytest.mark.parametrize("value", [b"", b"x", b"-1", b"99", b"4\0", b"\xff\xfe", b"\xb2", b"9" * 1000, b"07"])
def test_what_is_no_state_is_a_front_end_that_has_gone(bench: Bench, value: bytes) -> None:
    bench.connects()
    bench.says(value)
    bench.settle()
    assert bench.state() == (S.Connected if value == b"07" else S.Closed)
    assert bench.backend.held == (value == b"07")


def test_a_front_end_without_nodes_has_gone(bench: Bench) -> None:
    bench.connects()
    bench.removes()
    bench.settle()
    assert bench.state() == S.Closed
    assert not bench.backend.held


# --- what cannot be used


def test_a_refusal_is_told_and_the_next_try_is_a_new_one(bench: Bench) -> None:
    bench.backend.refuses = "the ring is nowhere"
    bench.says(S.Initialised)
    bench.settle()
    assert bench.state() == S.Closing
    assert bench.store.value(f"{bench.back}/error") == b"the ring is nowhere"
    assert bench.logged == ["vbd 51712: the ring is nowhere"]
    bench.backend.refuses = ""
    for state in (S.Closed, S.Initialising):
        bench.says(state)
        bench.settle()
    bench.connects()
    assert bench.backend.calls == ["connect", "connect"]
    assert bench.store.value(f"{bench.back}/error") is None


def test_a_guest_cannot_fill_the_log(bench: Bench) -> None:
    bench.backend.refuses = "no"
    for _ in range(COMPLAINTS + 5):
        for state in (S.Initialised, S.Closed, S.Initialising):
            bench.says(state)
            bench.settle()
        bench.backend.log("rings are broken, too")
    assert len(bench.logged) == COMPLAINTS
    assert bench.logged[-1].endswith("nothing more is written about it")


def test_the_back_end_sees_nodes_of_any_bytes_and_not_too_many(bench: Bench) -> None:
    bench.writes("ring-ref", bytes(range(256)))
    for number in range(900):
        bench.writes(f"queue-{number % 30}/{number}", b"")
    bench.says(S.Initialised)
    bench.settle()
    assert bench.state() == S.Connected
    assert bench.backend.front["ring-ref"] == bytes(range(256)).decode("latin-1")
    assert len(bench.backend.front) <= 1024


# --- slow


def test_what_the_front_end_does_while_a_slow_disk_ends_is_looked_at_then(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    for state in (S.Closing, S.Closed, S.Initialising, S.Closing, S.Closed, S.Initialising) * 50:
        bench.says(state)
        bench.settle()
    assert bench.state() == S.Connected
    assert bench.backend.held
    assert len(bench.backend._leaving) == 1
    bench.backend.slow = False
    bench.backend.let_go()
    bench.settle()
    assert bench.state() == S.InitWait
    bench.connects()


def test_one_that_closes_and_thinks_better_of_it_is_told_that_it_is_closed(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    bench.says(S.Closing)
    bench.settle()
    bench.says(S.Connected)
    bench.settle()
    bench.backend.slow = False
    bench.backend.let_go()
    bench.settle()
    assert (bench.state(), bench.backend.held) == (S.Closing, False)


# --- detaching


def test_detached_before_it_is_used(bench: Bench) -> None:
    bench.detach()
    bench.settle()
    assert bench.ends == ["detached"]
    assert not bench.present
    assert bench.backend.calls == []


def test_detached_when_the_guest_has_let_go_of_it(bench: Bench) -> None:
    bench.connects()
    bench.detach()
    bench.settle()
    assert (bench.state(), bench.store.value(f"{bench.back}/online")) == (S.Closing, b"0")
    assert bench.ends == []
    assert bench.device.detaching
    bench.says(S.Closing)
    bench.settle()
    assert bench.ends == []
    bench.says(S.Closed)
    bench.settle()
    assert bench.ends == ["detached"]
    assert not bench.present
    assert not bench.backend.held


def test_detached_by_force_at_once(bench: Bench) -> None:
    bench.connects()
    bench.detach("gently")
    bench.settle()
    bench.detach("by force", force=True)
    bench.settle()
    assert bench.ends == ["gently", "by force"]
    assert not bench.present
    assert not bench.backend.held


def test_detached_while_the_front_ends_nodes_are_read(bench: Bench) -> None:
    bench.says(S.Initialised, **{f"n{number}": "" for number in range(50)})
    while not bench.client._unanswered:
        bench.step()
    bench.step()
    bench.detach()
    bench.settle()
    assert (bench.ends, bench.backend.calls, bench.present) == (["detached"], [], False)


def test_by_force_waits_for_what_is_in_flight(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    bench.detach(force=True)
    bench.settle()
    assert (bench.ends, bench.present) == ([], True)
    bench.backend.let_go()
    bench.settle()
    assert (bench.ends, bench.present) == (["detached"], False)


def test_a_guest_that_opens_it_anew_instead_of_letting_go_has_let_go(bench: Bench) -> None:
    """And nothing of its memory is held."""
    bench.connects()
    bench.backend.slow = True
    bench.detach()
    bench.says(S.Initialising)
    bench.settle()
    assert (bench.ends, bench.present) == ([], True)
    bench.backend.let_go()
    bench.settle()
    assert (bench.ends, bench.present, bench.backend.held) == (["detached"], False, False)


def test_a_guest_that_stops_has_let_go_of_it(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    bench.detach()
    bench.settle()
    bench.stop()
    assert bench.ends == []
    bench.backend.let_go()
    bench.settle()
    assert bench.ends == ["detached", "stopped"]
    assert not bench.present


# --- stopping


@pytest.mark.parametrize("slow", [False, True])
def test_a_guest_that_stops_gets_its_memory_back_and_leaves_the_nodes(bench: Bench, slow: bool) -> None:
    bench.connects()
    bench.backend.slow = slow
    bench.stop()
    assert (bench.ends == ["stopped"]) != slow
    bench.backend.let_go()
    bench.says(S.Closed)
    bench.settle()
    assert bench.ends == ["stopped"]
    assert bench.present
    assert not bench.backend.held
    assert bench.store.store.domains[DOMID].process.watches == {}


def test_stopped_while_the_front_ends_nodes_are_read(bench: Bench) -> None:
    bench.says(S.Initialised)
    bench.step()
    bench.stop()
    bench.settle()
    assert (bench.ends, bench.backend.calls) == (["stopped"], [])


def test_the_next_boot_starts_anew(bench: Bench) -> None:
    bench.connects()
    bench.writes("left", b"over")
    bench.stop()
    bench.backend = FakeBackend()
    bench.device = bench.make()
    bench.settle()
    assert bench.state() == S.InitWait
    assert bench.store.value(f"{bench.front}/left") is None
    assert bench.store.value(f"{bench.front}/state") == b"1"
    bench.connects()


# --- a front end that does anything, a store that dies, at any time


STATES = st.sampled_from([b"%d" % state for state in range(9)] + [b"", b"x", b"\xff", b"77"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), STATES),
        st.tuples(st.just("moves"), st.integers(0, 300)),
        st.sampled_from(
            ["settles", "removes all", "removes state", "cuts", "connects", "slow", "fast", "refuses"]
        ),
        st.sampled_from(["lets go", "changes", "accepts"]),
    ),
    max_size=40,
)
Step = str | tuple[str, bytes] | tuple[str, int]


def play(bench: Bench, step: Step) -> None:
    backend = bench.backend
    match step:
        case ("says", bytes(state)):
            with suppress(StoreError):  # it may not write there yet
                bench.says(state)
        case ("moves", int(count)):
            bench.store.move(count, count)
        case "settles":
            bench.settle()
        case "removes all" | "removes state":
            with suppress(StoreError):
                bench.removes("state" if step == "removes state" else "")
        case "cuts":
            bench.store.cut()
        case "connects":
            bench.store.connect()
        case "slow" | "fast":
            backend.slow = step == "slow"
        case "refuses" | "accepts":
            backend.refuses = "no" if step == "refuses" else ""
        case "lets go":
            backend.let_go()
        case "changes":
            backend.changed({"x": "1"})
    bench.note_state()
    if bench.device.state == S.InitWait:
        assert not backend.held, "a front end is invited while the last connection is held"
    if bench.device.state == S.Connected and not bench.device._over:
        assert backend.held, "a front end is told that it is connected"


def calm(bench: Bench) -> None:
    """Whatever holds things up goes away."""
    bench.backend.slow, bench.backend.refuses = False, ""
    bench.store.connect()
    bench.settle()
    bench.backend.let_go()
    bench.settle()


def reset(bench: Bench) -> None:
    """As Linux does at the start of a crash kernel (xenbus_reset_frontend): it waits for each of these."""
    if bench.state() == S.Connected:
        bench.says(S.Closing)
        bench.settle()
        assert bench.state() == S.Closing
    if bench.state() != S.Closed:
        bench.says(S.Closed)
        bench.settle()
        assert bench.state() == S.Closed
    bench.says(S.Initialising)
    bench.settle()
    assert bench.state() == S.InitWait


@settings(max_examples=120)
@given(STEPS)
def test_after_anything_a_front_end_that_behaves_is_served(steps: list[Step]) -> None:
    bench = Bench()
    bench.settle()
    for step in steps:
        play(bench, step)
    calm(bench)
    if bench.store.value(bench.front) is None:
        bench.store.store.write(bench.store.dom0, bench.front, b"")
        bench.store.store.set_perms(bench.store.dom0, bench.front, (Perm(DOMID, 0), Perm(0, 1)))
    reset(bench)
    bench.connects()
    for before, after in zip(bench.states, bench.states[1:], strict=False):
        assert after in ALLOWED[before]
    assert len(bench.logged) <= COMPLAINTS
    bench.close()


@settings(max_examples=150)
@given(STEPS, STEPS, st.lists(st.sampled_from(["detach", "force", "stop"]), min_size=1, max_size=4))
def test_after_its_end_nothing_is_held_and_everybody_is_told_once(
    before: list[Step], between: list[Step], ends: list[str]
) -> None:
    bench = Bench()
    expected = []
    for step in before:
        play(bench, step)
    for number, end in enumerate(ends):
        if not bench.device._over:
            name = f"{end} {number}"
            expected.append(name)
            if end == "stop":
                bench.device.stop(lambda name=name: bench.ends.append(name))  # type: ignore[misc]
            else:
                bench.detach(name, force=end == "force")
        for step in between:
            play(bench, step)
    calm(bench)
    bench.store.store.write(bench.store.dom0, f"{bench.front}/state", b"6")
    bench.settle()
    assert bench.ends == expected
    assert not bench.backend.held
    assert bench.backend.calls.count("disconnect") <= bench.backend.calls.count("connect")
    if any(not name.startswith("stop") for name in expected):
        assert bench.store.value(bench.back) is None
    calls = list(bench.backend.calls)
    bench.store.store.write(bench.store.dom0, f"{bench.front}/state", b"3")
    bench.settle()
    assert bench.backend.calls == calls
    assert bench.store.store.domains[DOMID].process.watches == {}
    bench.close()


# --- a guest that is held, saved and restored


def hold(bench: Bench) -> list[str]:
    """Gets a word when the device rests."""
    said: list[str] = []
    bench.device.hold(lambda: said.append("rests"))
    return said


def nodes_of(bench: Bench) -> dict[str, bytes]:
    """All of the device's."""
    found = {}
    todo = [bench.front, bench.back]
    while todo:
        path = todo.pop()
        node = bench.store.store.tree.get(path)
        if node is not None:
            found[path] = node.value
            todo += [f"{path}/{name}" for name in bench.store.store.directory(bench.store.dom0, path)]
    return found


def let_go(bench: Bench) -> None:
    bench.device.let_go()
    bench.settle()


def test_one_that_is_not_used_rests_at_once(bench: Bench) -> None:
    before = nodes_of(bench)
    assert hold(bench) == ["rests"]
    let_go(bench)
    assert (bench.backend.calls, nodes_of(bench)) == ([], before)
    bench.connects()


def test_one_that_is_used_is_disconnected_and_connected_again_and_nobody_sees_it(bench: Bench) -> None:
    bench.connects()
    before, states = nodes_of(bench), list(bench.states)
    assert hold(bench) == ["rests"]
    bench.settle()
    assert (bench.backend.held, nodes_of(bench)) == (False, before)
    let_go(bench)
    assert bench.backend.calls == ["connect", "disconnect", "connect"]
    assert (nodes_of(bench), bench.states) == (before, states)
    bench.says(S.Closing)
    bench.settle()
    assert bench.state() == S.Closing


@pytest.mark.parametrize("held_first", [True, False])
def test_it_rests_when_what_is_in_flight_has_ended(bench: Bench, held_first: bool) -> None:
    """Whoever has disconnected it: the hold, or a front end that closed it a moment before."""
    bench.connects()
    bench.backend.slow = True
    if not held_first:
        bench.says(S.Closing)
        bench.settle()
        assert bench.backend.leaving
    said = hold(bench)
    bench.settle()
    assert said == []
    bench.backend.let_go()
    assert said == ["rests"]
    assert bench.backend.calls == ["connect", "disconnect"]
    bench.backend.slow = False
    let_go(bench)
    assert bench.state() == (S.Connected if held_first else S.Closing)
    assert said == ["rests"]


@pytest.mark.parametrize("front", [S.Initialised, S.Connected])
def test_a_front_end_that_gets_ready_when_it_is_held_waits(bench: Bench, front: S) -> None:
    """Its word may be on its way through the store."""
    bench.says(front)
    assert hold(bench) == ["rests"]
    bench.settle()
    assert (bench.backend.calls, bench.state()) == ([], S.InitWait)
    let_go(bench)
    assert (bench.backend.calls, bench.state()) == (["connect"], S.Connected)


def test_held_while_the_front_ends_nodes_are_read(bench: Bench) -> None:
    bench.says(S.Initialised, **{f"n{number}": "" for number in range(50)})
    while bench.device.front_state != S.Initialised:
        bench.step()
    assert (hold(bench), bench.backend.calls) == (["rests"], [])
    bench.settle()
    assert (bench.backend.calls, bench.state()) == ([], S.InitWait)
    let_go(bench)
    assert (bench.backend.calls, bench.state()) == (["connect"], S.Connected)


def test_a_front_end_that_goes_when_it_is_held_is_found_gone(bench: Bench) -> None:
    bench.connects()
    bench.says(S.Closed)
    hold(bench)
    bench.settle()
    assert bench.state() == S.Connected
    let_go(bench)
    assert (bench.state(), bench.backend.held) == (S.Closed, False)


def test_a_refusal_when_it_goes_on_is_told(bench: Bench) -> None:
    bench.connects()
    hold(bench)
    bench.backend.refuses = "the ring is nowhere"
    let_go(bench)
    assert bench.state() == S.Closing
    assert bench.logged == ["vbd 51712: the ring is nowhere"]


def test_it_can_be_held_again(bench: Bench) -> None:
    bench.connects()
    for _ in range(3):
        assert hold(bench) == ["rests"]
        let_go(bench)
        assert (bench.state(), bench.backend.held) == (S.Connected, True)


def test_let_go_before_it_rests(bench: Bench) -> None:
    """The hold was given up: nobody is told any more, and it is connected again all the same."""
    bench.connects()
    bench.backend.slow = True
    said = hold(bench)
    let_go(bench)
    bench.backend.slow = False
    bench.backend.let_go()
    bench.settle()
    assert said == []
    assert bench.backend.held, f"its front end waits, and it is {bench.state()!r}"


def test_a_guest_that_stops_while_it_is_held(bench: Bench) -> None:
    bench.connects()
    hold(bench)
    bench.stop()
    assert bench.ends == ["stopped"]
    let_go(bench)
    assert bench.backend.calls == ["connect", "disconnect"]


def test_a_guest_that_stops_before_it_rests(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    hold(bench)
    bench.stop()
    assert bench.ends == []
    bench.backend.let_go()
    assert bench.ends == ["stopped"]
    let_go(bench)
    assert not bench.backend.held


def test_one_that_is_detached_while_it_is_held_is_not_taken_from_its_guest(bench: Bench) -> None:
    bench.connects()
    hold(bench)
    bench.detach()
    bench.settle()
    assert (bench.ends, bench.present) == ([], True)
    let_go(bench)
    assert (bench.ends, bench.state()) == ([], S.Closing)
    bench.says(S.Closed)
    bench.settle()
    assert (bench.ends, bench.present) == (["detached"], False)


def test_detached_by_force_before_it_rests(bench: Bench) -> None:
    bench.connects()
    bench.backend.slow = True
    hold(bench)
    bench.detach(force=True)
    bench.backend.slow = False
    bench.backend.let_go()
    let_go(bench)
    assert (bench.ends, bench.present) == (["detached"], False)


def test_held_while_it_is_taken_away_by_force(bench: Bench) -> None:
    """And its guest, which closes it, never comes to an end with that."""
    bench.connects()
    bench.backend.slow = True
    bench.detach(force=True)
    bench.says(S.Closing)
    bench.settle()
    hold(bench)
    bench.backend.slow = False
    bench.backend.let_go()
    let_go(bench)
    assert (bench.ends, bench.present) == (["detached"], False)


def test_changes_while_it_is_held_are_not_seen_before_it_goes_on(bench: Bench) -> None:
    bench.connects()
    hold(bench)
    before = nodes_of(bench)
    bench.backend.changed({"sectors": "16"})
    bench.settle()
    assert nodes_of(bench) == before


# --- resumed


def resumes(bench: Bench) -> None:
    """Another back end, around the nodes that are there."""
    hold(bench)
    bench.client.reset()
    bench.backend = FakeBackend()
    bench.device = Device(bench.client, DOMID, bench.backend, bench.logged.append)
    bench.device.resume()
    bench.settle()


def test_a_restored_guest_finds_it_connected(bench: Bench) -> None:
    bench.connects()
    before, states = nodes_of(bench), list(bench.states)
    resumes(bench)
    assert bench.backend.calls == ["connect"]
    assert bench.backend.front["ring-ref"] == "8"
    assert (nodes_of(bench), bench.states) == (before, states)
    bench.says(S.Closing)
    bench.settle()
    assert (bench.state(), bench.backend.held) == (S.Closing, False)


def test_a_restored_guest_that_had_not_connected_it_does_so(bench: Bench) -> None:
    resumes(bench)
    assert (bench.backend.calls, bench.state()) == ([], S.InitWait)
    bench.connects()


@pytest.mark.parametrize("front", [S.Closing, S.Closed])
def test_a_restored_guest_that_had_closed_it_may_open_it_anew(bench: Bench, front: S) -> None:
    bench.connects()
    for state in (S.Closing, front):
        bench.says(state)
        bench.settle()
    resumes(bench)
    assert not bench.backend.held
    for state in (S.Closed, S.Initialising):
        bench.says(state)
        bench.settle()
    assert bench.state() == S.InitWait
    bench.connects()


def test_a_restored_guests_device_can_be_detached(bench: Bench) -> None:
    bench.connects()
    resumes(bench)
    bench.detach()
    bench.settle()
    assert (bench.state(), bench.ends) == (S.Closing, [])
    bench.says(S.Closed)
    bench.settle()
    assert (bench.ends, bench.present) == (["detached"], False)
    assert bench.store.store.domains[DOMID].process.watches == {}
