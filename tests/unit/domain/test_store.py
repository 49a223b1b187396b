"""A domain's place in the store: what it is told, what it tells, and waiting for it from another thread."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID

import pytest

from tests.descriptors import descriptors
from tests.unit.dom0.xenstore.replaceable import DOMID, ReplaceableStore
from tests.unit.dom0.xenstore.replaceable import UUID as TEXT
from tests.unit.dom0.xenstore.ring_guest import NODES
from xenion.abi.io.xs_wire import XENSTORE_RING_SIZE, XenstoreDomainInterface, XsdSockmsgType
from xenion.dom0.loop import Loop
from xenion.dom0.ring import RingReader, RingWriter
from xenion.dom0.xenstore.pump import PumpState
from xenion.dom0.xenstore.trees import KeptNode
from xenion.dom0.xenstore.wire import Message, MessageParser, encode
from xenion.domain.store import DomainStore

HOME = f"/local/domain/{DOMID}"


class Bench:
    def __init__(self) -> None:
        self.loop = Loop()
        self.told: list[str] = []
        self.mine = DomainStore(self.loop, DOMID, UUID(TEXT), self.told.append)
        self.xenstored = ReplaceableStore(self.loop, self.mine.connect)
        self.values: list[bytes] = []

    def prepare(self, also: Callable[[], None] = lambda: None) -> threading.Thread:
        """On a thread of its own, as the main thread does; the caller moves the store's bytes, or runs the loop."""
        thread = threading.Thread(target=lambda: self.mine.prepare(NODES, also), daemon=True)
        thread.start()
        while not self.loop._calls:
            pass
        return thread

    def stops(self) -> None:
        """The loop, with its thread."""
        self.loop.stop()
        if self.loop._thread is not None:
            self.loop._thread.join(60)

    def close(self) -> None:
        self.stops()
        self.mine.close()
        self.xenstored.close()
        self.loop.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    before = descriptors()
    made = Bench()
    yield made
    made.close()
    assert set(descriptors()) <= set(before)


class Running:
    """The thread of `Loop.run` as `prepare` sees it, while the test turns the loop."""

    def is_alive(self) -> bool:
        return True

    def join(self, timeout: float | None = None) -> None:
        return


@pytest.fixture
def turned(bench: Bench) -> Bench:
    bench.loop._thread = Running()  # type: ignore[assignment]
    return bench


def test_what_a_boot_asks_for_is_there_when_it_goes_on(turned: Bench) -> None:
    turned.xenstored.connect()
    thread = turned.prepare(lambda: turned.mine.client.write(f"{HOME}/also", "1"))
    while thread.is_alive():
        turned.xenstored.move()
    assert turned.xenstored.value(f"{HOME}/name") == b"guest"
    assert turned.xenstored.value(f"{HOME}/also") == b"1"


def test_a_boot_waits_for_a_store_that_is_away(turned: Bench) -> None:
    thread = turned.prepare()
    for _ in range(10):
        turned.xenstored.turn()
    assert thread.is_alive()
    turned.xenstored.connect()
    turned.xenstored.move(300, 100)
    turned.xenstored.cut()
    for _ in range(10):
        turned.xenstored.turn()
    assert thread.is_alive()
    turned.xenstored.connect()
    while thread.is_alive():
        turned.xenstored.move()
    assert turned.xenstored.value(f"{HOME}/domid") == b"5"


def test_a_loop_that_has_ended_keeps_nobody_waiting(bench: Bench) -> None:
    bench.loop.start(lambda: None)
    bench.stops()
    thread = bench.prepare()
    thread.join(60)
    assert not thread.is_alive()


def test_watches_of_an_earlier_boot_are_gone(turned: Bench) -> None:
    changes: list[str] = []
    turned.xenstored.connect()
    turned.mine.client.watch(HOME, changes.append)
    turned.xenstored.settle()
    thread = turned.prepare()
    while thread.is_alive():
        turned.xenstored.move()
    assert turned.xenstored.store.domains[DOMID].process.watches == {}


