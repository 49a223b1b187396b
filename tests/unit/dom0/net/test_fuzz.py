"""Random and adversarial front ends: ring contents, indexes, grants, states.

Nothing that was not granted is touched, each request is answered once, and no exception comes out.
"""

import random
import struct
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.unit.dom0.fake_guest import FakeGuest
from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import REQUEST, RX_REQUEST, FakeWire, FrontEnd, gso_extra, options, settle
from xenion.abi.io import netif
from xenion.dom0.loop import Loop
from xenion.dom0.net.backend import NetBackend
from xenion.dom0.net.wire import Frame
from xenion.dom0.xenbus.backend import FrontendError

ENOUGH = settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
FLAGS = [0, 1, 3, 4, 8, 12, 7, 15, 0xFFFF]
FRAMES = [
    make.tcp(b"x" * 100, blank=True),
    make.tcp(b"x" * 3000, blank=True, source="fd00::1", target="fd00::2"),
    make.udp(b"y" * 50, blank=True, vlans=1),
    make.arp(bytes(6), "10.0.0.1", "10.0.0.2"),
    bytes(60),
]
PRISTINE = 0xA5


class Adversary:
    """Grants some pages and remembers what all the others hold."""

    def __init__(self, seed: int, *, offload: bool, big: bool, **changes: object) -> None:
        self.random = random.Random(seed)
        self.loop = Loop()
        self.guest = FakeGuest(self.loop, 16)
        for page_bytes in self.guest.frames:
            page_bytes[:] = bytes([PRISTINE]) * len(page_bytes)
        self.front = FrontEnd(self.guest, self.random.choice([1, 1, 3]))
        self.wire = FakeWire(offload=offload, big=big)
        self.backend = NetBackend(
            self.guest, 0, self.wire, options(**{"queues": 3, "anti_spoofing": self.random.random() < 0.3, **changes}),
            self.loop,
        )  # fmt: skip
        self.said: list[str] = []
        self.backend.log_to(self.said.append)
        for queue in self.front.queues:
            for page, frame in enumerate(self.random.choices(FRAMES, k=queue.TX_PAGES)):
                start = self.random.choice([0, 100])
                self.guest.frames[queue.base + 2 + page][start : start + len(frame)] = frame
        self.read_only = {
            number: bytes(self.guest.frames[number])
            for queue in self.front.queues
            for number in range(queue.base + 2, queue.base + 2 + queue.TX_PAGES)
        }

    def tx_slot(self, queue: Any) -> bytes:
        pick = self.random
        if pick.random() < 0.1:
            return pick.randbytes(12)
        if pick.random() < 0.2:
            kind = pick.choice([0, 1, 1, 2, 3, 4, 5, 6])
            return struct.pack(
                "<BB10s", kind, pick.choice([0, 0, 1]), gso_extra(pick.choice([0, 40, 1448]))[2:]
            )
        ref = (
            queue.tx_ref(pick.randrange(queue.TX_PAGES))
            if pick.random() < 0.95
            else pick.choice([0, 7, 2**32 - 1])
        )
        size = pick.choice([0, 13, 14, 54, 154, 3074, 4096, 0xFFFF])
        return REQUEST.pack(
            ref, pick.choice([0, 0, 0, 100, 4000, 0xFFFF]), pick.choice(FLAGS), pick.randrange(256), size
        )

    def rx_slot(self, queue: Any) -> bytes:
        pick = self.random
        ref = queue.ref + 2 + queue.TX_PAGES + pick.randrange(256)
        if pick.random() < 0.1:
            ref = pick.choice([0, 1, queue.tx_ref(3), 2**32 - 1])
        return RX_REQUEST.pack(pick.randrange(1 << 16), 0, ref)

    def step(self) -> None:
        pick, queue = self.random, self.random.choice(self.front.queues)
        ring = pick.choice([queue.tx, queue.rx])
        for _ in range(pick.randrange(40)):
            ring.put(self.tx_slot(queue) if ring is queue.tx else self.rx_slot(queue))
        if pick.random() < 0.02:
            ring.req_prod = pick.randrange(1 << 32)
        if pick.random() < 0.05:
            struct.pack_into("<III", ring.page, 4, *(pick.randrange(1 << 32) for _ in range(3)))
        ring.show()
        queue.kick()
        frames = [bytes(pick.choice(FRAMES)) for _ in range(pick.randrange(5))]
        self.wire.deliver(*frames, blank=pick.random() < 0.3)
        settle(self.loop, 3)

    def check(self) -> None:
        for number in range(16):
            assert self.guest.frames[number] == bytes([PRISTINE]) * 4096, (
                "a page that was never granted was written"
            )
        for number, held in self.read_only.items():
            assert self.guest.frames[number] == held, "a page that was granted for reading was written"

    def close(self) -> None:
        self.backend.close()
        assert self.guest.mapped == []
        assert all(port.handler is None for port in self.guest.ports.values())
        self.loop.stop()
        self.loop.close()


