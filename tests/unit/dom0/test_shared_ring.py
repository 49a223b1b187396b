"""The back end's side of a ring, against a front end that follows io/ring.h, and against ones that do not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from xenion.abi.io.ring import RING_IDX_MASK, ring_distance, ring_notify, ring_size
from xenion.dom0.shared_ring import HEADER_BYTES, PAGE_BYTES, BackRing, RequestOverflowError

SLOTS = st.sampled_from([8, 12, 64, 108, 112])
PAGES = st.sampled_from([1, 2, 4, 16])
INDEX = st.one_of(st.integers(0, RING_IDX_MASK), st.integers(RING_IDX_MASK - 40, RING_IDX_MASK))
REQ_PROD, REQ_EVENT, RSP_PROD, RSP_EVENT = range(4)


class Front:
    """A front end by the book. Its pages are no neighbours in memory, as a guest's need not be."""

    def __init__(self, pages: int, slot: int, start: int) -> None:
        self.pages = [bytearray(PAGE_BYTES) for _ in range(pages)]
        self.slot = slot
        self.size = ring_size(pages * PAGE_BYTES, slot)
        self.prod = self.cons = start
        for word, value in (
            (REQ_PROD, start),
            (REQ_EVENT, start + 1),
            (RSP_PROD, start),
            (RSP_EVENT, start + 1),
        ):
            self.set(word, value)

    def word(self, index: int) -> int:
        return int(struct.unpack_from("<I", self.pages[0], 4 * index)[0])

    def set(self, index: int, value: int) -> None:
        struct.pack_into("<I", self.pages[0], 4 * index, value & RING_IDX_MASK)

    def _places(self, index: int) -> list[tuple[int, int]]:
        first = HEADER_BYTES + index % self.size * self.slot
        return [divmod(at, PAGE_BYTES) for at in range(first, first + self.slot)]

    def write(self, index: int, data: bytes) -> None:
        for (page, offset), byte in zip(self._places(index), data, strict=False):
            self.pages[page][offset] = byte

    def read(self, index: int) -> bytes:
        return bytes(self.pages[page][offset] for page, offset in self._places(index))

    def push(self, requests: list[bytes]) -> bool:
        """Whether the back end wants to be notified."""
        old = self.prod
        for request in requests:
            self.write(self.prod, request)
            self.prod = (self.prod + 1) & RING_IDX_MASK
        self.set(REQ_PROD, self.prod)
        return bool(requests) and ring_notify(old, self.prod, self.word(REQ_EVENT))

    def responses(self) -> list[bytes]:
        shown = self.word(RSP_PROD)
        assert ring_distance(shown, self.cons) <= ring_distance(self.prod, self.cons)
        taken = []
        while self.cons != shown:
            taken.append(self.read(self.cons))
            self.cons = (self.cons + 1) & RING_IDX_MASK
        return taken

    @property
    def room(self) -> int:
        return self.size - ring_distance(self.prod, self.cons)


def back_of(front: Front) -> BackRing:
    ring = BackRing([memoryview(page) for page in front.pages], front.slot, lambda: None)
    ring.attach_as_shown()
    return ring


class TwoEnds(RuleBasedStateMachine):
    """Every request arrives once and in order, every response too, and neither end sleeps while there is work."""

    @initialize(pages=PAGES, slot=SLOTS, start=INDEX)
    def connect(self, pages: int, slot: int, start: int) -> None:
        self.front = Front(pages, slot, start)
        self.back = back_of(self.front)
        assert self.back.size == self.front.size
        self.made = 0
        self.sent: list[bytes] = []
        self.taken: list[bytes] = []
        self.put: list[bytes] = []
        self.shown = 0
        self.back_sleeps = self.front_sleeps = False

    @rule(count=st.integers(1, 40))
    def send(self, count: int) -> None:
        requests = []
        for _ in range(min(count, self.front.room)):
            self.made += 1
            requests.append(self.made.to_bytes(self.front.slot, "little"))
        self.sent += requests
        if self.front.push(requests):
            self.back_sleeps = False
        assert not (requests and self.back_sleeps)

    @rule(limit=st.integers(0, 40))
    def take(self, limit: int) -> None:
        self.taken += self.back.take(limit)

    @rule()
    def sleep(self) -> None:
        self.back_sleeps = not self.back.more()
        assert self.back_sleeps == (len(self.taken) == len(self.sent))

    @precondition(lambda self: self.back.in_flight)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        length = data.draw(st.integers(1, self.front.slot))
        response = data.draw(st.binary(min_size=length, max_size=length))
        self.back.put(response)
        self.put.append(response)

    @rule()
    def push(self) -> None:
        fresh = len(self.put) > self.shown
        self.shown = len(self.put)
        if self.back.push():
            self.front_sleeps = False
        assert not (fresh and self.front_sleeps)

    @rule()
    def look(self) -> None:
        """The front end takes all, and asks to be told of the next one."""
        got = self.front.responses()
        known = self.shown - len(got)
        assert [
            response[: len(wanted)]
            for response, wanted in zip(got, self.put[known : self.shown], strict=True)
        ] == self.put[known : self.shown]
        self.front.set(RSP_EVENT, self.front.cons + 1)
        self.front_sleeps = True

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "front"):
            assert self.taken == self.sent[: len(self.taken)]
            assert self.back.in_flight == len(self.taken) - len(self.put)

    def teardown(self) -> None:
        if hasattr(self, "front"):
            self.back.close()


