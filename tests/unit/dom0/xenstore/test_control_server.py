"""Packets on xenstored.ctl, right and wrong."""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore.control_server import ControlServer
from xenion.dom0.xenstore.server import XenstoreServer

UUID = "6c2e0e6e-0b60-4f0d-9f0e-7b1e4d2c3a10"


class Talk:
    """A client of a control server on the same loop."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.server = XenstoreServer(self.loop)
        self.stopped = 0
        listener = places.bind(folder / places.CONTROL, socket.SOCK_SEQPACKET)
        self.control = ControlServer(self.loop, self.server, listener, self._stop)
        self.stream = places.connect(folder / places.CONTROL, socket.SOCK_SEQPACKET, 60)

    def _stop(self) -> None:
        self.stopped += 1

    def says(self, packet: bytes, descriptors: Sequence[int] = ()) -> Any:
        socket.send_fds(self.stream, [packet], descriptors)
        for _ in range(4):
            self.loop.turn(0)
        return json.loads(self.stream.recv(1 << 16))

    def asks(self, descriptors: Sequence[int] = (), **fields: Any) -> Any:
        return self.says(json.dumps(fields).encode(), descriptors)

    def close(self) -> None:
        self.control.close()
        self.server.close()
        self.stream.close()
        self.loop.close()


@pytest.fixture
def talk(tmp_path: Path) -> Iterator[Talk]:
    made = Talk(tmp_path)
    yield made
    made.close()


def streams() -> tuple[socket.socket, ...]:
    return *socket.socketpair(), *socket.socketpair()


def open_descriptors() -> int:
    return len(descriptors())


def test_a_domains_way(talk: Talk) -> None:
    ours, theirs, ours_too, theirs_too = streams()
    fds = [theirs.fileno(), theirs_too.fileno()]
    assert talk.asks(fds, do="introduce", domid=5, uuid=UUID) == {"done": {}}
    known = {"domid": 5, "uuid": UUID, "connected": True}
    assert talk.asks(do="list") == {"done": {"domains": [known]}}
    for end in (theirs, theirs_too, ours, ours_too):
        end.close()
    for _ in range(4):
        talk.loop.turn(0)
    assert talk.asks(do="list") == {"done": {"domains": [known | {"connected": False}]}}
    assert talk.asks(do="release", domid=5) == {"done": {}}
    assert talk.asks(do="release", domid=5) == {"done": {}}
    assert talk.asks(do="list") == {"done": {"domains": []}}
    assert talk.asks(do="stop") == {"done": {}}
    assert talk.stopped == 1


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"{", "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b"\xff", "not JSON"),
        (b"[1]", "no JSON object"),
        (b"{}", "does not know None"),
        (b'{"do": "dance"}', "does not know 'dance'"),
        (b'{"do": ["x"]}', "does not know"),
        (b'{"do": "release"}', "no number of a domain"),
        (b'{"do": "release", "domid": true}', "no number of a domain"),
        (b'{"do": "introduce", "domid": 5}', "no UUID"),
        (b'{"do": "introduce", "domid": 5, "uuid": "x"}', "not given 2 stream sockets"),
        (b"x" * 100_000, "too long"),
    ],
)
def test_what_is_refused(talk: Talk, packet: bytes, reason: str) -> None:
    assert reason in talk.says(packet)["error"]
    assert talk.asks(do="list") == {"done": {"domains": []}}


def test_descriptors_that_are_not_wanted_are_closed(talk: Talk) -> None:
    assert "done" in talk.asks(do="list")
    before = open_descriptors()
    read, write = os.pipe()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    four = streams()
    good = [four[0].fileno(), four[1].fileno()]
    introduce = {"do": "introduce", "domid": 5, "uuid": UUID}
    for fds in ([read, write], [ours.fileno(), theirs.fileno()], good[:1], [read, good[0]]):
        assert "stream sockets" in talk.asks(fds, **introduce)["error"]
    assert "too many descriptors" in talk.asks([*good, read, write], **introduce)["error"]
    assert "is no number" in talk.asks(good, **introduce | {"domid": 0})["error"]
    assert "done" in talk.asks(good, do="list")
    for end in (ours, theirs, *four):
        end.close()
    os.close(read)
    os.close(write)
    assert open_descriptors() == before


def ask_on(talk: Talk) -> None:
    """Without ever reading."""
    for _ in range(5000):
        talk.stream.send(b'{"do": "list"}', socket.MSG_DONTWAIT)
        talk.loop.turn(0)


def test_who_does_not_read_is_hung_up_on(talk: Talk) -> None:
    with pytest.raises(ConnectionError):
        ask_on(talk)
    assert talk.control._streams == set()
