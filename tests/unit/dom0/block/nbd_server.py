"""NBD servers for tests: one that a test plays by hand, and QEMU's."""

import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pytest

from xenion.dom0.block.nbd_handshake import NbdInfo, negotiate

REQUEST = struct.Struct(">IHHQQI")
READ, WRITE, DISC, FLUSH, TRIM = range(5)


class Request:
    def __init__(self, flags: int, code: int, cookie: int, offset: int, length: int, data: bytes) -> None:
        self.flags, self.code, self.cookie = flags, code, cookie
        self.offset, self.length, self.data = offset, length, data


class PlayedServer:
    """The server's end of a connection. `client` is the descriptor for the disk."""

    def __init__(self) -> None:
        self.sock, other = socket.socketpair()
        self.client = other.detach()
        self.sock.setblocking(False)
        self._got = bytearray()

    def requests(self) -> list[Request]:
        """Those that have arrived whole."""
        while True:
            try:
                more = self.sock.recv(1 << 20)
            except (BlockingIOError, ConnectionResetError):
                break
            if not more:
                break
            self._got += more
        found = []
        while len(self._got) >= REQUEST.size:
            magic, flags, code, cookie, offset, length = REQUEST.unpack_from(self._got)
            assert magic == 0x25609513
            size = REQUEST.size + (length if code == WRITE else 0)
            if len(self._got) < size:
                break
            data = bytes(self._got[REQUEST.size : size])
            found.append(Request(flags, code, cookie, offset, length, data))
            del self._got[:size]
        return found

    def only(self) -> Request:
        (request,) = self.requests()
        return request

    def reply(self, request: Request, data: bytes = b"", error: int = 0) -> None:
        self.send(struct.pack(">IIQ", 0x67446698, error, request.cookie) + data)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def close(self) -> None:
        self.sock.close()


class MemoryServer(PlayedServer):
    """Serves `data`, which outlives it, once `serve` is called; `unsafe` writes are in it only after a flush."""

    def __init__(self, data: bytearray, cache: dict[int, bytes]) -> None:
        super().__init__()
        self.data, self.cache = data, cache

    def serve(self) -> None:
        for request in self.requests():
            at, end = request.offset, request.offset + request.length
            if request.code == WRITE:
                for sector in range(at, end, 512):
                    self.cache[sector] = request.data[sector - at : sector - at + 512]
                if request.flags & 1:
                    self._flush()
                self.reply(request)
            elif request.code == READ:
                now = bytearray(self.data)
                for sector, data in self.cache.items():
                    now[sector : sector + 512] = data
                self.reply(request, bytes(now[at:end]))
            elif request.code == FLUSH:
                self._flush()
                self.reply(request)

    def _flush(self) -> None:
        for sector, data in self.cache.items():
            self.data[sector : sector + 512] = data
        self.cache.clear()


class Qemu:
    """qemu-nbd, serving one image over a Unix socket until `kill`."""

    def __init__(self, folder: Path, image: Path, *options: str) -> None:
        program = shutil.which("qemu-nbd")
        if program is None:
            pytest.skip("qemu-nbd is not here: install qemu-utils")
        self.path = folder / "nbd.sock"
        self.path.unlink(missing_ok=True)
        self._said = folder / "nbd.err"
        with self._said.open("wb") as said:
            self._process = subprocess.Popen(
                [
                    program,
                    "-k",
                    str(self.path),
                    "-x",
                    "disk",
                    "--persistent",
                    "--shared=8",
                    *options,
                    str(image),
                ],
                stderr=said,
            )

    def socket(self) -> socket.socket:
        """Connected, not negotiated."""
        while True:
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(str(self.path))
            except (FileNotFoundError, ConnectionRefusedError):
                sock.close()
                assert self._process.poll() is None, self._said.read_text()
                time.sleep(0.01)
            else:
                return sock

    def connect(self, count: int = 1) -> tuple[list[int], NbdInfo]:
        """Negotiated."""
        fds = []
        for _ in range(count):
            sock = self.socket()
            info = negotiate(sock, "disk")
            fds.append(sock.detach())
        return fds, info

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
