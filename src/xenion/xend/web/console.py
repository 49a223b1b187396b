"""A WebSocket that is a domain's console: the answer line as a text message, then binary messages both ways.

See xenion.api.console for what the domain's socket says. Neither side is read while the other takes nothing, so a
slow one costs xend no memory: the guest waits, as it would for any console, and the domain drops who is too slow.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from xenion.api.addresses import address_of
from xenion.api.console import GREETING_S, LINE_BYTES, request
from xenion.api.errors import ApiError
from xenion.xend.web.disconnect import stop

CHUNK_BYTES = 64 * 1024
FLUSH_S = 5.0
REASON_BYTES = 123
"""The most that a closing message takes."""
ENDED = 1000
BROKEN = 1011
API_ERROR = 4000
"""Plus the HTTP status that the same refusal has elsewhere: 4404, no such domain."""
ENDED_REASON = "The console has closed: the domain's process has ended, or this client was too slow."
logger = logging.getLogger(__name__)


class ClosedError(Exception):
    """The WebSocket ends with this code and sentence."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:REASON_BYTES].decode("utf-8", "ignore")


Find = Callable[[], Awaitable[tuple[Path, Mapping[str, Any]]]]


async def serve_console(find: Find, scope: Scope, receive: Receive, send: Send) -> None:
    """`find` is called once the WebSocket is open and returns the console's path and the query; ApiError."""
    client = WebSocket(scope, receive, send)
    try:
        await client.accept()
        try:
            await _serve(find, client)
        except ApiError as error:
            raise ClosedError(API_ERROR + error.status, error.message) from error
        except (WebSocketDisconnect, ClosedError):
            raise
        except Exception as error:
            logger.exception("a console broke")
            raise ClosedError(BROKEN, "xend failed at this console through a mistake of its own.") from error
    except WebSocketDisconnect:
        return
    except ClosedError as closed:
        await _close(client, closed)


async def _close(client: WebSocket, closed: ClosedError) -> None:
    try:
        await client.close(closed.code, closed.reason)
    except (WebSocketDisconnect, RuntimeError):  # it went first
        return


async def _serve(find: Find, client: WebSocket) -> None:
    path, query = await find()
    reader, writer = await _attached(path)
    try:
        await client.send_text(await _greeted(reader, writer, query))
        await _relay(client, reader, writer)
    finally:
        await _flushed(writer)


async def _flushed(writer: asyncio.StreamWriter) -> None:
    """What the client typed before it went still reaches a console that takes it."""
    writer.close()
    try:
        async with asyncio.timeout(FLUSH_S):
            await writer.wait_closed()
    except OSError:  # TimeoutError is one
        writer.transport.abort()


async def _attached(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        with address_of(path) as address:
            return await asyncio.open_unix_connection(address, limit=CHUNK_BYTES)
    except OSError as error:
        raise ClosedError(ENDED, "The console is closed: the domain is ending.") from error


async def _greeted(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, query: Mapping[str, Any]
) -> str:
    """The answer line, as the client gets it."""
    writer.write(request(query.get("since"), read_only=query.get("read_only", False)))
    try:
        async with asyncio.timeout(GREETING_S):
            line = await reader.readline()
        answer = msgspec.json.decode(line[:LINE_BYTES], type=dict[str, Any])
    except (TimeoutError, ValueError, OSError) as error:
        raise ClosedError(BROKEN, "The domain's console does not answer.") from error
    if "error" in answer:
        raise ClosedError(API_ERROR + 409, str(answer["error"]))
    return msgspec.json.encode({"first": answer.get("first"), "lost": answer.get("lost")}).decode()


async def _relay(client: WebSocket, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Until one of them ends: WebSocketDisconnect, ClosedError."""
    down = asyncio.ensure_future(_to_client(client, reader))
    up = asyncio.ensure_future(_to_domain(client, writer))
    try:
        await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
        if not down.done() and isinstance(up.exception(), OSError):
            await down  # what the guest said before it ended is still to be read
        for task in (down, up):
            if task.done():
                task.result()
    finally:
        await stop(down, up)


async def _to_client(client: WebSocket, reader: asyncio.StreamReader) -> None:
    try:
        while data := await reader.read(CHUNK_BYTES):
            await client.send_bytes(data)
    except ConnectionError as error:
        raise ClosedError(ENDED, ENDED_REASON) from error
    raise ClosedError(ENDED, ENDED_REASON)


async def _to_domain(client: WebSocket, writer: asyncio.StreamWriter) -> None:
    """Bytes as they come: where a message ends means nothing."""
    while True:
        writer.write(await client.receive_bytes())
        await writer.drain()
