"""The ACK that lets a guest speak first: which SYN-ACK gets one, what it says."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import Plugged
from tests.unit.dom0.net.front import MAC_BYTES, OTHER_MAC
from tests.unit.dom0.net.test_stream_wire import framed
from xenion.dom0.loop import Loop
from xenion.dom0.net.handshake import Acknowledger
from xenion.dom0.net.stream_wire import ANSWERS_MOST, StreamWire

SYN, ACK, RST = 2, 16, 4
SCALE_8 = bytes([1, 3, 3, 8])
PAIRS = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


def syn(source: str, target: str, **how: Any) -> bytes:
    """From the wire to the guest."""
    return make.tcp(b"", source, target, flags=SYN, seq=1000, ack=0, ports=(4000, 22), window=0x8000,
                    ether_source=OTHER_MAC, ether_target=MAC_BYTES, **how)  # fmt: skip


def syn_ack(source: str, target: str, seq: int = 0xFFFFFFFF, flags: int = SYN | ACK) -> bytes:
    """From the guest."""
    return make.tcp(
        b"", target, source, flags=flags, seq=seq, ack=1001, ports=(22, 4000), tcp_options=SCALE_8
    )


@pytest.mark.parametrize("pair", PAIRS)
def test_the_ack_is_what_the_peer_would_have_said(pair: tuple[str, str]) -> None:
    it = Acknowledger()
    it.from_wire(syn(*pair, tcp_options=SCALE_8))
    expected = make.tcp(b"", *pair, flags=ACK, seq=1001, ack=0, ports=(4000, 22), window=0x80, ident=0,
                        ether_source=OTHER_MAC, ether_target=MAC_BYTES, fragment=0x4000)  # fmt: skip
    assert it.from_guest(syn_ack(*pair)) == expected
    assert it.from_guest(syn_ack(*pair)) == expected, "a repeated SYN-ACK is answered again"


@pytest.mark.parametrize("pair", PAIRS)
def test_nothing_else_is_answered(pair: tuple[str, str]) -> None:
    it = Acknowledger()
    assert it.from_guest(syn_ack(*pair)) is None
    it.from_wire(make.tcp(b"data", *pair, ports=(4000, 22)))
    assert it.from_guest(syn_ack(*pair)) is None
    it.from_wire(syn(*pair))
    for flags in (ACK, SYN, RST, RST | ACK):
        assert it.from_guest(syn_ack(*pair, flags=flags)) is None
    assert it.from_guest(syn_ack(pair[1], pair[0])) is None
    assert it.from_guest(make.udp(source=pair[1], target=pair[0])) is None


def test_only_so_many_are_remembered() -> None:
    it = Acknowledger()
    for port in range(3000):
        it.from_wire(make.tcp(b"", flags=SYN, ports=(10_000 + port, 22)))
    assert len(it._windows) == 1024


@given(st.binary(max_size=120))
def test_any_frame(data: bytes) -> None:
    it = Acknowledger()
    for head in (
        make.tcp(flags=SYN)[:14],
        make.tcp(flags=SYN)[:47],
        make.tcp(source="fd00::1", target="fd00::2")[:60],
    ):
        it.from_wire(head + data)
        it.from_guest(head + data)


Called = tuple[Plugged, StreamWire, socket.socket]


@pytest.fixture
def called(plug: Callable[..., Plugged], loop: Loop) -> Iterator[Called]:
    """A guest that a SYN has come to, with no further buffer; its wire, and that's other end."""
    made = plug()
    ours, theirs = socket.socketpair()
    wire = StreamWire(ours.detach(), loop, acknowledge_syn_ack=True)
    made.backend._vif.wire = wire
    wire.attach(made.backend)
    theirs.sendall(framed(syn(*PAIRS[0])))
    made.front.queue.post(1)
    made.settle()
    yield made, wire, theirs
    wire.close()
    theirs.close()


def test_the_guest_gets_it_from_the_wire(called: Called) -> None:
    made, _, theirs = called
    made.front.queue.send(syn_ack(*PAIRS[0]))
    made.kick()
    assert theirs.recv(1000) == framed(syn_ack(*PAIRS[0]))
    assert [frame for frame, _, _ in made.front.queue.received()] == [syn(*PAIRS[0])]
    made.front.queue.post(1)  # there was no buffer for it
    made.kick()
    (got,) = made.front.queue.received()
    assert got[0][47] == ACK


def test_answers_to_a_guest_that_does_not_take_them_have_an_end(called: Called) -> None:
    made, wire, theirs = called
    for _ in range(3 * ANSWERS_MOST):
        made.front.queue.send(syn_ack(*PAIRS[0]))
        made.kick()
        made.front.queue.answers()
        theirs.recv(1000)
    assert len(wire._answers) == ANSWERS_MOST
    made.front.queue.received()
    made.front.queue.post(2 * ANSWERS_MOST)
    made.kick()
    assert len(made.front.queue.received()) == ANSWERS_MOST
