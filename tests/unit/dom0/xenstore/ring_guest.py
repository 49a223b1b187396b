"""A guest at its end of a xenstore page, pumped to a store that the test may take away."""

import socket
from collections.abc import Callable

from tests.unit.dom0.xenstore.replaceable import DOMID, UUID, ReplaceableStore
from xenion.abi.io.xs_wire import XENSTORE_RING_SIZE, XenstoreDomainInterface, XsdSockmsgType
from xenion.dom0.loop import Loop
from xenion.dom0.ring import RingReader, RingWriter
from xenion.dom0.xenstore.client import StoreClient
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate
from xenion.dom0.xenstore.pump import StorePump
from xenion.dom0.xenstore.wire import Message, MessageParser, encode

T = XsdSockmsgType
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, FEATURES, CONNECTION, ERROR = range(512, 519)
CONNECTED, RECONNECT = 0, 1
NODES = DomainNodes(
    domid=DOMID,
    name="guest",
    uuid=UUID,
    memory_target_kib=1,
    memory_static_max_kib=1,
    vcpus=1,
    vcpus_online=1,
    console_mfn=1,
    console_port=2,
    store_mfn=3,
    store_port=1,
    start_time=0.0,
)


class RingGuest:
    """Domain 5. Everything that moves does so in `reads` or in the test's own steps."""

    def __init__(self, start: int = 0, *, connected: bool = True) -> None:
        self.loop = Loop()
        self.logged: list[str] = []
        self.pump = StorePump(self.loop, self.logged.append)
        self.client = StoreClient(self.loop)
        self.store = ReplaceableStore(self.loop, self._connected)
        self.fence: Callable[[], None] = lambda: None
        if connected:
            self.store.connect()
            populate(self.client, NODES)
            self.store.settle()
        self.boots(start)

    def _connected(self, guest: socket.socket, back_ends: socket.socket) -> None:
        self.pump.connect(guest)
        self.client.connect(back_ends)

    def boots(self, start: int = 0) -> None:
        """On a new page."""
        self.memory = bytearray(4096)
        self.words = memoryview(self.memory).cast("I")
        self.words[REQ_CONS] = self.words[REQ_PROD] = self.words[RSP_CONS] = self.words[RSP_PROD] = start
        self.notified = 0
        self._out = RingWriter(self, XenstoreDomainInterface, "req", XENSTORE_RING_SIZE, lambda: None)
        self._in = RingReader(self, XenstoreDomainInterface, "rsp", XENSTORE_RING_SIZE, lambda: None)
        self._parser = MessageParser()
        self.pump.serve(self, self, lambda: self.fence())

    def view(self) -> memoryview:
        return memoryview(self.memory)

    def notify(self) -> None:
        self.notified += 1

    # --- its end of the page

    def puts(self, data: bytes) -> int:
        """As much as there is room for, without a word."""
        return self._out.write(data)

    def sends(self, data: bytes) -> None:
        """Put all of ``data`` on the ring, letting the back end make room; reads nothing."""
        for _ in range(1000):
            data = data[self._out.write(data) :]
            self.pump.on_event()
            if not data:
                return
            self.store.move()
        raise AssertionError("the back end is stuck")

    def request(self, kind: int, payload: bytes, tx_id: int = 0, req_id: int = 1) -> None:
        self.sends(encode(Message(kind, req_id, tx_id, payload)))

    def takes(self) -> list[Message]:
        """What is on the ring now; tells the back end, as a guest does that found the ring full."""
        full = self.words[RSP_PROD] - self.words[RSP_CONS] == XENSTORE_RING_SIZE
        self._parser.push(self._in.read(XENSTORE_RING_SIZE))
        if full:
            self.pump.on_event()
        return list(iter(self._parser.take, None))

    def reads(self) -> list[Message]:
        """All that can be had without sending more. Nobody but the store and the ring's state wakes the back end."""
        messages: list[Message] = []
        quiet = 0
        while quiet < 3:
            moved = self.store.move()
            taken = self.takes()
            messages += taken
            quiet = 0 if moved or taken or self.words[RSP_PROD] != self.words[RSP_CONS] else quiet + 1
        return messages

    def asks(self, kind: int, payload: bytes, tx_id: int = 0) -> bytes:
        """One request and its reply's payload, an error after a `!`; events are dropped."""
        self.request(kind, payload, tx_id)
        replies = [message for message in self.reads() if message.type != T.WATCH_EVENT]
        assert len(replies) == 1
        return (b"!" if replies[0].type == T.ERROR else b"") + replies[0].payload

    def reconnects(self) -> None:
        self.words[CONNECTION] = RECONNECT
        self.pump.on_event()
        self._parser.clear()

    # --- the world outside

    @property
    def watches(self) -> int:
        """That the store keeps for it."""
        return len(self.store.store.domains[DOMID].guest.watches)

    @property
    def transactions(self) -> int:
        return len(self.store.store.domains[DOMID].guest.transactions)

    def dom0_writes(self, path: str, value: bytes = b"") -> None:
        self.store.store.write(self.store.dom0, f"/local/domain/{DOMID}/{path}", value)

    def close(self) -> None:
        self.pump.close()
        self.client.close()
        self.store.close()
        self.loop.close()
