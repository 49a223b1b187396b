"""xenstored, as xend keeps it: started when the first domain needs it, started again when it dies, told of domains.

It is a process of its own that outlives xend. Whoever holds the two descriptors that `introduce` gives is that domain.
"""

import asyncio
import logging
import os
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from xenion.api.errors import ApiError
from xenion.api.folders import Folders
from xenion.dom0.xenstore import control
from xenion.dom0.xenstore.control import StoreControl, StoreControlError
from xenion.dom0.xenstore.folder import CONTROL, LOCK
from xenion.xend import helpers
from xenion.xend.process import Process
from xenion.xend.threads import in_thread

LOOK_S = 3600.0
AGAIN_S = 1.0
"""One that cannot be started, or dies at once, is not started more often."""
ANSWER_S = 10.0
ATTEMPTS, TRIES, PAUSE_S = 5, 3, 0.1
"""To start it; to ask it."""
IDLE_S = 3.0
"""Without xend and domains it ends by itself; its folder keeps what the store is."""
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
        self._pid = 0
        """Of the one that was found or started last."""
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self.on_restart: Callable[[], None] = lambda: None

    async def introduce(self, domid: int, uuid: str) -> Connections:
        """New connections for the domain, whose watches stay. ApiError (failed); cancelled, it may be known all the
        same: `release` it then."""
        return await self._ask(lambda found: found.introduce(domid, uuid), _close_all)

    async def release(self, domid: int) -> None:
        """The domain is gone, with all that it had in the store. ApiError (failed)."""
        await self._ask(lambda found: found.release(domid))

    async def connected(self) -> set[int]:
        """The ids of the domains that have their connections. ApiError (failed)."""
        known = await self._ask(lambda found: found.list())
        return {domain["domid"] for domain in known if domain["connected"]}

    async def introduced(self) -> dict[int, str]:
        """The UUIDs of the domains that it knows, by their ids. ApiError (failed)."""
        return {domain["domid"]: domain["uuid"] for domain in await self._ask(lambda found: found.list())}

    @property
    def runs(self) -> bool:
        """There is one, whoever has started it."""
        return self._process() is not None

    async def stop(self) -> None:
        """There are no domains any more, and none is to come. One that does not end is the next xend's to find."""
        self._closed = True
        async with self._turn:
            self.close()
            running = self._process()
            if running is None:
                return
            with suppress(StoreControlError):
                await asyncio.to_thread(self._tell_to_stop)
                await running.wait(ANSWER_S)
            self._reap()

    def close(self) -> None:
        """It goes on without this xend."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
        self._forget()

    # --- asking

    async def _ask(self, what: Callable[[StoreControl], T], drop: Callable[[T], None] = lambda _: None) -> T:
        """Who is cancelled does not wait for the answer, which is taken all the same, and `drop` gets it."""
        asking = asyncio.ensure_future(self._ask_in_turn(what))
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            asking.add_done_callback(partial(_dropped, drop))
            raise

    async def _ask_in_turn(self, what: Callable[[StoreControl], T]) -> T:
        """Again if it has died meanwhile; one that is dying may still take a connection."""
        async with self._turn:
            for left in reversed(range(TRIES)):
                try:
                    return await asyncio.to_thread(what, await self._connected())
                except StoreControlError as error:
                    self._forget()
                    if not left:
                        raise ApiError("failed", str(error)) from error
                await asyncio.sleep(PAUSE_S)
            raise AssertionError("it was not tried")

    async def _connected(self) -> StoreControl:
        """StoreControlError."""
        if self._closed:
            raise StoreControlError("xend is about to end: try again")
        if self._control is None:
            found = await in_thread(self._find_or_start, StoreControl.close)
            running = self._process()
            if running is None or self._closed:
                found.close()
                raise StoreControlError(f"xenstored has ended at once: see {self._log}")
            self._control, before, self._pid = found, self._pid, running.pid
            self._watch_it()
            if before not in (0, running.pid):
                asyncio.get_running_loop().call_soon(self.on_restart)
        return self._control

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None

    # --- the process

    @property
    def _log(self) -> str:
        return str(self._where.state / "xenstored.log")

    def _find_or_start(self) -> StoreControl:
        """Blocks. StoreControlError."""
        for left in reversed(range(ATTEMPTS)):
            with suppress(StoreControlError):
                return StoreControl.connect(self._control_socket, ANSWER_S)
            try:
                self._start()
            except StoreControlError:
                if not left:
                    raise
                time.sleep(PAUSE_S)  # one that is ending has the folder yet
        return StoreControl.connect(self._control_socket, ANSWER_S)

    def _start(self) -> None:
        """StoreControlError."""
        try:
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreControlError(f"{self._log}: {error.strerror}") from error
        try:
            child = control.start(
                self._where.xenstored, log, environment=helpers.environment(), idle_s=IDLE_S
            )
        finally:
            os.close(log)
        if self._child is not None:  # the one before has let go of its folder: it is dead, or about to be
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(ANSWER_S)
        self._child = child

    def _tell_to_stop(self) -> None:
        """Blocks. StoreControlError."""
        with StoreControl.connect(self._control_socket, ANSWER_S) as found:
            found.stop()

    def _process(self) -> Process | None:
        """As its lock's file tells."""
        try:
            pid = int((self._where.xenstored / LOCK).read_text())
        except (OSError, ValueError):
            return None
        found = Process.of(pid)
        return found if found is not None and found.alive else None

    def _reap(self) -> None:
        if self._child is not None and self._child.poll() is not None:
            self._child = None

    def _watch_it(self) -> None:
        if self._watching is None:
            self._watching = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        """Has another one started whenever it has died, until that works."""
        while True:
            pid, began = self._pid, time.monotonic()
            process = Process.of(pid)
            while process is not None and process.alive:
                await process.wait(LOOK_S)
            self._reap()
            if time.monotonic() - began < AGAIN_S:
                await asyncio.sleep(AGAIN_S)
            async with self._turn:
                if self._pid != pid:
                    continue  # who asked it for something was faster
                _logger.warning("xenstored, process %d, has ended: another one is started", pid)
                self._forget()
                try:
                    await self._connected()
                except StoreControlError as error:
                    _logger.error("xenstored cannot be started: %s", error)


def _close_all(connections: Connections) -> None:
    for connection in connections:
        connection.close()


def _dropped(drop: Callable[[T], None], asked: "asyncio.Future[T]") -> None:
    if not asked.cancelled() and asked.exception() is None:
        drop(asked.result())
