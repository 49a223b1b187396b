"""The control socket of a domain process: requests of xend, and what it is told.

SOCK_SEQPACKET, one JSON object a packet, descriptors beside it. `{"id": N, "do": WORD, ...}` is answered with
`{"id": N, "done": {...}}` or `{"id": N, "error": SENTENCE}`, after any number of `{"id": N, "progress": [DONE, ALL]}`
and `{"id": N, "figures": {NAME: NUMBER}}`.
Unasked come `{"hello": N}` first and `{"journal": N}` at each new entry: N is the number of the journal's last entry.
"""

import json
import os
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from xenion.dom0.listener import Listener
from xenion.dom0.loop import READ, WRITE, Loop

PACKET_BYTES = 1 << 16
DESCRIPTORS = 8
CONNECTIONS = 8
QUEUED_PACKETS = 1000
PROGRESS_SECONDS = 0.1


class Refusal(Exception):
    """A request that cannot be granted; the message is for the user."""


class Request:
    """One request; answered once, at any time, on Dom0's thread."""

    def __init__(
        self, connection: "Connection", number: int, fields: Mapping[str, Any], fds: list[int]
    ) -> None:
        self._connection = connection
        self._number = number
        self.fields = fields
        self._fds = fds

    def text(self, key: str) -> str:
        """A field that has to be there; Refusal."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise Refusal(f"the request has to have a text for {key!r}")
        return value

    def number(self, key: str) -> int:
        """As `text`."""
        value = self.fields.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refusal(f"the request has to have a whole number for {key!r}")
        return value

    def mapping(self, key: str) -> dict[str, Any]:
        """As `text`."""
        value = self.fields.get(key)
        if not isinstance(value, dict):
            raise Refusal(f"the request has to have an object for {key!r}")
        return value

    def list_of(self, key: str) -> list[Any]:
        """As `text`."""
        value = self.fields.get(key)
        if not isinstance(value, list):
            raise Refusal(f"the request has to have a list for {key!r}")
        return value

    def take_fds(self, least: int = 1, most: int = 1) -> list[int]:
        """The descriptors that came with it; the caller's from now on. Refusal."""
        if not least <= len(self._fds) <= most:
            raise Refusal(
                f"{len(self._fds)} descriptors came with the request: from {least} to {most} are wanted"
            )
        fds, self._fds = self._fds, []
        return fds

    def done(self, **values: Any) -> None:
        self._answer({"done": values})

    def refuse(self, why: str) -> None:
        self._answer({"error": why})

    def _answer(self, answer: dict[str, Any]) -> None:
        fds, self._fds = self._fds, []
        for fd in fds:
            os.close(fd)
        self._connection.send({"id": self._number, **answer})

    def progress(self, done: int, total: int) -> None:
        self._connection.send({"id": self._number, "progress": [done, total]})

    def tell(self, figures: Mapping[str, float]) -> None:
        """What it is about to do, in figures for people."""
        self._connection.send({"id": self._number, "figures": dict(figures)})

    def teller(self, loop: Loop, cancelled: Callable[[], bool]) -> Callable[[int, int], bool]:
        """For another thread's long work: `progress` now and then, and whether to go on."""
        last = 0.0

        def tell(done: int, total: int) -> bool:
            nonlocal last
            now = time.monotonic()
            if now - last > PROGRESS_SECONDS:
                last = now
                loop.call(lambda: self.progress(done, total))
            return not (cancelled() or self.abandoned)

        return tell

    @property
    def abandoned(self) -> bool:
        """Nobody waits for the answer any more."""
        return not self._connection.open


Handler = Callable[[Request], None]


class Connection:
    """One xend; a new one may come while the old one's end has not been noticed."""

    def __init__(
        self, stream: socket.socket, loop: Loop, serve: Handler, gone: Callable[["Connection"], None]
    ) -> None:
        self._stream = stream
        self._loop = loop
        self._serve = serve
        self._gone = gone
        self._queue: deque[bytes] = deque()
        self.open = True
        self._watch()

    def _watch(self) -> None:
        self._loop.watch(self._stream.fileno(), READ | (WRITE if self._queue else 0), self._on_ready)

    def send(self, message: Mapping[str, Any]) -> None:
        if not self.open:
            return
        self._queue.append(json.dumps(message).encode())
        self._flush()

    def _flush(self) -> None:
        while self._queue:
            try:
                self._stream.send(self._queue[0])
            except BlockingIOError:
                break
            except OSError:
                self.close()
                return
            self._queue.popleft()
        if len(self._queue) > QUEUED_PACKETS:
            self.close()
        else:
            self._watch()

    def _on_ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if mask & READ and self.open:
            self._read()

    def _read(self) -> None:
        try:
            packet, fds, _, _ = socket.recv_fds(self._stream, PACKET_BYTES, DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            packet, fds = b"", []
        fields = _fields(packet)
        if fields is None:
            for fd in fds:
                os.close(fd)
            self.close()
            return
        request = Request(self, fields["id"], fields, list(fds))
        try:
            self._serve(request)
        except Refusal as refusal:
            request.refuse(str(refusal))
        except Exception:  # noqa: BLE001  a bug of ours must not end a guest for what somebody asked
            sys.stderr.write(traceback.format_exc())
            request.refuse("the domain's process could not do it for a bug of Xenion's: see process.log")

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.watch(self._stream.fileno(), 0, self._on_ready)
            self._stream.close()
            self._gone(self)


def _fields(packet: bytes) -> dict[str, Any] | None:
    """Those of a request; None for the end of the connection, or what is no request at all."""
    try:
        fields = json.loads(packet.decode())  # decoded here, because json would guess and import a codec
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and isinstance(fields.get("id"), int) else None


class ControlServer:
    """Serves `handlers` (by the request's word) on `listener`, a bound socket, once `start` was called."""

    def __init__(self, listener: socket.socket, loop: Loop, last_entry: Callable[[], int]) -> None:
        self._listener = Listener(listener, loop, self._connected, CONNECTIONS)
        self._loop = loop
        self._last_entry = last_entry
        self.handlers: dict[str, Handler] = {}
        self._connections: set[Connection] = set()

    def start(self) -> None:
        self._listener.start()

    def _connected(self, stream: socket.socket) -> None:
        if len(self._connections) >= CONNECTIONS:
            stream.close()
            return
        connection = Connection(stream, self._loop, self._serve, self._connections.discard)
        self._connections.add(connection)
        connection.send({"hello": self._last_entry()})

    def _serve(self, request: Request) -> None:
        handler = self.handlers.get(str(request.fields.get("do")))
        if handler is None:
            raise Refusal(
                f"the domain's process does not know {request.fields.get('do')!r}: it is of another version"
            )
        handler(request)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Every xend."""
        for connection in list(self._connections):
            connection.send(message)
