"""Connections to NBD servers: those of URLs, and the storage daemons' own.

`nbd://HOST[:PORT]/EXPORT` and `nbd+unix:///EXPORT?socket=PATH`, as QEMU and libnbd write them.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from xenion.api.addresses import connect
from xenion.config.disk import Disk
from xenion.config.errors import shown
from xenion.dom0.block.nbd_handshake import NbdError, NbdInfo, negotiate
from xenion.xend.disks.errors import cannot
from xenion.xend.disks.place import OpenDisk, description
from xenion.xend.threads import in_thread

PORT = 10809
PATIENCE_S = 10.0
CONNECTIONS = 2
"""To one export, if the server says that they are as one."""


class UnansweredError(Exception):
    """The server closed the connection before it said a word."""


@dataclass(frozen=True, slots=True)
class Server:
    """`path` is "" for TCP."""

    host: str
    port: int
    path: str
    export: str

    def connect(self) -> socket.socket:
        """OSError."""
        if self.path:
            return connect(Path(self.path), timeout=PATIENCE_S)
        made = socket.create_connection((self.host, self.port), timeout=PATIENCE_S)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return made

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


def parse_url(disk: Disk) -> Server:
    """What the disk's target says. ApiError."""
    wrong = cannot(
        disk,
        f"{shown(disk.target)} is no NBD URL: write nbd://HOST:PORT/EXPORT or nbd+unix:///EXPORT?socket=PATH",
    )
    try:
        parts = urlsplit(disk.target)
        host, port = parts.hostname or "", parts.port or PORT
    except ValueError:
        raise wrong from None
    export = unquote(parts.path.removeprefix("/"))
    if parts.scheme == "nbds":
        raise cannot(
            disk, f"{shown(disk.target)} asks for TLS, which is not supported: use a tunnel of your own"
        )
    if parts.scheme == "nbd" and host and not parts.query:
        return Server(host, port, "", export)
    paths = parse_qs(parts.query).get("socket", [])
    if parts.scheme == "nbd+unix" and not parts.netloc and len(paths) == 1 and Path(paths[0]).is_absolute():
        return Server("", 0, paths[0], export)
    raise wrong


async def open_url(disk: Disk) -> OpenDisk:
    """ApiError."""
    server = parse_url(disk)
    try:
        return await open_export(disk, server.connect, server.export)
    except UnansweredError:
        raise cannot(disk, f"{server} closes the connection: is an NBD server there?") from None
    except NbdError as error:
        raise cannot(disk, f"{server}: {error}") from error
    except OSError as error:
        why = "it does not answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
        raise cannot(disk, f"{server} cannot be reached: {why}") from error


async def open_export(disk: Disk, to_server: Callable[[], socket.socket], export: str) -> OpenDisk:
    """Several connections where the server allows it. UnansweredError, NbdError, OSError; ApiError: it is read-only."""
    sockets, info = await in_thread(lambda: _sessions(to_server, export), lambda made: _close(made[0]))
    fds = [made.detach() for made in sockets]
    made = OpenDisk({}, fds)
    try:
        if info.read_only and disk.writable:
            raise cannot(disk, f"{disk.target} is read-only at its server: attach it read-only, with mode r")
        for fd in fds:
            os.set_blocking(fd, False)
        made.description = description(disk, "nbd", info.size, nbd=asdict(info))
    except BaseException:
        made.close()
        raise
    return made


def _sessions(to_server: Callable[[], socket.socket], export: str) -> tuple[list[socket.socket], NbdInfo]:
    made: list[socket.socket] = []
    try:
        info = _session(made, to_server, export)
        while info.multi_conn and len(made) < CONNECTIONS:
            _session(made, to_server, export)
    except BaseException:
        _close(made)
        raise
    return made, info


def _close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()


def _session(made: list[socket.socket], to_server: Callable[[], socket.socket], export: str) -> NbdInfo:
    made.append(connection := to_server())
    try:
        answered = connection.recv(1, socket.MSG_PEEK)
    except ConnectionError:
        answered = b""
    if not answered:
        raise UnansweredError
    return negotiate(connection, export)
