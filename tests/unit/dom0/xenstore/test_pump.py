"""A guest's page, pumped to the store, as conversations with friendly and hostile guests, and with a mortal store."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX, XENSTORE_RING_SIZE
from xenion.dom0.ring import RingWriter
from xenion.dom0.xenstore.domains import FEATURES as SERVER_FEATURES
from xenion.dom0.xenstore.pump import OUTSTANDING, UNREAD_BYTES
from xenion.dom0.xenstore.renumber import Renumbering
from xenion.dom0.xenstore.wire import HEADER, Message, WireError, encode

COMMIT, ABORT = b"T\0", b"F\0"
FLOOD = encode(Message(T.READ, 1, 0, b"name\0"))


@pytest.fixture
def guest() -> Iterator[RingGuest]:
    made = RingGuest()
    yield made
    made.close()


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


# --- a guest that is held, saved and restored


def held(guest: RingGuest) -> list[str]:
    """Holds it: gets a word when the store has answered all."""
    said: list[str] = []
    guest.pump.hold(lambda: said.append("rests"))
    return said


Restored = Callable[..., RingGuest]


@pytest.fixture
def restored() -> Iterator[Restored]:
    """Makes another one, on another store, that goes on where the given one was held."""
    made: list[RingGuest] = []

    def restore(guest: RingGuest, renumbering: Renumbering | None = None) -> RingGuest:
        other = RingGuest()
        made.append(other)
        other.memory[:] = guest.memory
        other.pump.serve(other, other, lambda: None)
        other.pump.restore(guest.pump.state(), renumbering)
        other.pump.on_event()
        return other

    yield restore
    for other in made:
        other.close()


def watched(guest: RingGuest) -> list[tuple[bytes, bytes]]:
    watches = (watch.split(b"\0") for watch in guest.pump.state().watches)
    return [(path, token) for path, token, *_ in watches]


def test_a_guest_that_waits_for_nothing_rests_at_once(guest: RingGuest) -> None:
    guest.asks(T.READ, b"name\0")
    assert held(guest) == ["rests"]


def test_it_rests_when_all_has_been_answered(guest: RingGuest) -> None:
    guest.puts(FLOOD * 3)
    guest.pump.on_event()
    said = held(guest)
    assert said == []
    guest.store.settle()
    assert said == ["rests"]
    guest.dom0_writes("data/x")
    guest.store.settle()
    assert said == ["rests"], "it is told once"


def test_it_rests_when_the_store_is_back(guest: RingGuest) -> None:
    guest.request(T.READ, b"name\0")
    guest.store.cut()
    said = held(guest)
    guest.store.settle()
    assert said == []
    guest.store.connect()
    guest.store.settle()
    assert said == ["rests"]


def test_it_rests_when_the_store_is_back_and_has_nothing_left_to_answer(guest: RingGuest) -> None:
    """What was under way belongs to a transaction that is broken now: the answer is ours."""
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    guest.request(T.WRITE, b"data/a\0x", tx)
    said = held(guest)
    guest.store.cut()
    guest.store.connect()
    guest.store.settle()
    assert not guest.pump._asked
    assert said == ["rests"]


def test_while_it_is_held_its_page_is_left_alone(guest: RingGuest) -> None:
    """Replies and events wait, requests stay in the ring."""
    guest.asks(T.WATCH, b"data\0t\0")
    guest.request(T.READ, b"name\0", req_id=3)
    held(guest)
    guest.puts(encode(Message(T.READ, 4, 0, b"domid\0")))
    before, notified = bytes(guest.memory), guest.notified
    guest.store.settle()
    guest.dom0_writes("data/x")
    guest.store.settle()
    guest.pump.on_event()
    assert (bytes(guest.memory), guest.notified) == (before, notified)
    guest.pump.go_on()
    assert guest.reads() == [
        Message(T.READ, 3, 0, b"guest"),
        Message(T.WATCH_EVENT, 0, 0, b"data/x\0t\0"),
        Message(T.READ, 4, 0, b"5"),
    ]


def test_one_that_wanted_to_reconnect_when_it_was_held_does_so_afterwards(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0t\0")
    guest.words[CONNECTION] = RECONNECT
    held(guest)
    before = bytes(guest.memory)
    guest.pump.on_event()
    guest.store.settle()
    assert bytes(guest.memory) == before
    guest.pump.go_on()
    assert guest.words[CONNECTION] == CONNECTED


def test_to_go_on_without_a_hold_or_a_page_is_no_harm(guest: RingGuest) -> None:
    guest.pump.go_on()
    assert guest.asks(T.READ, b"name\0") == b"guest"
    held(guest)
    guest.pump.stop()
    guest.pump.go_on()


def test_held_again(guest: RingGuest) -> None:
    guest.store.settle()
    for _ in range(3):
        assert held(guest) == ["rests"]
        guest.pump.go_on()
        assert guest.asks(T.READ, b"name\0") == b"guest"


def test_watches_are_known_as_the_guest_has_set_them(guest: RingGuest) -> None:
    guest.asks(T.WATCH, b"data\0a\0")
    guest.asks(T.WATCH, b"data\0b\0")
    guest.asks(T.WATCH, b"@releaseDomain\0c\0")
    assert guest.asks(T.WATCH, b"data\0a\0") == b"!EEXIST\0"
    assert guest.asks(T.WATCH, b"//\0d\0").startswith(b"!")
    assert guest.asks(T.UNWATCH, b"data\0none\0") == b"!ENOENT\0"
    assert watched(guest) == [(b"data", b"a"), (b"data", b"b"), (b"@releaseDomain", b"c")]
    guest.asks(T.UNWATCH, b"data\0a\0")
    assert watched(guest) == [(b"data", b"b"), (b"@releaseDomain", b"c")]
    guest.asks(T.RESET_WATCHES, b"\0")
    assert watched(guest) == []


@pytest.mark.parametrize("how", ["reconnects", "boots", "breaks"])
def test_watches_of_before_are_forgotten(guest: RingGuest, how: str) -> None:
    guest.asks(T.WATCH, b"data\0a\0")
    guest.request(T.WATCH, b"data\0b\0")
    if how == "reconnects":
        guest.reconnects()
    elif how == "boots":
        guest.pump.stop()
        guest.boots()
    else:
        guest.words[REQ_PROD] += 5000
        guest.pump.on_event()
    guest.store.settle()
    assert (watched(guest), guest.watches) == ([], 0)


def test_watches_that_were_asked_for_again_are_known(guest: RingGuest) -> None:
    """The store had done both, and could not say so."""
    guest.asks(T.WATCH, b"data\0old\0")
    guest.request(T.WATCH, b"data\0new\0")
    guest.request(T.UNWATCH, b"data\0old\0")
    while guest.store.move(1 << 16, 0):
        pass
    guest.store.cut()
    guest.store.connect()
    guest.reads()
    assert watched(guest) == [(b"data", b"new")]


def test_a_watch_of_one_level_stays_one(guest: RingGuest, restored: Restored) -> None:
    guest.asks(T.WATCH, b"data\x00t\x000\x00")
    held(guest)
    other = restored(guest)
    other.reads()
    other.dom0_writes("data/below/it")
    assert other.reads() == []


def test_a_restored_guest_goes_on_in_the_middle_of_its_talk(guest: RingGuest, restored: Restored) -> None:
    """A request that is half on the ring, a reply and an event that it has not read."""
    guest.asks(T.WATCH, b"data\0t\0")
    half = encode(Message(T.READ, 9, 0, b"domid\0"))
    guest.puts(encode(Message(T.READ, 8, 0, b"name\0")) + half[:19])
    guest.pump.on_event()
    assert held(guest) == []
    guest.store.settle()
    guest.dom0_writes("data/x")
    guest.store.settle()
    state = guest.pump.state()
    assert state.requests == half[:19]
    assert state.replies.endswith(b"data/x\0t\0")
    other = restored(guest)
    other.puts(half[19:])
    other.pump.on_event()
    told = [message for message in other.reads() if message.payload != b"data\0t\0"]
    assert told == [
        Message(T.READ, 8, 0, b"guest"),
        Message(T.WATCH_EVENT, 0, 0, b"data/x\0t\0"),
        Message(T.READ, 9, 0, b"5"),
    ]


def test_a_restored_guest_has_its_watches_in_the_new_store(guest: RingGuest, restored: Restored) -> None:
    for token in (b"a", b"b"):
        guest.asks(T.WATCH, b"data\0" + token + b"\0")
    held(guest)
    other = restored(guest)
    assert {message.type for message in other.reads()} <= {T.WATCH_EVENT}, "no replies to what it did not ask"
    assert other.watches == 2
    assert watched(other) == [(b"data", b"a"), (b"data", b"b")]
    other.dom0_writes("data/x")
    payloads = [message.payload for message in other.reads()]
    assert payloads == [b"data/x\0a\0", b"data/x\0b\0"]
    assert other.asks(T.UNWATCH, b"data\0a\0") == b"OK\0"
    assert watched(other) == [(b"data", b"b")]


def test_a_change_while_the_watches_are_set_again_is_told(guest: RingGuest, restored: Restored) -> None:
    guest.asks(T.WATCH, b"control/shutdown\0first\0")
    guest.asks(T.WATCH, b"data\0second\0")
    held(guest)
    other = restored(guest)
    while not other.watches:
        other.store.move(8, 0)
    other.dom0_writes("control/shutdown", b"poweroff")
    assert b"control/shutdown\0first\0" in [message.payload for message in other.reads()]


def test_a_restored_guest_whose_store_dies_before_its_watches_are_set(
    guest: RingGuest, restored: Restored
) -> None:
    guest.asks(T.WATCH, b"data\0a\0")
    held(guest)
    other = restored(guest)
    other.store.cut()
    other.store.connect()
    other.reads()
    assert (other.watches, watched(other)) == (1, [(b"data", b"a")])


def test_a_restored_guest_that_reconnects_has_no_watches(guest: RingGuest, restored: Restored) -> None:
    guest.asks(T.WATCH, b"data\0a\0")
    held(guest)
    other = restored(guest)
    other.reconnects()
    other.store.cut()
    other.store.connect()
    other.store.settle()
    assert (other.watches, watched(other)) == (0, [])
    assert other.asks(T.READ, b"name\0") == b"guest"


def test_watches_of_a_restored_guest_that_reconnects_do_not_fire(
    guest: RingGuest, restored: Restored
) -> None:
    """Though the store has been asked for them."""
    for token in (b"a", b"b"):
        guest.asks(T.WATCH, b"data\0" + token + b"\0")
    held(guest)
    other = restored(guest)
    other.reconnects()
    other.dom0_writes("data/x")
    assert other.reads() == []


def test_a_transaction_of_a_restored_guest_ends_with_eagain(guest: RingGuest, restored: Restored) -> None:
    tx = int(guest.asks(T.TRANSACTION_START, b"\0")[:-1])
    held(guest)
    other = restored(guest)
    other.reads()
    assert other.asks(T.WRITE, b"data/a\0x", tx) == b"OK\0"
    assert int(other.asks(T.TRANSACTION_START, b"\0")[:-1]) == tx + 1
    assert other.asks(T.TRANSACTION_END, COMMIT, tx) == b"!EAGAIN\0"
    assert other.asks(T.READ, b"data/a\0") == b"!ENOENT\0"


def test_a_guest_that_had_broken_its_ring_is_not_served(guest: RingGuest, restored: Restored) -> None:
    guest.words[REQ_PROD] += 5000
    guest.pump.on_event()
    guest.store.settle()
    held(guest)
    other = restored(guest)
    assert other.pump.failed
    other.store.settle()
    assert bytes(other.memory) == bytes(guest.memory)
    other.reconnects()
    assert other.asks(T.READ, b"name\0") == b"guest"


def test_a_saved_watch_that_no_message_can_carry(guest: RingGuest) -> None:
    """What was saved may have been tampered with."""
    held(guest)
    state = replace(guest.pump.state(), watches=[b"data\0" + b"t" * 4096 + b"\0"])
    guest.boots()
    with pytest.raises(WireError):
        guest.pump.restore(state)


def test_saved_requests_that_are_no_protocol_end_the_service(guest: RingGuest) -> None:
    held(guest)
    state = replace(guest.pump.state(), requests=HEADER.pack(T.WRITE, 1, 0, 4097))
    guest.pump.go_on()
    guest.boots()
    guest.pump.restore(state)
    guest.pump.on_event()
    assert (guest.pump.failed, guest.words[ERROR]) == (True, 3)


# --- a guest that knows itself by another id


def knows_itself_as(guest: RingGuest, known_as: int) -> RingGuest:
    """As one that was restored, whose id was that."""
    guest.boots()
    guest.pump.restore(guest.pump.state(), Renumbering(known_as, 5))
    return guest


@pytest.fixture
def stranger(guest: RingGuest) -> RingGuest:
    """Domain 5, which was 9."""
    return knows_itself_as(guest, 9)


def test_it_reads_and_writes_what_it_knows(stranger: RingGuest) -> None:
    for path in (b"domid\0", b"/local/domain/9/domid\0"):
        assert stranger.asks(T.READ, path) == b"9"
    assert stranger.asks(T.GET_DOMAIN_PATH, b"9\0") == b"/local/domain/9\0"
    assert stranger.asks(T.WRITE, b"/local/domain/9/data/link\0/local/domain/9/data") == b"OK\0"
    assert stranger.store.value("/local/domain/5/data/link") == b"/local/domain/5/data"
    assert stranger.asks(T.READ, b"data/link\0") == b"/local/domain/9/data"
    assert stranger.asks(T.SET_PERMS, b"data\0n9\0r0\0r5\0") == b"OK\0"
    assert stranger.asks(T.GET_PERMS, b"/local/domain/9/data\0") == b"n9\0r0\0r5\0"
    assert [
        str(perm) for perm in stranger.store.store.get_perms(stranger.store.dom0, "/local/domain/5/data", 0)
    ] == ["n5", "r0", "r9"]


def test_it_is_no_other(stranger: RingGuest) -> None:
    stranger.store.store.write(stranger.store.dom0, "/local/domain/9/name", b"other")
    assert stranger.asks(T.READ, b"/local/domain/5/name\0") == b"!EACCES\0"
    assert stranger.asks(T.READ, b"/local/domain/9/name\0") == b"guest"


def test_its_watches_fire_as_it_has_set_them(stranger: RingGuest) -> None:
    stranger.request(T.WATCH, b"/local/domain/9/data\0t\0")
    assert [message.payload for message in stranger.reads()] == [b"OK\0", b"/local/domain/9/data\0t\0"]
    stranger.dom0_writes("data/x")
    assert stranger.reads() == [Message(T.WATCH_EVENT, 0, 0, b"/local/domain/9/data/x\0t\0")]
    assert watched(stranger) == [(b"/local/domain/9/data", b"t")]
    assert stranger.asks(T.UNWATCH, b"/local/domain/9/data\0t\0") == b"OK\0"
    assert (stranger.watches, watched(stranger)) == (0, [])


def test_what_it_has_asked_is_asked_again(stranger: RingGuest) -> None:
    stranger.asks(T.WATCH, b"/local/domain/9/data\0old\0")
    stranger.request(T.UNWATCH, b"/local/domain/9/data\0old\0", req_id=1)
    stranger.request(T.WATCH, b"/local/domain/9/attr\0new\0", req_id=2)
    stranger.request(T.READ, b"/local/domain/9/domid\0", req_id=3)
    while stranger.store.move(1 << 16, 0):
        pass
    stranger.store.cut()
    stranger.store.connect()
    replies = [message for message in stranger.reads() if message.type != T.WATCH_EVENT]
    assert [message.payload for message in replies] == [b"OK\0", b"OK\0", b"9"]
    assert watched(stranger) == [(b"/local/domain/9/attr", b"new")]
    stranger.dom0_writes("attr/x")
    assert [message.payload for message in stranger.reads()] == [b"/local/domain/9/attr/x\0new\0"]


def test_its_transactions(stranger: RingGuest) -> None:
    tx = int(stranger.asks(T.TRANSACTION_START, b"\0")[:-1])
    assert stranger.asks(T.WRITE, b"/local/domain/9/data/a\0one", tx) == b"OK\0"
    assert stranger.asks(T.READ, b"/local/domain/9/data/a\0", tx) == b"one"
    assert stranger.asks(T.TRANSACTION_END, COMMIT, tx) == b"OK\0"
    assert stranger.store.value("/local/domain/5/data/a") == b"one"


def test_saved_and_restored_again_it_knows_itself_as_ever(stranger: RingGuest, restored: Restored) -> None:
    stranger.asks(T.WATCH, b"/local/domain/9/data\0t\0")
    half = encode(Message(T.READ, 9, 0, b"/local/domain/9/domid\0"))
    stranger.puts(half[:30])
    stranger.pump.on_event()
    held(stranger)
    stranger.dom0_writes("data/x")
    stranger.store.settle()
    state = stranger.pump.state()
    assert state.requests == half[:30]
    assert state.replies.endswith(b"/local/domain/9/data/x\0t\0")
    assert state.watches == [b"/local/domain/9/data\0t\0"]
    other = restored(stranger, Renumbering(9, 5))
    other.puts(half[30:])
    other.pump.on_event()
    payloads = [message.payload for message in other.reads()]
    assert (payloads[0], payloads[-1]) == (b"/local/domain/9/data/x\0t\0", b"9")
    assert watched(other) == [(b"/local/domain/9/data", b"t")]
    other.dom0_writes("data/y")
    assert [message.payload for message in other.reads()] == [b"/local/domain/9/data/y\0t\0"]


def test_it_knows_itself_so_until_it_boots(stranger: RingGuest) -> None:
    stranger.reconnects()
    assert stranger.asks(T.READ, b"domid\0") == b"9"
    stranger.pump.stop()
    stranger.boots()
    assert stranger.asks(T.READ, b"domid\0") == b"5"
    assert stranger.asks(T.READ, b"/local/domain/5/name\0") == b"guest"


def of_length(length: int, path: bytes) -> bytes:
    """A watch."""
    return path + b"\0" + b"t" * (length - len(path) - 2) + b"\0"


def test_a_request_that_grows_too_long_is_refused_in_its_turn(guest: RingGuest) -> None:
    """And nothing becomes of it when it is a saved watch."""
    knows_itself_as(guest, 1234)
    long = of_length(XENSTORE_PAYLOAD_MAX, b"/local/domain/5/a")
    for number, payload in enumerate([b"domid\0", long, b"name\0"]):
        guest.request(T.WATCH if payload is long else T.READ, payload, req_id=number)
    assert [(reply.req_id, reply.payload) for reply in guest.reads()] == [
        (0, b"1234"),
        (1, b"E2BIG\0"),
        (2, b"guest"),
    ]
    held(guest)
    state = replace(guest.pump.state(), watches=[long, b"data\0t\0"])
    guest.boots()
    guest.pump.restore(state, Renumbering(1234, 5))
    guest.reads()
    assert watched(guest) == [(b"data", b"t")]


def test_an_event_that_grows_too_long_is_lost(guest: RingGuest) -> None:
    knows_itself_as(guest, 1234)
    guest.asks(T.WATCH, of_length(XENSTORE_PAYLOAD_MAX - 2, b"/local/domain/1234/data"))
    for name in ("x", "xyz"):
        guest.dom0_writes(f"data/{name}")
    assert [len(event.payload) for event in guest.reads()] == [XENSTORE_PAYLOAD_MAX]
    assert guest.asks(T.READ, b"name\0") == b"guest"
