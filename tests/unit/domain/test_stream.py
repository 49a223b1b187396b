"""The stream between a console and its user, over a real socket and a hub without a guest."""

import selectors
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from xenion.dom0.console import ConsoleBackend, ConsoleHub
from xenion.domain.stream import ConsoleStream


class Backend:
    """Takes what its room allows, as a guest that reads slowly."""

    def __init__(self) -> None:
        self.fed = b""
        self.room = 1 << 30

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        self.fed += data[:taken]
        self.room -= taken
        return taken

    def drain(self, limit: int) -> bytes:
        return b""


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture
def hub(backend: Backend) -> ConsoleHub:
    return ConsoleHub(cast("ConsoleBackend", backend))


@pytest.fixture
def selector() -> Iterator[selectors.BaseSelector]:
    with selectors.DefaultSelector() as made:
        yield made


@pytest.fixture
def user() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


def turn(stream: ConsoleStream, selector: selectors.BaseSelector) -> int:
    """One round of Dom0's thread; how many descriptors were ready."""
    ready = selector.select(0)
    for _, mask in ready:
        stream.on_ready(mask)
    return len(ready)


def test_output_arrives_whole_though_the_user_reads_late(
    hub: ConsoleHub, selector: selectors.BaseSelector, user: Pair
) -> None:
    stream = ConsoleStream(hub, user[1].fileno(), selector)
    sent = received = b""
    for number in range(4000):
        line = b"%06d %s\n" % (number, b"x" * 200)
        while hub.room < len(line):
            received += user[0].recv(50_000)
            turn(stream, selector)
        hub.publish(line)
        sent += line
        stream.flush()
    while stream.busy:
        received += user[0].recv(50_000)
        turn(stream, selector)
    user[0].setblocking(False)
    while len(received) < len(sent):
        received += user[0].recv(1 << 20)
    assert received == sent


def test_an_idle_stream_does_not_ask_to_write(
    hub: ConsoleHub, selector: selectors.BaseSelector, user: Pair
) -> None:
    stream = ConsoleStream(hub, user[1].fileno(), selector)
    hub.publish(b"hello")
    stream.flush()
    assert user[0].recv(100) == b"hello"
    assert turn(stream, selector) == 0


def test_input_reaches_the_guest(
    hub: ConsoleHub, backend: Backend, selector: selectors.BaseSelector, user: Pair
) -> None:
    stream = ConsoleStream(hub, user[1].fileno(), selector)
    user[0].sendall(b"typed")
    turn(stream, selector)
    assert backend.fed == b"typed"


def test_input_that_finds_no_room_is_not_lost(
    hub: ConsoleHub, backend: Backend, selector: selectors.BaseSelector, user: Pair
) -> None:
    stream = ConsoleStream(hub, user[1].fileno(), selector)
    backend.room = 3
    user[0].sendall(b"typed and more")
    turn(stream, selector)
    backend.room = 1000
    for _ in range(3):
        turn(stream, selector)
        stream.flush()
    assert backend.fed == b"typed and more"


def test_a_user_who_goes_is_forgotten(hub: ConsoleHub, selector: selectors.BaseSelector, user: Pair) -> None:
    stream = ConsoleStream(hub, user[1].fileno(), selector)
    user[0].close()
    turn(stream, selector)
    assert not stream.attached
    assert not stream.busy
    hub.publish(b"x" * 1_000_000)
    stream.flush()
    stream.detach()
    assert hub.room
