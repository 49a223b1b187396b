"""xenstored.ctl: xend introduces domains and hands their sockets over. A packet is a JSON object, and so is its answer.

    {"do": "introduce", "domid": 5, "uuid": U}  with two stream sockets: the guest's and its process's end
    {"do": "release", "domid": 5}
    {"do": "list"}                              done: {"domains": [{"domid", "uuid", "connected"}, ...]}
    {"do": "stop"}                              answered when everything is kept

The answer is {"done": {...}}, or {"error": SENTENCE} and nothing has changed.
"""

import json
import os
import socket
from collections.abc import Callable
from typing import Any

from xenion.dom0.listener import Listener
from xenion.dom0.loop import READ, Loop
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.server import XenstoreServer

PACKET_BYTES = 65536
DESCRIPTORS = 2
CONNECTIONS = 16


class RequestError(Exception):
    """A packet asks for what cannot be done; the message goes back."""


class ControlServer:
    """`listener` is a bound SOCK_SEQPACKET socket; `stop` ends the daemon."""

    def __init__(
        self, loop: Loop, server: XenstoreServer, listener: socket.socket, stop: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._server = server
        self._listener = Listener(listener, loop, self._connected, CONNECTIONS)
        self._stop = stop
        self._streams: set[socket.socket] = set()
        self._listener.start()

    @property
    def clients(self) -> int:
        """Connections."""
        return len(self._streams)

    def close(self) -> None:
        self._listener.close()
        for stream in list(self._streams):
            self._hang_up(stream)

    def _connected(self, stream: socket.socket) -> None:
        if len(self._streams) >= CONNECTIONS:
            stream.close()
            return
        self._streams.add(stream)
        self._loop.watch(stream.fileno(), READ, lambda _: self._receive(stream))

    def _hang_up(self, stream: socket.socket) -> None:
        self._loop.watch(stream.fileno(), 0, lambda _: None)
        self._streams.discard(stream)
        stream.close()

    def _receive(self, stream: socket.socket) -> None:
        try:
            data, ancillary, flags, _ = stream.recvmsg(
                PACKET_BYTES, socket.CMSG_SPACE(4 * DESCRIPTORS), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary, flags = b"", [], 0
        descriptors = _sockets(ancillary)
        if not data:
            for left in descriptors:
                left.close()
            self._hang_up(stream)
            return
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise RequestError(
                    "xenstored was asked in a packet that is too long or has too many descriptors"
                )
            answer: dict[str, Any] = {"done": self._serve(data, descriptors)}
        except (RequestError, StoreError) as error:
            answer = {"error": getattr(error, "reason", str(error))}
        finally:
            for left in descriptors:
                left.close()
        self._server.settle()
        self._answer(stream, answer)

    def _answer(self, stream: socket.socket, answer: dict[str, Any]) -> None:
        try:
            stream.send(json.dumps(answer).encode())
        except OSError:  # it does not read, or is gone: it will find out
            self._hang_up(stream)

    def _serve(self, data: bytes, descriptors: list[socket.socket]) -> dict[str, Any]:
        try:
            request = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RequestError("xenstored was asked in a packet that is not JSON") from error
        if not isinstance(request, dict):
            raise RequestError("xenstored was asked in a packet that is no JSON object")
        match request.get("do"):
            case "introduce":
                self._introduce(request, descriptors)
            case "release":
                self._server.release(_domid(request))
            case "list":
                return {"domains": self._domains()}
            case "stop":
                self._stop()
            case other:
                raise RequestError(f"xenstored does not know {other!r}: it is of another version")
        return {}

    def _introduce(self, request: dict[str, Any], descriptors: list[socket.socket]) -> None:
        uuid = request.get("uuid")
        if not isinstance(uuid, str):
            raise RequestError("xenstored was given no UUID of a domain")
        if len(descriptors) != DESCRIPTORS or not all(map(_is_stream, descriptors)):
            raise RequestError(f"xenstored was not given {DESCRIPTORS} stream sockets of a domain")
        guest, process = descriptors
        descriptors.clear()  # the server's now
        self._server.introduce(_domid(request), uuid, guest, process)

    def _domains(self) -> list[dict[str, Any]]:
        return [
            {
                "domid": domain.domid,
                "uuid": domain.uuid,
                "connected": all(connection.connected for connection in domain.connections),
            }
            for domain in self._server.store.domains.values()
        ]


def _sockets(ancillary: list[tuple[int, int, bytes]]) -> list[socket.socket]:
    """All descriptors that came, as sockets; one that is none is closed."""
    found = []
    for level, kind, data in ancillary:
        if (level, kind) != (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            continue
        for start in range(0, len(data) - len(data) % 4, 4):
            fd = int.from_bytes(data[start : start + 4], "little")
            try:
                found.append(socket.socket(fileno=fd))
            except OSError:
                os.close(fd)
    return found


def _is_stream(given: socket.socket) -> bool:
    return given.family == socket.AF_UNIX and given.type == socket.SOCK_STREAM


def _domid(request: dict[str, Any]) -> int:
    domid = request.get("domid")
    if not isinstance(domid, int) or isinstance(domid, bool):
        raise RequestError("xenstored was given no number of a domain")
    return domid
