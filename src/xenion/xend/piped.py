"""A pipe that a domain is saved into. Its reader may be slow, stop, or go away at any moment; the domain's process
has a socket that xend empties into it, so that nobody holds it for longer than PATIENCE_S without reading."""

import asyncio
import errno
import fcntl
import os
import select
import socket
import stat
import struct
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from xenion.api.errors import ApiError
from xenion.domain.saved.format import SaveError
from xenion.domain.saved.state import HostState
from xenion.xend import savedfile

CHUNK_BYTES, ROOM_BYTES = 1 << 18, 1 << 20
PATIENCE_S, LOOK_S = 30.0, 0.01
"""Less than what a process is waited for (writing.py), whose own trouble it would seem to be."""
COUNT = struct.Struct("i")
GONE = "nobody reads the pipe any more"
STUCK = f"nobody has read the pipe for {PATIENCE_S:g} seconds"


def is_pipe(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISFIFO(path.stat().st_mode)
    return False


class Piped:
    """A Sink, which has to be closed."""

    def __init__(self, path: Path) -> None:
        """ApiError (refused)."""
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            why = "nobody reads it" if error.errno == errno.ENXIO else error.strerror
            raise ApiError("refused", f"{path}: {why}") from error
        with suppress(OSError):  # what one user may have is limited
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, ROOM_BYTES)
        self.size = 0

    @asynccontextmanager
    async def from_process(self) -> AsyncIterator[int]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            pump = asyncio.ensure_future(self._pump(ours))
            try:
                yield theirs.fileno()
                theirs.close()  # the process has closed its own
                await pump
            except ApiError:
                if pump.done():
                    pump.result()  # SaveError: why the process could not write
                raise
            finally:
                pump.cancel()
                await asyncio.gather(pump, return_exceptions=True)

    async def _pump(self, ours: socket.socket) -> None:
        with ours:  # closed, the process gets EPIPE
            while data := await asyncio.get_running_loop().sock_recv(ours, CHUNK_BYTES):
                await self._write(data)

    async def append(self, host: HostState) -> None:
        await self._write(savedfile.host_section(host))

    async def finish(self, host: HostState) -> None:
        await self.append(host)

    async def settle(self, host: HostState) -> None:
        """The reader has taken all but what `finish` adds. What becomes of it there, nobody here knows."""
        loop, left = asyncio.get_running_loop(), self._unread()
        since = loop.time()
        while not self._is_gone():
            before, left = left, self._unread()
            if not left:
                return
            if left != before:
                since = loop.time()
            elif loop.time() > since + PATIENCE_S:
                raise SaveError(STUCK)
            await asyncio.sleep(LOOK_S)
        raise SaveError(GONE)

    def withdraw(self) -> None:
        """What was read cannot be taken back."""

    def close(self) -> None:
        os.close(self._fd)

    async def _write(self, data: bytes) -> None:
        """SaveError."""
        rest = memoryview(data)
        while rest:
            try:
                count = os.write(self._fd, rest)
            except BlockingIOError:
                await self._writable()
                continue
            except OSError as error:
                raise SaveError(GONE if error.errno == errno.EPIPE else str(error.strerror)) from error
            rest = rest[count:]
            self.size += count

    async def _writable(self) -> None:
        """SaveError."""
        loop = asyncio.get_running_loop()
        ready = asyncio.Event()
        loop.add_writer(self._fd, ready.set)
        try:
            await asyncio.wait_for(ready.wait(), PATIENCE_S)
        except TimeoutError:
            raise SaveError(STUCK) from None
        finally:
            loop.remove_writer(self._fd)

    def _unread(self) -> int:
        return int(COUNT.unpack(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(COUNT.size)))[0])

    def _is_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(events & select.POLLERR for _, events in poll.poll(0))
