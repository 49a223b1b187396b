"""QEMU's machine protocol, as far as a storage daemon needs it: a line of JSON for each request, answer and event."""

import asyncio
import json
from pathlib import Path
from types import TracebackType
from typing import Any

from xenion.api.addresses import connect

PATIENCE_S = 30.0
LINE_BYTES = 1 << 20


class QmpError(Exception):
    """QEMU refuses, in its own words, or cannot be talked to."""


class Qmp:
    """A connection, with `async with`. Everything of it raises QmpError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._events: list[tuple[str, Any]] = []

    async def __aenter__(self) -> "Qmp":
        try:
            plain = connect(self._path, timeout=0)
            self._reader, self._writer = await asyncio.open_unix_connection(sock=plain, limit=LINE_BYTES)
        except OSError as error:
            raise QmpError(f"it does not listen: {error.strerror}") from error
        try:
            await self._next("QMP")
            await self.do("qmp_capabilities")
        except BaseException:
            self._writer.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._writer.close()

    async def do(self, what: str, **arguments: Any) -> Any:
        """What it returns."""
        self._writer.write(json.dumps({"execute": what, "arguments": arguments}).encode() + b"\n")
        return await self._next("return")

    async def event(self, name: str, **data: Any) -> None:
        """Until this event has come, be it before this is called."""
        while not any(known == name and data.items() <= said.items() for known, said in self._events):
            await self._next("event")

    async def _next(self, key: str) -> Any:
        """What the next message with `key` has there; events that come before are kept."""
        while True:
            message = await self._message()
            if "error" in message:
                raise QmpError(str(message["error"].get("desc", "")) or "it gives no reason")
            if "event" in message:
                self._events.append((message["event"], message.get("data", {})))
            if key in message:
                return message[key]

    async def _message(self) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(self._reader.readline(), PATIENCE_S)
        except TimeoutError:
            raise QmpError("it does not answer") from None
        except OSError as error:
            raise QmpError("it has ended") from error
        except ValueError as error:
            raise QmpError("it answers at too great a length") from error
        if not line:
            raise QmpError("it has ended")
        try:
            message = json.loads(line)
        except ValueError as error:
            raise QmpError("it answers nonsense") from error
        if not isinstance(message, dict):
            raise QmpError("it answers nonsense")
        return message
