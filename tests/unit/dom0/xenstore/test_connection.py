"""What waits for a client, and its transactions' ids."""

import pytest

from xenion.dom0.xenstore.connection import Connection, Event, Watch
from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.quota import Quota
from xenion.dom0.xenstore.transaction import Transaction
from xenion.dom0.xenstore.tree import Tree
from xenion.dom0.xenstore.wire import Message


def watch_of(connection: Connection, path: str, token: bytes = b"t", *, relative: bool = False) -> Watch:
    return Watch(connection, path, token, relative=relative)


def transaction() -> Transaction:
    return Transaction(Tree(), None)


def test_messages_leave_in_order() -> None:
    guest = Connection(5)
    guest.reply(Message(2, 1, 0, b"a"))
    guest.queue_event(watch_of(guest, "/x"), "/x/y")
    assert guest.waiting == 2
    assert guest.take() == Message(2, 1, 0, b"a")
    assert guest.take() == Message(15, 0, 0, b"/x/y\0t\0")
    assert guest.take() is None


def test_an_equal_event_waits_only_once() -> None:
    woken: list[int] = []
    guest = Connection(5, wake=lambda: woken.append(1))
    watch = watch_of(guest, "/x")
    guest.queue_event(watch, "/x")
    guest.queue_event(watch, "/x")
    assert guest.events() == [Event("/x", b"t")]
    guest.queue_event(watch, "/x")
    assert guest.events() == [Event("/x", b"t")]
    assert len(woken) == 2


def test_a_relative_watch_reports_relative_paths() -> None:
    guest = Connection(5)
    guest.queue_event(watch_of(guest, "/local/domain/5/data", relative=True), "/local/domain/5/data/x")
    assert guest.events() == [Event("data/x", b"t")]


def test_a_client_that_never_reads_costs_bounded_memory() -> None:
    guest = Connection(5, quota=Quota(queued=1000))
    watches = [watch_of(guest, "/x", token) for token in (b"one", b"two")]
    for number in range(10_000):
        for watch in watches:
            guest.queue_event(watch, f"/x/{number}")
    assert guest.waiting < 200
    events = guest.events()
    assert events[-2:] == [Event("/x", b"one"), Event("/x", b"two")]
    assert events[0] == Event("/x/0", b"one")


def test_an_event_too_long_for_a_message_is_not_sent() -> None:
    guest = Connection(5)
    guest.queue_event(watch_of(guest, "/x", b"t" * 4000), "/x/" + "y" * 100)
    assert guest.waiting == 0


def test_a_client_with_much_to_read_is_saturated() -> None:
    guest = Connection(5, quota=Quota(outstanding=2))
    guest.reply(Message(2, 1, 0, b""))
    assert not guest.saturated
    guest.reply(Message(2, 2, 0, b""))
    assert guest.saturated
    guest.discard_queue()
    assert not guest.saturated


def test_transaction_ids_are_never_zero_and_never_shared() -> None:
    dom0 = Connection(0)
    dom0._next_transaction = 0xFFFF_FFFE
    ids = [dom0.begin(transaction()) for _ in range(4)]
    assert ids == [0xFFFF_FFFE, 0xFFFF_FFFF, 1, 2]
    dom0._next_transaction = 1
    assert dom0.begin(transaction()) == 3


def test_a_guest_has_ten_transactions() -> None:
    guest = Connection(5)
    for _ in range(10):
        guest.begin(transaction())
    with pytest.raises(StoreError) as caught:
        guest.begin(transaction())
    assert caught.value.name == "ENOSPC"
    with pytest.raises(StoreError) as caught:
        guest.transaction(99)
    assert caught.value.name == "ENOENT"
