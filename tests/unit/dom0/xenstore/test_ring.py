"""The store behind a shared page, as conversations with friendly and hostile guests."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.xs_wire import XENSTORE_RING_SIZE, XenstoreDomainInterface, XsdSockmsgType
from xenion.dom0.ring import RingError, RingReader, RingWriter
from xenion.dom0.xenstore.connection import Connection
from xenion.dom0.xenstore.domain_tree import DomainNodes, populate
from xenion.dom0.xenstore.ring import REQUESTS_PER_EVENT, ProtocolError, XenstoreRing
from xenion.dom0.xenstore.store import Store
from xenion.dom0.xenstore.wire import HEADER, Message, MessageParser, encode

T = XsdSockmsgType
REQ_CONS, REQ_PROD, RSP_CONS, RSP_PROD, FEATURES, CONNECTION, ERROR = range(512, 519)
CONNECTED, RECONNECT = 0, 1
NODES = DomainNodes(
    domid=5,
    name="guest",
    uuid="u",
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


class Guest:
    """Domain 5: its end of the page, and its back end."""

    def __init__(self, start: int = 0) -> None:
        self.memory = bytearray(4096)
        self.words = memoryview(self.memory).cast("I")
        self.words[REQ_CONS] = self.words[REQ_PROD] = self.words[RSP_CONS] = self.words[RSP_PROD] = start
        self.notified = 0
        self._out = RingWriter(self, XenstoreDomainInterface, "req", XENSTORE_RING_SIZE, lambda: None)
        self._in = RingReader(self, XenstoreDomainInterface, "rsp", XENSTORE_RING_SIZE, lambda: None)
        self._parser = MessageParser()
        self.store = Store()
        self.dom0 = Connection(0)
        populate(self.store, self.dom0, NODES)
        self.connection = Connection(5)
        self.ring = XenstoreRing(self, self, lambda: None, self.store, self.connection)

    def view(self) -> memoryview:
        return memoryview(self.memory)

    def notify(self) -> None:
        self.notified += 1

    def sends(self, data: bytes) -> None:
        """Put all of ``data`` on the ring, letting the back end make room; reads nothing."""
        while True:
            written = self._out.write(data)
            data = data[written:]
            if not data:
                return
            self.ring.on_event()
            assert self.words[REQ_PROD] - self.words[REQ_CONS] != XENSTORE_RING_SIZE, "the back end is stuck"

    def reads(self) -> list[Message]:
        """Everything that can be had without sending more."""
        messages: list[Message] = []
        while True:
            again = self.ring.on_event()
            data = self._in.read(XENSTORE_RING_SIZE)
            if not data and not again:
                return messages
            self._parser.push(data)
            messages += iter(self._parser.take, None)

    def asks(self, kind: int, payload: bytes, tx_id: int = 0) -> bytes:
        """One request and its reply's payload, an error after a `!`; events are dropped."""
        self.sends(encode(Message(kind, 1, tx_id, payload)))
        replies = [message for message in self.reads() if message.type != T.WATCH_EVENT]
        assert len(replies) == 1
        return (b"!" if replies[0].type == T.ERROR else b"") + replies[0].payload

    def reconnects(self) -> None:
        self.words[CONNECTION] = RECONNECT
        self.ring.on_event()
        self._parser.clear()


@pytest.fixture
def guest() -> Guest:
    return Guest()


# Friendly


def test_the_server_says_what_it_can(guest: Guest) -> None:
    assert list(guest.words[FEATURES : ERROR + 1]) == [3, CONNECTED, 0]


def test_a_request_and_its_reply(guest: Guest) -> None:
    guest.ring.on_event()
    assert guest.notified == 0
    guest.sends(encode(Message(T.READ, 42, 0, b"name\0")))
    assert not guest.ring.on_event()
    assert guest.notified == 1
    assert guest.reads() == [Message(T.READ, 42, 0, b"guest")]


def test_many_requests_at_once_are_answered_in_order(guest: Guest) -> None:
    batch = b"".join(encode(Message(T.READ, number, 0, b"domid\0")) for number in range(46))
    assert len(batch) <= XENSTORE_RING_SIZE
    guest.sends(batch)
    assert [message.req_id for message in guest.reads()] == list(range(46))


def test_messages_longer_than_the_ring(guest: Guest) -> None:
    value = bytes(range(256)) * 7
    assert guest.asks(T.WRITE, b"data/long\0" + value) == b"OK\0"
    assert guest.asks(T.READ, b"data/long\0") == value
    assert guest.asks(T.WRITE, b"data/long\0" + b"x" * 4086) == b"!ENOSPC\0"


def test_a_watch_fires_for_dom0s_writes(guest: Guest) -> None:
    woken: list[int] = []
    guest.connection._wake = lambda: woken.append(1)
    guest.asks(T.WATCH, b"control/shutdown\0tok\0")
    woken.clear()
    guest.store.write(guest.dom0, "/local/domain/5/control/shutdown", b"poweroff")
    assert woken == [1]
    assert guest.reads() == [Message(T.WATCH_EVENT, 0, 0, b"control/shutdown\0tok\0")]


@given(st.integers(0, 0xFFFF_FFFF), st.lists(st.binary(max_size=1900), min_size=1, max_size=5))
def test_any_start_index_and_size(start: int, values: list[bytes]) -> None:
    guest = Guest(start)
    for value in values:
        assert guest.asks(T.WRITE, b"data/a\0" + value) == b"OK\0"
        assert guest.asks(T.READ, b"data/a\0") == value


