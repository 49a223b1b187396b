"""A guest's page, pumped to the store, as conversations with friendly and hostile guests, and with a mortal store."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.dom0.xenstore.pump_kit import COMMIT, FLOOD
from tests.unit.dom0.xenstore.ring_guest import (
    CONNECTED,
    CONNECTION,
    ERROR,
    FEATURES,
    RECONNECT,
    REQ_CONS,
    REQ_PROD,
    RSP_CONS,
    RSP_PROD,
    RingGuest,
    T,
)
from xenion.abi.io.xs_wire import XENSTORE_RING_SIZE
from xenion.dom0.ring import RingWriter
from xenion.dom0.xenstore.domains import FEATURES as SERVER_FEATURES
from xenion.dom0.xenstore.pump import OUTSTANDING, UNREAD_BYTES
from xenion.dom0.xenstore.wire import HEADER, Message, encode

# --- friendly


def test_the_server_says_what_it_can(guest: RingGuest) -> None:
    assert list(guest.words[FEATURES : ERROR + 1]) == [SERVER_FEATURES, CONNECTED, 0]


def test_a_request_and_its_reply(guest: RingGuest) -> None:
    guest.pump.on_event()
    assert guest.notified == 0
    guest.request(T.READ, b"name\0", req_id=42)
    assert guest.notified == 1, "there is room on the ring again"
    assert guest.reads() == [Message(T.READ, 42, 0, b"guest")]
    assert guest.notified == 2


def test_many_requests_at_once_are_answered_in_order(guest: RingGuest) -> None:
    batch = b"".join(encode(Message(T.READ, number, 0, b"domid\0")) for number in range(46))
    assert len(batch) <= XENSTORE_RING_SIZE
    guest.sends(batch)
    assert [message.req_id for message in guest.reads()] == list(range(46))


def test_messages_longer_than_the_ring(guest: RingGuest) -> None:
    value = bytes(range(256)) * 7
    assert guest.asks(T.WRITE, b"data/long\0" + value) == b"OK\0"
    assert guest.asks(T.READ, b"data/long\0") == value
    assert guest.asks(T.WRITE, b"data/long\0" + b"x" * 4086) == b"!ENOSPC\0"


def test_a_watch_fires_for_dom0s_writes(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"control/shutdown\0tok\0")
    before = guest.notified
    guest.dom0_writes("control/shutdown", b"poweroff")
    assert guest.reads() == [Message(T.WATCH_EVENT, 0, 0, b"control/shutdown\0tok\0")]
    assert guest.notified > before


def test_a_guest_that_reads_while_its_ring_is_written_gets_the_rest(
    guest: RingGuest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It never sees a full ring then, and tells nobody."""
    for name, size in (("short", 500), ("long", 1500)):
        guest.asks(T.WRITE, f"data/{name}\0".encode() + b"x" * size)
    guest.request(T.READ, b"data/short\0")
    while guest.words[RSP_PROD] == guest.words[RSP_CONS]:
        guest.store.move()
    guest.request(T.READ, b"data/long\0")
    seen, indexes = [], RingWriter._indexes

    def reads_then(ring: RingWriter) -> tuple[int, int]:
        found = indexes(ring)
        monkeypatch.undo()
        seen.extend(guest.takes())
        return found

    monkeypatch.setattr(RingWriter, "_indexes", reads_then)
    while not seen:
        guest.store.move()
    assert [len(message.payload) for message in seen + guest.reads()] == [500, 1500]


@given(st.integers(0, 0xFFFF_FFFF), st.lists(st.binary(max_size=1900), min_size=1, max_size=5))
def test_any_start_index_and_size(start: int, values: list[bytes]) -> None:
    guest = RingGuest(start)
    for value in values:
        assert guest.asks(T.WRITE, b"data/a\0" + value) == b"OK\0"
        assert guest.asks(T.READ, b"data/a\0") == value
    guest.close()


def test_a_transaction(guest: RingGuest) -> None:
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    assert guest.asks(T.WRITE, b"data/a\0one", tx) == b"OK\0"
    assert guest.asks(T.READ, b"data/a\0") == b"!ENOENT\0"
    assert guest.asks(T.READ, b"data/a\0", tx) == b"one"
    assert guest.asks(T.TRANSACTION_END, COMMIT, tx) == b"OK\0"
    assert guest.asks(T.READ, b"data/a\0") == b"one"
    assert guest.asks(T.READ, b"data/a\0", tx) == b"!ENOENT\0"


# --- slow, and those who ask for much


