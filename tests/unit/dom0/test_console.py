"""The console back end and hub, as conversations with a guest on the other end of the page."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xenion.abi.io.console import XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface
from xenion.dom0.console import ConsoleBackend, ConsoleHub
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


@given(st.integers(0, 0xFFFF_FFFF), st.lists(st.binary(max_size=3000), max_size=8))
def test_every_reader_and_the_log_get_the_same_bytes(start: int, prints: list[bytes]) -> None:
    guest, backend = console()
    guest.words[OUT_CONS] = guest.words[OUT_PROD] = start
    log = bytearray()
    hub = ConsoleHub(backend, scrollback=1000, log=log.extend)
    readers = [hub.attach(limit=limit) for limit in (1, 700, 65536)]
    received = [bytearray() for _ in readers]
    sent = bytearray()
    for text in prints:
        rest = text
        while rest:
            rest = rest[guest.prints(rest) :]
            hub.pull()
            for reader, copy in zip(readers, received, strict=True):
                copy += reader.take(997)
        sent += text
    while hub.pull() or any(reader.pending for reader in readers):
        for reader, copy in zip(readers, received, strict=True):
            copy += reader.take()
    assert [bytes(copy) for copy in received] == [bytes(sent)] * 3
    assert bytes(log) == bytes(sent)
    assert hub.scrollback == bytes(sent)[-1000:]


def test_a_lossless_reader_that_stops_holds_the_guest_back_and_loses_nothing() -> None:
    guest, backend = console()
    hub = ConsoleHub(backend)
    slow = hub.attach(limit=100)
    quick = hub.attach(limit=100)
    text = bytes(i % 251 for i in range(5000))
    sent = guest.prints(text)
    assert sent == XENCONS_OUT_SIZE
    while hub.pull():
        pass
    assert slow.pending == quick.pending == 100
    assert hub.room == 0
    assert quick.take() == text[:100]
    assert hub.pull() == 0
    assert guest.prints(text[sent:]) == 100
    got = bytearray()
    while slow.pending:
        got += slow.take(60)
        hub.pull()
        quick.take()
    assert bytes(got) == text[: sent + 100]


def test_detaching_a_full_reader_frees_the_guest() -> None:
    guest, backend = console()
    hub = ConsoleHub(backend)
    stuck = hub.attach(limit=10)
    guest.prints(b"0123456789abcdef")
    hub.pull()
    assert hub.pull() == 0
    hub.detach(stuck)
    hub.detach(stuck)
    assert hub.pull() == 6
    assert stuck.take() == b"0123456789"
    assert hub.scrollback == b"0123456789abcdef"


def test_a_reader_that_may_lose_never_holds_the_guest_back() -> None:
    guest, backend = console()
    hub = ConsoleHub(backend)
    watcher = hub.attach(limit=8, lossless=False)
    guest.prints(b"0123456789")
    guest.prints(b"abc")
    assert hub.pull() == 13
    assert watcher.dropped == 5
    assert watcher.take() == b"56789abc"


def test_replay_shows_the_scrollback_first() -> None:
    guest, backend = console()
    hub = ConsoleHub(backend, scrollback=6)
    guest.prints(b"login: ")
    hub.pull()
    late, silent = hub.attach(limit=4), hub.attach(replay=False)
    assert (late.pending, late.room) == (6, 0)
    assert late.take(1) == b"o"
    late.take()
    guest.prints(b"root")
    hub.pull()
    assert late.take() == silent.take() == b"root"


def test_output_without_readers_goes_to_scrollback() -> None:
    guest, backend = console()
    hub = ConsoleHub(backend, scrollback=0)
    guest.prints(b"nobody listens")
    assert hub.pull() == 14
    assert hub.scrollback == b""


def test_writers_share_the_input() -> None:
    guest, backend = console(input_limit=4)
    hub = ConsoleHub(backend)
    assert hub.write(b"one ") == 4
    assert hub.write(b"two ") == 4
    assert guest.types() == b"one two "
