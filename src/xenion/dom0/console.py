"""The console back end (public/io/console.h), and the hub that joins it to people, a log and what is kept.

Neither has a thread or does I/O. When the guest notifies, the domain process calls ``on_event`` and then
``ConsoleHub.pull`` until it moves nothing; so it does whenever a reader took something, because a reader that lags
holds the guest back and no event tells of its room.
"""

from collections.abc import Callable

from xenion.abi.io.console import XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface
from xenion.dom0.ring import Fence, Notifier, RingError, RingReader, RingWriter, SharedPage

SCROLLBACK_BYTES = 256 * 1024
INPUT_BYTES = 64 * 1024
TAKE_BYTES = 64 * 1024
FROM_NOW_ON = -1


class ConsoleBackend:
    """Serves one xenconsole ring.

    A direction whose indexes the guest broke is given up: the first call that sees it raises RingError, later
    ones find no output and swallow input. The other direction goes on.
    """

    def __init__(
        self, page: SharedPage, port: Notifier, fence: Fence, *, input_limit: int = INPUT_BYTES
    ) -> None:
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
    """One reader's place in the output, made by ``ConsoleHub.attach``."""

    def __init__(self, hub: "ConsoleHub", first: int, lost: int) -> None:
        self._hub = hub
        self.next = first
        """The number of the next byte to be taken."""
        self.lost = lost
        """Bytes that it asked for and that were not kept any more."""

    @property
    def pending(self) -> int:
        """Bytes that wait to be taken."""
        return self._hub.end - self.next

    def take(self, limit: int = TAKE_BYTES) -> bytes:
        """The next bytes, at most ``limit``; they count as taken."""
        taken = self._hub.kept(self.next, limit)
        self.next += len(taken)
        return taken


class ConsoleHub:
    """Numbers a domain's output, keeps the end of it, shows it to readers and a log, and merges writers' input.

    The first byte is number 0. ``log`` gets every byte once, in order, and must not raise. No reader loses a byte:
    output stays in the guest's ring while a reader is ``scrollback`` bytes behind, so it can hold the guest back;
    detach what does not read. The back end comes with each boot of the guest; the numbers go on.
    """

    def __init__(
        self, *, scrollback: int = SCROLLBACK_BYTES, log: Callable[[bytes], None] | None = None
    ) -> None:
        self._backend: ConsoleBackend | None = None
        self._kept = bytearray()
        self._limit = max(scrollback, XENCONS_OUT_SIZE)
        self._log = log
        self._readers: list[ConsoleReader] = []
        self.end = 0
        """The number of the byte that comes next."""

    def connect(self, backend: ConsoleBackend | None) -> None:
        """The guest's present console; None between two boots: output and input wait."""
        self._backend = backend

    @property
    def start(self) -> int:
        """The number of the oldest byte that is kept."""
        return self.end - len(self._kept)

    @property
    def room(self) -> int:
        """Bytes that can be published now without loss to a reader."""
        behind = min((reader.next for reader in self._readers), default=self.end)
        return max(self._limit - (self.end - behind), 0)

    def kept(self, first: int, limit: int) -> bytes:
        """At most ``limit`` kept bytes from number ``first`` on."""
        at = first - self.start
        return bytes(self._kept[at : at + limit])

    def tail(self, limit: int) -> bytes:
        """The newest bytes."""
        return self.kept(max(self.end - limit, self.start), limit)

    def attach(self, since: int | None = None) -> ConsoleReader:
        """A reader from byte number ``since`` on, or from all that is kept, or FROM_NOW_ON."""
        wanted = self.start if since is None else self.end if since == FROM_NOW_ON else min(since, self.end)
        first = max(wanted, self.start)
        reader = ConsoleReader(self, first, first - wanted)
        self._readers.append(reader)
        return reader

    def detach(self, reader: ConsoleReader) -> None:
        """Remove a reader. Detaching twice is harmless."""
        self._readers = [other for other in self._readers if other is not reader]

    def write(self, data: bytes) -> int:
        """Input from any writer; how many bytes were accepted. Writers interleave where one was cut short."""
        return self._backend.feed(data) if self._backend is not None else 0

    def pull(self) -> int:
        """Move one ring's worth of output at most from the guest to everybody; how many bytes moved."""
        if self._backend is None or not (room := min(self.room, XENCONS_OUT_SIZE)):
            return 0
        output = self._backend.drain(room)
        if output:
            self.publish(output)
        return len(output)

    def publish(self, output: bytes) -> None:
        """Hand output to log and readers; what a reader has not taken is kept, beyond ``room`` too."""
        if self._log is not None:
            self._log(output)
        self._kept += output
        self.end += len(output)
        oldest = min((reader.next for reader in self._readers), default=self.end)
        spare = min(len(self._kept) - self._limit, oldest - self.start)
        if spare > 0:
            del self._kept[:spare]