@ENOUGH
@given(st.integers(0, 2**32), st.booleans(), st.booleans(), st.integers(1, 12))
def test_whatever_the_rings_hold(seed: int, offload: bool, big: bool, steps: int) -> None:
    adversary = Adversary(seed, offload=offload, big=big)
    try:
        adversary.backend.connect(adversary.front.nodes)
        for _ in range(steps):
            adversary.step()
            adversary.check()
        for sentence in adversary.said:
            assert "the guest" in sentence
    finally:
        adversary.close()


NODE_VALUES = st.one_of(
    st.sampled_from(["0", "1", "2", "1000", "1001", "10", "11", ""]), st.text(max_size=12)
)
NODE_NAMES = st.sampled_from(
    ["tx-ring-ref", "rx-ring-ref", "event-channel", "event-channel-tx", "event-channel-rx", "multi-queue-num-queues",
     "queue-0/tx-ring-ref", "queue-1/rx-ring-ref", "feature-sg", "request-rx-copy", "request-multicast-control"]
)  # fmt: skip


@ENOUGH
@given(st.dictionaries(NODE_NAMES, NODE_VALUES), st.lists(NODE_NAMES))
def test_whatever_the_nodes_say(changed: dict[str, str], gone: list[str]) -> None:
    adversary = Adversary(1, offload=False, big=True)
    nodes = {**adversary.front.nodes, **changed}
    for name in gone:
        nodes.pop(name, None)
    try:
        adversary.backend.connect(nodes)
    except FrontendError:
        assert adversary.guest.mapped == []
    settle(adversary.loop)
    adversary.close()


class WellBehaved(RuleBasedStateMachine):
    """A front end that keeps the rules but for bad packets: every request is answered once and in order, frames arrive
    whole, in order, none twice; over connections, disconnections and reconnections."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = Loop()
        self.guest = FakeGuest(self.loop, 0)
        self.wire = FakeWire()
        self.backend = NetBackend(self.guest, 0, self.wire, options(), self.loop)
        self.connected = False
        self.sent: list[int] = []
        self.number = 0
        self.expected: list[bytes] = []
        self.front = FrontEnd(self.guest)

    @rule()
    def connect(self) -> None:
        if not self.connected:
            self.guest.ports.clear()
            self.front = FrontEnd(self.guest)
            self.backend.connect(self.front.nodes)
            self.connected = True
            self.sent, self.expected = [], []

    @rule()
    def disconnect(self) -> None:
        if self.connected:
            settle(self.loop)
            self.backend.disconnect(lambda: None)
            self.wire.waiting.clear()
            self.connected = False

    @rule(size=st.integers(0, 60_000), chunk=st.sampled_from([1000, 4000, 4096]), bad=st.booleans())
    def send(self, size: int, chunk: int, bad: bool) -> None:
        if not self.connected:
            return
        queue = self.front.queue
        data = make.ether(self.number.to_bytes(4, "big") + bytes(size), 0x88B5)
        self.number += 1
        slots = -(-len(data) // chunk)
        if slots > 18 or len(self.sent) + slots > 200:
            return
        held = queue.guest.grants.pop(queue.tx_ref(0)) if bad else None
        queue.send(data, chunk=chunk)
        queue.kick()
        settle(self.loop)
        if held is not None:
            queue.guest.grants[queue.tx_ref(0)] = held
        answers = queue.answers()
        assert [ident for ident, _ in answers] == list(range(slots))
        assert {status for _, status in answers} == {netif.NETIF_RSP_ERROR if bad else netif.NETIF_RSP_OKAY}
        if not bad:
            assert self.wire.frames.pop() == data
            self.wire.sent.clear()

    @rule(sizes=st.lists(st.integers(0, 9000), max_size=8))
    def arrive(self, sizes: list[int]) -> None:
        for size in sizes:
            frame = make.ether(self.number.to_bytes(4, "big") + bytes(size), 0x88B5)
            self.number += 1
            if self.connected:
                self.expected.append(frame)
            if self.wire.waiting:
                self.wire.waiting.append(Frame(memoryview(bytearray(frame)), validated=True))
            else:
                self.wire.deliver(frame)

    @rule(count=st.integers(1, 30))
    def post(self, count: int) -> None:
        queue = self.front.queue
        if self.connected and queue.rx.req_prod - queue.rx.rsp_cons + count <= 256:
            queue.post(count)
            queue.kick()

    @rule()
    def receive(self) -> None:
        if self.connected:
            settle(self.loop)
            got = [frame for frame, _, _ in self.front.queue.received()]
            assert got == self.expected[: len(got)]
            del self.expected[: len(got)]

    @invariant()
    def all_or_nothing(self) -> None:
        if not self.connected:
            assert self.guest.mapped == []

    def teardown(self) -> None:
        self.backend.close()
        self.loop.stop()
        self.loop.close()


TestWellBehaved = WellBehaved.TestCase
TestWellBehaved.settings = settings(max_examples=60, stateful_step_count=40)
TestWellBehaved = pytest.mark.timeout(300)(TestWellBehaved)