TestTwoEnds = TwoEnds.TestCase


@given(PAGES, SLOTS, INDEX, st.integers(0, 40), st.integers(0, RING_IDX_MASK))
def test_an_index_that_announces_too_much_is_refused_and_changes_nothing(
    pages: int, slot: int, start: int, flying: int, ahead: int
) -> None:
    front = Front(pages, slot, start)
    back = back_of(front)
    flying = min(flying, front.size)
    front.push([b"x" * slot] * flying)
    assert len(back.take(flying)) == flying
    front.set(REQ_PROD, front.prod + ahead)
    before = [bytes(page) for page in front.pages]
    if ahead > front.size - flying:
        for refused in (lambda: back.take(1), back.more):
            with pytest.raises(RequestOverflowError, match="guest announces"):
                refused()
        assert [bytes(page) for page in front.pages] == before
        for _ in range(flying):  # what was taken before can still be answered
            back.put(b"y" * slot)
        back.push()
        assert front.word(RSP_PROD) == front.prod
    else:
        assert len(back.take(RING_IDX_MASK)) == ahead


@given(PAGES, SLOTS, INDEX)
def test_a_response_stays_in_its_slot(pages: int, slot: int, start: int) -> None:
    front = Front(pages, slot, start)
    back = back_of(front)
    front.push([b"\x11" * slot] * front.size)
    back.take(front.size)
    back.put(b"\x22" * slot)
    for index in range(front.size):
        assert front.read(start + index) == (b"\x11" if index else b"\x22") * slot
    assert front.word(RSP_PROD) == start
    assert [front.word(word) for word in (REQ_PROD, REQ_EVENT)] == [front.prod, (start + 1) & RING_IDX_MASK]


def test_what_the_guest_writes_over_our_words_does_not_move_us() -> None:
    front = Front(1, 112, 5)
    back = back_of(front)
    front.push([b"a" * 112] * 3)
    assert len(back.take(2)) == 2
    front.set(RSP_PROD, 77)
    front.set(REQ_EVENT, 99)
    back.put(b"one")
    back.push()
    assert front.word(RSP_PROD) == 6
    assert len(back.take(9)) == 1
    assert not back.more()
    assert front.word(REQ_EVENT) == 9


def test_misuse_is_our_bug() -> None:
    front = Front(1, 112, 0)
    back = back_of(front)
    with pytest.raises(AssertionError):
        back.put(b"to nobody")
    front.push([b"a"])
    back.take(1)
    with pytest.raises(AssertionError):
        back.put(b"x" * 113)
    with pytest.raises(ValueError, match="no slot"):
        BackRing([memoryview(bytearray(PAGE_BYTES))], PAGE_BYTES, lambda: None)


def test_memory_is_let_go() -> None:
    pages = [bytearray(PAGE_BYTES) for _ in range(2)]
    views = [memoryview(page) for page in pages]
    back = BackRing(views, 112, lambda: None)
    back.close()
    for view, page in zip(views, pages, strict=True):
        view.release()
        page.append(0)  # BufferError while anybody looks at it


def test_fences_stand_where_the_other_end_could_be_fooled() -> None:
    front = Front(1, 112, 0)
    seen: list[tuple[int, int]] = []
    back = BackRing(
        [memoryview(page) for page in front.pages],
        112,
        lambda: seen.append((front.word(RSP_PROD), front.word(REQ_EVENT))),
    )
    front.push([b"a"])
    back.take(1)
    assert seen == [(0, 1)]
    back.put(b"b")
    back.push()
    assert seen[1:] == [(0, 1), (1, 1)]  # before the index is shown, and before the guest's wish is looked at
    back.more()
    assert seen[3:] == [(1, 2)]
