"""Two-level event channels against a model that knows only who is pending, masked and selected."""

import struct
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.core.profiles import examples
from tests.unit.core.scripted import Core
from tests.unit.core.world import EVENTS, MASK, PAGE, PENDING, SHARED_INFO, World
from xenion.abi.errno import Errno
from xenion.abi.event_channel import EVTCHNOP_send, EVTCHNOP_unmask
from xenion.abi.xen import Hypercall

FREE, UNBOUND, INTERDOMAIN, VIRQ, IPI = range(5)
PORTS = {
    1: (IPI, 0),
    2: (IPI, 1),
    63: (INTERDOMAIN, 0),
    64: (INTERDOMAIN, 1),
    65: (UNBOUND, 0),
    700: (IPI, 0),
    4095: (VIRQ, 1),
}
"""Port: (state, vcpu); 63 leads to Dom0, 64 to 700."""
UNUSED = 2000

Step: TypeAlias = tuple[str, int]

ports = st.sampled_from([*PORTS, *PORTS, UNUSED])
ACTS = (
    "send",
    "unmask",
    "mask",
    "clear",
    "post",
    "raise",
    "drain",
    "take",
    "enable",
    "disable",
    "reset",
    "ack",
)
steps = st.tuples(st.sampled_from(ACTS), ports)


