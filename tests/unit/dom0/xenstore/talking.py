"""A client of a server on the same loop, so that a test reads as a conversation."""

import socket

from xenion.abi.io.xs_wire import XsdSockmsgType
from xenion.dom0.loop import Loop
from xenion.dom0.xenstore.wire import Message, MessageParser, encode

T = XsdSockmsgType


class Peer:
    """One end of a stream socket; the loop turns whenever somebody waits for an answer."""

    def __init__(self, loop: Loop, stream: socket.socket) -> None:
        self.loop = loop
        self.stream = stream
        self.events: list[tuple[str, str]] = []
        """Path and token of the watch events that came."""
        self._parser = MessageParser()
        self._number = 0
        stream.setblocking(False)

    def send(self, kind: int, payload: bytes, tx: int = 0) -> int:
        """Send a request without waiting; its number."""
        self._number += 1
        self.stream.sendall(encode(Message(kind, self._number, tx, payload)))
        return self._number

    def says(self, kind: int, payload: bytes, tx: int = 0) -> bytes:
        """Send a request and return its reply's payload, an error's name without its NUL after a `!`."""
        number = self.send(kind, payload, tx)
        answer = self.answer()
        assert (answer.req_id, answer.tx_id) == (number, tx)
        if answer.type == T.ERROR:
            return b"!" + answer.payload[:-1]
        assert answer.type == kind
        return answer.payload

    def answer(self) -> Message:
        """The next reply; EOFError when the server has hung up."""
        for _ in range(10_000):
            message = self.next()
            if message is not None:
                return message
            self.loop.turn(0)
        raise AssertionError("no answer comes")

    def next(self) -> Message | None:
        """The next reply that is here already; events are put aside."""
        while True:
            message = self._parser.take()
            if message is None:
                if not self._receive():
                    return None
            elif message.type == T.WATCH_EVENT:
                path, token = message.payload.split(b"\0")[:2]
                self.events.append((path.decode(), token.decode()))
            else:
                return message

    def _receive(self) -> bool:
        try:
            data = self.stream.recv(1 << 16)
        except BlockingIOError:
            return False
        except ConnectionError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        self._parser.push(data)
        return True

    def told(self) -> list[tuple[str, str]]:
        """The events that have come since the last time."""
        for _ in range(20):
            self.loop.turn(0)
            assert self.next() is None
        events, self.events = self.events, []
        return events

    @property
    def cut_off(self) -> bool:
        """The server has hung up."""
        try:
            for _ in range(20):
                self.loop.turn(0)
                self.next()
        except EOFError:
            return True
        return False

    def close(self) -> None:
        self.stream.close()
