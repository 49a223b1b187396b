"""One WebSocket connection: uvicorn's protocol, which holds no more than what was read last from the client."""

import asyncio
from collections.abc import Callable
from typing import Any

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState
from wsproto.events import BytesMessage, TextMessage

from xenion.xend.web.limits import Limits
from xenion.xend.web.stuck import Stuck


class WebSocketConnection(WSProtocol):
    """Hands over bytes as they come, whatever messages they were in: the console is a stream.

    The transport is read only while nothing that came waits for the application and nothing waits to be sent; a
    client's pings, which are answered from here, cannot pile up either.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        app: ASGIApp,
        limits: Limits,
        lost: Callable[[], None],
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.app = app  # type: ignore[assignment]  # Starlette's name for the same
        self._lost = lost
        self._stuck = Stuck(limits.stuck_s)
        self._gathered: bytearray | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stuck.watch(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stuck.empty()
        super().connection_lost(exc)
        self._lost()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck.full()
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck.empty()
        self._read_on()

    def handle_message(self, event: TextMessage | BytesMessage) -> None:
        if self._gathered is None:
            self._gathered = bytearray()
            self.queue.put_nowait({"type": "websocket.receive", "bytes": b""})
        self._gathered += event.data.encode() if isinstance(event, TextMessage) else event.data
        self.read_paused = True
        self.transport.pause_reading()

    async def receive(self) -> Any:
        message: Any = await self.queue.get()
        if message["type"] == "websocket.receive":
            data, self._gathered = bytes(self._gathered or b""), None
            message = {"type": "websocket.receive", "bytes": data}
        if self.queue.empty():
            self.read_paused = False
            self._read_on()
        return message

    def _read_on(self) -> None:
        if self.writable.is_set() and not self.read_paused:
            self.transport.resume_reading()
