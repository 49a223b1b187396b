"""A domain's console for readers and writers: whoever connects to its socket (xenion.api.console has the protocol).

Nothing here ever blocks Dom0's thread.
"""

import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from xenion.dom0.console import FROM_NOW_ON, ConsoleHub, ConsoleReader
from xenion.dom0.listener import Listener
from xenion.dom0.loop import READ, WRITE, Loop

INPUT_CHUNK = 4096
GREETING_BYTES = 4096
GREETING_S = 10.0
STUCK_S = 30.0
"""So long a client that takes nothing may hold the guest back."""
LOOK_S = 1.0
CLIENTS = 64


class ConsoleClient:
    """One connection of `server`'s. It may come back to its byte's number after it was let go."""

    def __init__(self, server: "ConsoleServer", stream: socket.socket) -> None:
        self._server = server
        self._stream = stream
        self._reader: ConsoleReader | None = None
        self._read_only = False
        self._greeting = b""
        self._unsent = self._unfed = b""
        self._progress = time.monotonic()
        self.open = True
        self._watch()

    @property
    def greeted(self) -> bool:
        """It has said what it wants."""
        return self._reader is not None

    @property
    def busy(self) -> bool:
        """Output waits to be sent, or it has not said yet what it wants."""
        return self._reader is None or bool(self._unsent or self._reader.pending)

    @property
    def since_progress(self) -> float:
        """Seconds for which a busy client has taken, or said, nothing."""
        return time.monotonic() - self._progress

    def flush(self) -> None:
        """Moves what it can both ways, then waits for what was in the way: the far end, or the guest."""
        if self.open and self._reader is not None:
            self._feed()
            self._send(self._reader)
        if self.open:
            self._watch()

    def _send(self, reader: ConsoleReader) -> None:
        if not self._unsent:
            self._progress = time.monotonic()  # nothing has waited until now
        while data := self._unsent or reader.take():
            try:
                sent = self._stream.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            self._unsent = data[sent:]
            if sent:
                self._progress = time.monotonic()
            if self._unsent:
                return

    def _feed(self) -> None:
        """What the guest has no room for stays here, and no more is read until it has."""
        if self._unfed:
            self._unfed = self._unfed[self._server.feed(self._unfed) :]

    def _watch(self) -> None:
        mask = (0 if self._unfed else READ) | (WRITE if self._unsent else 0)
        self._server.loop.watch(self._stream.fileno(), mask, self._on_ready)

    def _on_ready(self, mask: int) -> None:
        if mask & READ:
            self._read()
        self.flush()
        if mask & WRITE:
            self._server.moved()

    def _read(self) -> None:
        try:
            data = self._stream.recv(INPUT_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self._reader is None:
            self._greet(data)
        elif not self._read_only:
            self._unfed += data

    def _greet(self, data: bytes) -> None:
        self._greeting += data
        line, newline, rest = self._greeting.partition(b"\n")
        if len(line) > GREETING_BYTES:
            self.refuse("the first line is too long")
        elif newline:
            self._begin(line, rest)

    def _begin(self, line: bytes, rest: bytes) -> None:
        try:
            since, self._read_only = _wish(line)
        except ValueError as error:
            self.refuse(str(error))
            return
        self._reader = self._server.hub.attach(since)
        answer = {"first": self._reader.next, "lost": self._reader.lost}
        self._unsent = json.dumps(answer).encode() + b"\n"
        self._unfed = b"" if self._read_only else rest

    def refuse(self, why: str) -> None:
        answer = {"error": f"the console cannot be attached to: {why}"}
        with suppress(OSError):
            self._stream.send(json.dumps(answer).encode() + b"\n")
        self.close()

    def look(self) -> None:
        """Finds out whether the far end has gone, of which nothing tells while no input is wanted of it."""
        try:
            self._stream.send(b"")
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def close(self) -> None:
        """The far end has gone, or has to go."""
        if not self.open:
            return
        self.open = False
        self._server.loop.watch(self._stream.fileno(), 0, self._on_ready)
        if self._reader is not None:
            self._server.hub.detach(self._reader)
        self._stream.close()
        self._server.forget(self)


def _wish(line: bytes) -> tuple[int | None, bool]:
    """`since` and `read_only` of a client's first line; ValueError."""
    try:
        wish: Any = json.loads(line.decode())  # decoded here, because json would guess and import a codec
    except (ValueError, RecursionError):
        raise ValueError("the first line must be a JSON object") from None
    if not isinstance(wish, dict):
        raise ValueError("the first line must be a JSON object")
    since = wish.get("since")
    if since is not None and (not isinstance(since, int) or isinstance(since, bool) or since < FROM_NOW_ON):
        raise ValueError("since must be null, -1 or the number of a byte")
    return since, wish.get("read_only") is True


class ConsoleServer:
    """Accepts clients on `listener`, a bound socket, once `start` was called.

    `feed` takes input for the guest and tells how much of it had room. `moved` is called when a client took something,
    and now and then: the guest may have room again.
    """

    def __init__(
        self,
        hub: ConsoleHub,
        listener: socket.socket,
        loop: Loop,
        feed: Callable[[bytes], int],
        moved: Callable[[], None],
    ) -> None:
        self.hub = hub
        self.loop = loop
        self.feed = feed
        self.moved = moved
        self._listener = Listener(listener, loop, self._connected, CLIENTS)
        self._clients: set[ConsoleClient] = set()

    def start(self) -> None:
        self._listener.start()
        self.loop.later(LOOK_S, self._look)

    def _connected(self, stream: socket.socket) -> None:
        client = ConsoleClient(self, stream)
        if len(self._clients) < CLIENTS:
            self._clients.add(client)
        else:
            client.refuse(f"{CLIENTS} others are attached already")

    def _look(self) -> None:
        self.let_go()
        self.moved()
        self.loop.later(LOOK_S, self._look)

    def let_go(self) -> None:
        """Of clients that have gone, that say nothing at first, and for whom the guest has waited too long."""
        for client in list(self._clients):
            client.look()
            limit = STUCK_S if client.greeted else GREETING_S
            if client.busy and client.since_progress > limit and not (client.greeted and self.hub.room):
                client.close()

    def forget(self, client: ConsoleClient) -> None:
        self._clients.discard(client)

    def flush(self) -> None:
        for client in list(self._clients):
            client.flush()

    def laggards(self, seconds: float) -> bool:
        """A client has still to take something, and has taken something in the last `seconds`."""
        return any(client.busy and client.since_progress < seconds for client in self._clients)
