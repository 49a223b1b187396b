"""A restored guest that knows itself by another id talks with the store as ever."""

from dataclasses import replace

import pytest

from tests.unit.dom0.xenstore.pump_kit import COMMIT, Restored, held, watched
from tests.unit.dom0.xenstore.ring_guest import (
    RingGuest,
    T,
)
from xenion.abi.io.xs_wire import XENSTORE_PAYLOAD_MAX
from xenion.dom0.xenstore.renumber import Renumbering
from xenion.dom0.xenstore.wire import Message, encode

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
