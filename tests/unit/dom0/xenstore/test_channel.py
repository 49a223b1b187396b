"""One socket and its client."""

import socket
from collections.abc import Iterator

import pytest

from xenion.abi.io.xs_wire import XsdSockmsgType as T
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.channel import REQUESTS_PER_TURN, Channel
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.quota import Quota
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import HEADER, Message, encode

READ = encode(Message(T.READ, 1, 0, b"/tool\0"))
ANSWER = HEADER.pack(T.READ, 1, 0, 0)


class Talk:
    """A channel of domain 0 and who counts its calls."""

    def __init__(self, quota: Quota) -> None:
        self.loop = Loop()
        self.stream, theirs = socket.socketpair()
        self.connection = Connection(0, quota=quota)
        self.settled: list[Channel] = []
        self.closed: list[Channel] = []
        self.channel = Channel(
            self.loop, Store(), self.connection, theirs, self.settled.append, self.closed.append
        )

    def close(self) -> None:
        self.channel.close()
        self.stream.close()
        self.loop.close()


@pytest.fixture
def talk() -> Iterator[Talk]:
    made = Talk(Quota(outstanding=1000))
    yield made
    made.close()


def test_answers_are_sent_when_that_is_asked_for(talk: Talk) -> None:
    talk.stream.sendall(READ)
    talk.loop.turn(0)
    assert talk.settled == [talk.channel]
    with pytest.raises(BlockingIOError):
        talk.stream.recv(100, socket.MSG_DONTWAIT)
    talk.channel.send()
    assert talk.stream.recv(100) == ANSWER


def test_a_share_at_a_time(talk: Talk) -> None:
    talk.stream.sendall(READ * (REQUESTS_PER_TURN + 1))
    talk.loop.turn(0)
    assert 0 < talk.connection.waiting <= REQUESTS_PER_TURN
    assert talk.channel.busy
    while talk.channel.busy:
        talk.channel.serve()
    assert talk.connection.waiting == REQUESTS_PER_TURN + 1


def test_a_client_with_much_to_read_waits() -> None:
    talk = Talk(Quota(outstanding=3))
    talk.stream.sendall(READ * 10)
    talk.loop.turn(0)
    talk.channel.serve()
    assert (talk.connection.waiting, talk.channel.busy) == (3, True)
    talk.channel.send()
    talk.channel.serve()
    assert talk.connection.waiting == 3
    talk.close()


def test_it_ends_once(talk: Talk) -> None:
    assert talk.connection.hang_up is not None
    talk.stream.sendall(READ)
    talk.connection.hang_up()
    talk.channel.close()
    talk.loop.turn(0)
    talk.channel.send()
    assert talk.closed == [talk.channel]
    assert talk.connection.hang_up is None
    with pytest.raises(ConnectionResetError):
        talk.stream.recv(1)


@pytest.mark.parametrize("last", ["gone", "nonsense"])
def test_its_peer_ends_it(talk: Talk, last: str) -> None:
    if last == "gone":
        talk.stream.shutdown(socket.SHUT_WR)
    else:
        talk.stream.sendall(HEADER.pack(T.READ, 1, 0, 5000))
    talk.loop.turn(0)
    assert talk.closed == [talk.channel]