def test_nodes_of_the_guests_home(bench: Bench) -> None:
    bench.xenstored.connect()
    bench.mine.write_node("control/shutdown", "poweroff")
    bench.mine.read_node("control/shutdown", bench.values.append)
    bench.mine.read_node("control/none", bench.values.append)
    bench.xenstored.settle()
    assert bench.values == [b"poweroff", b""]


def test_a_new_name_is_told_in_both_places(bench: Bench) -> None:
    bench.xenstored.connect()
    bench.mine.rename("other")
    bench.xenstored.settle()
    assert bench.xenstored.value(f"{HOME}/name") == b"other"
    assert bench.xenstored.value(f"/vm/{TEXT}/name") == b"other"


class Page:
    """The guest's; it asks for its name."""

    def __init__(self) -> None:
        self.memory = bytearray(4096)
        self.notified = 0

    def view(self) -> memoryview:
        return memoryview(self.memory)

    def notify(self) -> None:
        self.notified += 1

    def asks(self, path: bytes = b"name\0") -> None:
        ring = RingWriter(self, XenstoreDomainInterface, "req", XENSTORE_RING_SIZE, lambda: None)
        ring.write(encode(Message(XsdSockmsgType.READ, 1, 0, path)))

    def takes(self) -> Message | None:
        parser = MessageParser()
        ring = RingReader(self, XenstoreDomainInterface, "rsp", XENSTORE_RING_SIZE, lambda: None)
        parser.push(ring.read(XENSTORE_RING_SIZE))
        return parser.take()


def test_both_connections_are_replaced_at_once(bench: Bench) -> None:
    page = Page()
    bench.mine.serve(page, page, lambda: None)
    bench.mine.write_node("name", "guest")
    page.asks()
    bench.mine.pump.on_event()
    for part in range(0, 200, 13):
        bench.xenstored.connect()
        bench.xenstored.move(part, part)
    bench.xenstored.connect()
    bench.xenstored.settle()
    answer = page.takes()
    assert answer is not None
    assert answer.payload in (b"guest", b"EACCES\0", b"ENOENT\0")
    bench.mine.stop()
    before = bytes(page.memory)
    page.asks()
    bench.mine.pump.on_event()
    assert page.takes() is None
    assert bytes(page.memory)[1024:2048] == before[1024:2048]


def test_nodes_that_the_store_cannot_hold_keep_nobody_from_booting(turned: Bench) -> None:
    turned.xenstored.connect()
    long = replace(NODES, ramdisk="/" + "r" * 4090)
    thread = threading.Thread(target=lambda: turned.mine.prepare(long, lambda: None), daemon=True)
    thread.start()
    while thread.is_alive():
        turned.xenstored.move()
    assert turned.xenstored.value(f"{HOME}/name") == b"guest"


def test_a_saved_domain_whose_id_was_another_one(turned: Bench) -> None:
    """9 when it was saved, 7 when it booted."""
    turned.xenstored.connect()
    nodes = [
        KeptNode("/local/domain/9", b"", "n0\0r9\0"),
        KeptNode("/local/domain/9/domid", b"9", "n0\0r9\0"),
        KeptNode("/local/domain/0/backend/vbd/9/1/frontend", b"/local/domain/9/device/vbd/1", "n0\0r9\0"),
    ]
    thread = threading.Thread(target=lambda: turned.mine.restore(nodes, known_as=7, was=9), daemon=True)
    thread.start()
    while thread.is_alive():
        turned.xenstored.move()
    front = turned.xenstored.value(f"/local/domain/0/backend/vbd/{DOMID}/1/frontend")
    assert front == f"{HOME}/device/vbd/1".encode()
    talk = PumpState(b"", b"", [], 0, [], failed=False)
    for known_as in (7, DOMID):
        page = Page()
        turned.mine.serve(page, page, lambda: None)
        turned.mine.go_on(talk, known_as)
        page.asks(f"/local/domain/{known_as}/domid\0".encode())
        turned.mine.pump.on_event()
        turned.xenstored.settle()
        answer = page.takes()
        assert answer is not None
        assert answer.payload == str(known_as).encode()
    assert turned.told == []
