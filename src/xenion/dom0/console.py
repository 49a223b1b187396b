"""The console back end (public/io/console.h), and the hub that joins it to people, logs and scrollback.

Neither has a thread or does I/O. When the guest notifies, the domain process calls ``on_event`` and then
``ConsoleHub.pull`` until it moves nothing; so it does whenever a reader took something, because a full reader
holds the guest back and no event tells of its room.
"""

from collections.abc import Callable

from xenion.abi.io.console import XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface
from xenion.dom0.ring import Fence, Port, RingError, RingReader, RingWriter, SharedPage

SCROLLBACK_BYTES = 256 * 1024
INPUT_BYTES = 64 * 1024
READER_BYTES = 64 * 1024


class ConsoleBackend:
    """Serves one xenconsole ring.

    A direction whose indexes the guest broke is given up: the first call that sees it raises RingError, later
    ones find no output and swallow input. The other direction goes on.
    """

    def __init__(self, page: SharedPage, port: Port, fence: Fence, *, input_limit: int = INPUT_BYTES) -> None:
        self._out: RingReader | None = RingReader(page, XenconsInterface, "out", XENCONS_OUT_SIZE, fence)
        self._in: RingWriter | None = RingWriter(page, XenconsInterface, "in_", XENCONS_IN_SIZE, fence)
        self._port = port
        self._input = bytearray()
        self._input_limit = input_limit

    @property
    def pending_input(self) -> int:
        """Bytes accepted by ``feed`` that the guest's ring had no room for yet."""
        return len(self._input)

    def drain(self, limit: int = XENCONS_OUT_SIZE) -> bytes:
        """Take up to ``limit`` bytes of the guest's output and give their space back to the guest."""
        if self._out is None:
            return b""
        try:
            output = self._out.read(limit)
        except RingError:
            self._out = None
            raise
        if output:
            # The guest may be waiting for room, or for its output to be out; only it knows.
            self._port.notify()
        return output

    def feed(self, data: bytes) -> int:
        """Queue input and return how many bytes were accepted; the caller offers the rest again later."""
        if self._in is None:
            return len(data)
        accepted = min(len(data), self._input_limit - len(self._input))
        self._input += data[:accepted]
        self._push()
        return accepted

    def on_event(self) -> None:
        """The guest notified: it may have made room for input."""
        self._push()

    def _push(self) -> None:
        if self._in is None or not self._input:
            return
        try:
            written = self._in.write(self._input)
        except RingError:
            self._in = None
            self._input.clear()
            raise
        if written:
            del self._input[:written]
            self._port.notify()


class ConsoleReader:
    """One attached reader's queue, made by ``ConsoleHub.attach``."""

    def __init__(self, replay: bytes, limit: int, *, lossless: bool) -> None:
        self._queue = bytearray(replay)
        self._limit = max(limit, 1)
        self.lossless = lossless
        self.dropped = 0
        """Bytes that a reader which is not lossless was too slow for."""

    @property
    def pending(self) -> int:
        """Bytes that wait to be taken."""
        return len(self._queue)

    @property
    def room(self) -> int:
        """Bytes that fit now. A replay may fill the queue beyond its limit, then this is 0."""
        return max(self._limit - len(self._queue), 0)

    def take(self, limit: int = READER_BYTES) -> bytes:
        """Remove and return up to ``limit`` bytes, oldest first."""
        taken = bytes(self._queue[:limit])
        del self._queue[: len(taken)]
        return taken

    def put(self, data: bytes) -> None:
        """Append output; a reader that is not lossless forgets its oldest bytes to make room. For the hub."""
        self._queue += data
        excess = len(self._queue) - self._limit
        if not self.lossless and excess > 0:
            del self._queue[:excess]
            self.dropped += excess


class ConsoleHub:
    """Fans a domain's console out to readers, scrollback and log, and merges writers into its input.

    ``log`` gets every byte once, in order, and must not raise. A lossless reader loses nothing: output stays
    in the guest's ring while such a reader's queue is full, so it can hold the guest back; detach what no
    longer reads.
    """

    def __init__(
        self,
        backend: ConsoleBackend,
        *,
        scrollback: int = SCROLLBACK_BYTES,
        log: Callable[[bytes], None] | None = None,
    ) -> None:
        self._backend = backend
        self._scrollback = bytearray()
        self._scrollback_limit = scrollback
        self._log = log
        self._readers: list[ConsoleReader] = []

    @property
    def scrollback(self) -> bytes:
        """The newest output, at most the configured number of bytes."""
        return bytes(self._scrollback)

    @property
    def room(self) -> int:
        """Bytes that can be published now without loss; at most one ring."""
        return min((r.room for r in self._readers if r.lossless), default=XENCONS_OUT_SIZE)

    def attach(
        self, *, replay: bool = True, limit: int = READER_BYTES, lossless: bool = True
    ) -> ConsoleReader:
        """Add a reader with a queue of ``limit`` bytes, filled with the scrollback if ``replay``."""
        reader = ConsoleReader(self.scrollback if replay else b"", limit, lossless=lossless)
        self._readers.append(reader)
        return reader

    def detach(self, reader: ConsoleReader) -> None:
        """Remove a reader; what it has queued can still be taken. Detaching twice is harmless."""
        self._readers = [other for other in self._readers if other is not reader]

    def write(self, data: bytes) -> int:
        """Input from any writer, as ``ConsoleBackend.feed``; writers interleave where one was cut short."""
        return self._backend.feed(data)

    def pull(self) -> int:
        """Move one ring's worth of output at most from the guest to everybody; how many bytes moved."""
        output = self._backend.drain(min(self.room, XENCONS_OUT_SIZE))
        if output:
            self.publish(output)
        return len(output)

    def publish(self, output: bytes) -> None:
        """Hand output to log, scrollback and readers; beyond ``room`` a lossless queue outgrows its limit."""
        if self._log is not None:
            self._log(output)
        self._scrollback += output
        excess = len(self._scrollback) - self._scrollback_limit
        if excess > 0:
            del self._scrollback[:excess]
        for reader in self._readers:
            reader.put(output)
