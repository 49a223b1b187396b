"""A TAP wire: on a real device where one can be made (root), and its headers on a pair of packet sockets everywhere."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress

import pytest

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import MAC_BYTES, OTHER_MAC, FrontEnd, gso_extra, options, settle
from tests.unit.dom0.net.test_stream_wire import Sink
from xenion.abi.io.netif import XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
from xenion.dom0.loop import Loop
from xenion.dom0.net.backend import NetBackend
from xenion.dom0.net.tap_wire import TapWire
from xenion.dom0.net.wire import Frame

PLAIN = make.ether(b"hello" * 10, 0x88B5)
HEADER = struct.Struct("<BBHHHHH")
TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ = 0x400454CA, 0x400454D0, 0x400454D8
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000
TUN_F = 1 | 2 | 4  # checksums, segmentation of TCP in IPv4 and IPv6
SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFHWADDR = (
    0x8913,
    0x8914,
    0x8916,
    0x891C,
    0x8924,
)
IFF_UP = 1


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def pair(loop: Loop, sink: Sink) -> Iterator[tuple[TapWire, socket.socket]]:
    """A packet a read and a write, as a TAP has it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire = TapWire(ours.detach(), loop)
    wire.attach(sink)
    yield wire, theirs
    wire.close()
    theirs.close()


def header(flags: int = 0, gso: int = 0, mss: int = 0, start: int = 0, field: int = 0) -> bytes:
    return HEADER.pack(flags, gso, 0, mss, start, field, 0)


class Keeper(Sink):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[bytes, bool, bool, int, int]] = []

    def deliver(self, frames: object) -> int:
        self.kept += [(bytes(f.data), f.blank, f.validated, f.gso, f.mss) for f in frames]  # type: ignore[attr-defined]
        return len(frames)  # type: ignore[arg-type]


V4, V6 = XEN_NETIF_GSO_TYPE_TCPV4, XEN_NETIF_GSO_TYPE_TCPV6
BIG4 = make.tcp(b"x" * 5000, blank=True)
BIG6 = make.tcp(b"x" * 5000, "fd00::1", "fd00::2", blank=True)
INNER = make.udp(b"inner", blank=True)
TUNNEL = make.udp(b"12345678" + INNER)


@pytest.mark.parametrize(
    ("said", "frame", "expected"),
    [
        (header(), PLAIN, (PLAIN, False, False, 0, 0)),
        (header(2), PLAIN, (PLAIN, False, True, 0, 0)),
        (header(1, 0, 0, 34, 16), BIG4, (BIG4, True, True, 0, 0)),
        (header(1, 1, 1448, 34, 16), BIG4, (BIG4, True, True, V4, 1448)),
        (header(1, 0x81, 1448, 34, 16), BIG4, (BIG4, True, True, V4, 1448)),
        (header(1, 4, 1428, 54, 16), BIG6, (BIG6, True, True, V6, 1428)),
        (header(1, 0, 0, 84, 6), TUNNEL, (TUNNEL[:50] + make.udp(b"inner"), False, True, 0, 0)),
    ],
)
def test_what_the_host_says_of_a_frame(
    loop: Loop, pair: tuple[TapWire, socket.socket], said: bytes, frame: bytes, expected: tuple[object, ...]
) -> None:
    keeper = Keeper()
    pair[0].attach(keeper)
    pair[1].send(said + frame)
    settle(loop)
    assert keeper.kept == [expected]


@pytest.mark.parametrize(
    "packet",
    [
        header() + b"short",
        header(1, 3, 1000, 34, 6) + make.udp(b"x" * 3000),
        header(0, 1, 1448) + BIG4,
        header(1, 1, 1448, 60000, 16) + BIG4,
        header(1, 0, 0, 60000, 6) + PLAIN,
    ],
)
def test_what_cannot_be_used_is_counted(
    loop: Loop, pair: tuple[TapWire, socket.socket], packet: bytes
) -> None:
    keeper = Keeper()
    pair[0].attach(keeper)
    pair[1].send(packet)
    pair[1].send(header() + PLAIN)
    settle(loop)
    assert [frame[0] for frame in keeper.kept] == [PLAIN]
    assert pair[0].errors == 1


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (Frame(PLAIN), header()),
        (Frame(PLAIN, validated=True), header(2)),
        (Frame(make.udp(b"x", blank=True), True, True), header(1, 0, 0, 34, 6)),
        (Frame(BIG4, True, True, V4, 1448), HEADER.pack(1, 1, 54, 1448, 34, 16, 0)),
        (Frame(BIG6, True, True, V6, 1428), HEADER.pack(1, 4, 74, 1428, 54, 16, 0)),
    ],
)
def test_what_the_host_is_told(pair: tuple[TapWire, socket.socket], frame: Frame, expected: bytes) -> None:
    assert pair[0].send([frame]) == 0
    assert pair[1].recv(100_000) == expected + bytes(frame.data)


