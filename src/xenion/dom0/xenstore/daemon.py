"""xenstored: a process for one folder, in which it listens and keeps what the store is."""

import gc
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from xenion.dom0.loop import Loop
from xenion.dom0.seccomp import NotRestrictedError
from xenion.dom0.xenstore import folder as places
from xenion.dom0.xenstore import guard
from xenion.dom0.xenstore.control_server import ControlServer
from xenion.dom0.xenstore.folder import FolderError
from xenion.dom0.xenstore.frames import StateError
from xenion.dom0.xenstore.server import XenstoreServer
from xenion.dom0.xenstore.statefile import StateFile
from xenion.dom0.xenstore.store import Store

READY = b"ready\n"
COLLECT_AFTER = 50_000
"""Objects; nothing here makes cycles, and to look through a big store for them would be felt."""


def serve(folder: Path, ready_fd: int | None, idle_s: float | None = None) -> int:
    """Until it is told to stop, by xend or SIGTERM, or nobody has been connected for `idle_s`; the exit status."""
    os.umask(0o077)
    _set_limits()
    try:
        daemon = _Daemon(folder, idle_s)
    except (FolderError, StateError) as error:
        print(f"xenstored: {error}", file=sys.stderr)
        _tell(ready_fd, f"{error}\n".encode())
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    _guard()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    _tell(ready_fd, READY)
    try:
        daemon.run()
    except StateError as error:
        print(f"xenstored: {error}", file=sys.stderr)
        return 1
    return 0


def _set_limits() -> None:
    """No core with what guests have in the store lands on disk; two sockets a domain, however many there are."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _guard() -> None:
    try:
        guard.arm()
    except NotRestrictedError as error:
        print(f"xenstored: {error}", file=sys.stderr)


def _tell(ready_fd: int | None, line: bytes) -> None:
    if ready_fd is not None:
        with suppress(OSError):  # nobody waits any more
            os.write(ready_fd, line)
        os.close(ready_fd)


class _Daemon:
    """Everything that serves a folder; FolderError, StateError."""

    def __init__(self, folder: Path, idle_s: float | None) -> None:
        self._lock = places.lock(folder)
        self._loop = Loop()
        self.stop = self._loop.stop
        store = Store()
        self._state = StateFile(folder / places.STATE, store)
        self._server = XenstoreServer(self._loop, store, self._state)
        self._paths = [folder / places.SOCKET, folder / places.CONTROL]
        self._server.listen(places.bind(self._paths[0], socket.SOCK_STREAM))
        control = places.bind(self._paths[1], socket.SOCK_SEQPACKET)
        self._control = ControlServer(self._loop, self._server, control, self.stop)
        self._idle_s = idle_s
        self._was_idle = False
        if idle_s is not None:
            self._loop.later(idle_s, self._look)

    def _look(self) -> None:
        """What the store is stays in its folder: who needs it again starts another."""
        idle = not self._server.clients and not self._control.clients
        if idle and self._was_idle:
            self.stop()
        elif self._idle_s is not None:
            self._was_idle = idle
            self._loop.later(self._idle_s, self._look)

    def run(self) -> None:
        """Serve; StateError."""
        self._loop.run()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._server.close()
        self._control.close()
        self._state.close()
        self._loop.close()
