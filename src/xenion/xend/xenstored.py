"""xenstored, as xend keeps it: started when the first domain needs it, started again when it dies, told of domains.

It is a process of its own that outlives xend. Whoever holds the two descriptors that `introduce` gives is that domain.
"""

import asyncio
import logging
import os
import socket
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.dom0.xenstore import control
from xenion.dom0.xenstore.control import StoreControl, StoreControlError
from xenion.dom0.xenstore.folder import CONTROL, LOCK
from xenion.xend.process import Process

LOOK_S = 3600.0
AGAIN_S = 1.0
T = TypeVar("T")
_logger = logging.getLogger(__name__)

Connections = tuple[socket.socket, socket.socket]
"""As the guest, as its back ends."""


class Xenstored:
    """`on_restart` is called when it has lost all connections: every domain needs new ones."""

    def __init__(self, where: Folders) -> None:
        self._where = where
        self._control_socket = where.xenstored / CONTROL
        self._turn = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._control: StoreControl | None = None
        self._watching: asyncio.Task[None] | None = None
        self.on_restart: Callable[[], None] = lambda: None

    async def introduce(self, domid: int, uuid: str) -> Connections:
        """New connections for the domain, whose watches stay. ApiError (failed)."""
        return await self._ask(lambda found: found.introduce(domid, uuid))

    async def release(self, domid: int) -> None:
        """The domain is gone, with all that it had in the store. ApiError (failed)."""
        await self._ask(lambda found: found.release(domid))

    async def connected(self) -> set[int]:
        """The ids of the domains that have their connections. ApiError (failed)."""
        known = await self._ask(lambda found: found.list())
        return {domain["domid"] for domain in known if domain["connected"]}

    async def introduced(self) -> set[int]:
        """The ids of the domains that it knows. ApiError (failed)."""
        return {domain["domid"] for domain in await self._ask(lambda found: found.list())}

    @property
    def runs(self) -> bool:
        """It has been started at some time."""
        return self._where.xenstored.exists()

    async def stop(self) -> None:
        """There are no domains any more. A store that does not end is left alone, the next xend finds it."""
        self.close()
        with suppress(StoreControlError, OSError):
            await asyncio.to_thread(lambda: StoreControl.connect(self._control_socket).stop())

    def close(self) -> None:
        """It goes on."""
        if self._watching is not None:
            self._watching.cancel()
        if self._control is not None:
            self._control.close()
            self._control = None

    # --- the process

    async def _ask(self, what: Callable[[StoreControl], T]) -> T:
        """Once more if it has died meanwhile."""
        async with self._turn:
            try:
                return await asyncio.to_thread(what, await self._connected())
            except StoreControlError:
                self._forget()
            try:
                return await asyncio.to_thread(what, await self._connected())
            except StoreControlError as error:
                raise ApiError("failed", str(error)) from error

    async def _connected(self) -> StoreControl:
        """StoreControlError."""
        if self._control is None:
            self._control = await asyncio.to_thread(self._find_or_start)
            self._watching = asyncio.get_running_loop().create_task(self._watch(self._pid()))
        return self._control

    def _find_or_start(self) -> StoreControl:
        folder = self._where.xenstored
        with suppress(StoreControlError):
            return StoreControl.connect(self._control_socket)
        log = os.open(
            self._where.state / "xenstored.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            self._child = control.start(folder, log)
        finally:
            os.close(log)
        return StoreControl.connect(self._control_socket)

    def _pid(self) -> int:
        """0: it has just ended."""
        try:
            return int((self._where.xenstored / LOCK).read_text())
        except (OSError, ValueError):
            return 0

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    async def _watch(self, pid: int) -> None:
        """Starts another when it has died, until that works."""
        process = Process.of(pid) if pid else None
        while process is not None and process.alive:
            await process.wait(LOOK_S)
        if self._child is not None:
            self._child.poll()
        _logger.warning("xenstored (process %d) has ended: another one is started", pid)
        self._watching = None
        self._forget()
        while True:
            try:
                async with self._turn:
                    await self._connected()
                break
            except StoreControlError as error:
                _logger.error("xenstored cannot be started: %s", error)
                await asyncio.sleep(AGAIN_S)
        self.on_restart()
