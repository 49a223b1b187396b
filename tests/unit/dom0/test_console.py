"""The console back end and hub, as conversations with a guest on the other end of the page."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.console import XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface
from xenion.dom0.console import FROM_NOW_ON, ConsoleBackend, ConsoleHub
from xenion.dom0.ring import RingError, RingReader, RingWriter

IN_PROD, OUT_CONS, OUT_PROD = 769, 770, 771


class Guest:
    """The guest's end of the page; counts what it is notified of."""

    def __init__(self) -> None:
        self.memory = bytearray(4096)
        self.words = memoryview(self.memory).cast("I")
        self.notified = 0
        self._out = RingWriter(self, XenconsInterface, "out", XENCONS_OUT_SIZE, lambda: None)
        self._in = RingReader(self, XenconsInterface, "in_", XENCONS_IN_SIZE, lambda: None)

    def view(self) -> memoryview:
        return memoryview(self.memory)

    def notify(self) -> None:
        self.notified += 1

    def prints(self, text: bytes) -> int:
        return self._out.write(text)

    def types(self, limit: int = 4096) -> bytes:
        return self._in.read(limit)


def console(input_limit: int = 65536) -> tuple[Guest, ConsoleBackend]:
    guest = Guest()
    return guest, ConsoleBackend(guest, guest, lambda: None, input_limit=input_limit)


def test_output_is_drained_and_the_guest_told() -> None:
    guest, backend = console()
    assert backend.drain() == b""
    assert guest.notified == 0
    guest.prints(b"Linux version 6.1\n")
    assert backend.drain(5) == b"Linux"
    assert backend.drain() == b" version 6.1\n"
    assert guest.notified == 2


def test_input_that_does_not_fit_follows_when_the_guest_reads() -> None:
    guest, backend = console()
    text = bytes(range(256)) * 10
    assert backend.feed(text) == len(text)
    assert backend.pending_input == len(text) - XENCONS_IN_SIZE
    got = guest.types(1000)
    backend.on_event()
    got += guest.types()
    backend.on_event()
    got += guest.types()
    assert got == text
    assert backend.pending_input == 0
    notified = guest.notified
    backend.on_event()
    assert guest.notified == notified


def test_input_is_bounded() -> None:
    guest, backend = console(input_limit=2000)
    assert backend.feed(b"x" * 5000) == 2000
    assert backend.feed(b"y" * 5000) == XENCONS_IN_SIZE
    assert backend.feed(b"z") == 0
    guest.types()
    backend.on_event()
    assert backend.feed(b"z" * 5000) == XENCONS_IN_SIZE


def test_a_broken_output_ring_is_told_once_and_input_goes_on() -> None:
    guest, backend = console()
    guest.words[OUT_PROD] = XENCONS_OUT_SIZE + 1
    with pytest.raises(RingError, match="out ring"):
        backend.drain()
    assert backend.drain() == b""
    guest.words[OUT_PROD] = 0
    guest.prints(b"repaired")
    assert backend.drain() == b""
    assert backend.feed(b"ls\n") == 3
    assert guest.types() == b"ls\n"


def test_a_broken_input_ring_is_told_once_and_output_goes_on() -> None:
    guest, backend = console()
    guest.words[IN_PROD] = 0x7FFF_FFFF
    with pytest.raises(RingError, match="in ring"):
        backend.feed(b"a")
    assert backend.feed(b"swallowed") == 9
    assert backend.pending_input == 0
    backend.on_event()
    guest.prints(b"still here")
    assert backend.drain() == b"still here"


def hub_of(backend: ConsoleBackend, **options: Any) -> ConsoleHub:
    hub = ConsoleHub(**options)
    hub.connect(backend)
    return hub


