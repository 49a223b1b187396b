"""Where a domain that is saved is written to: a file (here), or a pipe (piped.py)."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from xenion.domain.saved.state import HostState
from xenion.xend import savedfile
from xenion.xend.part import Part


class Sink(Protocol):
    """In this order: what the domain's process writes, `settle`, `finish`, and `append` when the domain has ended. All:
    SaveError, OSError, ApiError."""

    @property
    def size(self) -> int:
        """Bytes until now."""

    def from_process(self) -> AbstractAsyncContextManager[int]:
        """The descriptor that the process is to have; all that it wrote is in when the block has ended."""

    async def settle(self, host: HostState) -> None:
        """It has come where it belongs, and is of no use to anybody yet."""

    async def finish(self, host: HostState) -> None:
        """Now it is."""

    async def append(self, host: HostState) -> None:
        """What is known of the host by now."""

    def withdraw(self) -> None:
        """It is finished, and good for nothing."""


class IntoFile:
    """It has its name when it is finished."""

    def __init__(self, part: Part) -> None:
        self._part = part

    @property
    def size(self) -> int:
        return os.fstat(self._part.fd).st_size

    @asynccontextmanager
    async def from_process(self) -> AsyncIterator[int]:
        yield self._part.fd

    async def settle(self, host: HostState) -> None:
        await self.append(host)

    async def append(self, host: HostState) -> None:
        await asyncio.to_thread(savedfile.append_host, self._part.fd, host)

    async def finish(self, host: HostState) -> None:
        self._part.finish()

    def withdraw(self) -> None:
        self._part.withdraw()
