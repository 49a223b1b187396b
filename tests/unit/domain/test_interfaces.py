"""Interfaces as a domain's process has them: a wire through all boots, its rate, and who listens in."""

import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net.front import FrontEnd, options
from xenion.dom0.loop import Loop
from xenion.dom0.net.announce import announcement
from xenion.domain import interfaces
from xenion.domain.devices import DeviceError, DeviceOrder
from xenion.domain.interfaces import CAPTURES, InterfaceResource

BROADCAST = b"\xff" * 6 + bytes(54)


class Bench:
    def __init__(self) -> None:
        self.loop = Loop()
        self.lost: list[str] = []
        self.guest = FakeGuest(self.loop, 0)
        ours, self.peer = socket.socketpair()
        self.vif = self.make(ours.detach())

    def make(self, fd: int, kind: str = "stream", **wire: Any) -> InterfaceResource:
        described = {
            "options": options(queues=2).describe(),
            "wire": {"kind": kind, **wire},
            "peer": "switch",
        }
        return InterfaceResource(DeviceOrder("vif", 0, described, {}, [fd]), self.loop, self.lost.append)

    def turns(self) -> None:
        for _ in range(10):
            self.loop.turn(0)

    def sends(self, frame: bytes = BROADCAST) -> None:
        """From the other side."""
        self.peer.send(struct.pack(">I", len(frame)) + frame)
        self.turns()

    def close(self) -> None:
        self.vif.close()
        self.peer.close()
        self.turns()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = descriptors()
    made = Bench()
    yield made
    made.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def capture(bench: Bench, number: int) -> int:
    """The end that reads it."""
    reader, writer = os.pipe()
    try:
        bench.vif.configure({"capture": {"id": number, "snap": 65535}}, [writer])
    except DeviceError:
        os.close(reader)
        raise
    return reader


def test_counters_go_on_from_boot_to_boot(bench: Bench) -> None:
    for boot in (1, 2, 3):
        backend = bench.vif.backend(bench.guest, 0)
        backend.connect(FrontEnd(bench.guest, 1, split=False).nodes)
        bench.turns()
        bench.sends()
        backend.disconnect(lambda: None)
        assert bench.guest.mapped == []
        told = bench.vif.describe()
        assert (told["peer"], told["rate"]) == ("switch", [0, 50_000])
        assert told["rx_packets"] + told["rx_drops"] == boot


def test_a_rate_holds_for_this_boot_and_the_next(bench: Bench) -> None:
    changes: list[dict[str, str]] = []
    backend = bench.vif.backend(bench.guest, 0)
    backend.changed = lambda nodes: changes.append(dict(nodes))
    assert bench.vif.configure({"rate": [1000, 20_000]}, ()) == {}
    assert changes == [{"rate": "20,20000"}]
    assert bench.vif.describe()["rate"] == [1000, 20_000]
    assert bench.vif.backend(bench.guest, 0).backend_nodes()["rate"] == "20,20000"


def test_a_rate_before_the_first_boot(bench: Bench) -> None:
    bench.vif.configure({"rate": [1000, 20_000]}, ())
    assert "rate" in bench.vif.backend(bench.guest, 0).backend_nodes()


def test_a_capture_goes_on_from_boot_to_boot_until_it_is_stopped(bench: Bench) -> None:
    reader = capture(bench, 7)
    assert bench.vif.configure({"stop_capture": 7}, ()) == {"packets": 0, "dropped": 0}
    assert len(os.read(reader, 100)) == 24, "the head of a pcap file"
    assert os.read(reader, 100) == b""
    os.close(reader)
    with pytest.raises(DeviceError, match="no capture 7"):
        bench.vif.configure({"stop_capture": 7}, ())


def test_so_many_captures_and_no_more(bench: Bench) -> None:
    readers = [capture(bench, number) for number in range(CAPTURES)]
    with pytest.raises(DeviceError, match=f"{CAPTURES} captures already"):
        readers.append(capture(bench, 99))
    bench.vif.configure({"stop_capture": 0}, ())
    readers.append(capture(bench, 99))
    for reader in readers:
        os.close(reader)


def test_captures_that_nobody_reads_any_more_give_way(bench: Bench) -> None:
    readers = [capture(bench, number) for number in range(CAPTURES)]
    os.close(readers.pop(3))
    bench.vif._named[3].frame(b"x" * 60)
    readers.append(capture(bench, 99))
    with pytest.raises(DeviceError, match="no capture 3"):
        bench.vif.configure({"stop_capture": 3}, ())
    with pytest.raises(DeviceError, match=f"{CAPTURES} captures already"):
        readers.append(capture(bench, 100))
    for reader in readers:
        os.close(reader)