@given(st.integers(0, 0xFFFF_FFFF), st.lists(st.binary(max_size=3000), max_size=8))
def test_every_reader_and_the_log_get_the_same_bytes(start: int, prints: list[bytes]) -> None:
    guest, backend = console()
    guest.words[OUT_CONS] = guest.words[OUT_PROD] = start
    log = bytearray()
    hub = hub_of(backend, scrollback=XENCONS_OUT_SIZE, log=log.extend)
    readers = [hub.attach() for _ in range(3)]
    takes = (1, 700, 65536)
    received = [bytearray() for _ in readers]
    sent = bytearray()

    def everybody_reads() -> None:
        for reader, copy, take in zip(readers, received, takes, strict=True):
            copy += reader.take(take)

    for text in prints:
        rest = text
        while rest:
            rest = rest[guest.prints(rest) :]
            hub.pull()
            everybody_reads()
        sent += text
    while hub.pull() or any(reader.pending for reader in readers):
        everybody_reads()
    assert [bytes(copy) for copy in received] == [bytes(sent)] * 3
    assert bytes(log) == bytes(sent)
    assert hub.end == len(sent)
    assert hub.tail(XENCONS_OUT_SIZE) == bytes(sent)[-XENCONS_OUT_SIZE:]


def test_a_reader_that_stops_holds_the_guest_back_and_loses_nothing() -> None:
    guest, backend = console()
    hub = hub_of(backend, scrollback=XENCONS_OUT_SIZE)
    slow, quick = hub.attach(), hub.attach()
    text = bytes(i % 251 for i in range(3 * XENCONS_OUT_SIZE))
    sent = guest.prints(text)
    assert hub.pull() == XENCONS_OUT_SIZE
    sent += guest.prints(text[sent:])
    assert sent == 2 * XENCONS_OUT_SIZE
    assert hub.pull() == 0
    assert quick.take() == text[:XENCONS_OUT_SIZE]
    assert hub.room == 0
    assert slow.take(100) == text[:100]
    assert hub.pull() == 100
    got = bytearray(text[:100])
    while slow.pending:
        got += slow.take(60)
        hub.pull()
        quick.take()
    assert bytes(got) == text[:sent]


def test_detaching_a_reader_that_lags_frees_the_guest() -> None:
    guest, backend = console()
    hub = hub_of(backend, scrollback=XENCONS_OUT_SIZE)
    stuck = hub.attach()
    guest.prints(bytes(XENCONS_OUT_SIZE))
    hub.pull()
    guest.prints(b"more")
    assert hub.pull() == 0
    hub.detach(stuck)
    hub.detach(stuck)
    assert hub.pull() == 4


def test_bytes_have_numbers_and_a_reader_comes_back_to_its_own() -> None:
    guest, backend = console()
    hub = hub_of(backend)
    guest.prints(b"login: ")
    hub.pull()
    reader = hub.attach()
    assert (reader.next, reader.take(3)) == (0, b"log")
    hub.detach(reader)
    guest.prints(b"root")
    hub.pull()
    again = hub.attach(reader.next)
    assert (again.next, again.lost, again.take()) == (3, 0, b"in: root")
    late = hub.attach(FROM_NOW_ON)
    assert (late.next, late.take()) == (11, b"")


def test_what_is_not_kept_any_more_is_counted() -> None:
    guest, backend = console()
    hub = hub_of(backend, scrollback=XENCONS_OUT_SIZE)
    for _ in range(3):
        guest.prints(bytes(XENCONS_OUT_SIZE))
        hub.pull()
    assert (hub.start, hub.end) == (2 * XENCONS_OUT_SIZE, 3 * XENCONS_OUT_SIZE)
    reader = hub.attach(100)
    assert (reader.next, reader.lost) == (hub.start, hub.start - 100)
    assert hub.attach(hub.end + 50).pending == 0


def test_last_words_find_place_though_a_reader_lags() -> None:
    _, backend = console()
    hub = hub_of(backend, scrollback=XENCONS_OUT_SIZE)
    reader = hub.attach()
    hub.publish(bytes(XENCONS_OUT_SIZE))
    hub.publish(b"the last words")
    assert hub.room == 0
    assert reader.take()[-14:] == b"the last words"


def test_numbers_go_on_over_a_boot() -> None:
    guest, backend = console()
    hub = hub_of(backend)
    guest.prints(b"first")
    hub.pull()
    hub.connect(None)
    assert (hub.pull(), hub.write(b"lost?")) == (0, 0)
    guest, backend = console()
    hub.connect(backend)
    guest.prints(b"second")
    hub.pull()
    assert hub.attach(5).take() == b"second"


def test_writers_share_the_input() -> None:
    guest, backend = console(input_limit=4)
    hub = hub_of(backend)
    assert hub.write(b"one ") == 4
    assert hub.write(b"two ") == 4
    assert guest.types() == b"one two "