@dataclass
class Model:
    pending: set[int] = field(default_factory=set)
    masked: set[int] = field(default_factory=set)
    selected: tuple[set[int], set[int]] = field(default_factory=lambda: (set(), set()))
    upcalls: list[bool] = field(default_factory=lambda: [False, False])
    disabled: list[bool] = field(default_factory=lambda: [True, True])
    inbox: set[int] = field(default_factory=set)
    outbox: set[int] = field(default_factory=set)
    delivered: int = 0

    def select(self, port: int) -> None:
        vcpu = PORTS[port][1] if port in PORTS else 0
        self.selected[vcpu].add(port // 64)
        self.upcalls[vcpu] = True

    def make_pending(self, port: int) -> None:
        if port not in self.pending:
            self.pending.add(port)
            if port not in self.masked and port // 64 not in self.selected[PORTS.get(port, (0, 0))[1]]:
                self.select(port)

    def unmask(self, port: int) -> None:
        if port in self.masked:
            self.masked.discard(port)
            if port in self.pending and port // 64 not in self.selected[PORTS[port][1]]:
                self.select(port)

    def leave_core(self) -> None:
        """Every way out of the core brings in what was posted, and makes vCPU 0's upcall."""
        for port in sorted(self.inbox):
            self.make_pending(port)
        self.inbox.clear()
        if self.upcalls[0] and not self.disabled[0]:
            self.disabled[0] = True
            self.delivered += 1


class Pair:
    def __init__(self, world: World) -> None:
        self.world, self.model = world, Model()
        self.seen = 0
        for port, (state, vcpu) in PORTS.items():
            entry = world.state.ports[port]
            entry.state, entry.vcpu = state, vcpu
        world.state.ports[63].dom0_end = 1
        world.state.ports[64].number = 700

    def word(self, offset: int, port: int) -> int:
        return SHARED_INFO * 512 + offset // 8 + port // 64

    def run(self, name: str, port: int) -> None:
        getattr(self, "do_" + name)(port)
        self.check()

    def call(self, command: int, port: int) -> int:
        """Without the harness's event handler: whether the upcall comes is what is tested."""
        world = self.world
        world.ready()
        regs = world.vcpu.regs
        regs[0], regs[7], regs[6] = Hypercall.event_channel_op, command, world.put(struct.pack("<I", port))
        world.lib.core_syscall(world.vcpu, 0)
        self.note_upcall()
        return int(world.ffi.cast("int64_t", regs[0]))

    def note_upcall(self) -> None:
        if self.world.vcpu.rip == EVENTS:
            self.seen += 1
            self.world.ready()

    def do_send(self, port: int) -> None:
        state = PORTS.get(port, (FREE, 0))[0]
        if port == 63:
            self.model.outbox.add(port)
        elif port == 64:
            self.model.make_pending(700)
        elif state == IPI:
            self.model.make_pending(port)
        self.model.leave_core()
        assert self.call(EVTCHNOP_send, port) == (-Errno.EINVAL if state in (FREE, VIRQ) else 0)

    def do_unmask(self, port: int) -> None:
        if port in PORTS:
            self.model.unmask(port)
        self.model.leave_core()
        assert self.call(EVTCHNOP_unmask, port) == 0  # of a closed port too, without effect

    def do_mask(self, port: int) -> None:
        self.model.masked.add(port)
        self.world.words[self.word(MASK, port)] |= 1 << port % 64

    def do_clear(self, port: int) -> None:
        """The guest takes the event."""
        self.model.pending.discard(port)
        self.world.lib.core_clear_pending(self.world.state, port)

    def do_post(self, port: int) -> None:
        rc = self.world.lib.core_post_event(self.world.state, port)
        assert rc == (0 if port in PORTS else -Errno.EINVAL)
        if not rc:
            self.model.inbox.add(port)

    def do_raise(self, port: int) -> None:
        self.model.make_pending(port)
        self.world.lib.core_set_pending(self.world.state, port)

    def do_drain(self, port: int) -> None:
        self.model.leave_core()
        self.world.lib.core_kicked(self.world.vcpu)
        self.note_upcall()

    def do_take(self, port: int) -> None:
        named = self.world.lib.core_outbox_words(self.world.state)
        words = [self.world.lib.core_take_outbox(self.world.state, word) for word in range(65)]
        assert named == sum(1 << word for word in range(65) if words[word])
        got = {word * 64 + bit for word, bits in enumerate(words) for bit in range(64) if bits >> bit & 1}
        assert got == self.model.outbox
        self.model.outbox.clear()

    def set_upcall_mask(self, value: bool) -> None:
        self.model.disabled[0] = value
        self.world.memory[self.world.vcpu.info + 1] = int(value)

    def do_enable(self, port: int) -> None:
        self.set_upcall_mask(False)

    def do_disable(self, port: int) -> None:
        self.set_upcall_mask(True)

    def do_reset(self, port: int) -> None:
        """As a kernel's handler begins: it takes the selector."""
        info = self.world.vcpu.info
        self.world.memory[info] = 0
        self.world.words[info // 8 + 1] = 0
        self.model.upcalls[0] = False
        self.model.selected[0].clear()

    def do_ack(self, port: int) -> None:
        """Between the handler's first two steps."""
        self.world.memory[self.world.vcpu.info] = 0
        self.model.upcalls[0] = False

    def bits(self, offset: int) -> set[int]:
        base = SHARED_INFO * PAGE + offset
        value = int.from_bytes(self.world.memory[base : base + 512], "little")
        return {n for n in range(4096) if value >> n & 1} if value else set()

    def check(self) -> None:
        world, model = self.world, self.model
        assert self.bits(PENDING) == model.pending
        assert self.bits(MASK) == model.masked
        for vcpu in range(2):
            info = world.state.vcpus[vcpu].info
            selected = world.words[info // 8 + 1]
            assert {n for n in range(64) if selected >> n & 1} == model.selected[vcpu]
            assert world.memory[info] == model.upcalls[vcpu]
            assert world.memory[info + 1] == model.disabled[vcpu]
        assert self.seen == model.delivered


@examples(200)
@given(sequence=st.integers(0, 60).flatmap(lambda length: st.lists(steps, min_size=length, max_size=length)))
def test_any_sequence(core: Core, sequence: list[Step]) -> None:
    with World(core, nr_vcpus=2) as world:
        pair = Pair(world)
        for name, port in sequence:
            pair.run(name, port)


@pytest.mark.parametrize("port", [4096, 1 << 31, 2**32 - 1])
@pytest.mark.parametrize("command", [EVTCHNOP_send, EVTCHNOP_unmask])
def test_ports_beyond_the_last(world: World, command: int, port: int) -> None:
    at = world.put(struct.pack("<I", port))
    assert world.hypercall(Hypercall.event_channel_op, command, at) == -Errno.EINVAL
    world.lib.core_set_pending(world.state, port)
    world.lib.core_clear_pending(world.state, port)
    assert world.lib.core_post_event(world.state, port) == -Errno.EINVAL


def test_dom0_is_told_once(world: World) -> None:
    """Until it looks: then the next notification reaches it again."""
    state = world.state
    state.ports[9].state, state.ports[9].dom0_end = INTERDOMAIN, 1
    at = world.put(struct.pack("<I", 9))
    for _ in range(3):
        assert world.hypercall(Hypercall.event_channel_op, EVTCHNOP_send, at) == 0
    assert world.script.notified == 1
    assert world.lib.core_outbox_words(state) == 1
    assert world.lib.core_take_outbox(state, 0) == 1 << 9
    assert world.hypercall(Hypercall.event_channel_op, EVTCHNOP_send, at) == 0
    assert world.script.notified == 2


def test_a_move_of_the_vcpu_info_loses_no_event(world: World) -> None:
    place = 12 * PAGE + 1024
    world.lib.core_register_info(world.vcpu, place)
    assert world.vcpu.info == place
    assert (world.memory[place], world.memory[place + 1], world.words[place // 8 + 1]) == (1, 1, 2**64 - 1)