# Slow


def test_a_guest_that_never_reads_is_not_served_without_end(guest: Guest) -> None:
    request = encode(Message(T.READ, 1, 0, b"name\0"))
    sent = 0
    while guest._out.write(request) == len(request):
        sent += 1
        guest.ring.on_event()
    assert guest.connection.waiting == guest.connection.quota.outstanding
    assert len(guest.ring._parser.pending) <= XENSTORE_RING_SIZE
    notified = guest.notified
    for _ in range(100):
        guest.ring.on_event()
    assert guest.notified == notified
    assert len(guest.reads()) == sent


def test_a_guest_that_floods_gives_others_their_turn(guest: Guest) -> None:
    """Another vCPU may refill the ring as fast as it is served: one call serves so many requests, no more."""
    stream = encode(Message(T.READ, 1, 0, b"domid\0")) * 1000
    replies = 0

    def another_vcpu() -> None:
        nonlocal replies, stream
        stream = stream[guest._out.write(stream) :]
        guest._parser.push(guest._in.read(XENSTORE_RING_SIZE))
        replies += len(list(iter(guest._parser.take, None)))

    flooded = XenstoreRing(guest, guest, another_vcpu, guest.store, guest.connection)
    assert flooded.on_event()
    another_vcpu()
    assert replies == REQUESTS_PER_EVENT


# Hostile


@pytest.mark.parametrize("word", [REQ_PROD, REQ_CONS, RSP_PROD, RSP_CONS])
def test_broken_indexes_end_the_service_once(guest: Guest, word: int) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    tx = guest.asks(T.TRANSACTION_START, b"\0")
    assert tx == b"1\0"
    guest.sends(encode(Message(T.READ, 1, 0, b"name\0")))
    guest.words[word] = (guest.words[word] + 0x7000_0000) & 0xFFFF_FFFF
    with pytest.raises(RingError, match="ring"):
        guest.ring.on_event()
    assert guest.ring.failed
    assert guest.words[ERROR] == 2
    assert guest.connection.watches == {}
    assert guest.connection.transactions == {}
    before, notified = bytes(guest.memory), guest.notified
    assert not guest.ring.on_event()
    guest.store.write(guest.dom0, "/local/domain/5/data", b"")
    assert not guest.ring.on_event()
    assert (bytes(guest.memory), guest.notified) == (before, notified)


def test_a_payload_too_long_ends_the_service(guest: Guest) -> None:
    guest.sends(HEADER.pack(T.WRITE, 1, 0, 4097))
    with pytest.raises(ProtocolError, match="4097"):
        guest.ring.on_event()
    assert guest.words[ERROR] == 3
    assert guest.connection.waiting == 0


def test_a_message_that_never_ends_costs_nothing(guest: Guest) -> None:
    guest.sends(HEADER.pack(T.WRITE, 1, 0, 4096) + b"data/x\0" + b"y" * 4000)
    for _ in range(10):
        assert guest.reads() == []
    assert len(guest.ring._parser.pending) == 16 + 7 + 4000
    guest.sends(b"z" * 89)
    assert [message.type for message in guest.reads()] == [T.ERROR]


def test_ten_thousand_watches(guest: Guest) -> None:
    granted = refused = 0
    for number in range(10_000):
        reply = guest.asks(T.WATCH, b"data\0%d\0" % number)
        granted += reply == b"OK\0"
        refused += reply == b"!E2BIG\0"
    assert (granted, refused) == (128, 9872)
    guest.store.write(guest.dom0, "/local/domain/5/data/x", b"")
    assert len(guest.reads()) == 128


def test_reconnecting_starts_afresh(guest: Guest) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    guest.sends(HEADER.pack(T.READ, 1, 0, 100) + b"half a request")
    guest.ring.on_event()
    guest.words[RSP_CONS] = 0x1234_5678
    guest.reconnects()
    assert list(guest.words[REQ_CONS : ERROR + 1]) == [0, 0, 0, 0, 3, CONNECTED, 0]
    assert guest.connection.watches == {}
    assert guest.asks(T.READ, b"name\0") == b"guest"


def test_a_guest_that_broke_its_ring_may_reconnect_and_is_told_on_only_once(guest: Guest) -> None:
    guest.words[REQ_PROD] = 5000
    with pytest.raises(RingError):
        guest.ring.on_event()
    guest.reconnects()
    assert not guest.ring.failed
    assert guest.words[ERROR] == 0
    assert guest.asks(T.READ, b"name\0") == b"guest"
    guest.words[REQ_PROD] = 5000
    assert not guest.ring.on_event()
    assert guest.ring.failed
    assert guest.words[ERROR] == 2


@given(
    st.lists(st.one_of(st.binary(max_size=64), st.tuples(st.integers(512, 1023), st.integers(0, 2**32 - 1))))
)
def test_whatever_a_guest_writes_only_ring_errors_come_out(script: list[bytes | tuple[int, int]]) -> None:
    guest = Guest()
    told = 0
    for step in script:
        if isinstance(step, bytes):
            start = guest.words[REQ_PROD] % XENSTORE_RING_SIZE
            data = step[: XENSTORE_RING_SIZE - start]
            guest.memory[start : start + len(data)] = data
            guest.words[REQ_PROD] = (guest.words[REQ_PROD] + len(step)) & 0xFFFF_FFFF
        else:
            guest.words[step[0]] = step[1]
        try:
            guest.ring.on_event()
        except RingError:
            told += 1
    assert told <= 1