def test_a_guest_that_never_reads_is_not_served_without_end(guest: RingGuest) -> None:
    sent, stuck = 0, 0
    while stuck < 5:
        if guest.puts(FLOOD) == len(FLOOD):
            sent, stuck = sent + 1, 0
        else:
            stuck += 1
        guest.pump.on_event()
        guest.store.move()
        assert len(guest.pump._asked) <= OUTSTANDING
        assert len(guest.pump._unread) < UNREAD_BYTES + XENSTORE_RING_SIZE * OUTSTANDING
        assert len(guest.pump._parser.pending) <= XENSTORE_RING_SIZE
        if guest.words[REQ_PROD] - guest.words[REQ_CONS] > XENSTORE_RING_SIZE - len(FLOOD):
            stuck += 1
    notified = guest.notified
    for _ in range(100):
        guest.pump.on_event()
    assert guest.notified == notified
    replies = guest.reads()
    assert [message.payload for message in replies] == [b"guest"] * sent


def test_events_for_a_guest_that_does_not_read_stay_with_the_store(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0" + b"t" * 1000 + b"\0")
    for number in range(2000):
        guest.dom0_writes(f"data/{number}")
        guest.store.move()
    assert len(guest.pump._unread) < UNREAD_BYTES * 3
    events = guest.reads()
    assert 100 < len(events) < 2000
    assert {message.type for message in events} == {T.WATCH_EVENT}
    assert guest.asks(T.READ, b"name\0") == b"guest"


def test_a_guest_that_floods_gives_others_their_turn(guest: RingGuest) -> None:
    """Another vCPU may refill the ring as fast as it is served: one call asks so many requests, no more."""

    def another_vcpu() -> None:
        guest.puts(FLOOD * 60)

    guest.fence = another_vcpu
    another_vcpu()
    guest.pump.on_event()
    assert len(guest.pump._asked) == OUTSTANDING


# --- hostile


@pytest.mark.parametrize("word", [REQ_PROD, REQ_CONS, RSP_PROD, RSP_CONS])
def test_broken_indexes_end_the_service(guest: RingGuest, word: int) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    assert guest.asks(T.TRANSACTION_START, b"\0") == b"1\0"
    guest.request(T.READ, b"name\0")
    guest.words[word] = (guest.words[word] + 0x7000_0000) & 0xFFFF_FFFF
    guest.store.settle()
    guest.pump.on_event()
    assert guest.pump.failed
    assert guest.words[ERROR] == 2
    guest.store.settle()
    assert (guest.watches, guest.transactions) == (0, 0)
    before, notified = bytes(guest.memory), guest.notified
    guest.dom0_writes("data")
    guest.store.settle()
    guest.pump.on_event()
    assert (bytes(guest.memory), guest.notified) == (before, notified)
    assert len(guest.logged) == 1
    assert "ring" in guest.logged[0]


def test_a_payload_too_long_ends_the_service(guest: RingGuest) -> None:
    guest.puts(HEADER.pack(T.WRITE, 1, 0, 4097))
    guest.pump.on_event()
    assert guest.words[ERROR] == 3
    guest.store.settle()
    assert guest.takes() == []
    assert len(guest.logged) == 1
    assert "4097" in guest.logged[0]


def test_a_message_that_never_ends_costs_nothing(guest: RingGuest) -> None:
    guest.sends(HEADER.pack(T.WRITE, 1, 0, 4096) + b"data/x\0" + b"y" * 4000)
    for _ in range(10):
        assert guest.reads() == []
    assert len(guest.pump._parser.pending) == 16 + 7 + 4000
    guest.sends(b"z" * 89)
    assert [message.type for message in guest.reads()] == [T.ERROR]


def test_ten_thousand_watches(guest: RingGuest) -> None:
    granted = refused = 0
    stream = b"".join(encode(Message(T.WATCH, 1, 0, b"data\0%d\0" % number)) for number in range(10_000))
    while stream:
        stream = stream[guest.puts(stream) :]
        guest.pump.on_event()
        for message in guest.reads():
            granted += message.payload == b"OK\0"
            refused += message.payload == b"E2BIG\0"
    assert (granted, refused) == (128, 9872)
    guest.dom0_writes("data/x")
    assert len(guest.reads()) == 128


def test_transactions_that_are_forgotten_cost_nothing(guest: RingGuest) -> None:
    """RESET_WATCHES ends them in the store."""
    for _ in range(30):
        for _ in range(10):
            guest.asks(T.TRANSACTION_START, b"\0")
        assert guest.asks(T.RESET_WATCHES, b"\0") == b"OK\0"
    assert guest.transactions == 0
    assert len(guest.pump._transactions._known) == 0


# --- reconnecting


def test_reconnecting_starts_afresh(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    guest.sends(HEADER.pack(T.READ, 1, 0, 100) + b"half a request")
    guest.words[RSP_CONS] = 0x1234_5678
    guest.reconnects()
    assert list(guest.words[REQ_CONS : ERROR + 1]) == [0, 0, 0, 0, SERVER_FEATURES, CONNECTED, 0]
    assert guest.asks(T.READ, b"name\0") == b"guest"
    assert guest.watches == 0


def test_a_guest_that_broke_its_ring_may_reconnect_and_is_told_on_only_once(guest: RingGuest) -> None:
    for _ in range(3):
        guest.words[REQ_PROD] = 5000
        guest.pump.on_event()
        assert guest.pump.failed
        assert guest.words[ERROR] == 2
        guest.reconnects()
        assert not guest.pump.failed
        assert guest.words[ERROR] == 0
        assert guest.asks(T.READ, b"name\0") == b"guest"
    assert len(guest.logged) == 1


def test_replies_that_nobody_waits_for_make_room_all_the_same(guest: RingGuest) -> None:
    """As many as may be outstanding were asked before the guest reconnected: what it asks then is not forgotten."""
    guest.puts(FLOOD * OUTSTANDING)
    guest.pump.on_event()
    assert len(guest.pump._asked) == OUTSTANDING
    guest.reconnects()
    guest.request(T.READ, b"domid\0", req_id=7)
    assert guest.reads() == [Message(T.READ, 7, 0, b"5")]


def test_a_guest_that_reconnects_all_the_time_makes_nothing_pile_up(guest: RingGuest) -> None:
    for _ in range(200):
        guest.puts(FLOOD)
        guest.reconnects()
    assert len(guest.pump._asked) <= OUTSTANDING + 1
    assert guest.asks(T.READ, b"name\0") == b"guest"


def test_watches_of_before_do_not_fire_afterwards(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0old\0")
    guest.dom0_writes("data/x")
    guest.reconnects()
    guest.request(T.WATCH, b"data\0new\0")
    guest.dom0_writes("data/y")
    events = [message.payload for message in guest.reads() if message.type == T.WATCH_EVENT]
    assert events
    assert {payload.split(b"\0")[1] for payload in events} == {b"new"}


def test_the_next_boot_has_nothing_of_the_one_before(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0old\0")
    guest.asks(T.TRANSACTION_START, b"\0")
    guest.puts(FLOOD * OUTSTANDING + b"half")
    guest.pump.on_event()
    guest.dom0_writes("data/x")
    guest.pump.stop()
    old = bytes(guest.memory)
    page = guest.memory
    guest.store.settle()
    guest.boots()
    guest.dom0_writes("data/y")
    assert guest.asks(T.READ, b"name\0") == b"guest"
    assert (guest.watches, guest.transactions) == (0, 0)
    assert bytes(page) == old, "the page of a guest that has stopped is touched"


def test_a_boot_while_the_store_is_away(guest: RingGuest) -> None:
    guest.puts(FLOOD * OUTSTANDING)
    guest.pump.on_event()
    guest.store.cut()
    guest.pump.stop()
    guest.boots()
    guest.request(T.READ, b"name\0", req_id=8)
    assert guest.reads() == []
    guest.store.connect()
    assert guest.reads() == [Message(T.READ, 8, 0, b"guest")]


# --- the store dies and comes back


def test_a_guest_that_asks_before_there_is_a_store_waits() -> None:
    guest = RingGuest(connected=False)
    guest.request(T.READ, b"/\0")
    assert guest.reads() == []
    guest.store.connect()
    assert [message.type for message in guest.reads()] == [T.ERROR]
    guest.close()


def test_more_than_may_be_outstanding_wait_in_the_ring_until_the_store_is_back(guest: RingGuest) -> None:
    guest.store.cut()
    batch = b"".join(encode(Message(T.READ, number, 0, b"domid\0")) for number in range(46))
    guest.puts(batch)
    guest.pump.on_event()
    assert len(guest.pump._asked) == OUTSTANDING
    guest.store.connect()
    assert [message.req_id for message in guest.reads()] == list(range(46))


def test_watches_outlive_the_store_and_fire(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    guest.store.cut()
    guest.dom0_writes("data/x")
    guest.store.connect()
    assert Message(T.WATCH_EVENT, 0, 0, b"data/x\0t\0") in guest.reads()


@pytest.mark.parametrize("moved", [0, 1 << 16])
def test_what_the_store_did_and_could_not_say_is_done_all_the_same(guest: RingGuest, moved: int) -> None:
    """A watch that is asked for twice is no error of the guest's, nor is the end of one, nor is an end of a node."""
    guest.asks(T.WATCH, b"data\0old\0")
    guest.asks(T.WRITE, b"data/a/b\0")
    asked = [
        (T.WATCH, b"data\0new\0"),
        (T.UNWATCH, b"data\0old\0"),
        (T.RM, b"data/a/b\0"),
        (T.RM, b"data/a\0"),
        (T.MKDIR, b"data/c\0"),
    ]
    for kind, payload in asked:
        guest.request(kind, payload)
    guest.store.move(moved, 0)
    guest.store.cut()
    guest.store.connect()
    replies = [message for message in guest.reads() if message.type != T.WATCH_EVENT]
    assert [(message.type, message.payload) for message in replies] == [(kind, b"OK\0") for kind, _ in asked]
    assert guest.watches == 1


def test_a_refusal_is_one_when_it_is_asked_again(guest: RingGuest) -> None:
    for kind, payload in [(T.READ, b"data/none\0"), (T.WRITE, b"name\0x"), (T.MKDIR, b"/x\0")]:
        guest.request(kind, payload)
    guest.store.cut()
    guest.store.connect()
    assert [message.payload for message in guest.reads()] == [b"ENOENT\0", b"EACCES\0", b"EACCES\0"]


def test_a_transaction_that_was_open_ends_with_eagain_and_has_changed_nothing(guest: RingGuest) -> None:
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    guest.asks(T.WRITE, b"data/a\0before", tx)
    guest.store.cut()
    guest.store.connect()
    assert guest.asks(T.WRITE, b"data/b\0after", tx) == b"OK\0"
    assert guest.asks(T.READ, b"name\0", tx) == b"guest"
    assert guest.asks(T.TRANSACTION_END, COMMIT, tx) == b"!EAGAIN\0"
    assert guest.asks(T.DIRECTORY, b"data\0") == b""
    assert guest.asks(T.TRANSACTION_END, COMMIT, tx) == b"!ENOENT\0"


def test_replies_of_a_broken_transaction_keep_their_place(guest: RingGuest) -> None:
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    guest.store.cut()
    guest.request(T.READ, b"name\0", req_id=1)
    guest.request(T.WRITE, b"data/a\0", tx, req_id=2)
    guest.request(T.READ, b"name\0", req_id=3)
    guest.request(T.TRANSACTION_END, COMMIT, tx, req_id=4)
    guest.store.connect()
    guest.store.cut()  # and once more before any reply
    guest.request(T.READ, b"name\0", req_id=5)
    guest.store.connect()
    replies = guest.reads()
    assert [message.req_id for message in replies] == [1, 2, 3, 4, 5]
    assert replies[3] == Message(T.ERROR, 4, tx, b"EAGAIN\0")


def test_a_reader_within_a_transaction_that_has_ended_as_broken_reads_all_the_same(guest: RingGuest) -> None:
    """Its end is answered, behind it, when the store dies once more."""
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    guest.request(T.READ, b"name\0", tx, req_id=1)
    guest.store.cut()
    guest.request(T.TRANSACTION_END, COMMIT, tx, req_id=2)
    for _ in range(3):
        guest.store.connect()
        guest.store.cut()
    guest.store.connect()
    assert guest.reads() == [Message(T.READ, 1, tx, b"guest"), Message(T.ERROR, 2, tx, b"EAGAIN\0")]


Step = tuple[str, int, int]
SIZES = st.integers(0, 60) | st.just(1 << 16)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("move"), SIZES, SIZES),
        st.tuples(st.just("ask"), st.integers(0, 6), st.integers(0, 3)),
        st.tuples(st.just("take"), st.just(0), st.just(0)),
        st.tuples(st.sampled_from(["cut", "connect", "begin"]), st.just(0), st.just(0)),
    ),
    max_size=60,
)


class Asker:
    """Numbers its requests, and knows what has to come of them."""

    def __init__(self, guest: RingGuest) -> None:
        self.guest = guest
        self.requests: list[Message] = []
        self.replies: list[Message] = []
        self.open: list[int] = []
        """Transactions that it knows of and has not ended."""
        self.broken: set[int] = set()
        self.doomed: set[int] = set()
        """Requests that end a transaction which broke before they were made."""

    def ask(self, kind: int, which: int) -> None:
        number = len(self.requests)
        tx = self.open[which] if which < len(self.open) else 0
        word = b"data/%d" % number
        kinds: list[tuple[int, bytes]] = [
            (T.WRITE, word + b"\0value"),
            (T.READ, b"name\0"),
            (T.WATCH, b"data\0%d\0" % number),
            (T.TRANSACTION_START, b"\0"),
            (T.TRANSACTION_END, COMMIT),
            (99, b"?"),
            (T.DIRECTORY, b"data\0"),
        ]
        message = Message(kinds[kind][0], number, 0 if kind in (2, 3) else tx, kinds[kind][1])
        if kind == 4 and tx:
            self.open.remove(tx)
            if tx in self.broken:
                self.doomed.add(number)
        data = encode(message)
        room = XENSTORE_RING_SIZE - (self.guest.words[REQ_PROD] - self.guest.words[REQ_CONS])
        if room >= len(data):
            assert self.guest.puts(data) == len(data)
            self.requests.append(message)
            self.guest.pump.on_event()

    def take(self, messages: list[Message]) -> None:
        for message in messages:
            if message.type != T.WATCH_EVENT:
                self.replies.append(message)
                if message.type == T.TRANSACTION_START:
                    self.open.append(int(message.payload[:-1]))

    def breaks(self) -> None:
        self.broken |= set(self.open)


@settings(max_examples=150)
@given(STEPS)
def test_whenever_the_store_dies_each_request_gets_its_one_reply_in_order(steps: list[Step]) -> None:
    guest = RingGuest()
    asker = Asker(guest)
    for step, first, second in steps:
        if step == "move":
            guest.store.move(first, second)
        elif step == "ask":
            asker.ask(first, second)
        elif step == "take":
            asker.take(guest.takes())
        elif step == "begin":
            asker.ask(3, 0)
            asker.take(guest.reads())
        elif step == "cut":
            guest.store.cut()
            asker.breaks()
        else:
            guest.store.connect()
            asker.breaks()
    guest.store.connect()
    asker.take(guest.reads())
    assert [(m.req_id, m.tx_id) for m in asker.replies] == [(m.req_id, m.tx_id) for m in asker.requests]
    for request, reply in zip(asker.requests, asker.replies, strict=True):
        assert reply.type in (request.type, T.ERROR)
        if request.req_id in asker.doomed:
            assert reply.payload == b"EAGAIN\0"
        if request.type == T.WRITE and not request.tx_id:
            assert reply.payload == b"OK\0"
            assert guest.store.value(f"/local/domain/5/data/{request.req_id}") == b"value"
        if request.type == T.WATCH:
            assert reply.payload == b"OK\0"
        if request.type == T.READ and request.tx_id in asker.broken | {0}:
            assert reply.payload == b"guest"
    assert guest.asks(T.READ, b"name\0") == b"guest"
    assert guest.logged == []
    guest.close()


Poke = bytes | tuple[int, int] | str


@settings(max_examples=200)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=64),
            st.tuples(st.integers(512, 1023), st.integers(0, 2**32 - 1) | st.just(RECONNECT)),
            st.tuples(st.just(CONNECTION), st.just(RECONNECT)),
            st.sampled_from(["cut", "connect", "boot", "move", FLOOD * 20]),
        ),
        max_size=40,
    )
)
def test_whatever_a_guest_writes_it_harms_itself_only(script: list[Poke]) -> None:
    guest = RingGuest()
    boots = 1
    for step in script:
        if isinstance(step, bytes):
            start = guest.words[REQ_PROD] % XENSTORE_RING_SIZE
            data = step[: XENSTORE_RING_SIZE - start]
            guest.memory[start : start + len(data)] = data
            guest.words[REQ_PROD] = (guest.words[REQ_PROD] + len(step)) & 0xFFFF_FFFF
        elif isinstance(step, tuple):
            guest.words[step[0]] = step[1]
        elif step == "boot":
            guest.pump.stop()
            guest.boots()
            boots += 1
        elif step == "cut":
            guest.store.cut()
        elif step == "connect":
            guest.store.connect()
        else:
            guest.store.move()
        guest.pump.on_event()
        assert guest.pump.failed <= (guest.words[ERROR] in (2, 3) or isinstance(step, tuple))
    assert len(guest.logged) <= boots
    guest.store.connect()
    guest.reconnects()
    assert guest.asks(T.READ, b"name\0") == b"guest"
    guest.close()
