"""Server-sent events: entries of the log as they come, with their numbers, so that a client goes on where it was."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.types import Receive, Send

from xenion.xend.web.disconnect import gone, stop
from xenion.xend.web.limits import Limits

TYPE = b"text/event-stream; charset=utf-8"
COMMENT = b":\n\n"
logger = logging.getLogger(__name__)


async def stream_events(entries: Any, receive: Receive, send: Send, limits: Limits) -> None:
    """Until the client goes or `entries`, an asynchronous iterator, ends; then closes it.

    A client that does not read holds one entry here; what it misses is the iterator's affair.
    """
    watching = asyncio.ensure_future(gone(receive))
    headers = [(b"content-type", TYPE), (b"cache-control", b"no-store")]
    try:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _send(send, COMMENT)
        await _relay(aiter(entries), watching, send, limits)
        if not watching.done():
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        await stop(watching)
        await entries.aclose()


async def _relay(
    entries: AsyncIterator[Any], watching: "asyncio.Future[None]", send: Send, limits: Limits
) -> None:
    while True:
        coming = asyncio.ensure_future(_next(entries))
        try:
            while not coming.done():
                await asyncio.wait(
                    (coming, watching), timeout=limits.comment_s, return_when=asyncio.FIRST_COMPLETED
                )
                if watching.done():
                    return
                if not coming.done():
                    await _send(send, COMMENT)
            entry = coming.result()
        except Exception:
            logger.exception("the stream of events broke")
            return
        finally:
            await stop(coming)
        if entry is None:
            return
        await _send(send, event(entry))


async def _next(entries: AsyncIterator[Any]) -> Any:
    """None: there are no more. StopAsyncIteration cannot be a future's result."""
    return await anext(entries, None)


def event(entry: Any) -> bytes:
    return b"id: %d\ndata: %s\n\n" % (entry["n"], msgspec.json.encode(entry))


async def _send(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})