def test_frames_that_are_not_what_they_say(pair: tuple[TapWire, socket.socket]) -> None:
    bad = [
        Frame(PLAIN, True, True),
        Frame(make.udp(b"x", blank=True), True, True, V4, 1000),
        Frame(b"", True),
    ]
    assert pair[0].send([*bad, Frame(PLAIN)]) == 3
    assert pair[1].recv(1000) == header() + PLAIN


def test_a_guest_without_room_leaves_them_to_the_device(
    loop: Loop, pair: tuple[TapWire, socket.socket], sink: Sink
) -> None:
    sink.room = 5
    for _ in range(100):
        pair[1].send(header() + PLAIN)
    settle(loop)
    assert len(sink.frames) == 5
    sink.room = 1 << 30
    pair[0].resume()
    settle(loop)
    assert sink.frames == [PLAIN] * 100


# --- a real device


class Tap:
    def __init__(self) -> None:
        try:
            self.fd = os.open("/dev/net/tun", os.O_RDWR)
        except OSError as error:
            pytest.skip(f"no TAP device can be made here: /dev/net/tun: {error.strerror}")
        self.name = f"xt{os.getpid() % 10_000_000}"
        try:
            self._ioctl(
                self.fd,
                TUNSETIFF,
                struct.pack("16sH22x", self.name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR),
            )
        except OSError as error:
            os.close(self.fd)
            pytest.skip(f"no TAP device can be made here: TUNSETIFF: {error.strerror}")
        fcntl.ioctl(self.fd, TUNSETVNETHDRSZ, struct.pack("i", 12))
        fcntl.ioctl(self.fd, TUNSETOFFLOAD, TUN_F)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            self._address(control, SIOCSIFADDR, "192.168.231.1")
            self._address(control, SIOCSIFNETMASK, "255.255.255.0")
            flags = self._ioctl(control.fileno(), SIOCGIFFLAGS, struct.pack("16sH22x", self.name.encode(), 0))
            up = struct.unpack_from("16xH", flags)[0] | IFF_UP
            self._ioctl(control.fileno(), SIOCSIFFLAGS, struct.pack("16sH22x", self.name.encode(), up))

    def _address(self, control: socket.socket, call: int, address: str) -> None:
        body = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
        self._ioctl(control.fileno(), call, self.name.encode().ljust(16, b"\0") + body + bytes(8))

    def _ioctl(self, fd: int, call: int, argument: bytes) -> bytes:
        return fcntl.ioctl(fd, call, argument)


@pytest.fixture
def tap() -> Iterator[Tap]:
    made = Tap()
    yield made
    with suppress(OSError):
        os.close(made.fd)


def test_the_host_s_kernel_at_the_other_end(loop: Loop, tap: Tap) -> None:
    """ARP, a connection that the guest opens, a big blank frame each way: the kernel checks headers and checksums."""
    guest = FakeGuest(loop, 0)
    wire = TapWire(os.dup(tap.fd), loop)
    vif = NetBackend(guest, 0, wire, options(), loop)
    front = FrontEnd(guest)
    vif.connect(front.nodes)
    queue = front.queue
    listener = socket.create_server(("192.168.231.1", 0))
    port = listener.getsockname()[1]
    listener.settimeout(10)
    try:
        talk = Talk(loop, front)
        host_mac = talk.ask_mac()
        talk.open(host_mac, port)
        host, _ = listener.accept()
        host.settimeout(10)
        queue.send(talk.segment(b"g" * 40_000, blank=True), 3, [gso_extra(1448)])
        queue.kick()
        settle(loop)
        got = b""
        while len(got) < 40_000:
            got += host.recv(100_000)
        assert got == b"g" * 40_000
        host.sendall(b"h" * 30_000)
        talk.hear(30_000)
        assert talk.heard == b"h" * 30_000
        assert any(talk.segmentation), "the kernel's big frames came as such"
        host.close()
    finally:
        listener.close()
        vif.close()
        wire.close()
    assert vif.counters.tx_errors == vif.counters.rx_errors == 0


