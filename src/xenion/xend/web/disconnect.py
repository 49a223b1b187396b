"""Work that nobody waits for any more is not done: only for requests that change nothing."""

import asyncio
from collections.abc import Awaitable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive


async def gone(receive: Receive) -> None:
    """Returns when the client has gone; the request's body was read before."""
    while (await receive())["type"] not in ("http.disconnect", "websocket.disconnect"):
        pass


async def unless_gone(work: Awaitable[Any], receive: Receive) -> Any:
    """What `work` returns or raises; it is cancelled when the client goes: ClientDisconnect."""
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(gone(receive))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        await stop(watching, working)


async def stop(*tasks: "asyncio.Future[Any]") -> None:
    """Cancels them and waits until they have ended; what they still raise says nothing to anybody."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()
