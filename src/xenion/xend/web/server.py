"""Accepts connections, over a Unix socket and TLS, says who calls, and lets nobody take more than the limits."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from xenion.api.errors import STATUSES, ApiError
from xenion.xend.call import Peer
from xenion.xend.web.answers import RequestError, error_answer, refusing
from xenion.xend.web.connection import Connection
from xenion.xend.web.gate import TokenGate
from xenion.xend.web.limits import Limits
from xenion.xend.web.peers import credentials_of
from xenion.xend.web.stuck import abort

if TYPE_CHECKING:
    import ssl

BACKLOG = 1024
EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
REST_S = 0.1
"""After an accept that failed for want of something of the host's: others may give it back."""
PING_S = 20.0
logger = logging.getLogger(__name__)


class Slots:
    """How many connections of one kind there are."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    def take(self) -> Callable[[], None] | None:
        """What gives the slot back, however often it is called; None when there is none."""
        if self._taken >= self._most:
            return None
        self._taken += 1
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._taken -= 1

        return release


@dataclass(frozen=True, slots=True)
class _Listener:
    sock: socket.socket
    app: ASGIApp
    slots: Slots
    identify: Callable[[socket.socket, Any], Peer | ApiError]
    """From an accepted socket and its address; OSError."""
    tls: "ssl.SSLContext | None" = None


class WebServer:
    """Serves one ASGI application to all who may come. `close` ends what the `listen` methods began."""

    def __init__(self, app: ASGIApp, limits: Limits | None = None) -> None:
        self._app = app
        self._limits = limits or Limits()
        self._unix = Slots(self._limits.unix_connections)
        self._tcp = Slots(self._limits.tcp_connections)
        self._refusals = Slots(self._limits.refusals)
        self._config = _config(app, self._limits)
        self._state = ServerState()
        self._accepting: list[tuple[asyncio.Task[None], socket.socket]] = []
        self._opening: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """Clients that are connected."""
        return len(self._state.connections)

    # --- listening

    async def listen_unix(self, sock: socket.socket) -> None:
        """On a bound socket, which is this server's from now on."""
        self._listen(_Listener(sock, self._app, self._unix, _identify_local))

    async def listen_tcp(
        self, host: str, port: int, ssl_context: "ssl.SSLContext", token: str
    ) -> list[tuple[str, int]]:
        """On all addresses of `host`; returns them with their ports. OSError, ValueError (an empty token)."""
        gate = TokenGate(self._app, token)
        found = []
        for family, address in await _addresses(host, port):
            sock = socket.create_server(address, family=family, backlog=BACKLOG)
            sock.setsockopt(
                socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
            )  # or an answer's second part waits 40 ms
            self._listen(_Listener(sock, gate, self._tcp, _identify_remote, ssl_context))
            found.append(sock.getsockname()[:2])
        return found

    def _listen(self, listener: _Listener) -> None:
        listener.sock.setblocking(False)
        listener.sock.listen(BACKLOG)
        task = asyncio.get_running_loop().create_task(self._accept(listener))
        self._accepting.append((task, listener.sock))

    async def _accept(self, listener: _Listener) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connected, address = await loop.sock_accept(listener.sock)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    logger.warning("no further client can connect: %s", error.strerror)
                await asyncio.sleep(REST_S if error.errno in EXHAUSTED else 0)
                continue
            self._admit(listener, connected, address)
            await asyncio.sleep(0)  # sock_accept does not let others run when somebody waits already

    # --- admission

    def _admit(self, listener: _Listener, connected: socket.socket, address: Any) -> None:
        try:
            peer = listener.identify(connected, address)
        except OSError:
            connected.close()
            return
        release = listener.slots.take() if isinstance(peer, Peer) else None
        if isinstance(peer, Peer) and release is None:
            peer = _refusal(
                "too-many", "Too many clients are connected to xend: end some, or try again later."
            )
        if isinstance(peer, ApiError):
            self._refuse(listener, connected, peer)
        elif release is not None:
            self._open(listener, connected, {"peer": peer}, listener.app, self._limits, release)

    def _refuse(self, listener: _Listener, connected: socket.socket, error: ApiError) -> None:
        """After reading the request, so that the client reads the answer; of many at once only some are so lucky."""
        if release := self._refusals.take():
            limits = replace(self._limits, head_s=self._limits.linger_s, stuck_s=self._limits.linger_s)
            self._open(listener, connected, {}, refusing(error), limits, release)
            return
        if listener.tls is None:
            with suppress(OSError):
                connected.send(_raw(error), socket.MSG_DONTWAIT)
        connected.close()

    def _open(
        self,
        listener: _Listener,
        connected: socket.socket,
        state: dict[str, Any],
        app: ASGIApp,
        limits: Limits,
        release: Callable[[], None],
    ) -> None:
        make = partial(Connection, self._config, self._state, state, app=app, limits=limits, lost=release)
        task = asyncio.get_running_loop().create_task(self._connect(listener, connected, make, release))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _connect(
        self,
        listener: _Listener,
        connected: socket.socket,
        make: Callable[[], Connection],
        release: Callable[[], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        more: dict[str, Any] = {}
        if listener.tls is not None:
            more["ssl"] = listener.tls
            more["ssl_handshake_timeout"] = self._limits.handshake_s
            more["ssl_shutdown_timeout"] = self._limits.stuck_s
        try:
            await loop.connect_accepted_socket(make, connected, **more)
        except OSError as error:  # ssl.SSLError and a handshake that takes too long are such
            logger.debug("a client was lost before its first request: %s", error)
            release()
        except BaseException:
            release()
            raise

    # --- the end

    async def close(self) -> None:
        """Changes under way end and are answered within the grace; everything else ends at once."""
        await _ended(_cancelled({*(task for task, _ in self._accepting), *self._opening}))
        for _, sock in self._accepting:
            sock.close()
        self._accepting.clear()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(list(self._state.tasks), timeout=self._limits.grace_s)
        await _ended(_cancelled(self._state.tasks))
        for connection in list(self._state.connections):
            abort(connection.transport)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.grace_s):
                while self._state.connections:
                    await asyncio.sleep(0)  # asyncio tells of the loss in one of its next rounds


def _config(app: ASGIApp, limits: Limits) -> Config:
    config = Config(
        app,
        interface="asgi3",
        lifespan="off",
        http=Connection,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        ws_ping_interval=PING_S,
        ws_ping_timeout=None,  # a pong may wait behind what the guest does not take
        ws_per_message_deflate=False,
        h11_max_incomplete_event_size=limits.head_bytes,
    )
    config.load()
    return config


def _cancelled(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    found = set(tasks)
    for task in found:
        task.cancel()
    return found


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        await asyncio.wait(tasks)


def _identify_local(connected: socket.socket, _: Any) -> Peer | ApiError:
    found = credentials_of(connected)
    if found.welcome:
        return found.peer()
    return _refusal("forbidden", f"This xend is of uid {os.getuid()}; uid {found.uid} may not use it.")


def _identify_remote(_: socket.socket, address: Any) -> Peer | ApiError:
    host, port = address[:2]
    return Peer(f"token from [{host}]:{port}" if ":" in host else f"token from {host}:{port}")


async def _addresses(host: str, port: int) -> list[tuple[int, Any]]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return sorted({(family, address) for family, _, _, _, address in found})


def _refusal(code: str, message: str) -> ApiError:
    return RequestError(code, message, STATUSES[code], Connection="close")


def _raw(error: ApiError) -> bytes:
    answer = error_answer(error)
    lines = [b"HTTP/1.1 %d Refused" % error.status, *(b"%s: %s" % pair for pair in answer.raw_headers)]
    return b"\r\n".join([*lines, b"", bytes(answer.body)])
