"""One client of the store: who it is, its watches and transactions, and what waits to be sent to it."""

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from xenion.abi.errno import Errno
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XsdSockmsgType
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.paths import absolute, domain_path
from xenion.dom0.xenstore.perms import NOBODY
from xenion.dom0.xenstore.quota import DOM0, Quota
from xenion.dom0.xenstore.scope import Scope
from xenion.dom0.xenstore.transaction import Transaction
from xenion.dom0.xenstore.wire import HEADER, Message, encode

_WATCH_EVENT = int(XsdSockmsgType.WATCH_EVENT)
_pack = HEADER.pack

ANY_DEPTH = 1 << 30
"""Of a watch for its path and all below it, however deep."""


class Event(NamedTuple):
    """A watch fired: the changed path as the watch named it (absolute or relative), and the watch's token."""

    path: str
    token: bytes


class Connection:
    """A client's state. The store fills the queue; whoever speaks for the client empties it.

    ``wake`` is called when an event is queued, possibly from within another client's request: it must only
    take note.
    """

    def __init__(
        self,
        domid: int,
        *,
        quota: Quota | None = None,
        wake: Callable[[], None] | None = None,
        scope: Scope | None = None,
        name: bytes = b"",
    ) -> None:
        self.domid = domid
        self.privileged = domid == 0
        self.scope = scope
        """Where it may do anything at all; None: everywhere."""
        self.limited = not self.privileged or scope is not None
        """The quota holds for it."""
        self.quota = quota if quota is not None else DOM0 if self.privileged else Quota()
        self.target = NOBODY
        """The domain whose rights it has as well."""
        self.name = name
        """What the journal calls it; empty: its watches end with it."""
        self.home = domain_path(domid)
        self.watches: dict[tuple[str, bytes], Watch] = {}
        self.transactions: dict[int, Transaction] = {}
        self.connected = True
        """Somebody will read what is queued; nothing is queued otherwise."""
        self.hang_up: Callable[[], None] | None = None
        """Ends what speaks for the client, if that can be ended."""
        self._next_transaction = 1
        self._wake = wake
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._queued_events: set[bytes] = set()

    def wake_with(self, wake: Callable[[], None] | None) -> None:
        """Who is told from now on that something is queued."""
        self._wake = wake

    def absolute(self, path: str) -> str:
        """The absolute form of a path from this client; StoreError EINVAL."""
        return absolute(path, self.home)

    @property
    def saturated(self) -> bool:
        """The client has so much to read that it gets no further request served."""
        return len(self._queue) >= self.quota.outstanding

    @property
    def waiting(self) -> int:
        """Messages that wait."""
        return len(self._queue)

    def reply(self, message: Message) -> None:
        """Queue the answer to a request."""
        self._queue.append(message)
        self._queued_bytes += len(message.payload)

    def take(self) -> Message | None:
        """Remove and return the oldest waiting message."""
        if not self._queue:
            return None
        message = self._queue.popleft()
        self._queued_bytes -= len(message.payload)
        if message.type == _WATCH_EVENT:
            self._queued_events.discard(message.payload)
        return message

    def drain(self, limit: int) -> bytes:
        """Remove the oldest waiting messages, about ``limit`` bytes of them, and return them as the wire has them."""
        queue = self._queue
        if len(queue) == 1:
            message = self.take()
            return b"" if message is None else encode(message)
        parts: list[bytes] = []
        size = 0
        while queue and size < limit:
            kind, req_id, tx_id, payload = queue.popleft()
            if kind == _WATCH_EVENT:
                self._queued_events.discard(payload)
            size += len(payload)
            parts += (_pack(kind, req_id, tx_id, len(payload)), payload)
        self._queued_bytes -= size
        return b"".join(parts)

    def events(self) -> list[Event]:
        """Remove all waiting messages and return the events among them; for clients inside this process."""
        taken = []
        while (message := self.take()) is not None:
            if message.type == _WATCH_EVENT:
                path, token = message.payload.split(b"\0")[:2]
                taken.append(Event(path.decode("latin-1"), token))
        return taken

    def queue_event(self, watch: "Watch", path: str) -> None:
        """Queue an event for one of this client's watches.

        An equal event that still waits is enough. A client that does not read gets one event per watch in the
        end: spurious events are allowed, unbounded memory is not.
        """
        if not self.connected:
            return
        if self._queued_bytes >= self.quota.queued:
            path = watch.path
        payload = path[watch.base_length :].encode("latin-1") + b"\0" + watch.token + b"\0"
        if payload in self._queued_events or len(payload) > XENSTORE_PAYLOAD_MAX:
            return
        self._queued_events.add(payload)
        self._queue.append(Message(_WATCH_EVENT, 0, 0, payload))
        self._queued_bytes += len(payload)
        if self._wake is not None:
            self._wake()

    def begin(self, transaction: Transaction) -> int:
        """Keep a transaction and return its new id; StoreError ENOSPC when too many are open."""
        if self.limited and len(self.transactions) >= self.quota.transactions:
            raise StoreError(Errno.ENOSPC, f"{self.quota.transactions} transactions are open")
        number = self._next_transaction
        while number == 0 or number in self.transactions:
            number = (number + 1) & 0xFFFF_FFFF
        self.transactions[number] = transaction
        self._next_transaction = (number + 1) & 0xFFFF_FFFF
        return number

    def transaction(self, number: int) -> Transaction:
        """An open transaction; StoreError ENOENT."""
        found = self.transactions.get(number)
        if found is None:
            raise StoreError(Errno.ENOENT, f"no transaction {number} is open")
        return found

    def discard_queue(self) -> None:
        """Forget everything that waits."""
        self._queue.clear()
        self._queued_events.clear()
        self._queued_bytes = 0


class Watch:
    """A client's interest in one path and all below it, or in a special event."""

    __slots__ = ("base_length", "connection", "depth", "path", "token")

    def __init__(
        self, connection: Connection, path: str, token: bytes, *, relative: bool, depth: int = ANY_DEPTH
    ) -> None:
        self.connection = connection
        self.path = path
        self.token = token
        self.depth = depth
        """How many levels below the path count."""
        # A relative watch reports paths without the client's home and the slash after it.
        self.base_length = len(connection.home) + 1 if relative else 0
