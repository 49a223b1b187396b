"""User-mode networking by libslirp: a guest of raw frames gets an address and is reached through a forward."""

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from ctypes import CDLL

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import MAC_BYTES
from tests.unit.dom0.net.test_stream_wire import framed
from tests.unit.dom0.net.test_switch import get
from xenion.dom0.net import libslirp
from xenion.dom0.net.slirp import main

COOKIE = bytes.fromhex("63825363")
SYN, ACK, FIN = 2, 16, 1


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Guest:
    """The stream socket's other end, with one IP address."""

    ADDRESS = "10.0.2.15"

    def __init__(self, *arguments: str) -> None:
        try:
            CDLL(libslirp.LIBRARY)
        except OSError:
            pytest.skip("libslirp is not here: install libslirp0")
        self.end, theirs = socket.socketpair()
        self.end.settimeout(20)
        ready, told = os.pipe()
        command = [
            sys.executable,
            "-m",
            "xenion.dom0.net.slirp",
            "--fd",
            str(theirs.fileno()),
            "--ready",
            str(told),
        ]
        self.process = subprocess.Popen(
            [*command, *arguments], pass_fds=[theirs.fileno(), told], stderr=subprocess.PIPE, text=True
        )
        theirs.close()
        os.close(told)
        self.ready = os.read(ready, 100)
        os.close(ready)

    def send(self, frame: bytes) -> None:
        self.end.sendall(framed(frame))

    def frame(self) -> bytes:
        """The next one that is no ARP request for us; those are answered."""
        while True:
            got = get(self.end)
            if (
                got[12:14] == b"\x08\x06"
                and got[20:22] == b"\0\1"
                and got[38:42] == socket.inet_aton(self.ADDRESS)
            ):
                answer = make.arp(MAC_BYTES, self.ADDRESS, "10.0.2.2", operation=2)
                self.send(got[6:12] + answer[6:32] + got[6:12] + got[28:32])
            elif got[12:14] == b"\x08\0":
                return got

    def close(self) -> None:
        self.end.close()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


def dhcp(kind: int, *options: bytes) -> bytes:
    body = struct.pack(">BBBBIHH16s16s64s128s", 1, 1, 6, 0, 0x1234, 0, 0, b"", MAC_BYTES, b"", b"")
    body += COOKIE + bytes([53, 1, kind]) + b"".join(options) + b"\xff"
    return make.udp(body, "0.0.0.0", "255.255.255.255", ports=(68, 67), ether_target=b"\xff" * 6)


def dhcp_options(frame: bytes) -> dict[int, bytes]:
    found, at = {}, 42 + 240
    while frame[at] != 255:
        if frame[at]:
            found[frame[at]] = frame[at + 2 : at + 2 + frame[at + 1]]
            at += 1 + frame[at + 1]
        at += 1
    return found


def test_an_address_by_dhcp(guest: Guest) -> None:
    assert guest.ready == b"ready\n"
    guest.send(dhcp(1))
    offer = guest.frame()
    assert offer[58:62] == socket.inet_aton("10.0.2.15")
    options = dhcp_options(offer)
    assert options[53] == b"\2"
    assert options[3] == socket.inet_aton("10.0.2.2")
    assert options[6] == socket.inet_aton("10.0.2.3")
    guest.send(dhcp(3, bytes([50, 4]) + offer[58:62], bytes([54, 4]) + options[54]))
    assert dhcp_options(guest.frame())[53] == b"\5"


def test_other_addresses() -> None:
    where = ("--network", "192.168.7.0/24", "--gateway", "192.168.7.1", "--dns", "192.168.7.53")
    guest = Guest(*where, "--address", "192.168.7.99", "--hostname", "tester")
    guest.send(dhcp(1))
    offer = guest.frame()
    assert offer[58:62] == socket.inet_aton("192.168.7.99")
    assert dhcp_options(offer)[3] == socket.inet_aton("192.168.7.1")
    guest.close()