def test_captures_end_with_the_interface() -> None:
    bench = Bench()
    reader = capture(bench, 1)
    bench.close()
    os.read(reader, 100)
    assert os.read(reader, 100) == b""
    os.close(reader)


def test_the_other_side_goes_and_comes_back(bench: Bench) -> None:
    backend = bench.vif.backend(bench.guest, 0)
    bench.peer.close()
    bench.turns()
    assert len(bench.lost) == 1
    ours, bench.peer = socket.socketpair()
    bench.vif.reconnect({}, [ours.detach()])
    bench.sends()
    assert backend.counters.rx_drops == 1, "no front end is there to take it"


def test_a_tap_has_no_connection_to_replace(bench: Bench) -> None:
    reader, writer = os.pipe()
    tap = bench.make(reader, "tap")
    with pytest.raises(DeviceError, match="no connection"):
        tap.reconnect({}, [os.dup(writer)])
    tap.close()
    os.close(writer)


# --- announced


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces, "ANNOUNCED_S", (0.0, 0.01, 0.02))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done in between is done before the second time."""
    monkeypatch.setattr(interfaces, "ANNOUNCED_S", (0.0, 0.5))


def told(bench: Bench, seconds: float = 0.1) -> list[bytes]:
    """Frames that the other side has got by then."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        bench.loop.turn(left)
    bench.peer.setblocking(False)
    data, frames = b"", []
    with suppress(BlockingIOError):
        while more := bench.peer.recv(1 << 16):
            data += more
    while data:
        (size,) = struct.unpack_from(">I", data)
        frames.append(data[4 : 4 + size])
        data = data[4 + size :]
    return frames


def test_it_is_announced_some_times(bench: Bench) -> None:
    """At once, and soon again."""
    assert (len(interfaces.ANNOUNCED_S), interfaces.ANNOUNCED_S[0]) == (3, 0.0)
    bench.vif.announce()
    assert told(bench, 0.0) == []
    bench.turns()
    assert told(bench, 0.0) == [announcement(options().mac)]
    assert told(bench, 1.0) == [announcement(options().mac)] * 2


@pytest.mark.usefixtures("hasty")
def test_it_counts_for_nobody(bench: Bench) -> None:
    backend = bench.vif.backend(bench.guest, 0)
    before = bench.vif.describe()
    bench.vif.announce()
    assert len(told(bench)) == 3
    assert (bench.vif.describe(), backend.counters.tx_packets) == (before, 0)


@pytest.mark.usefixtures("patient")
def test_nothing_is_announced_of_one_that_has_gone() -> None:
    bench = Bench()
    bench.vif.announce()
    bench.turns()
    bench.vif.close()
    assert len(told(bench, 0.7)) == 1
    bench.peer.close()
    bench.loop.close()


@pytest.mark.usefixtures("patient")
def test_a_network_that_is_away_is_told_when_it_is_back(bench: Bench) -> None:
    bench.peer.close()
    bench.turns()
    bench.vif.announce()
    bench.turns()
    ours, bench.peer = socket.socketpair()
    bench.vif.reconnect({}, [ours.detach()])
    assert len(told(bench, 0.7)) == 1
    assert len(bench.lost) == 1


def test_other_hosts_are_kept_from_nothing(bench: Bench) -> None:
    bench.vif.unlock()
    bench.vif.lock()
    bench.sends()


def test_nothing_stands_by_for_it(bench: Bench) -> None:
    """And nothing of it changes when disks are switched."""
    backend = bench.vif.backend(bench.guest, 0)
    reader, writer = os.pipe2(os.O_NONBLOCK)
    with pytest.raises(DeviceError, match="nothing that could stand by"):
        bench.vif.standby({"kind": "stream"}, [writer, os.dup(writer)])
    assert os.read(reader, 1) == b"", "its descriptors are closed"
    os.close(reader)
    bench.vif.switch()
    bench.sends()
    assert (backend.counters.rx_drops, bench.lost) == (1, [])


def test_an_interface_that_no_guest_has_seen_can_go() -> None:
    before = descriptors()
    bench = Bench()
    bench.close()
    assert set(descriptors()) <= set(before)
