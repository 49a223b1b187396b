"""Who may connect, and what a host that is short of descriptors means for those who wait."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from xenion.dom0 import listener as module
from xenion.dom0.listener import Listener, peer_uid
from xenion.dom0.loop import Loop


@contextmanager
def no_descriptor_is_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name.name) for name in Path("/proc/self/fd").iterdir())
    spares = [socket.socket()]
    while spares[-1].fileno() < highest:
        spares.append(socket.socket())
    resource.setrlimit(resource.RLIMIT_NOFILE, (spares[-1].fileno() + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for spare in spares:
            spare.close()


class Host:
    def __init__(self) -> None:
        self.loop = Loop()
        self.bound = socket.socket(socket.AF_UNIX)
        self.bound.bind("")
        self.streams: list[socket.socket] = []
        self.listener = Listener(self.bound, self.loop, self.streams.append, 4)
        self.listener.start()

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(self.bound.getsockname())
        return made


@pytest.fixture
def host() -> Iterator[Host]:
    made = Host()
    yield made
    made.listener.close()
    for stream in made.streams:
        stream.close()
    made.loop.close()


def test_a_connection_is_given_on_and_never_blocks(host: Host) -> None:
    with host.connect() as peer:
        host.loop.turn(None)
        (stream,) = host.streams
        with pytest.raises(BlockingIOError):
            stream.recv(1)
        peer.sendall(b"x")
        assert stream.recv(1) == b"x"
        assert peer_uid(stream) == peer_uid(peer)


def test_another_user_is_hung_up_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "peer_uid", lambda stream: 4711)
    with host.connect() as peer:
        host.loop.turn(None)
        assert host.streams == []
        assert peer.recv(1) == b""


def test_without_a_descriptor_it_waits_and_does_not_spin(host: Host) -> None:
    with host.connect() as peer:
        with no_descriptor_is_left():
            host.loop.turn(None)
            assert host.streams == []
            assert not host.loop._epoll.poll(0), "it is asked again at once"
        while not host.streams:
            host.loop.turn(0.01)
        peer.sendall(b"x")
        assert host.streams[0].recv(1) == b"x"


def test_closed_while_it_waits(host: Host) -> None:
    with host.connect() as peer:
        with no_descriptor_is_left():
            host.loop.turn(None)
        host.listener.close()
        host.loop.turn(0)
        with pytest.raises(ConnectionResetError):
            peer.recv(1)
    assert host.streams == []