def test_a_device_that_is_removed(loop: Loop, tap: Tap) -> None:
    said: list[str] = []
    wire = TapWire(os.dup(tap.fd), loop)
    wire.on_lost = said.append
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        index = socket.if_nametoindex(tap.name)
        message = struct.pack("IHHII", 32, 17, 5, 1, 0) + struct.pack("BBHiII", 0, 0, 0, index, 0, 0)
        netlink.send(message)
        netlink.recv(4096)
    settle(loop)
    assert said == ["the TAP device of the network connection was removed from the host"]
    assert wire.send([Frame(PLAIN)]) == 1
    wire.close()


class Talk:
    """The guest's kernel, as little of it as one connection needs."""

    ADDRESS, HOST = "192.168.231.2", "192.168.231.1"

    def __init__(self, loop: Loop, front: FrontEnd) -> None:
        self._loop, self._queue = loop, front.queue
        self._seq, self._ack, self._port, self._mac = 1000, 0, 0, OTHER_MAC
        self.heard = b""
        self.segmentation: list[object] = []

    def _frames(self) -> list[tuple[bytes, int, object]]:
        for _ in range(1000):
            self._queue.post(self._queue.rx.rsp_cons + 250 - self._queue.rx.req_prod)
            self._queue.kick()
            self._loop.turn(0.01)
            self._loop.turn(0)
            if got := self._queue.received():
                return list(got)
        pytest.fail("the host's kernel does not answer")

    def _send(self, frame: bytes) -> None:
        self._queue.send(frame, 3 if frame[12:14] == b"\x08\0" else 0)
        self._queue.kick()
        settle(self._loop)

    def ask_mac(self) -> bytes:
        self._send(make.arp(MAC_BYTES, self.ADDRESS, self.HOST)[6:].join([b"\xff" * 6, b""]))
        while True:
            for frame, _, _ in self._frames():
                if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
                    return frame[6:12]

    def segment(self, data: bytes, flags: int = 0x18, *, blank: bool = True) -> bytes:
        made = make.tcp(data, self.ADDRESS, self.HOST, flags=flags, seq=self._seq, ack=self._ack, blank=blank,
                        ports=(4321, self._port), window=65535, ether_target=self._mac)  # fmt: skip
        self._seq += len(data) + (flags & 2 > 0)
        return made

    def open(self, mac: bytes, port: int) -> None:
        self._mac, self._port = mac, port
        self._send(self.segment(b"", 2))
        while not self._ack:
            for frame, _, _ in self._frames():
                self._answer_arp(frame)
                if frame[12:14] == b"\x08\0" and frame[23] == 6 and frame[47] & 0x12 == 0x12:
                    self._ack = int.from_bytes(frame[38:42], "big") + 1
        self._send(self.segment(b"", 0x10))

    def _answer_arp(self, frame: bytes) -> None:
        if (
            frame[12:14] == b"\x08\x06"
            and frame[20:22] == b"\0\1"
            and frame[38:42] == socket.inet_aton(self.ADDRESS)
        ):
            answer = make.arp(MAC_BYTES, self.ADDRESS, self.HOST, operation=2)
            self._send(frame[6:12] + answer[6:32] + frame[6:12] + frame[28:32])

    def hear(self, size: int) -> None:
        while len(self.heard) < size:
            for frame, _, gso in self._frames():
                self._answer_arp(frame)
                if frame[12:14] != b"\x08\0" or frame[23] != 6:
                    continue
                data = frame[34 + (frame[46] >> 4) * 4 : 14 + int.from_bytes(frame[16:18], "big")]
                if data and int.from_bytes(frame[38:42], "big") == self._ack:
                    self.heard += data
                    self._ack += len(data)
                    self.segmentation.append(gso)
                    self._send(self.segment(b"", 0x10))
