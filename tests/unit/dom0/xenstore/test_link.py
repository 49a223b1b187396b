"""A stream of messages over a socket, whatever the peer does to it."""

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.link import StoreLink
from xenion.dom0.xenstore.wire import HEADER, Message, MessageParser, encode


class Ends:
    """A link, and the peer's socket in the test's hand."""

    def __init__(self) -> None:
        self.loop = Loop()
        stream, self.peer = socket.socketpair()
        self.peer.setblocking(False)
        self.received: list[Message] = []
        self.link = StoreLink(stream, self.loop, self.take)
        self.parser = MessageParser()

    def take(self, message: Message) -> None:
        self.received.append(message)

    def turns(self) -> None:
        for _ in range(5):
            self.loop.turn(0)

    def arrived(self) -> list[Message]:
        """What the peer has got, all of it."""
        messages: list[Message] = []
        idle = 0
        while idle < 5:
            self.loop.turn(0)
            try:
                self.parser.push(self.peer.recv(1 << 16))
                idle = 0
            except BlockingIOError:
                idle += 1
            messages += iter(self.parser.take, None)
        return messages

    def close(self) -> None:
        self.link.close()
        self.peer.close()
        self.loop.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def messages(count: int, size: int = 4000) -> list[Message]:
    return [Message(1, number, 0, b"x" * size) for number in range(count)]


def test_there_and_back(ends: Ends) -> None:
    ends.link.send(Message(2, 7, 0, b"path\0"))
    assert ends.arrived() == [Message(2, 7, 0, b"path\0")]
    ends.peer.send(encode(Message(2, 7, 0, b"value")))
    ends.turns()
    assert ends.received == [Message(2, 7, 0, b"value")]


def test_what_a_slow_peer_does_not_take_goes_later_and_in_order(ends: Ends) -> None:
    sent = messages(500)
    for message in sent:
        ends.link.send(message)
    assert ends.arrived() == sent
    ends.link.send(sent[0])
    assert ends.arrived() == [sent[0]]


@given(st.lists(st.integers(1, 40), max_size=30))
def test_any_cut_of_the_stream(cuts: list[int]) -> None:
    ends = Ends()
    sent = [Message(3, number, 1, b"y" * number) for number in range(10)]
    data = b"".join(map(encode, sent))
    for cut in [*cuts, len(data)]:
        ends.peer.send(data[:cut])
        data = data[cut:]
        ends.turns()
    assert ends.received == sent
    ends.close()


def test_while_held_nothing_is_read(ends: Ends) -> None:
    ends.link.hold(True)
    ends.peer.send(encode(Message(1, 1, 0, b"")))
    ends.turns()
    assert ends.received == []
    ends.link.send(Message(1, 2, 0, b""))
    assert len(ends.arrived()) == 1
    ends.link.hold(False)
    ends.turns()
    assert len(ends.received) == 1


def test_one_that_is_held_sends_on_and_notices_the_end_later(ends: Ends) -> None:
    ends.link.hold(True)
    for message in messages(500):
        ends.link.send(message)
    assert len(ends.arrived()) == 500
    ends.peer.close()
    ends.turns()
    assert ends.link.open
    ends.link.hold(False)
    ends.turns()
    assert not ends.link.open


@pytest.mark.parametrize("end", ["closed", "garbage", "cut"])
def test_a_link_that_breaks_gives_all_that_came_before(ends: Ends, end: str) -> None:
    ends.peer.send(encode(Message(1, 1, 0, b"last words")))
    if end == "garbage":
        ends.peer.send(HEADER.pack(1, 2, 0, 4097))
    elif end == "cut":
        ends.peer.send(encode(Message(1, 1, 0, b"half"))[:18])
        ends.peer.shutdown(socket.SHUT_WR)
    else:
        ends.peer.close()
    ends.turns()
    assert [message.payload for message in ends.received] == [b"last words"]
    assert not ends.link.open
    ends.link.send(Message(1, 2, 0, b""))
    ends.link.hold(True)
    ends.link.hold(False)
    ends.link.close()
    ends.turns()
    assert len(ends.received) == 1


def test_a_peer_that_has_gone_is_noticed_by_who_sends(ends: Ends) -> None:
    ends.peer.close()
    ends.link.send(Message(1, 1, 0, b""))
    assert not ends.link.open


def test_closing_ends_what_comes(ends: Ends) -> None:
    """Even when it is done by what a message leads to."""
    ends.peer.send(b"".join(map(encode, messages(3, 0))))

    def close(message: Message) -> None:
        ends.received.append(message)
        ends.link.close()

    ends.link._received = close
    ends.turns()
    assert len(ends.received) == 1
