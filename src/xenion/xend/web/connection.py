"""One HTTP connection: uvicorn's protocol, with bounds in time and refusals as JSON."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import h11
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from xenion.api.errors import ApiError
from xenion.xend.web.answers import RequestError, error_answer
from xenion.xend.web.limits import Limits
from xenion.xend.web.stuck import Stuck, abort

CLOSE = (b"connection", b"close")
HEAD_TOO_LARGE = 431
PART_BYTES = 64 * 1024


class Connection(H11Protocol):
    """Serves `app` until one side closes, then calls `lost`, once; so does the WebSocket that it may become."""

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
        self._served = app
        self.app = self._serve
        self.timeout_keep_alive = limits.idle_s  # type: ignore[assignment]  # seconds may be a fraction
        self._limits = limits
        self._lost = lost
        self._stuck = Stuck(limits.stuck_s)
        self._head_timer: asyncio.TimerHandle | None = None

    # --- what asyncio tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._stuck.watch(transport)
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)
        self._lost()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck.full()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck.empty()

    # --- time

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.trailing_data[0]:
            self._watch_head()

    def _watch_head(self) -> None:
        """A head that has begun, or the first one, must end soon; between requests uvicorn's own timer runs."""
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._forget_head()
        elif self._head_timer is None:
            self._unset_keepalive_if_required()
            self._head_timer = self.loop.call_later(self._limits.head_s, self._head_is_late)

    def _forget_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._end(ApiError("timeout", f"The request was not there within {self._limits.head_s:g} seconds."))

    def _stop_timers(self) -> None:
        self._stuck.empty()
        self._forget_head()
        self._unset_keepalive_if_required()

    # --- answers

    def send_400_response(self, msg: str) -> None:
        """Called while h11's error is handled, which knows more than `msg`."""
        if getattr(sys.exc_info()[1], "error_status_hint", None) == HEAD_TOO_LARGE:
            self._end(_head_too_large(self._limits))
        else:
            self._end(
                ApiError(
                    "bad-request", f"This is no HTTP request that can be understood: {sys.exc_info()[1]}."
                )
            )

    def _end(self, error: ApiError) -> None:
        """Answers, unless an answer is on its way already, and closes."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            with suppress(h11.LocalProtocolError):
                self.transport.write(self._whole(error))
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _whole(self, error: ApiError) -> bytes:
        answer = error_answer(error)
        events = (
            h11.Response(status_code=answer.status_code, headers=[*answer.raw_headers, CLOSE]),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        )
        return b"".join(self.conn.send(event) or b"" for event in events)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """When the answer is there before the request's body, the rest of the body is thrown away for a while."""
        early = False

        async def answer(message: Message) -> None:
            nonlocal early
            if message["type"] == "http.response.start" and self.conn.their_state is h11.SEND_BODY:
                early = True
                message = {**message, "headers": [*message.get("headers", ()), CLOSE]}
            message = await _sent_but_for_the_end(message, send)
            last = message["type"] == "http.response.body" and not message.get("more_body", False)
            if early and last:
                await send({**message, "more_body": True})
                await self._linger(receive)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            if _size_of(scope) > self._limits.head_bytes:
                await error_answer(_head_too_large(self._limits))(scope, receive, answer)
            else:
                await self._served(scope, receive, answer)
        except asyncio.CancelledError:  # xend closes; uvicorn would log it as an error of ours
            self.cycle.disconnected = True
            abort(self.transport)

    async def _linger(self, receive: Receive) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_s):
                while (await receive()).get("more_body", False):
                    pass

    # --- other ends

    def shutdown(self) -> None:
        """xend closes: changes under way are answered, whoever only looks on is not kept."""
        with suppress(h11.LocalProtocolError):
            super().shutdown()
        only_looks = self.cycle is not None and self.scope["method"] == "GET"
        if (
            only_looks and not self.transport.is_closing()
        ):  # asyncio's TLS cannot be closed twice, then aborted
            self.transport.close()

    def _should_upgrade_to_ws(self) -> bool:
        return True

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        from xenion.xend.web.websocket import WebSocketConnection

        self._stop_timers()
        self.connections.discard(self)
        protocol = WebSocketConnection(
            self.config,
            self.server_state,
            self.app_state,
            app=self._served,
            limits=self._limits,
            lost=self._lost,
        )
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        lines = [name + b": " + value for name, value in self.headers]
        protocol.data_received(
            b"\r\n".join([b"%s %s HTTP/1.1" % (event.method, event.target), *lines, b"", b""])
        )


async def _sent_but_for_the_end(message: Message, send: Send) -> Message:
    """In parts; uvicorn waits for room before each. asyncio's TLS takes any amount at once and tells of none."""
    body = memoryview(message.get("body", b""))
    while len(body) > PART_BYTES:
        await send({"type": "http.response.body", "body": bytes(body[:PART_BYTES]), "more_body": True})
        body = body[PART_BYTES:]
    return {**message, "body": bytes(body)} if "body" in message else message


def _size_of(scope: Scope) -> int:
    """h11 bounds only a head that comes in parts."""
    return (
        len(scope["raw_path"])
        + len(scope["query_string"])
        + sum(len(name) + len(value) for name, value in scope["headers"])
    )


def _head_too_large(limits: Limits) -> ApiError:
    return RequestError(
        "too-large", f"The request's head is larger than {limits.head_bytes} bytes.", HEAD_TOO_LARGE
    )
