"""A real passt, if it runs here, and the ACK that lets a guest speak first."""

import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.conftest import loop
from tests.unit.dom0.net.front import MAC_BYTES
from tests.unit.dom0.net.test_stream_wire import Sink
from xenion.dom0.loop import Loop
from xenion.dom0.net.stream_wire import StreamWire
from xenion.dom0.net.wire import Frame

__all__ = ["loop"]
SYN, ACK, RST = 2, 16, 4


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Passt:
    def __init__(self, folder: Path) -> None:
        self.path, self.port = folder / "passt.sock", _free_port()
        command = [
            "passt",
            "-f",
            "-1",
            "-l",
            str(folder / "log"),
            "-s",
            str(self.path),
            "-4",
            "-a",
            "10.0.2.15",
            "-n",
            "24",
        ]
        command += ["-g", "10.0.2.2", "-t", f"127.0.0.1/{self.port}:22", "-u", "none"]
        if os.geteuid() == 0:
            command += ["--runas", "0:0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def connect(self) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        while True:
            try:
                end.connect(str(self.path))
            except OSError:
                if self.process.poll() is not None:
                    end.close()
                    assert self.process.stdout is not None
                    pytest.skip(f"passt does not run here: {self.process.stdout.read().strip()[-200:]}")
                time.sleep(0.01)
            else:
                return end


@pytest.fixture
def passt(tmp_path: Path) -> Iterator[Passt]:
    if shutil.which("passt") is None:
        pytest.skip("passt is not here: install passt")
    made = Passt(tmp_path)
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.mark.parametrize("acknowledge", [True, False])
def test_a_service_that_speaks_first_behind_passt(loop: Loop, passt: Passt, acknowledge: bool) -> None:
    """The guest is the test: it speaks when it has been told of the connection, as a kernel would."""
    sink = Sink()
    wire = StreamWire(passt.connect().detach(), loop, acknowledge_syn_ack=acknowledge)
    wire.attach(sink)
    client = socket.create_connection(("127.0.0.1", passt.port))
    client.settimeout(30)
    guest = TinyGuest(wire, sink)
    try:
        deadline = time.monotonic() + 30
        while not guest.answered and time.monotonic() < deadline:
            loop.turn(0.1)
            guest.look()
        assert guest.answered, "passt sent no SYN"
        for _ in range(20):
            loop.turn(0.05)
            guest.look()
        assert guest.established == acknowledge, "whether the guest was told of the connection"
        if acknowledge:
            guest.say(b"SSH-2.0-hello\r\n")
            assert client.recv(100) == b"SSH-2.0-hello\r\n"
            client.sendall(b"and now we")
            while guest.heard != b"and now we" and time.monotonic() < deadline:
                loop.turn(0.1)
                guest.look()
            assert guest.heard == b"and now we"
    finally:
        client.close()
        wire.close()


class TinyGuest:
    """ARP, and one TCP connection to port 22."""

    def __init__(self, wire: StreamWire, sink: Sink) -> None:
        self._wire, self._sink = wire, sink
        self.answered = self.established = False
        self.heard = b""
        self._peer, self._port, self._mac = "", 0, b""
        self._seq, self._ack = 5000, 0

    def look(self) -> None:
        while self._sink.frames:
            frame = self._sink.frames.pop(0)
            kind = frame[12:14]
            if kind == b"\x08\x06" and frame[20:22] == b"\0\1":
                reply = make.arp(MAC_BYTES, "10.0.2.15", socket.inet_ntoa(frame[28:32]), operation=2)
                self._send(frame[6:12] + reply[6:32] + frame[6:12] + frame[28:32])
            elif kind == b"\x08\0" and frame[23] == 6:
                self._tcp(frame)

    def _tcp(self, frame: bytes) -> None:
        ports = struct.unpack_from(">HH", frame, 34)
        seq, _, offset, flags = struct.unpack_from(">IIBB", frame, 38)
        payload = frame[34 + (offset >> 4) * 4 : 14 + int.from_bytes(frame[16:18], "big")]
        if ports[1] != 22:
            return
        if flags & SYN:
            self._mac, self._peer, self._port = frame[6:12], socket.inet_ntoa(frame[26:30]), ports[0]
            self._ack = seq + 1
            self._segment(b"", SYN | ACK)
            self.answered = True
        elif flags & ACK and not flags & RST:
            self.established = True
            assert (
                make.checksum(make.pseudo(frame[26:30], frame[30:34], 6, len(frame) - 34) + frame[34:]) == 0
            )
            assert seq == self._ack or not payload
            if payload:
                self.heard += payload
                self._ack = seq + len(payload)
                self._segment(b"", ACK)

    def say(self, data: bytes) -> None:
        self._seq += 1
        self._segment(data, ACK | 8)
        self._seq += len(data)

    def _segment(self, data: bytes, flags: int) -> None:
        how = {"window": 64000, "ether_target": self._mac, "ports": (22, self._port)}
        frame = make.tcp(data, "10.0.2.15", self._peer, flags=flags, seq=self._seq, ack=self._ack, **how)  # type: ignore[arg-type]
        self._send(frame)

    def _send(self, frame: bytes) -> None:
        self._wire.send([Frame(frame)])
