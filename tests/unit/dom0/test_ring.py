"""Byte rings: arithmetic at every index, hostile indexes, and who stores what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.console import XenconsInterface
from xenion.abi.io.xs_wire import XENSTORE_RING_SIZE, XenstoreDomainInterface
from xenion.dom0.ring import BrokenIndexError, RingError, RingReader, RingWriter, offset_of

SIZE = XENSTORE_RING_SIZE
MASK = 0xFFFF_FFFF
REQ_CONS, REQ_PROD = 512, 513
indexes = st.one_of(st.integers(0, MASK), st.integers(MASK - 3 * SIZE, MASK), st.integers(0, 2 * SIZE))


class Page:
    def __init__(self) -> None:
        self.memory = bytearray(4096)
        self.words = memoryview(self.memory).cast("I")

    def view(self) -> memoryview:
        return memoryview(self.memory)


def no_fence() -> None:
    pass


def both_ends(page: Page) -> tuple[RingWriter, RingReader]:
    """The guest's and our end of the request ring."""
    ring = (page, XenstoreDomainInterface, "req", SIZE, no_fence)
    return RingWriter(*ring), RingReader(*ring)


def test_offsets_are_the_headers() -> None:
    assert offset_of(XenstoreDomainInterface, "req_cons") == 2048
    assert offset_of(XenstoreDomainInterface, "error") == 2072
    assert offset_of(XenconsInterface, "out") == 1024
    assert offset_of(XenconsInterface, "out_prod") == 3084


def test_what_is_written_is_read() -> None:
    writer, reader = both_ends(Page())
    assert reader.read(100) == b""
    assert writer.write(b"hello") == 5
    assert reader.read(2) == b"he"
    assert reader.read(0) == b""
    assert reader.read(100) == b"llo"
    assert reader.read(100) == b""


def test_a_full_ring_takes_nothing_more() -> None:
    writer, reader = both_ends(Page())
    assert writer.write(b"x" * 2000) == SIZE
    assert writer.write(b"y") == 0
    assert reader.read(1) == b"x"
    assert writer.write(b"yz") == 1
    assert reader.read(2000) == b"x" * (SIZE - 1) + b"y"


@given(indexes, st.lists(st.tuples(st.binary(max_size=1500), st.integers(0, 1500)), max_size=12))
def test_any_start_index_carries_the_same_stream(start: int, steps: list[tuple[bytes, int]]) -> None:
    page = Page()
    page.words[REQ_CONS] = page.words[REQ_PROD] = start
    writer, reader = both_ends(page)
    sent = received = b""
    for data, limit in steps:
        room = SIZE - (len(sent) - len(received))
        written = writer.write(data)
        assert written == min(room, len(data))
        sent += data[:written]
        received += reader.read(limit)
        assert sent.startswith(received)
        assert page.words[REQ_CONS] == (start + len(received)) & MASK
        assert page.words[REQ_PROD] == (start + len(sent)) & MASK
    assert received + reader.read(SIZE) == sent


@given(indexes, st.integers(SIZE + 1, MASK))
def test_indexes_too_far_apart_are_refused_and_nothing_moves(cons: int, distance: int) -> None:
    page = Page()
    page.words[REQ_CONS], page.words[REQ_PROD] = cons, (cons + distance) & MASK
    before = bytes(page.memory)
    writer, reader = both_ends(page)
    with pytest.raises(BrokenIndexError, match="req ring"):
        reader.read(10)
    with pytest.raises(RingError):
        writer.write(b"data")
    assert bytes(page.memory) == before


def test_each_end_stores_only_its_own_index_and_its_data() -> None:
    page = Page()
    writer, reader = both_ends(page)
    writer.write(b"a" * SIZE)
    assert list(page.words[512:]) == [0, SIZE] + [0] * 510
    before = bytes(page.memory)
    reader.read(7)
    assert page.words[REQ_CONS] == 7
    page.words[REQ_CONS] = 0
    assert bytes(page.memory) == before


def test_a_fence_stands_between_data_and_index() -> None:
    page = Page()
    seen: list[tuple[bytes, int, int]] = []

    def fence() -> None:
        seen.append((bytes(page.memory[:3]), page.words[REQ_CONS], page.words[REQ_PROD]))

    RingWriter(page, XenstoreDomainInterface, "req", SIZE, fence).write(b"abc")
    assert seen == [(b"\0\0\0", 0, 0), (b"\0\0\0", 0, 0), (b"abc", 0, 0)]
    seen.clear()
    RingReader(page, XenstoreDomainInterface, "req", SIZE, fence).read(3)
    assert seen == [(b"abc", 0, 3)] * 3
    assert page.words[REQ_CONS] == 3


def test_a_producer_that_runs_ahead_during_the_copy_is_not_followed() -> None:
    """The index is loaded once: what the guest does afterwards changes neither length nor consumer."""
    page = Page()
    page.memory[:4] = b"okBA"
    page.words[REQ_PROD] = 2

    calls = 0

    def hostile_fence() -> None:
        nonlocal calls
        calls += 1
        if calls == 2:  # the indexes are loaded, the data is not copied yet
            page.words[REQ_PROD] = 0x8000_0000

    reader = RingReader(page, XenstoreDomainInterface, "req", SIZE, hostile_fence)
    assert reader.read(SIZE) == b"ok"
    assert page.words[REQ_CONS] == 2


def test_reset_empties_the_ring() -> None:
    page = Page()
    writer, reader = both_ends(page)
    writer.write(b"abc")
    page.words[REQ_CONS] = 0xDEAD_BEEF
    reader.reset()
    assert reader.read(10) == b""
    assert page.words[REQ_CONS] == page.words[REQ_PROD] == 0
