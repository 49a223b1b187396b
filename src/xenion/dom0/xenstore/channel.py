"""One stream socket and the client that speaks over it."""

import socket
from collections.abc import Callable
from time import monotonic

from xenion.dom0.loop import READ, WRITE, Loop
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.requests import handle
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import MessageParser, WireError

REQUESTS_PER_TURN = 64
SECONDS_PER_TURN = 0.002
"""Of one client, before the others have had their turn; the request that exceeds it is the last."""
READ_BYTES = 16384
SEND_BYTES = 65536
"""What is taken from a client's queue at a time: events that stay there can still merge."""


class Channel:
    """Serves requests while their answers are read. The server sends, after it has kept what has changed.

    ``settle(channel)`` asks for that, at the end of the turn; ``closed(channel)`` is called once, when the peer is
    gone, or does not speak the protocol, or after `close`.
    """

    def __init__(
        self,
        loop: Loop,
        store: Store,
        connection: Connection,
        stream: socket.socket,
        settle: Callable[["Channel"], None],
        closed: Callable[["Channel"], None],
    ) -> None:
        self.connection = connection
        self.unsettled = False
        """It is on the server's list for the end of this turn."""
        self.busy = False
        """Requests are here that have not been served."""
        self._loop = loop
        self._store = store
        self._stream = stream
        self._settle = settle
        self._closed = closed
        self._parser = MessageParser()
        self._unsent = b""
        self._open = True
        self._mask = READ
        stream.setblocking(False)
        connection.wake_with(self._woken)
        connection.hang_up = self.close
        loop.watch(stream.fileno(), READ, self._ready)

    def _woken(self) -> None:
        if not self.unsettled:
            self._settle(self)

    def _ready(self, mask: int) -> None:
        if mask & READ:
            if not self.busy:
                self._receive()
        elif not self.unsettled:
            self._settle(self)

    def _receive(self) -> None:
        try:
            data = self._stream.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._parser.push(data)
        self.serve()

    def serve(self) -> None:
        """A share of the requests that are here."""
        connection = self.connection
        self.busy = False
        try:
            if connection.saturated:
                self.busy = self._parser.waits
            elif (request := self._parser.take()) is not None:
                handle(self._store, connection, request)
                self.busy = self._parser.waits and self._serve_more()
        except WireError:
            self.close()
            return
        if not self.unsettled:
            self._settle(self)

    def _serve_more(self) -> bool:
        """Several requests are here; whether some are left."""
        store, connection, take = self._store, self.connection, self._parser.take
        end = monotonic() + SECONDS_PER_TURN
        for _ in range(REQUESTS_PER_TURN - 1):
            if connection.saturated or monotonic() > end:
                break
            request = take()
            if request is None:
                return False
            handle(store, connection, request)
        return self._parser.waits

    def send(self) -> None:
        """Send what waits, as far as the peer reads. Requests are read on only when all of it went."""
        if not self._open:
            return
        connection = self.connection
        data = self._unsent or connection.drain(SEND_BYTES)
        while data:
            try:
                sent = self._stream.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.close()
                return
            if sent < len(data):
                self._unsent = data[sent:]
                self._watch(WRITE)
                return
            data = connection.drain(SEND_BYTES) if connection.waiting else b""
        self._unsent = b""
        self._watch(READ)

    @property
    def blocked(self) -> bool:
        """The peer does not read."""
        return bool(self._unsent)

    def _watch(self, mask: int) -> None:
        if mask != self._mask:
            self._mask = mask
            self._loop.watch(self._stream.fileno(), mask, self._ready)

    def close(self) -> None:
        """Nothing more is read or sent. What the client has in the store is the server's business."""
        if not self._open:
            return
        self._open = self.busy = False
        self._loop.watch(self._stream.fileno(), 0, self._ready)
        self._stream.close()
        self.connection.wake_with(None)
        self.connection.hang_up = None
        self._closed(self)
