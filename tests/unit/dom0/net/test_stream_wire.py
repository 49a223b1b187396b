"""Stream wires on real sockets: both ways, full, broken, reconnected; and two vifs that are plugged into each other."""

import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import FrontEnd, gso_extra, options, settle
from xenion.dom0.loop import Loop
from xenion.dom0.net.backend import NetBackend
from xenion.dom0.net.stream_wire import StreamWire
from xenion.dom0.net.wire import Frame

PLAIN = make.ether(b"hello" * 10, 0x88B5)


class Sink:
    """Takes `room` frames."""

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.room = 1 << 30
        self.told = 0

    def deliver(self, frames: Sequence[Frame]) -> int:
        taken = min(self.room, len(frames))
        self.frames += [bytes(frame.data) for frame in frames[:taken]]
        self.room -= taken
        return taken

    def room_again(self) -> None:
        self.told += 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def wire(loop: Loop, pair: tuple[socket.socket, socket.socket], sink: Sink) -> Iterator[StreamWire]:
    made = StreamWire(pair[0].detach(), loop)
    made.attach(sink)
    yield made
    made.close()


def framed(*frames: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(frame)) + frame for frame in frames)


def test_both_ways(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    wire.send([Frame(PLAIN), Frame(make.tcp(b"x"))])
    assert pair[1].recv(1 << 20) == framed(PLAIN, make.tcp(b"x"))
    pair[1].sendall(framed(PLAIN, make.tcp(b"y"))[:-1])
    settle(loop)
    assert sink.frames == [PLAIN]
    pair[1].sendall(make.tcp(b"y")[-1:])
    settle(loop)
    assert sink.frames == [PLAIN, make.tcp(b"y")]


def test_a_sink_that_is_full_stops_the_reading(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    stream = framed(PLAIN) * 30_000
    sink.room = 2
    at = pump(loop, pair[1], stream, 0)
    assert len(sink.frames) == 2
    assert at < len(stream)
    sink.room = 1 << 30
    wire.resume()
    settle(loop)
    assert pump(loop, pair[1], stream, at) == len(stream)
    settle(loop)
    assert sink.frames == [PLAIN] * 30_000


def pump(loop: Loop, end: socket.socket, stream: bytes, at: int) -> int:
    """Sends until that is all or nobody takes more; how far it came."""
    end.setblocking(False)
    before = -1
    while before < at < len(stream):
        before = at
        try:
            while at < len(stream):
                at += end.send(stream[at:])
        except BlockingIOError:
            settle(loop)
    return at


def test_a_full_socket_holds_back_and_says_when_not(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    big = make.ether(bytes(60_000), 0x88B5)
    count = 0
    while wire.room:
        assert wire.send([Frame(big)]) == 0
        count += 1
    wire.send([Frame(PLAIN)])
    assert sink.told == 0
    got = bytearray()
    pair[1].setblocking(False)
    for _ in range(1000):
        settle(loop, 1)
        try:
            got += pair[1].recv(100_000)
        except BlockingIOError:
            if wire.room and not wire._queue:
                break
    assert bytes(got) == framed(big) * count + framed(PLAIN)
    assert sink.told == 1
    assert wire.room


def test_every_send_is_whole_frames_of_few_kernel_buffers(
    wire: StreamWire, pair: tuple[socket.socket, socket.socket]
) -> None:
    wire.send([Frame(PLAIN)] * 2000)
    assert pair[1].recv(1 << 20) == framed(PLAIN) * 2000


@pytest.mark.parametrize("length", [0, 13, 65551, 0x7FFFFFFF])
def test_a_hostile_peer_is_cut_off(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket], length: int
) -> None:
    said: list[str] = []
    wire.on_lost = said.append
    pair[1].sendall(framed(PLAIN) + struct.pack(">I", length) + b"x" * 100)
    settle(loop)
    assert sink.frames == [PLAIN]
    assert f"a frame of {length} bytes" in said[0]
    assert not wire.connected
    assert wire.send([Frame(PLAIN)]) == 1
    assert pair[1].recv(10) == b""


def test_a_peer_that_closes_and_another_that_comes(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    said: list[str] = []
    wire.on_lost = said.append
    pair[1].sendall(framed(PLAIN)[:20])
    pair[1].close()
    settle(loop)
    assert said == ["the other side of the network connection has closed it"]
    ours, theirs = socket.socketpair()
    wire.reconnect(ours.detach())
    theirs.sendall(framed(PLAIN))
    settle(loop)
    assert sink.frames == [PLAIN]
    wire.send([Frame(PLAIN)])
    assert theirs.recv(1000) == framed(PLAIN)
    theirs.close()


def test_losing_a_full_connection_lets_the_guest_go_on(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    while wire.room:
        wire.send([Frame(make.ether(bytes(60_000), 0x88B5))])
    pair[1].close()
    settle(loop)
    assert not wire.connected
    assert sink.told == 1
    assert wire.room


def test_frames_that_nobody_claims(
    loop: Loop, wire: StreamWire, sink: Sink, pair: tuple[socket.socket, socket.socket]
) -> None:
    other = Sink()
    wire.detach(other)
    wire.detach(sink)
    pair[1].sendall(framed(PLAIN))
    settle(loop)
    assert wire.unclaimed.frames == 1
    assert sink.frames == []


def test_two_vifs_on_one_cable(loop: Loop) -> None:
    ends = socket.socketpair()
    guests = [FakeGuest(loop, 0), FakeGuest(loop, 0)]
    wires = [StreamWire(end.detach(), loop) for end in ends]
    vifs = [NetBackend(g, 0, w, options(), loop) for g, w in zip(guests, wires, strict=True)]
    fronts = [FrontEnd(guest) for guest in guests]
    for vif, front in zip(vifs, fronts, strict=True):
        vif.connect(front.nodes)
        front.queue.post(200)
    sent = [make.tcp(bytes([n]) * (n * 200), blank=True) for n in range(200)]
    for data in sent:
        extras = [gso_extra(1448)] if len(data) > 1514 else []
        fronts[0].queue.send(data, 3, extras)
        fronts[1].queue.send(PLAIN)
        for front in fronts:
            front.queue.kick()
        settle(loop, 3)
        for front in fronts:
            assert {status for _, status in front.queue.answers()} <= {0, 1}
        got = fronts[1].queue.received()
        fronts[1].queue.post(fronts[1].queue.rx.rsp_cons + 200 - fronts[1].queue.rx.req_prod)
        assert len(got) == 1
        frame, _, gso = got[0]
        if gso:
            assert (frame, gso) == (data, (1460, 1))
        else:
            assert frame == make.tcp(data[54:])
    assert [frame for frame, _, _ in fronts[0].queue.received()] == [PLAIN] * 200
    for vif in vifs:
        vif.close()
    for wire in wires:
        wire.close()
