"""A machine's Dom0 side, with a guest that is built and has not run: the test is the guest, and a hostile one."""

import os
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import pytest

from tests.unit.domain.process_kit import configuration, kernel
from xenion.dom0.console import ConsoleHub
from xenion.dom0.loop import Loop
from xenion.domain.devices import Devices
from xenion.domain.machine import EMERGENCY_BYTES, PULLS, Files, Identity, Machine, open_files
from xenion.domain.own_store import own_store
from xenion.domain.saved.read import SavedDomain
from xenion.domain.saved.state import Head, MachineState
from xenion.domain.saved.write import Outgoing
from xenion.domain.store import DomainStore
from xenion.processor.software import SoftwareProcessor

PATIENCE_S = 20.0
IN_PROD, OUT_CONS, OUT_PROD = 769, 770, 771
"""Words of the console's page."""


class Bench:
    def __init__(self, image: Path, saved: SavedDomain | None = None, domid: int = 7) -> None:
        self.loop = Loop()
        self.output = bytearray()
        self.hub = ConsoleHub(log=self.output.extend)
        self.errors: list[str] = []
        files = Files(BytesIO(image.read_bytes()))
        identity = Identity(domid, uuid4())
        self.store = DomainStore(self.loop, domid, identity.uuid, self.errors.append)
        self.server = own_store(self.loop, self.store, domid, str(identity.uuid))
        self.devices = Devices(self.loop, self.store.client, domid, {}, self.errors.append)
        self.machine = Machine(
            configuration(image),
            identity,
            files,
            SoftwareProcessor(),
            self.loop,
            self.hub,
            self.store,
            self.devices,
            saved,
        )
        self.machine.log_error = self.errors.append
        self.loop.start(lambda: None)
        self.machine.start()
        pfn, domain = self.machine.boot_state.console_pfn, self.machine.domain
        self.page = domain.memory.page(domain.space.mfn(pfn)).cast("I")

    def settle(self) -> None:
        """Dom0's thread has seen what the guest has notified of."""
        for _ in range(3):
            self.machine.domain.wake_dom0()
            assert self.loop.call_and_wait(lambda: None)

    def close(self) -> None:
        for close in (self.store.close, self.server.close):
            assert self.loop.call_and_wait(close)
        self.loop.stop()
        self.loop.close()
        self.machine.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench(kernel("poweroff", "hello\n"))
    yield made
    made.close()


def test_input_for_a_guest_that_broke_its_ring_is_its_own_fault(bench: Bench) -> None:
    bench.page[IN_PROD] = 0xDEADBEEF
    taken: list[int] = []
    for _ in range(2):
        assert bench.loop.call_and_wait(lambda: taken.append(bench.machine.feed(b"typed")))
    assert taken == [5, 5]
    assert len(bench.errors) == 1
    assert "broke its in ring" in bench.errors[0]
    assert bench.machine.run() == "poweroff"


def test_output_of_a_ring_that_is_broken(bench: Bench) -> None:
    bench.page[OUT_PROD] = 0xDEADBEEF
    bench.settle()
    assert len(bench.errors) == 1
    assert bench.machine.run() == "poweroff"
    assert bench.output == b"hello\n"


def test_much_output_is_moved_in_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[int] = []

    def pull() -> int:
        turns.append(len(turns))
        return 1 if len(turns) < 3 * PULLS else 0

    monkeypatch.setattr(bench.hub, "pull", pull)
    first: list[int] = []

    def serve() -> None:
        bench.machine.serve_console()
        first.append(len(turns))

    assert bench.loop.call_and_wait(serve)
    assert first == [PULLS]
    while len(turns) < 3 * PULLS:
        bench.loop.call_and_wait(lambda: None)
    assert bench.errors == []


