"""A listening Unix socket on a loop: root and our own user may connect, whatever its mode says."""

import os
import socket
import struct
from collections.abc import Callable

from xenion.dom0.loop import READ, Loop, Timer

AGAIN_S = 0.2
"""After an accept that failed for want of something of the host's: those that are served matter more."""
_ROOT = 0
_CREDENTIALS = struct.Struct("3i")


class Listener:
    """`accepted` gets each connection, non-blocking, from `start` on. The bound socket is the listener's to close."""

    def __init__(
        self, bound: socket.socket, loop: Loop, accepted: Callable[[socket.socket], None], backlog: int
    ) -> None:
        bound.setblocking(False)
        self._socket = bound
        self._loop = loop
        self._accepted = accepted
        self._backlog = backlog
        self._welcome = (_ROOT, os.getuid())  # asked now: who serves may have given up the right to ask
        self._pause: Timer | None = None

    def start(self) -> None:
        self._socket.listen(self._backlog)
        self._watch()

    def close(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.watch(self._socket.fileno(), 0, self._accept)
        self._socket.close()

    def _watch(self) -> None:
        self._loop.watch(self._socket.fileno(), READ, self._accept)

    def _accept(self, _mask: int) -> None:
        try:
            stream, _ = self._socket.accept()
        except (BlockingIOError, ConnectionError):
            return
        except OSError:
            self._loop.watch(self._socket.fileno(), 0, self._accept)
            self._pause = self._loop.later(AGAIN_S, self._watch)
            return
        if peer_uid(stream) not in self._welcome:
            stream.close()
            return
        stream.setblocking(False)
        self._accepted(stream)


def peer_uid(stream: socket.socket) -> int:
    """The user at the other end of a Unix socket, as of its connect."""
    raw = stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(raw)
    return int(uid)
