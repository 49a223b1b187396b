"""A stream of xenstore messages over a socket on Dom0's loop: what the guest's pump and the back ends' client share."""

import socket
from collections import deque
from collections.abc import Callable

from xenion.dom0.loop import READ, WRITE, Loop
from xenion.dom0.xenstore.wire import Message, MessageParser, WireError, encode

READ_BYTES = 1 << 16


class StoreLink:
    """One connection to xenstored, until it breaks and is not `open` any more."""

    def __init__(self, stream: socket.socket, loop: Loop, received: Callable[[Message], None]) -> None:
        stream.setblocking(False)
        self._stream = stream
        self._loop = loop
        self._received = received
        self._parser = MessageParser()
        self._waiting: deque[bytes] = deque()
        self._held = False
        self.open = True
        self._watch()

    def send(self, message: Message) -> None:
        """Messages go in order, sooner or later; what is not sent when the link breaks is lost."""
        if not self.open:
            return
        self._waiting.append(encode(message))
        if len(self._waiting) == 1:
            self._flush()

    def hold(self, held: bool) -> None:
        """While held nothing is read: the store keeps what it has to say, and makes room as its quotas tell."""
        if held != self._held:
            self._held = held
            self._watch()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.watch(self._stream.fileno(), 0, self._on_ready)
            self._stream.close()

    def _watch(self) -> None:
        if self.open:
            mask = (0 if self._held else READ) | (WRITE if self._waiting else 0)
            self._loop.watch(self._stream.fileno(), mask, self._on_ready)

    def _flush(self) -> None:
        try:
            while self._waiting:
                sent = self._stream.send(self._waiting[0])
                if sent < len(self._waiting[0]):
                    self._waiting[0] = self._waiting[0][sent:]
                else:
                    self._waiting.popleft()
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._watch()

    def _on_ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
        if mask & READ and self.open:
            self._read()

    def _read(self) -> None:
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
        try:
            while self.open and (message := self._parser.take()) is not None:
                self._received(message)
        except WireError:
            self.close()
