"""The switch as a process: ports that xend hands it, frames between them, hostile and slow ports, its end."""

import json
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.test_stream_wire import framed
from xenion.dom0.net.switch_client import SwitchClient, SwitchError, SwitchGoneError, listen


class Running:
    def __init__(self, folder: Path, *arguments: str) -> None:
        self.path = folder / "switch"
        listener = listen(self.path)
        command = [
            sys.executable,
            "-m",
            "xenion.dom0.net.switch",
            "--control",
            str(listener.fileno()),
            *arguments,
        ]
        self.process = subprocess.Popen(
            command, pass_fds=[listener.fileno()], stderr=subprocess.PIPE, text=True
        )
        listener.close()
        self.ends: list[socket.socket] = []
        self.client = SwitchClient(self.path)

    def plug(self, network: str, name: str) -> socket.socket:
        ours, theirs = socket.socketpair()
        self.client.plug(network, name, theirs.fileno())
        theirs.close()
        ours.settimeout(20)
        self.ends.append(ours)
        return ours

    def close(self) -> None:
        self.client.close()
        for end in self.ends:
            end.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    made = Running(tmp_path)
    yield made
    made.close()


def mac(number: int) -> bytes:
    return bytes([2, 0, 0, 0, 0, number])


def frame(source: int, target: bytes, text: bytes = b"x" * 46) -> bytes:
    return make.ether(text, 0x88B5, mac(source), target)


def get(end: socket.socket) -> bytes:
    (size,) = struct.unpack(">I", exactly(end, 4))
    return exactly(end, size)


def exactly(end: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = end.recv(size - len(got))
        assert part, "the switch has closed the port"
        got += part
    return got


BROADCAST = b"\xff" * 6


def test_three_ports(running: Running) -> None:
    one, two, three = (running.plug("lan", name) for name in ("1", "2", "3"))
    one.sendall(framed(frame(1, BROADCAST)))
    assert get(two) == get(three) == frame(1, BROADCAST)
    two.sendall(framed(frame(2, mac(1), b"to one"), frame(2, mac(9), b"to whom"), frame(2, mac(2), b"to me")))
    assert get(one) == frame(2, mac(1), b"to one")
    assert get(one) == get(three) == frame(2, mac(9), b"to whom")
    big = frame(3, mac(2), bytes(65_500))
    three.sendall(framed(big))
    assert get(two) == big
    one.sendall(framed(frame(1, mac(3), b"last")))
    assert get(three) == frame(1, mac(3), b"last")
    (ports,) = running.client.list().values()
    assert [(port["port"], port["received"], port["dropped"]) for port in ports] == [
        ("1", 2, 0),
        ("2", 3, 0),
        ("3", 1, 0),
    ]


def test_networks_do_not_see_each_other(running: Running) -> None:
    a1, a2, b = running.plug("a", "1"), running.plug("a", "2"), running.plug("b", "1")
    b.sendall(framed(frame(5, BROADCAST)))
    a1.sendall(framed(frame(1, BROADCAST)))
    assert get(a2) == frame(1, BROADCAST)
    running.client.list()
    b.setblocking(False)
    with pytest.raises(BlockingIOError):
        b.recv(100)


def test_a_slow_port_loses_and_others_do_not_notice(running: Running) -> None:
    one, two, slow = (running.plug("lan", name) for name in ("1", "2", "slow"))
    for number in range(400):
        one.sendall(framed(frame(1, BROADCAST, bytes(30_000) + bytes([number % 256]))))
        assert get(two)[-1] == number % 256
    ports = {port["port"]: port for port in running.client.list()["lan"]}
    assert ports["slow"]["dropped"] > 0
    assert ports["slow"]["sent"] + ports["slow"]["dropped"] == 400
    assert ports["2"]["dropped"] == 0
    assert get(slow)[-1] == 0


def test_a_hostile_port_is_cut_off_alone(running: Running) -> None:
    one, two, bad = (running.plug("lan", name) for name in ("1", "2", "bad"))
    bad.sendall(struct.pack(">I", 1 << 31) + b"x" * 1000)
    assert bad.recv(10) == b""
    one.sendall(framed(frame(1, BROADCAST)))
    assert get(two) == frame(1, BROADCAST)
    assert [port["port"] for port in running.client.list()["lan"]] == ["1", "2"]


def test_unplugged_and_replaced(running: Running) -> None:
    one, old = running.plug("lan", "1"), running.plug("lan", "2")
    new = running.plug("lan", "2")
    assert old.recv(10) == b""
    one.sendall(framed(frame(1, BROADCAST)))
    assert get(new) == frame(1, BROADCAST)
    running.client.unplug("lan", "2")
    assert new.recv(10) == b""
    with pytest.raises(SwitchError, match="no port 2 in network lan"):
        running.client.unplug("lan", "2")
    running.client.unplug("lan", "1")
    assert running.client.list() == {}


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"{", "JSON object"),
        (b"[]", "JSON object"),
        (b"\xff", "JSON object"),
        (b'{"do": "dance", "network": "a", "port": "b"}', "plug, unplug and list"),
        (b'{"do": "plug", "network": "a", "port": "b"}', "one socket, not with 0"),
        (b'{"do": "plug", "network": "", "port": "b"}', "network is a name"),
        (b'{"do": "unplug", "network": "a", "port": 5}', "port is a name"),
    ],
)
def test_what_it_does_not_understand(running: Running, message: bytes, says: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as raw:
        raw.connect(str(running.path))
        raw.send(message)
        assert says in json.loads(raw.recv(10_000))["error"]
    assert running.client.list() == {}


def test_only_a_socket_can_be_plugged(running: Running) -> None:
    read, write = os.pipe()
    with pytest.raises(SwitchError, match="one socket"):
        running.client.plug("a", "b", read)
    os.close(read)
    os.close(write)


def test_it_survives_its_client_and_ends_after_its_last_port(tmp_path: Path) -> None:
    running = Running(tmp_path, "--idle", "0.05")
    end = running.plug("lan", "1")
    running.client.close()
    running.client = SwitchClient(running.path)
    assert list(running.client.list()) == ["lan"]
    end.close()
    assert running.process.wait(20) == 0
    with pytest.raises(SwitchGoneError, match="does not answer"):
        running.client.list()
    assert not running.path.exists()
    running.close()


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(SwitchGoneError, match="does not answer"):
        SwitchClient(tmp_path / "none")


def test_what_a_dead_switch_left_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "switch"
    listen(path).close()
    with listen(path), pytest.raises(OSError, match="in use"):
        listen(path)


def test_it_can_listen_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "switch"
    with listen(path):
        command = [sys.executable, "-m", "xenion.dom0.net.switch", "--socket", str(path)]
        said = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "cannot listen on" in said.stderr
