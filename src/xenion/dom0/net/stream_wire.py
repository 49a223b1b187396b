"""A Unix stream socket as a wire: passt, our slirp, our switch, another vif."""

import errno
import socket
from collections import deque
from collections.abc import Callable, Sequence

from xenion.dom0.loop import READ, WRITE, Loop
from xenion.dom0.net.framing import FramingError, Inbox, pieces
from xenion.dom0.net.handshake import Acknowledger
from xenion.dom0.net.wire import Buffer, Frame, Sink, Unclaimed, ignore_loss

QUEUE_BYTES = 512 * 1024
"""More than this that the socket did not take, and the guest is held back."""
SOCKET_BYTES = 4 * 1024 * 1024
ANSWERS_MOST = 64
"""To a guest that does not take them; it asks again for what is missing."""
READS = 4
"""Buffers at most that are read before others get their turn."""
IOV_MOST = 1000


def widen(end: socket.socket) -> None:
    """Room in the kernel for what `end` sends; by who makes the socket: a domain process may not ask for it."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)


class StreamWire:
    """Owns `fd`. While its connection is gone frames are dropped; `reconnect` gives it a new one."""

    offload = False

    def __init__(
        self,
        fd: int,
        loop: Loop,
        *,
        big: bool = True,
        acknowledge_syn_ack: bool = False,
        queue_bytes: int = QUEUE_BYTES,
    ) -> None:
        self.big = big
        self.on_lost: Callable[[str], None] = ignore_loss
        self.unclaimed = Unclaimed()
        self._loop = loop
        self._limit = queue_bytes
        self._acknowledger = Acknowledger() if acknowledge_syn_ack else None
        self._sink: Sink = self.unclaimed
        self._inbox = Inbox()
        self._answers: list[Frame] = []
        self._queue: deque[bytes] = deque()
        self._queued = 0
        self._held = self._full = False
        self._socket: socket.socket | None = None
        self.reconnect(fd)

    def reconnect(self, fd: int) -> None:
        """Another connection instead of the present one; what was under way on that is lost."""
        self._drop()
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._held = False
        self._watch()

    @property
    def connected(self) -> bool:
        return self._socket is not None

    @property
    def room(self) -> bool:
        return self._queued < self._limit

    def attach(self, sink: Sink | None) -> None:
        self._sink = sink or self.unclaimed
        self.resume()

    def detach(self, sink: Sink) -> None:
        if self._sink is sink:
            self.attach(None)

    # --- to the other side

    def send(self, frames: Sequence[Frame]) -> int:
        if self._socket is None:
            return len(frames)
        if self._acknowledger is not None:
            self._answer(self._acknowledger, frames)
        waiting = self._queued > 0
        for piece in pieces(frame.data for frame in frames):
            if waiting or self._socket is None:
                self._keep(piece)
            else:
                waiting = self._push(piece)
        return 0

    def _push(self, piece: Sequence[Buffer]) -> bool:
        """Whether something had to be kept."""
        for start in range(0, len(piece), IOV_MOST):
            part = piece[start : start + IOV_MOST]
            sent, total = self._sendmsg(part), sum(map(len, part))
            if sent < total:
                self._keep(part, sent)
                self._keep(piece[start + IOV_MOST :])
                self._watch()
                return True
        return False

    def _sendmsg(self, parts: Sequence[Buffer]) -> int:
        if self._socket is None:
            return 0
        try:
            return self._socket.sendmsg(parts)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._lose(f"the network connection broke: {error.strerror}")
            return 0

    def _keep(self, parts: Sequence[Buffer], sent: int = 0) -> None:
        if self._socket is not None and (rest := b"".join(parts)[sent:]):
            self._queue.append(rest)
            self._queued += len(rest)
            self._full = self._full or not self.room

    def _flush(self) -> None:
        while self._queue:
            first = self._queue[0]
            sent = self._sendmsg([first])
            self._queued -= min(sent, self._queued)
            if sent < len(first):
                if self._queue:
                    self._queue[0] = first[sent:]
                return
            self._queue.popleft()
        self._watch()

    def _notice_room(self) -> None:
        if self._full and self._queued <= self._limit // 2:
            self._full = False
            self._sink.room_again()

    # --- from the other side

    def _on_ready(self, mask: int) -> None:
        if mask & WRITE:
            self._flush()
            self._notice_room()
        if mask & READ and not self._held:
            self._read()

    def _read(self) -> None:
        for _ in range(READS):
            if self._socket is None or self._held:
                return
            free = self._inbox.free
            try:
                count = self._socket.recv_into(free)
            except BlockingIOError:
                return
            except OSError as error:
                count = -(error.errno or errno.EIO)
            if count <= 0:
                self._lose("the other side of the network connection has closed it")
                return
            self._received(count)
            if count < len(free):
                return

    def _received(self, count: int) -> None:
        try:
            self._inbox.filled(count)
        except FramingError as error:
            self._deliver()
            self._lose(str(error))
            return
        self._deliver()

    def _deliver(self) -> None:
        if self._answers:
            del self._answers[: self._sink.deliver(self._answers)]
            if self._answers:
                self._hold()
                return
        found = self._inbox.frames
        if not found:
            return
        if self._acknowledger is not None:
            for data in found:
                self._acknowledger.from_wire(data)
        count = len(found)
        taken = self._sink.deliver([Frame(data, False, True) for data in found])  # no socket damages a byte
        self._inbox.used(taken)
        if taken < count:
            self._hold()

    def _answer(self, acknowledger: Acknowledger, frames: Sequence[Frame]) -> None:
        for frame in frames:
            answer = acknowledger.from_guest(frame.data)
            if answer is not None and len(self._answers) < ANSWERS_MOST:
                self._answers.append(Frame(answer, False, True))
        if self._answers:
            self._loop.soon(self._deliver_answers)

    def _deliver_answers(self) -> None:
        if not self._held:
            self._deliver()

    def _hold(self) -> None:
        if not self._held and self._socket is not None:
            self._held = True
            self._watch()

    def resume(self) -> None:
        if self._held:
            self._held = False
            self._deliver()
            if not self._held:
                self._watch()

    # --- the connection

    def _watch(self) -> None:
        if self._socket is not None:
            mask = (0 if self._held else READ) | (WRITE if self._queue else 0)
            self._loop.watch(self._socket.fileno(), mask, self._on_ready)

    def _lose(self, sentence: str) -> None:
        self._drop()
        self.on_lost(sentence)

    def _drop(self) -> None:
        if self._socket is None:
            return
        self._loop.watch(self._socket.fileno(), 0, self._on_ready)
        self._socket.close()
        self._socket = None
        self._queue.clear()
        self._answers.clear()
        self._inbox.clear()
        self._queued = 0
        if self._full:
            self._full = False
            self._loop.soon(self._sink.room_again)

    def close(self) -> None:
        self._drop()
