"""One connection to an NBD server in its transmission phase: requests out, simple replies in, on Dom0's thread.

What a read brings goes from the socket straight into the guest's pages. Whatever the server does that the protocol
does not allow ends the connection with a sentence.
"""

import contextlib
import os
import struct
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from xenion.dom0.block.views import skip
from xenion.dom0.loop import READ, WRITE, Loop

REQUEST = struct.Struct(">IHHQQI")
REPLY = struct.Struct(">IIQ")
REQUEST_MAGIC = 0x25609513
REPLY_MAGIC = 0x67446698

CMD_READ, CMD_WRITE, CMD_DISC, CMD_FLUSH, CMD_TRIM = range(5)
CMD_FLAG_FUA = 1
ESHUTDOWN = 108

MAX_BUFFERS = 512
REPLIES_A_TURN = 64
REPLIES_AT_ONCE = 64


class Command:
    """One request on the wire. `views` is what a write sends or a read fills; `done` gets NBD's error number."""

    __slots__ = ("code", "done", "flags", "length", "offset", "views")

    def __init__(
        self,
        code: int,
        offset: int,
        length: int,
        views: Sequence[memoryview],
        done: Callable[[int], None],
        flags: int = 0,
    ) -> None:
        self.code = code
        self.flags = flags
        self.offset = offset
        self.length = length
        self.views = views
        self.done = done


class Connection:
    """Owns `fd`. `received()` is called after a turn's completions: they may have asked for more.

    `lost(self, why)` is called once when it ends by itself; `outstanding` is what it then still owed. No completion
    is called after that, nor after `close`.
    """

    def __init__(
        self, fd: int, loop: Loop, lost: Callable[["Connection", str], None], received: Callable[[], None]
    ) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = loop
        self._lost = lost
        self._received = received
        self._cookie = 0
        self._alive = True
        self.outstanding: dict[int, Command] = {}
        self._reads = 0
        self._out: deque[memoryview] = deque()
        self._sending = False
        """The socket was full: the loop tells when it is not."""
        self._heads = memoryview(bytearray(REPLY.size * REPLIES_AT_ONCE))
        self._have = 0
        """Bytes in `_heads`."""
        self._payload: Sequence[memoryview] = ()
        self._wanted = 0
        """Bytes of payload that are still to come."""
        self._reading: tuple[int, Command] | None = None
        loop.watch(fd, READ, self._ready)

    def queue(self, command: Command) -> None:
        """`submit` sends it."""
        self._cookie = cookie = self._cookie + 1
        self.outstanding[cookie] = command
        code = command.code
        self._out.append(
            memoryview(
                REQUEST.pack(REQUEST_MAGIC, command.flags, code, cookie, command.offset, command.length)
            )
        )
        if code == CMD_WRITE:
            self._out.extend(command.views)
        elif code == CMD_READ:
            self._reads += 1

    def submit(self) -> None:
        if self._out and not self._sending and self._alive:
            self._send()

    def leave(self) -> None:
        """Tells the server that nothing more comes, and closes."""
        if self._alive:
            with contextlib.suppress(OSError):  # it sees the end anyway
                os.write(self._fd, REQUEST.pack(REQUEST_MAGIC, 0, CMD_DISC, 0, 0, 0))
        self.close()

    def close(self) -> None:
        if self._alive:
            self._alive = False
            self._loop.watch(self._fd, 0, self._ready)
            os.close(self._fd)
            self._out.clear()
            self._payload = ()

    def _ready(self, mask: int) -> None:
        if mask & READ:
            self._receive()
            self._received()
        if mask & WRITE and self._alive:
            self._send()

    def _fail(self, why: str) -> None:
        if self._alive:
            self.close()
            self._lost(self, why)

    def _send(self) -> None:
        out = self._out
        while out:
            try:
                count = os.writev(self._fd, list(islice(out, MAX_BUFFERS)))
            except BlockingIOError:
                break
            except OSError as error:
                return self._fail(f"the connection to the NBD server broke: {error.strerror}")
            while out and count >= len(out[0]):
                count -= len(out.popleft())
            if count:
                out[0] = out[0][count:]
        if self._sending != bool(out):
            self._sending = bool(out)
            self._loop.watch(self._fd, READ | WRITE if out else READ, self._ready)
        return None

    def _receive(self) -> None:
        """A bounded number of replies; the loop comes again for the rest."""
        for _ in range(REPLIES_A_TURN):
            into = self._room()
            try:
                count = os.readv(self._fd, into)
            except BlockingIOError:
                return None
            except OSError as error:
                return self._fail(f"the connection to the NBD server broke: {error.strerror}")
            if not count:
                return self._fail("the NBD server hung up")
            self._arrived(count)
            if not self._alive:
                return None
        return None

    def _room(self) -> list[memoryview]:
        """Where the next bytes belong: the rest of a payload, then a reply's head.

        While no read is outstanding only heads can come, so that many are taken at once.
        """
        heads = REPLY.size if self._reads else len(self._heads)
        return [*self._payload, self._heads[self._have : heads]] if self._have < heads else [*self._payload]

    def _arrived(self, count: int) -> None:
        if self._wanted:
            taken = min(count, self._wanted)
            self._wanted -= taken
            count -= taken
            if self._wanted:
                self._payload = skip(self._payload, taken)
                return
            self._end_read()
        self._have += count
        at = 0
        while self._have - at >= REPLY.size and self._alive and not self._wanted:
            self._on_head(*REPLY.unpack_from(self._heads, at))
            at += REPLY.size
        if at and self._alive:
            self._keep_rest(at)

    def _keep_rest(self, at: int) -> None:
        rest = self._have - at
        self._heads[:rest] = bytes(self._heads[at : self._have])
        self._have = rest

    def _on_head(self, magic: int, error: int, cookie: int) -> None:
        if magic != REPLY_MAGIC:
            return self._fail(f"the NBD server sent {magic:#010x} where a reply has to begin")
        command = self.outstanding.get(cookie)
        if command is None:
            return self._fail("the NBD server answered a request that nobody made")
        if error == ESHUTDOWN:
            return self._fail("the NBD server is shutting down")
        if command.code == CMD_READ and not error:
            self._payload = command.views
            self._wanted = command.length
            self._reading = (cookie, command)
            return None
        return self._answered(cookie, command, error)

    def _end_read(self) -> None:
        self._payload = ()
        if self._reading is not None:
            cookie, command = self._reading
            self._reading = None
            self._answered(cookie, command, 0)

    def _answered(self, cookie: int, command: Command, error: int) -> None:
        del self.outstanding[cookie]
        if command.code == CMD_READ:
            self._reads -= 1
        command.done(error)
