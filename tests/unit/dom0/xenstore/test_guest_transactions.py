"""Transactions as a guest sees them when the store forgets them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.xs_wire import XsdSockmsgType
from xenion.dom0.xenstore.guest_transactions import GuestTransactions
from xenion.dom0.xenstore.wire import Message

T = XsdSockmsgType
COMMIT, ABORT = b"T\0", b"F\0"
WRITES = [T.WRITE, T.MKDIR, T.RM, T.SET_PERMS]
READS = [T.READ, T.DIRECTORY, T.GET_PERMS, T.DIRECTORY_PART]


def request(kind: int, tx: int = 0, payload: bytes = b"x\0") -> Message:
    return Message(kind, 9, tx, payload)


def started(known: GuestTransactions, number: int) -> int:
    """The guest's number of one that is `number` in the store."""
    start = request(T.TRANSACTION_START, payload=b"\0")
    reply = known.inward(start, start._replace(payload=b"%d\0" % number))
    assert (reply.type, reply.req_id, reply.tx_id) == (T.TRANSACTION_START, 9, 0)
    return int(reply.payload.rstrip(b"\0"))


def test_outside_of_transactions_nothing_changes() -> None:
    known = GuestTransactions()
    for kind in (*WRITES, *READS, T.WATCH):
        assert known.answer(request(kind)) is None
        assert known.outward(request(kind)) == request(kind)
        assert known.inward(request(kind), request(kind, payload=b"y")) == request(kind, payload=b"y")


def test_numbers_are_the_guests_own() -> None:
    known = GuestTransactions()
    numbers = [started(known, store) for store in (70, 3, 12)]
    assert len(set(numbers)) == 3
    for mine, theirs in zip(numbers, (70, 3, 12), strict=True):
        asked = request(T.READ, mine)
        assert known.answer(asked) is None
        assert known.outward(asked).tx_id == theirs
        assert known.inward(asked, request(T.READ, theirs)).tx_id == mine


def test_a_number_that_is_none_is_none_in_the_store_either() -> None:
    known = GuestTransactions()
    started(known, 4)
    asked = request(T.WRITE, 4)
    assert known.answer(asked) is None
    assert known.outward(asked).tx_id == 0xFFFF_FFFF


@pytest.mark.parametrize("end", [COMMIT, ABORT])
def test_after_its_end_it_is_not_known_any_more(end: bytes) -> None:
    known = GuestTransactions()
    mine = started(known, 8)
    asked = request(T.TRANSACTION_END, mine, end)
    known.inward(asked, request(T.TRANSACTION_END, 8, b"OK\0"))
    assert known.outward(asked).tx_id == 0xFFFF_FFFF


@pytest.mark.parametrize(
    ("error", "over"), [(b"EAGAIN\0", True), (b"ENOSPC\0", True), (b"ENOENT\0", True), (b"EINVAL\0", False)]
)
def test_one_that_fails_to_end(error: bytes, over: bool) -> None:
    known = GuestTransactions()
    mine = started(known, 8)
    known.inward(request(T.TRANSACTION_END, mine, b"?"), request(T.ERROR, 8, error))
    assert known.outward(request(T.READ, mine)).tx_id == (0xFFFF_FFFF if over else 8)


def test_one_that_does_not_start_is_none() -> None:
    known = GuestTransactions()
    start = request(T.TRANSACTION_START, payload=b"\0")
    assert known.inward(start, request(T.ERROR, payload=b"ENOSPC\0")).payload == b"ENOSPC\0"
    assert known.outward(request(T.READ, 1)).tx_id == 0xFFFF_FFFF


# --- broken


def test_a_broken_one_swallows_writes_shows_the_store_and_ends_with_eagain() -> None:
    known = GuestTransactions()
    mine = started(known, 8)
    known.break_all()
    for kind in WRITES:
        assert known.answer(request(kind, mine)) == request(kind, mine, b"OK\0")
    for kind in READS:
        assert known.answer(request(kind, mine)) is None
        assert known.outward(request(kind, mine)).tx_id == 0
        assert known.inward(request(kind, mine), request(kind, 0, b"v")) == request(kind, mine, b"v")
    answer = known.answer(request(T.TRANSACTION_END, mine, COMMIT))
    assert answer == Message(T.ERROR, 9, mine, b"EAGAIN\0")
    assert known.outward(request(T.TRANSACTION_END, mine, COMMIT)).tx_id == 0xFFFF_FFFF


def test_a_broken_one_is_given_up_without_a_word() -> None:
    known = GuestTransactions()
    mine = started(known, 8)
    known.break_all()
    ended = request(T.TRANSACTION_END, mine, ABORT)
    assert known.answer(ended) == ended._replace(payload=b"OK\0")
    assert known.answer(ended) is None


def test_a_new_one_after_the_break_is_no_broken_one() -> None:
    known = GuestTransactions()
    old = started(known, 8)
    known.break_all()
    new = started(known, 8)
    assert new != old
    assert known.answer(request(T.WRITE, old)) is not None
    assert known.answer(request(T.WRITE, new)) is None


# --- what a guest may make us keep


@given(st.lists(st.sampled_from(["start", "commit", "forget"]), max_size=50))
def test_as_many_are_known_as_the_store_may_have(script: list[str]) -> None:
    """RESET_WATCHES ends all transactions (xenstored's do_reset_watches): none of them is kept here for ever."""
    known, numbers, store = GuestTransactions(), [], 0
    for step in script:
        if step == "start":
            store += 1
            numbers.append(started(known, store))
        elif step == "commit" and numbers:
            asked = request(T.TRANSACTION_END, numbers.pop(), COMMIT)
            known.inward(asked, request(T.TRANSACTION_END, 0, b"OK\0"))
        elif step == "forget":
            known.inward(request(T.RESET_WATCHES), request(T.RESET_WATCHES, payload=b"OK\0"))
            numbers.clear()
        assert len(known._known) == len(numbers)


# --- a guest that is saved and restored


def test_those_that_are_known_and_the_last_number() -> None:
    known = GuestTransactions()
    assert (known.known, known.last) == ([], 0)
    first, second = started(known, 70), started(known, 3)
    assert (known.known, known.last) == ([first, second], second)
    known.inward(request(T.TRANSACTION_END, second, COMMIT), request(T.TRANSACTION_END, 3, b"OK\0"))
    assert (known.known, known.last) == ([first], second)


def test_those_of_a_restored_guest_are_broken_and_their_numbers_are_not_given_out_again() -> None:
    known = GuestTransactions.broken([4, 7], 7)
    assert (known.known, known.last) == ([4, 7], 7)
    assert started(known, 1) == 8
    for old in (4, 7):
        assert known.answer(request(T.WRITE, old)) == request(T.WRITE, old, b"OK\0")
        ended = known.answer(request(T.TRANSACTION_END, old, COMMIT))
        assert ended == Message(T.ERROR, 9, old, b"EAGAIN\0")
    assert known.known == [8]
    assert known.answer(request(T.WRITE, 8)) is None


@pytest.mark.parametrize("last", [0xFFFF_FFFE, 0xFFFF_FFFF, -1, 2**70])
def test_whatever_the_last_number_is_said_to_be_the_next_one_is_a_number(last: int) -> None:
    assert 0 < started(GuestTransactions.broken([], last), 1) < 0xFFFF_FFFF
