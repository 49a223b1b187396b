"""A console on another host: the API's WebSocket, made into a socket like that of a console here.

A thread stands between the two. The WebSocket is wsproto's (RFC 6455); docs/api.md tells what goes over it.
"""

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from xenion.api.actions import BY_NAME
from xenion.api.client import Client, path_of
from xenion.api.console import Attached, ConsoleError

CHUNK = 65536
NO_CONSOLE = "what answers is no console"


def attach(client: Client, uuid: str, since: int | None, *, read_only: bool) -> Attached:
    """As xenion.api.console.attach. ConsoleError, UnreachableError, OSError."""
    query: dict[str, Any] = {"read_only": "true" if read_only else "false"}
    if since is not None:
        query["since"] = since
    relay = Relay(client, path_of(BY_NAME["console"], {"domain": uuid}, query))
    first, lost = relay.open()
    ours, theirs = socket.socketpair()
    threading.Thread(target=relay.run, args=(theirs,), daemon=True).start()
    return Attached(ours, first, lost)


class Relay:
    """`open`, then `run` on a thread of its own, which closes everything when either end has."""

    def __init__(self, client: Client, target: str) -> None:
        self._stream, host, headers = client.stream()
        self._protocol = WSConnection(ConnectionType.CLIENT)
        request = Request(
            host=host,
            target=target,
            extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
        )
        self._stream.sendall(self._protocol.send(request))

    def open(self) -> tuple[int, int]:
        """The numbers of the first byte that comes and of those lost before it. ConsoleError, OSError."""
        refusal = b""
        while True:
            for event in self._events():
                if isinstance(event, TextMessage):
                    return _beginning(event.data)
                if isinstance(event, RejectConnection) and not event.has_body:
                    raise ConsoleError(f"xend refuses the console (HTTP status {event.status_code})")
                if isinstance(event, RejectData):
                    refusal += bytes(event.data)
                    if event.body_finished:
                        raise ConsoleError(_sentence(refusal))
                if isinstance(event, CloseConnection):
                    raise ConsoleError(event.reason or "the console has closed: the domain is ending")
                if not isinstance(event, AcceptConnection | RejectConnection):
                    raise ConsoleError(NO_CONSOLE)

    def _events(self) -> Iterator[Event]:
        """What one read brings; CloseConnection at the end."""
        data = self._stream.recv(CHUNK)
        try:
            self._protocol.receive_data(data or None)
            yield from self._protocol.events()
        except ProtocolError as error:
            raise ConsoleError(f"the connection to xend broke: {error}") from error

    def run(self, console: socket.socket) -> None:
        with self._stream, console, suppress(OSError, ConsoleError):
            while self._from_xend(console) and self._from_user(console):
                pass

    def _from_xend(self, console: socket.socket) -> bool:
        if not self._pending() and self._stream not in select.select([self._stream, console], [], [])[0]:
            return True
        for event in self._events():
            if isinstance(event, BytesMessage):
                console.sendall(event.data)
            elif isinstance(event, Ping):
                self._stream.sendall(self._protocol.send(event.response()))
            elif isinstance(event, CloseConnection):
                return False
        return True

    def _pending(self) -> bool:
        """TLS may have bytes that the descriptor does not show."""
        pending = getattr(self._stream, "pending", None)
        return bool(pending is not None and pending())

    def _from_user(self, console: socket.socket) -> bool:
        if not select.select([console], [], [], 0)[0]:
            return True
        data = console.recv(CHUNK)
        event = BytesMessage(data) if data else CloseConnection(code=1000)
        self._stream.sendall(self._protocol.send(event))
        return bool(data)


def _beginning(line: str) -> tuple[int, int]:
    try:
        answer = json.loads(line)
        return int(answer["first"]), int(answer["lost"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise ConsoleError(NO_CONSOLE) from None


def _sentence(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return "xend refuses the console"
