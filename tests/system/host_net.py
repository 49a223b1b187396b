"""The host's side of network tests: servers that guests talk to, captures, addresses."""

import hashlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

LIMIT_S = 120.0
CHUNK = 1 << 16


def host_address() -> str:
    """One of the host's addresses that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
        except OSError as error:
            pytest.skip(f"the host has no address that leads outside: {error}")
        return str(probe.getsockname()[0])


class Sink:
    """Takes one connection and keeps what it says: its digest and how much it was."""

    def __init__(self, address: str) -> None:
        self._socket = socket.create_server((address, 0))
        self._socket.settimeout(LIMIT_S)
        self.port = self._socket.getsockname()[1]
        self._hash = hashlib.sha256()
        self.count = 0
        self.peer = ""
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(TimeoutError):
            client, (self.peer, _) = self._socket.accept()
            client.settimeout(LIMIT_S)
            with client:
                while data := client.recv(CHUNK):
                    self._hash.update(data)
                    self.count += len(data)

    def digest(self) -> str:
        """When the connection has ended."""
        self._thread.join()
        return self._hash.hexdigest()

    def close(self) -> None:
        self._socket.close()
        self._thread.join()


@contextmanager
def sink(address: str) -> Iterator[Sink]:
    made = Sink(address)
    try:
        yield made
    finally:
        made.close()


def packets(path: Path) -> list[bytes]:
    """What is in a pcap file (pcap-savefile(5)) of Ethernet frames."""
    data = path.read_bytes()
    magic, major, minor, _, _, snaplen, link = struct.unpack_from("<IHHiIII", data)
    assert magic in (0xA1B2C3D4, 0xA1B23C4D)
    assert (major, minor, link) == (2, 4, 1)
    found, at = [], 24
    while at < len(data):
        _, _, kept, length = struct.unpack_from("<IIII", data, at)
        assert kept <= min(length, snaplen)
        found.append(data[at + 16 : at + 16 + kept])
        assert len(found[-1]) == kept
        at += 16 + kept
    return found
