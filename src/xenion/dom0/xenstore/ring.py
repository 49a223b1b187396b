"""A guest's xenstore page (io/xs_wire.h, docs/misc/xenstore-ring.txt): requests in, replies out."""

from xenion.abi.io.xs_wire import (
    XENSTORE_CONNECTED,
    XENSTORE_ERROR_NONE,
    XENSTORE_ERROR_PROTO,
    XENSTORE_ERROR_RINGIDX,
    XENSTORE_RECONNECT,
    XENSTORE_RING_SIZE,
    XENSTORE_SERVER_FEATURE_ERROR,
    XENSTORE_SERVER_FEATURE_RECONNECTION,
    XenstoreDomainInterface,
)
from xenion.dom0.ring import (
    BrokenIndexError,
    Fence,
    Port,
    RingError,
    RingReader,
    RingWriter,
    SharedPage,
    offset_of,
)
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.requests import handle
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import MessageParser, WireError, encode

REQUESTS_PER_EVENT = 64

_FEATURES_WORD = offset_of(XenstoreDomainInterface, "server_features") // 4
_CONNECTION_WORD = offset_of(XenstoreDomainInterface, "connection") // 4
_ERROR_WORD = offset_of(XenstoreDomainInterface, "error") // 4


class ProtocolError(RingError):
    """The guest's byte stream is not xenstore's protocol."""


class XenstoreRing:
    """Pumps one guest's ring into a store and back.

    Requests are served only while the guest reads what it is sent. A guest that breaks the ring or the
    protocol loses its watches, transactions and whatever waits, and is no longer served until it asks to
    reconnect; the first time, ``on_event`` raises RingError.
    """

    def __init__(
        self, page: SharedPage, port: Port, fence: Fence, store: Store, connection: Connection
    ) -> None:
        self._words = page.view().cast("B").cast("I")
        self._requests = RingReader(page, XenstoreDomainInterface, "req", XENSTORE_RING_SIZE, fence)
        self._responses = RingWriter(page, XenstoreDomainInterface, "rsp", XENSTORE_RING_SIZE, fence)
        self._port = port
        self._fence = fence
        self._store = store
        self._connection = connection
        self._parser = MessageParser()
        self._unsent = b""
        self._failed = False
        self._told = False
        self._words[_FEATURES_WORD] = XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR

    @property
    def failed(self) -> bool:
        """The guest broke the ring and has not reconnected."""
        return self._failed

    def on_event(self) -> bool:
        """The guest notified, or an event was queued for it: do what can be done.

        True when more requests wait and the caller should call again after it has served others.
        """
        if self._words[_CONNECTION_WORD] == XENSTORE_RECONNECT:
            self._reconnect()
        if self._failed:
            return False
        try:
            return self._pump()
        except BrokenIndexError as error:
            self._fail(XENSTORE_ERROR_RINGIDX, error)
        except WireError as error:
            self._fail(XENSTORE_ERROR_PROTO, ProtocolError(f"{error}; the guest's ring is no longer served"))
        return False

    def _pump(self) -> bool:
        moved = False
        budget = REQUESTS_PER_EVENT
        while budget:
            moved |= self._send()
            if self._connection.saturated:
                break
            request = self._parser.take()
            if request is not None:
                handle(self._store, self._connection, request)
                budget -= 1
                continue
            data = self._requests.read(XENSTORE_RING_SIZE)
            if not data:
                break
            self._parser.push(data)
            moved = True
        moved |= self._send()
        if moved:
            self._port.notify()
        return not budget

    def _send(self) -> bool:
        """Put waiting messages on the ring as far as they fit; whether any byte went."""
        moved = False
        while True:
            if not self._unsent:
                message = self._connection.take()
                if message is None:
                    return moved
                self._unsent = encode(message)
            written = self._responses.write(self._unsent)
            if not written:
                return moved
            moved = True
            self._unsent = self._unsent[written:]

    def _fail(self, code: int, error: RingError) -> None:
        self._failed = True
        self._drop()
        self._words[_ERROR_WORD] = code
        self._port.notify()
        if not self._told:
            self._told = True
            raise error

    def _reconnect(self) -> None:
        self._drop()
        self._requests.reset()
        self._responses.reset()
        self._words[_ERROR_WORD] = XENSTORE_ERROR_NONE
        self._failed = False
        self._fence()  # an empty ring before the word that says so
        self._words[_CONNECTION_WORD] = XENSTORE_CONNECTED
        self._port.notify()

    def _drop(self) -> None:
        self._store.disconnect(self._connection)
        self._parser.clear()
        self._unsent = b""
