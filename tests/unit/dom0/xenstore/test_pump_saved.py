"""A guest whose page is pumped to the store is held, saved and restored in the middle of its talk."""

from dataclasses import replace

import pytest

from tests.unit.dom0.xenstore.pump_kit import COMMIT, FLOOD, Restored, held, watched
from tests.unit.dom0.xenstore.ring_guest import (
    CONNECTED,
    CONNECTION,
    ERROR,
    RECONNECT,
    REQ_PROD,
    RingGuest,
    T,
)
from xenion.dom0.xenstore.wire import HEADER, Message, WireError, encode

# --- a guest that is held, saved and restored


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
