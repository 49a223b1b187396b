"""The control protocol over real sockets: what is answered, who is let in, and that no descriptor is left."""

import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.descriptors import descriptors
from xenion.dom0.loop import Loop
from xenion.domain import control
from xenion.domain.control import ControlServer, Refusal, Request


class Process:
    """A control server, and what comes of a request is in the test's hands."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind("")
        self.server = ControlServer(self.listener, self.loop, lambda: 42)
        self.requests: list[Request] = []
        self.server.handlers["keep"] = self.requests.append
        self.server.handlers["refuse"] = self.refuse
        self.server.handlers["stumble"] = self.stumble
        self.server.start()

    def refuse(self, request: Request) -> None:
        raise Refusal("not now")

    def stumble(self, request: Request) -> None:
        raise KeyError("a bug of ours")

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.settimeout(60)
        made.connect(self.listener.getsockname())
        self.loop.turn(None)
        return made

    def settle(self) -> None:
        """Notices that everybody has gone."""
        for _ in range(2 * control.CONNECTIONS):
            self.loop.turn(0)

    def send(self, xend: socket.socket, packet: object, fds: int = 0) -> None:
        data = packet if isinstance(packet, bytes) else json.dumps(packet).encode()
        socket.send_fds(xend, [data], [self.listener.fileno()] * fds)
        self.loop.turn(None)


@pytest.fixture
def process() -> Iterator[Process]:
    before = descriptors()
    made = Process()
    yield made
    made.settle()
    made.loop.close()
    made.listener.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


@pytest.fixture
def xend(process: Process) -> Iterator[socket.socket]:
    with process.connect() as made:
        assert message(made) == {"hello": 42}
        yield made


def message(xend: socket.socket) -> Any:
    return json.loads(xend.recv(1 << 16))


def test_a_conversation(process: Process, xend: socket.socket) -> None:
    process.send(xend, {"id": 7, "do": "keep", "word": "x", "count": 3})
    process.server.tell({"journal": 43})
    (request,) = process.requests
    assert (request.text("word"), request.number("count")) == ("x", 3)
    request.progress(1, 2)
    request.tell({"round": 1, "seconds": 0.25})
    request.done(value=5)
    assert [message(xend) for _ in range(4)] == [
        {"journal": 43},
        {"id": 7, "progress": [1, 2]},
        {"id": 7, "figures": {"round": 1, "seconds": 0.25}},
        {"id": 7, "done": {"value": 5}},
    ]


def test_who_has_gone_is_told_nothing(process: Process) -> None:
    with process.connect() as xend:
        process.send(xend, {"id": 7, "do": "keep"})
    process.settle()
    (request,) = process.requests
    assert request.abandoned
    request.tell({"round": 1})
    request.progress(1, 2)
    request.done()


@pytest.mark.parametrize("word", ["refuse", "dance", None, [], 5])
def test_a_refusal_closes_what_came_with_the_request(
    process: Process, xend: socket.socket, word: object
) -> None:
    before = len(descriptors())
    process.send(xend, {"id": 7, "do": word}, fds=3)
    answer = message(xend)
    assert answer["id"] == 7
    assert answer["error"] == "not now" or "does not know" in answer["error"]
    assert len(descriptors()) == before


def test_a_bug_of_ours_is_an_answer_and_the_next_request_is_served(
    process: Process, xend: socket.socket, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(descriptors())
    process.send(xend, {"id": 7, "do": "stumble"}, fds=2)
    answer = message(xend)
    assert answer["id"] == 7
    assert "process.log" in answer["error"]
    assert "a bug of ours" in capsys.readouterr().err
    assert len(descriptors()) == before
    process.send(xend, {"id": 8, "do": "refuse"})
    assert message(xend) == {"id": 8, "error": "not now"}


def test_fields_are_checked(process: Process, xend: socket.socket) -> None:
    process.send(xend, {"id": 1, "do": "keep", "text": 5, "number": True}, fds=2)
    (request,) = process.requests
    for ask in (lambda: request.text("text"), lambda: request.number("number"), lambda: request.text("none")):
        with pytest.raises(Refusal, match="has to have"):
            ask()
    with pytest.raises(Refusal, match="2 descriptors came"):
        request.take_fds()
    for fd in request.take_fds(most=2):
        os.close(fd)
    with pytest.raises(Refusal, match="0 descriptors came"):
        request.take_fds()


@pytest.mark.parametrize("packet", [b"\xff\xfe{\0}\0", b"[]", b"{}", b'{"id": null}', b"[" * 60_000])
def test_what_is_no_request_ends_the_connection(process: Process, xend: socket.socket, packet: bytes) -> None:
    before = len(descriptors())
    process.send(xend, packet, fds=3)
    assert xend.recv(100) == b""
    assert len(descriptors()) == before - 1  # its end of the connection
    with process.connect() as other:
        assert message(other) == {"hello": 42}


def test_an_answer_that_nobody_waits_for(process: Process, xend: socket.socket) -> None:
    process.send(xend, {"id": 1, "do": "keep"}, fds=1)
    (request,) = process.requests
    assert not request.abandoned
    xend.close()
    process.loop.turn(None)
    assert request.abandoned
    request.progress(1, 2)
    request.done()


def test_one_that_does_not_read_is_let_go(process: Process, xend: socket.socket) -> None:
    process.send(xend, {"id": 1, "do": "keep"})
    (request,) = process.requests
    for number in range(100_000):
        if request.abandoned:
            break
        process.server.tell({"journal": number})
    assert request.abandoned
    told = []
    while packet := xend.recv(1 << 16):
        told.append(json.loads(packet)["journal"])
    assert told == list(range(len(told)))


def test_a_queue_is_sent_when_there_is_room(process: Process, xend: socket.socket) -> None:
    for number in range(control.QUEUED_PACKETS):
        process.server.tell({"journal": number})
    for number in range(control.QUEUED_PACKETS):
        assert message(xend) == {"journal": number}
        process.loop.turn(0)


def test_so_many_may_connect(process: Process) -> None:
    many = [process.connect() for _ in range(control.CONNECTIONS + 1)]
    assert [message(made) for made in many[:-1]] == [{"hello": 42}] * control.CONNECTIONS
    assert many[-1].recv(100) == b""
    for made in many:
        made.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_not_let_in(process: Process) -> None:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.seteuid(65534)
    try:
        made.connect(process.listener.getsockname())
    finally:
        os.seteuid(0)
    process.loop.turn(None)
    with made:
        assert made.recv(100) == b""