def test_a_service_that_speaks_first_behind_a_forward() -> None:
    port = free_port()
    guest = Guest("--forward", f"tcp:127.0.0.1:{port}:22")
    assert guest.ready == b"ready\n"
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(20)
    syn = guest.frame()
    assert syn[47] == SYN
    assert struct.unpack_from(">H", syn, 36) == (22,)
    peer, its_port = socket.inet_ntoa(syn[26:30]), struct.unpack_from(">H", syn, 34)[0]
    theirs = struct.unpack_from(">I", syn, 38)[0] + 1

    def say(data: bytes, flags: int, seq: int, ack: int) -> None:
        guest.send(
            make.tcp(data, guest.ADDRESS, peer, flags=flags, seq=seq, ack=ack, ports=(22, its_port), window=60000,
                     ether_target=syn[6:12])
        )  # fmt: skip

    say(b"", SYN | ACK, 100, theirs)
    assert guest.frame()[47] & ACK, "told of the connection though the client is silent"
    say(b"hello from the guest", ACK | 8, 101, theirs)
    assert client.recv(100) == b"hello from the guest"
    client.sendall(b"hello from the host")
    heard = b""
    while heard != b"hello from the host":
        got = guest.frame()
        heard += got[34 + (got[46] >> 4) * 4 : 14 + struct.unpack_from(">H", got, 16)[0]]
    client.close()
    guest.close()


def test_datagrams_through_a_forward() -> None:
    port = free_port(socket.SOCK_DGRAM)
    guest = Guest("--forward", f"udp:127.0.0.1:{port}:53")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(20)
        client.sendto(b"question", ("127.0.0.1", port))
        got = guest.frame()
        assert got[42:50] == b"question"
        source = socket.inet_ntoa(got[26:30])
        ports = struct.unpack_from(">HH", got, 34)
        assert ports[1] == 53
        guest.send(make.udp(b"answer", guest.ADDRESS, source, ports=(53, ports[0]), ether_target=got[6:12]))
        assert client.recv(100) == b"answer"
    guest.close()


def test_a_guest_reaches_the_host() -> None:
    guest = Guest()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        how = {"ports": (5000, port), "ether_target": bytes.fromhex("525500000000")}
        guest.send(make.arp(MAC_BYTES, guest.ADDRESS, "10.0.2.2"))
        how["ether_target"] = get(guest.end)[6:12]
        guest.send(make.tcp(b"", guest.ADDRESS, "10.0.2.2", flags=SYN, seq=7, ack=0, **how))  # type: ignore[arg-type]
        answer = guest.frame()
        assert answer[47] == SYN | ACK
        seq = struct.unpack_from(">I", answer, 38)[0] + 1
        guest.send(make.tcp(b"data", guest.ADDRESS, "10.0.2.2", flags=ACK | 8, seq=8, ack=seq, **how))  # type: ignore[arg-type]
        listener.settimeout(20)
        host, _ = listener.accept()
        host.settimeout(20)
        assert host.recv(10) == b"data"
        host.close()
    guest.close()


def test_it_ends_with_its_other_side(guest: Guest) -> None:
    guest.end.close()
    assert guest.process.wait(20) == 0


def test_a_hostile_stream_ends_it(guest: Guest) -> None:
    guest.end.sendall(struct.pack(">I", 3))
    assert guest.process.wait(20) == 1
    assert guest.process.stderr is not None
    assert "a frame of 3 bytes" in guest.process.stderr.read()


def test_any_frames_are_survived(guest: Guest) -> None:
    for number in range(200):
        guest.send(os.urandom(14 + number * 7))
        guest.send(make.tcp(os.urandom(50))[: 14 + number % 80].ljust(14))
    guest.send(dhcp(1))
    while guest.frame()[58:62] != socket.inet_aton("10.0.2.15"):
        pass


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        guest = Guest("--forward", f"tcp:127.0.0.1:{port}:22")
        assert guest.ready == b""
        assert guest.process.wait(20) == 1
        assert guest.process.stderr is not None
        said = guest.process.stderr.read()
        assert (
            said
            == f"user-mode networking: the port forward tcp:127.0.0.1:{port} cannot be opened: Address already in use\n"
        )
        guest.close()


def test_without_the_library_the_package_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libslirp, "LIBRARY", "libslirp-that-is-not-here.so")
    monkeypatch.setattr(os, "setsid", lambda: None)
    ours, theirs = socket.socketpair()
    assert main(["--fd", str(theirs.detach())]) == 1
    assert "install the package libslirp0" in capsys.readouterr().err
    ours.close()


@pytest.mark.parametrize(
    "text", ["tcp:127.0.0.1:22", "sctp:127.0.0.1:1:2", "tcp:localhost:1:2", "tcp:127.0.0.1:0:2", "x"]
)
def test_forwards_that_are_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--fd", "0", "--forward", text])
    assert "--forward" in capsys.readouterr().err


def test_a_forward_of_an_address_that_it_cannot() -> None:
    guest = Guest("--forward", "tcp:[::1]:4000:22")
    assert guest.ready == b""
    assert guest.process.wait(20) == 1
    assert guest.process.stderr is not None
    assert "libslirp forwards IPv4 addresses only" in guest.process.stderr.read()
    guest.close()
