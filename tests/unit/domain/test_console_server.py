"""A domain's console over real sockets: a hub without a guest, and clients of every kind."""

import json
import socket
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.descriptors import descriptors
from xenion.api.console import request
from xenion.dom0.console import FROM_NOW_ON, ConsoleHub
from xenion.dom0.loop import Loop
from xenion.domain import console_server
from xenion.domain.console_server import GREETING_S, STUCK_S, ConsoleServer

LINE = b"0123456789abcde\n"


class Console:
    """The server, a guest that takes as much input as it has room for, and the time of `now`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.loop = Loop()
        self.hub = ConsoleHub(scrollback=1 << 16)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("")
        self.fed, self.room = b"", 1 << 30
        self.moved = 0
        self.server = ConsoleServer(self.hub, self.listener, self.loop, self.feed, self.on_moved)
        self.server.start()

    def feed(self, data: bytes) -> int:
        taken = min(len(data), self.room)
        self.fed += data[:taken]
        self.room -= taken
        return taken

    def on_moved(self) -> None:
        self.moved += 1

    def prints(self, data: bytes) -> None:
        self.hub.publish(data)
        self.server.flush()

    def connect(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(60)
        client.connect(self.listener.getsockname())
        self.loop.turn(None)
        return client

    def attach(self, since: int | None = None, *, read_only: bool = False) -> tuple[socket.socket, Any]:
        client = self.connect()
        client.sendall(request(since, read_only=read_only))
        self.loop.turn(None)
        return client, answer(client)

    def type(self, client: socket.socket, data: bytes) -> None:
        client.sendall(data)
        self.loop.turn(None)

    def settle(self) -> None:
        """All that can be done at once."""
        for _ in range(200):
            self.loop.turn(0)


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> Iterator[Console]:
    before = descriptors()
    made = Console()
    monkeypatch.setattr(console_server, "time", SimpleNamespace(monotonic=lambda: made.now))
    yield made
    made.settle()
    made.server.let_go()
    made.loop.close()
    made.listener.close()
    assert set(descriptors()) <= set(before), "a descriptor was left open"


def answer(client: socket.socket) -> Any:
    line = b""
    while not line.endswith(b"\n"):
        line += client.recv(1)
    return json.loads(line)


def read(client: socket.socket, count: int, console: Console) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(1 << 16)
        console.settle()
    return data


# --- output


def test_output_arrives_whole_though_the_client_reads_late(console: Console) -> None:
    client, first = console.attach()
    assert first == {"first": 0, "lost": 0}
    sent = received = b""
    with client:
        for number in range(4000):
            line = b"%06d %s\n" % (number, b"x" * 200)
            while console.hub.room < len(line):
                received += client.recv(50_000)
                console.settle()
            console.prints(line)
            sent += line
        received += read(client, len(sent) - len(received), console)
    assert received == sent
    assert console.moved


def test_where_a_client_begins(console: Console) -> None:
    for _ in range(10_000):
        console.prints(LINE)
    end, kept = 10_000 * len(LINE), 1 << 16
    for since, first, lost in (
        (None, end - kept, 0),
        (0, end - kept, end - kept),
        (end - 5, end - 5, 0),
        (FROM_NOW_ON, end, 0),
        (1 << 70, end, 0),
    ):
        client, said = console.attach(since)
        with client:
            assert said == {"first": first, "lost": lost}
            assert read(client, end - first, console) == (LINE * 10_000)[first:]


def test_all_see_the_same(console: Console) -> None:
    clients = [console.attach()[0] for _ in range(5)]
    console.prints(LINE)
    for client in clients:
        assert client.recv(100) == LINE
        client.close()


def test_an_idle_client_does_not_ask_to_write(console: Console) -> None:
    client, _ = console.attach()
    with client:
        console.prints(b"hello")
        assert client.recv(100) == b"hello"
        moved = console.moved
        console.loop.turn(0)
        assert console.moved == moved
        assert not console.server.laggards(60)


# --- input


def test_input_reaches_the_guest(console: Console) -> None:
    client, _ = console.attach()
    with client:
        console.type(client, b"typed")
        assert console.fed == b"typed"


def test_input_right_behind_the_greeting_does_too(console: Console) -> None:
    with console.connect() as client:
        console.type(client, request(None)[:5])
        console.type(client, request(None)[5:] + b"typed")
        assert console.fed == b"typed"


def test_input_that_finds_no_room_is_not_lost(console: Console) -> None:
    client, _ = console.attach()
    with client:
        console.room = 3
        console.type(client, b"typed and more")
        console.settle()
        client.sendall(b", and more")
        console.settle()
        assert console.fed == b"typ"
        console.room = 1000
        console.server.flush()
        console.settle()
        assert console.fed == b"typed and more, and more"


def test_who_only_reads_types_nothing(console: Console) -> None:
    with console.connect() as client:
        console.type(client, request(None, read_only=True) + b"typed")
        console.type(client, b"typed")
        console.prints(b"hello")
        assert answer(client) == {"first": 0, "lost": 0}
        assert client.recv(100) == b"hello"
    assert console.fed == b""


# --- going


def test_a_client_who_goes_is_forgotten(console: Console) -> None:
    client, _ = console.attach()
    client.close()
    console.settle()
    console.prints(b"x" * 1_000_000)
    assert console.hub.room
    assert not console.server.laggards(60)


def test_one_who_goes_while_the_guest_has_no_room_for_its_input_is_noticed(console: Console) -> None:
    client, _ = console.attach()
    console.room = 0
    console.type(client, b"typed")
    client.close()
    console.settle()
    assert console.hub._readers
    console.server.let_go()
    assert not console.hub._readers


def test_one_that_holds_the_guest_back_too_long_is_let_go(console: Console) -> None:
    stuck, _ = console.attach()
    idle, _ = console.attach(FROM_NOW_ON)
    console.now += 2 * STUCK_S  # nobody has waited yet
    while console.hub.room:
        console.prints(LINE * 16)
        console.loop.turn(0)
        idle.setblocking(False)
        assert idle.recv(1 << 16)
    console.now += STUCK_S
    console.server.let_go()
    assert not console.hub.room
    assert console.server.laggards(STUCK_S + 1)
    assert not console.server.laggards(STUCK_S)
    console.now += 1
    console.server.let_go()
    assert console.hub.room
    console.prints(b"to those who read")
    assert idle.recv(100) == b"to those who read"
    stuck.setblocking(False)
    data = b""
    while more := stuck.recv(1 << 16):
        data += more
    assert data == (LINE * (len(data) // len(LINE) + 1))[: len(data)]
    stuck.close()
    idle.close()


def test_one_that_lags_while_the_guest_has_room_stays(console: Console) -> None:
    client, _ = console.attach()
    with client:
        while not console.server.laggards(1):
            console.prints(b"x" * 1000)
        assert console.hub.room
        console.now += 2 * STUCK_S
        console.server.let_go()
        assert len(read(client, console.hub.end, console)) == console.hub.end


def test_one_that_never_says_what_it_wants_is_let_go(console: Console) -> None:
    with console.connect() as client:
        for _ in range(2):
            console.type(client, b" ")
            console.prints(LINE)
            console.server.let_go()
            console.now += 0.6 * GREETING_S
        console.prints(LINE)
        console.server.let_go()
        with pytest.raises(ConnectionError):
            client.sendall(b"\n")


def test_who_has_just_connected_is_waited_for(console: Console) -> None:
    with console.connect() as client:
        assert console.server.laggards(60)
        console.type(client, request(None))
        assert not console.server.laggards(60)


def test_so_many_may_attach(console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console_server, "CLIENTS", 3)
    clients = [console.attach()[0] for _ in range(3)]
    with console.connect() as client:
        assert "3 others are attached already" in answer(client)["error"]
        assert client.recv(1) == b""
    clients.pop().close()
    console.settle()
    clients.append(console.attach()[0])
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    "greeting",
    [
        b"\n",
        b"hello\n",
        b"[]\n",
        b'"since"\n',
        b"\xff\xfe{\0}\0\n",
        b"\xff\n",
        b"[" * 4000 + b"\n",
        b"x" * 5000,
        b'{"since": true}\n',
        b'{"since": -2}\n',
        b'{"since": 1.5}\n',
        b'{"since": 1e999}\n',
        b'{"since": NaN}\n',
        b'{"since": "0"}\n',
    ],
)
def test_what_is_no_greeting_is_refused(console: Console, greeting: bytes) -> None:
    with console.connect() as client:
        client.sendall(greeting)
        console.settle()
        assert "cannot be attached to" in answer(client)["error"]
    assert not console.hub._readers
    assert console.fed == b""