def test_a_watchdog_sets_one_clock_however_often_the_guest_notifies(bench: Bench) -> None:
    watchdogs = bench.machine.domain.watchdogs
    watchdogs.operate(0, 3600, 0)
    for _ in range(100):
        bench.settle()
    assert len(bench.loop._timers) == 1
    watchdogs.operate(1, 1800, 0)
    bench.settle()
    watchdogs.operate(1, 0, 0)
    watchdogs.operate(0, 2400, 0)
    bench.settle()
    assert (
        len(bench.loop._timers) == 2
    )  # the first one was cancelled, and the second looks again when it is due


def test_held_until_all_have_let_go(bench: Bench) -> None:
    machine = bench.machine
    for who in ("xend", "dump"):
        machine.hold(who)
        assert machine.held_by(who)
    machine.let_go("dump")
    assert machine.domain.paused
    machine.let_go("xend")
    machine.let_go("xend")
    assert not machine.domain.paused


def test_a_full_emergency_console_gives_way_to_a_pause(bench: Bench) -> None:
    """Else the vCPU could not come to hold still before a reader makes room."""
    reader = bench.hub.attach()
    while bench.hub.room:
        bench.hub.publish(b"x" * bench.hub.room)
    bench.machine.hold("xend")
    bench.machine._write_emergency(b"y" * (EMERGENCY_BYTES + 1))
    bench.machine._write_emergency(b"z")
    bench.machine.let_go("xend")
    taken = bytearray()
    while b"z" not in taken:
        bench.loop.call_and_wait(lambda: taken.extend(reader.take()))
        bench.settle()
    assert taken.count(b"y") == EMERGENCY_BYTES + 1


def test_its_store_tells_the_name(bench: Bench) -> None:
    told: list[bytes] = []
    answered = threading.Event()

    def rename() -> None:
        bench.store.rename("other")
        bench.store.read_node("name", told.append)
        bench.store.read_node("nothing", told.append)
        bench.store.client.settle(answered.set)

    bench.loop.call(rename)
    assert answered.wait(PATIENCE_S)
    assert told == [b"other", b""]


# --- restored


@pytest.fixture
def saved(bench: Bench) -> Iterator[int]:
    """The machine at its first instruction, as domain 7, in a file."""
    machine = bench.machine
    machine.hold("save")
    runs = threading.Thread(target=machine.run)
    runs.start()
    while not machine.domain.parked:
        bench.settle()
    states: list[MachineState] = []
    assert bench.loop.call_and_wait(lambda: states.append(machine.state([])))
    head = Head(machine.config.to_mapping(), str(uuid4()), 7, 7, "guest", "software", 0.0, "1")
    fd = os.memfd_create("saved")
    Outgoing(machine.domain, head, fd, lambda done, most: True).finish(states[0])
    machine.domain.stop()
    runs.join()
    os.lseek(fd, 0, os.SEEK_SET)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("domid", [7, 9])
def test_one_that_was_saved_has_its_devices_when_it_goes_on(
    saved: int, domid: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And knows itself by the id that it had."""
    resumed: list[Devices] = []
    monkeypatch.setattr(Devices, "resume", lambda devices, guest: resumed.append(devices))
    made = Bench(kernel("poweroff", "hello\n"), SavedDomain(saved), domid)
    assert (made.machine.restored, made.machine.domain.domid, resumed) == (True, 7, [])
    assert made.loop.call_and_wait(made.machine.go_on)
    assert resumed == [made.devices]
    assert made.machine.run() == "poweroff"
    assert made.output == b"hello\n"
    made.close()


def test_files_are_read_again_at_each_boot(tmp_path: Path) -> None:
    image = kernel("poweroff")
    (tmp_path / "ramdisk").write_bytes(b"ramdisk")
    fds = os.open(image, os.O_RDONLY), os.open(tmp_path / "ramdisk", os.O_RDONLY)
    files = open_files(*fds)
    for _ in range(2):
        assert files.read_kernel()
        assert files.read_ramdisk() == b"ramdisk"
    files.close()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
