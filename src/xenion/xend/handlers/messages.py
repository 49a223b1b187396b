"""log, events, dmesg, clear_dmesg: what has happened."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping

from xenion.api import types as t
from xenion.api.errors import ApiError
from xenion.xend.call import Call, Handler
from xenion.xend.eventlog import EventLogError, SlowSubscriber, Subscription
from xenion.xend.services import Services

LAST = 10000


class Messages:
    def __init__(self, services: Services) -> None:
        self._services = services

    def handlers(self) -> Mapping[str, Handler]:
        return {
            "log": self._log,
            "events": self._events,
            "dmesg": self._dmesg,
            "clear_dmesg": self._clear_dmesg,
        }

    async def _log(self, call: Call) -> t.Log:
        query = call.query
        last, uuid = query.get("last", LAST), query.get("uuid", "")
        return {"entries": await self._entries(query.get("since", 0), last, uuid)}

    async def _events(self, call: Call) -> AsyncIterator[t.LogEntry]:
        """First what has been entered since entry `since`, then what comes."""
        since, uuid = call.query.get("since"), call.query.get("uuid", "")
        subscription = self._services.log.subscribe()
        try:
            past = [] if since is None else await self._entries(since, None, uuid)
        except BaseException:
            subscription.close()
            raise
        return Events(subscription, past, since or 0, uuid)

    async def _entries(self, since: int, last: int | None, uuid: str) -> list[t.LogEntry]:
        """In a thread: it may be many, in several files. ApiError (failed)."""
        try:
            entries = await asyncio.to_thread(self._services.log.entries, since, last, uuid)
        except EventLogError as error:
            raise ApiError("failed", str(error)) from error
        return [dict(entry) for entry in entries]  # type: ignore[misc]

    async def _dmesg(self, call: Call) -> t.Text:
        return {"text": self._services.ring.read()}

    async def _clear_dmesg(self, call: Call) -> t.Text:
        text = self._services.ring.read()
        self._services.ring.clear()
        return {"text": text}


class Events(AsyncIterator[t.LogEntry]):
    """`past`, then what comes: entries behind number `since`, each once."""

    def __init__(self, subscription: Subscription, past: list[t.LogEntry], since: int, uuid: str) -> None:
        self._subscription = subscription
        self._past = deque(past)
        self._last = since
        self._uuid = uuid

    async def __anext__(self) -> t.LogEntry:
        while True:
            entry = self._past.popleft() if self._past else await self._next()
            if entry["n"] > self._last and self._uuid in ("", entry["uuid"]):
                self._last = entry["n"]
                return entry

    async def _next(self) -> t.LogEntry:
        try:
            return dict(await self._subscription.__anext__())  # type: ignore[return-value]
        except SlowSubscriber:
            raise StopAsyncIteration from None  # the client asks again, since the last one that it has

    async def aclose(self) -> None:
        self._subscription.close()
