"""Ports, the two mailboxes, and FIFO channels against a model of a guest, honest or not."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.vmm.kernel import built
from xenion.abi.errno import Errno
from xenion.abi.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHN_FIFO_BUSY,
    EVTCHN_FIFO_LINK_MASK,
    EVTCHN_FIFO_LINKED,
    EVTCHN_FIFO_MASKED,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PENDING,
)
from xenion.abi.xen import VIRQ_CONSOLE
from xenion.core import lib
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.domain import Domain
from xenion.vmm.errors import GuestError
from xenion.vmm.events import EventChannels, PortState

PENDING, MASKED, LINKED = 1 << EVTCHN_FIFO_PENDING, 1 << EVTCHN_FIFO_MASKED, 1 << EVTCHN_FIFO_LINKED
PORTS = range(1, 6)
PAGE = 4096
CONTROL_PFN, WORDS_PFN, OTHER_PFN = 3, 5, 7
OFFSET = PAGE - 72


class Guest:
    """What a guest does to its event words (event_channel.h), and the domain it lives in."""

    def __init__(self) -> None:
        self.notify_fd = os.eventfd(0)
        self.domain = Domain(
            SoftwareProcessor(),
            domid=1,
            nr_pages=16,
            handle=bytes(16),
            notify_fd=self.notify_fd,
            console_output=lambda data: None,
        )
        self.events: EventChannels = self.domain.events
        self._all = self.domain.memory.bytes.cast("I")
        self.words = self._page(WORDS_PFN)
        self._control = self._page(CONTROL_PFN)[OFFSET // 4 :]
        self._views = [self._all, self.words, self._control]

    def mfn(self, pfn: int) -> int:
        return self.domain.memory.first_mfn + pfn

    def _page(self, pfn: int) -> memoryview:
        return self._all[self.mfn(pfn) * PAGE // 4 :][: PAGE // 4]

    def close(self) -> None:
        for view in self._views:
            view.release()
        self.domain.close()
        os.close(self.notify_fd)

    def start_fifo(self) -> None:
        self.events.init_control(0, self.mfn(CONTROL_PFN), OFFSET)
        self.events.expand_array(self.mfn(WORDS_PFN))

    def reset(self) -> None:
        """All queues empty, every port of PORTS bound and unmasked, whatever was done before."""
        self.events.reset()
        for view in (self.words, self._control):
            view[:] = memoryview(bytes(view.nbytes)).cast("I")
        for port in PORTS:
            assert self.events.allocate(PortState.IPI) == port
        self.start_fifo()

    def send(self, port: int) -> None:
        self.domain.raise_event(port)

    def mask(self, port: int) -> None:
        self.words[port] |= MASKED

    def unmask(self, port: int) -> None:
        self.words[port] &= ~MASKED
        if self.words[port] & PENDING:
            self.send(port)  # what EVTCHNOP_unmask does then

    def take_all(self) -> list[int]:
        """Empties the queues, the most urgent first; the ports whose events it found."""
        taken = []
        ready, self._control[0] = self._control[0], 0
        for queue in range(16):
            port = self._control[2 + queue] if ready >> queue & 1 else 0
            while port:
                word = self.words[port]
                if word & PENDING and not word & MASKED:
                    taken.append(port)
                    word &= ~PENDING
                self.words[port] = word & ~(LINKED | EVTCHN_FIFO_LINK_MASK)
                port = word & EVTCHN_FIFO_LINK_MASK
        return taken

    def ready(self) -> int:
        return self._control[0]

    def spoil(self, port: int, value: int) -> None:
        self.words[port] = value

    def spoil_control(self, index: int, value: int) -> None:
        self._control[index] = value

    def untouchable(self) -> bytes:
        """All memory that no event may change: everything but shared_info and the guest's two event pages."""
        own = sorted((self.domain.memory.shared_info_mfn, self.mfn(CONTROL_PFN), self.mfn(WORDS_PFN)))
        parts, at = [], 0
        for mfn in own:
            parts.append(bytes(self.domain.memory.bytes[at : mfn * PAGE]))
            at = (mfn + 1) * PAGE
        return b"".join((*parts, bytes(self.domain.memory.bytes[at:])))


@pytest.fixture
def guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_guest() -> Iterator[Guest]:
    made = Guest()
    yield made
    made.close()


def refused(errno: Errno, call: object, *args: object) -> bool:
    assert callable(call)
    with pytest.raises(GuestError) as caught:
        call(*args)
    return caught.value.errno == errno


def test_lowest_free_port_first(guest: Guest) -> None:
    assert [guest.events.allocate(PortState.IPI) for _ in range(3)] == [1, 2, 3]
    guest.events.close(2)
    assert guest.events.allocate(PortState.IPI) == 2
    assert list(guest.events.bound()) == [1, 2, 3]


def test_ports_run_out_at_two_levels_and_go_on_with_fifo(guest: Guest) -> None:
    for _ in range(EVTCHN_2L_NR_CHANNELS - 1):
        last = guest.events.allocate(PortState.IPI)
    assert last == EVTCHN_2L_NR_CHANNELS - 1
    assert refused(Errno.ENOSPC, guest.events.allocate, PortState.IPI)
    assert guest.events.limit == EVTCHN_2L_NR_CHANNELS
    guest.start_fifo()
    assert guest.events.limit == EVTCHN_FIFO_NR_CHANNELS
    assert guest.events.allocate(PortState.IPI) == EVTCHN_2L_NR_CHANNELS


def test_dom0_has_low_ports_only(guest: Guest) -> None:
    guest.start_fifo()
    while guest.events.allocate(PortState.IPI) < EVTCHN_2L_NR_CHANNELS:
        pass
    assert refused(Errno.ENOSPC, guest.events.bind_dom0, lambda: None)
    assert lib.core_post_event(guest.domain.state, EVTCHN_2L_NR_CHANNELS) == -Errno.EINVAL


def test_number_beyond_the_table_is_free(guest: Guest) -> None:
    assert guest.events.state(EVTCHN_FIFO_NR_CHANNELS) == PortState.FREE
    assert guest.events.state(-1) == PortState.FREE
    lib.core_set_pending(guest.domain.state, EVTCHN_FIFO_NR_CHANNELS)
    lib.core_clear_pending(guest.domain.state, 0xFFFFFFFF)


def test_first_control_block_must_be_good(guest: Guest) -> None:
    assert refused(Errno.EINVAL, guest.events.init_control, 0, 1 << 52, 0)
    assert not guest.events.fifo
    assert refused(Errno.EOPNOTSUPP, guest.events.expand_array, guest.mfn(WORDS_PFN))


def test_pending_bits_move_to_the_first_page_of_words(guest: Guest) -> None:
    for port in (1, 2, 3):
        guest.events.allocate(PortState.IPI)
        if port != 2:
            guest.send(port)
    guest.start_fifo()
    assert guest.take_all() == [1, 3]


def test_closed_port_is_not_raised_with_its_word(guest: Guest) -> None:
    guest.send(guest.events.allocate(PortState.IPI))
    guest.events.init_control(0, guest.mfn(CONTROL_PFN), OFFSET)
    guest.events.close(1)
    guest.events.allocate(PortState.IPI)
    guest.events.expand_array(guest.mfn(WORDS_PFN))
    assert guest.take_all() == []


def test_event_without_a_word_is_written_nowhere(guest: Guest) -> None:
    guest.start_fifo()
    port = 0
    while port < PAGE // 4:
        port = guest.events.allocate(PortState.IPI)
    before = guest.untouchable()
    guest.send(port)
    assert guest.untouchable() == before
    assert not any(guest.words)
    guest.events.expand_array(guest.mfn(OTHER_PFN))
    assert guest.ready()


def test_masked_event_waits_for_unmask(guest: Guest) -> None:
    guest.reset()
    guest.mask(1)
    guest.send(1)
    assert guest.words[1] == PENDING | MASKED
    assert not guest.ready()
    guest.unmask(1)
    assert guest.take_all() == [1]


def test_link_of_the_guests_own_making_is_replaced(guest: Guest) -> None:
    guest.reset()
    guest.send(1)
    guest.words[1] |= EVTCHN_FIFO_LINK_MASK | 1 << EVTCHN_FIFO_BUSY
    guest.send(2)
    assert guest.words[1] == PENDING | LINKED | 2


def test_array_takes_128_pages(guest: Guest) -> None:
    guest.start_fifo()
    for _ in range(127):
        guest.events.expand_array(guest.mfn(OTHER_PFN))
    assert refused(Errno.ENOSPC, guest.events.expand_array, guest.mfn(OTHER_PFN))


def test_pages_are_held_until_the_guest_leaves(guest: Guest) -> None:
    frames = guest.domain.state.frames
    before = [(frames[guest.mfn(pfn)].count, frames[guest.mfn(pfn)].type & 0xFFFFFFFF) for pfn in range(16)]
    guest.start_fifo()
    assert frames[guest.mfn(WORDS_PFN)].type & 0xFFFFFFFF == 1
    assert lib.core_pin(guest.domain.state, guest.mfn(CONTROL_PFN), 1) < 0
    guest.events.reset()
    after = [(frames[guest.mfn(pfn)].count, frames[guest.mfn(pfn)].type & 0xFFFFFFFF) for pfn in range(16)]
    assert after == before


def test_priority_chooses_the_queue(guest: Guest) -> None:
    guest.reset()
    guest.events.set_priority(1, 15)
    guest.events.set_priority(2, 0)
    for port in (1, 2, 3):
        guest.send(port)
    assert guest.ready() == 1 << 15 | 1 << 7 | 1
    assert guest.take_all() == [2, 3, 1]
    assert refused(Errno.EINVAL, guest.events.set_priority, 1, 16)


def test_dom0_events_survive_the_way_back(guest: Guest) -> None:
    port = guest.events.bind_dom0(lambda: None)
    guest.start_fifo()
    guest.events.reset()
    shared = guest.domain.memory.page(guest.domain.memory.shared_info_mfn)
    assert shared[2048] & 1 << port


# --- channels to Dom0's back ends


def unbound(guest: Guest) -> int:
    return guest.events.allocate(PortState.UNBOUND, 0, 0)


def pending(guest: Guest, port: int) -> bool:
    """Once the vCPU has looked."""
    lib.core_kicked(guest.domain.state.vcpus)
    shared = guest.domain.memory.page(guest.domain.memory.shared_info_mfn)
    return bool(shared[2048 + port // 8] >> port % 8 & 1)


def test_handler_is_called_once_after_it_is_bound(guest: Guest) -> None:
    calls: list[int] = []
    port = unbound(guest)
    guest.events.connect_dom0(port, lambda: calls.append(port))
    assert os.eventfd_read(guest.notify_fd)
    guest.events.dispatch()
    guest.events.dispatch()
    assert calls == [port]
    assert guest.events.state(port) == PortState.INTERDOMAIN
    assert guest.events.is_dom0(port)


def test_only_ports_that_wait_for_dom0_are_bound(guest: Guest) -> None:
    bound = unbound(guest)
    guest.events.connect_dom0(bound, print)
    others = [
        0,
        bound,
        bound + 1,
        guest.events.allocate(PortState.UNBOUND, 0, guest.domain.domid),
        guest.events.allocate(PortState.IPI),
        guest.events.bind_dom0(print),
        EVTCHN_2L_NR_CHANNELS - 1,
        EVTCHN_FIFO_NR_CHANNELS,
        2**32 - 1,
    ]
    for port in others:
        assert refused(Errno.EINVAL, guest.events.connect_dom0, port, print), port


def test_ports_without_a_mailbox_are_not_bound(guest: Guest) -> None:
    guest.start_fifo()
    port = 0
    while port < EVTCHN_2L_NR_CHANNELS:
        port = unbound(guest)
    assert refused(Errno.EINVAL, guest.events.connect_dom0, port, print)
    guest.events.connect_dom0(port - 1, print)


def test_channel_that_dom0_closes_waits_for_it_again(guest: Guest) -> None:
    first, second = (lambda: None), (lambda: None)
    port = unbound(guest)
    guest.events.connect_dom0(port, first)
    guest.events.disconnect_dom0(port, first)
    assert guest.events.state(port) == PortState.UNBOUND
    assert (guest.events.number_of(port), guest.events.is_dom0(port)) == (0, False)
    guest.events.connect_dom0(port, second)
    guest.events.disconnect_dom0(port, first)
    assert guest.events.handlers[port] is second


def test_channel_that_the_guest_has_closed_is_left_alone(guest: Guest) -> None:
    calls: list[int] = []

    def handler() -> None:
        calls.append(1)

    port = unbound(guest)
    guest.events.connect_dom0(port, handler)
    guest.events.close(port)
    guest.events.dispatch()
    assert calls == []
    assert guest.events.allocate(PortState.IPI) == port
    guest.events.disconnect_dom0(port, handler)
    assert guest.events.state(port) == PortState.IPI
    assert not guest.events.is_dom0(port)


@pytest.mark.parametrize("port", [0, 1, EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_NR_CHANNELS, 2**31 - 1, 2**32 - 1])
def test_calls_about_a_port_that_is_not_bound(guest: Guest, port: int) -> None:
    assert refused(Errno.EINVAL, guest.events.close, port)
    assert refused(Errno.EINVAL, guest.events.bind_own, port)
    assert refused(Errno.EINVAL, guest.events.bind_vcpu, port, 0, ())
    guest.events.disconnect_dom0(port, print)


def test_reset_leaves_what_the_domain_has_for_life(guest: Guest) -> None:
    console, port = guest.events.bind_dom0(print), unbound(guest)
    guest.events.connect_dom0(port, print)
    guest.events.reset()
    assert list(guest.events.bound()) == [console]
    assert list(guest.events.handlers) == [console]


def test_notified_channel_is_pending(guest: Guest) -> None:
    port = unbound(guest)
    guest.events.connect_dom0(port, print)
    assert not pending(guest, port)
    guest.events.notify(port)
    assert pending(guest, port)


def test_own_channels_are_each_others_ends(guest: Guest) -> None:
    waiting = guest.events.allocate(PortState.UNBOUND, 0, guest.domain.domid)
    local = guest.events.bind_own(waiting)
    assert (guest.events.number_of(local), guest.events.number_of(waiting)) == (waiting, local)
    guest.events.close(local)
    assert guest.events.state(waiting) == PortState.UNBOUND
    assert guest.events.number_of(waiting) == guest.domain.domid
    assert refused(Errno.EINVAL, guest.events.bind_own, unbound(guest))


# --- ports of a saved domain


def test_ports_are_restored_as_they_were(guest: Guest) -> None:
    events = guest.events
    events.restore(1, PortState.INTERDOMAIN, 0, 9, dom0_end=True)
    events.restore(2, PortState.VIRQ, 0, 1, dom0_end=False)
    events.restore(5, PortState.IPI, 0, 0, dom0_end=False)
    events.restore(7, PortState.UNBOUND, 0, 0, dom0_end=False)
    events.restore(8, PortState.INTERDOMAIN, 0, 9, dom0_end=False)
    events.restore(9, PortState.INTERDOMAIN, 0, 8, dom0_end=False)
    assert list(events.bound()) == [1, 2, 5, 7, 8, 9]
    assert [events.number_of(port) for port in (1, 2, 8, 9)] == [9, 1, 9, 8]
    assert [events.is_dom0(port) for port in (1, 2, 8)] == [True, False, False]
    assert events.allocate(PortState.IPI) == 3
    guest.send(5)
    assert pending(guest, 5)


def test_ports_beyond_two_levels_are_restored_once_fifo_is_chosen(guest: Guest) -> None:
    port = EVTCHN_2L_NR_CHANNELS + 3
    restore = guest.events.restore

    def again() -> None:
        restore(port, PortState.IPI, 0, 0, dom0_end=False)

    assert refused(Errno.EINVAL, again)
    guest.start_fifo()
    again()
    assert list(guest.events.bound()) == [port]


@pytest.mark.parametrize(
    ("port", "state", "number", "dom0_end"),
    [
        (0, PortState.IPI, 0, False),
        (-1, PortState.IPI, 0, False),
        (EVTCHN_2L_NR_CHANNELS, PortState.IPI, 0, False),
        (2**32 - 1, PortState.IPI, 0, False),
        (3, PortState.FREE, 0, False),
        (3, PortState.IPI, 0, True),
        (3, PortState.UNBOUND, 0, True),
        (3, PortState.VIRQ, 0, True),
        (3, PortState.VIRQ, 2**32 - 1, False),
        (3, PortState.VIRQ, 24, False),
        (3, PortState.INTERDOMAIN, EVTCHN_2L_NR_CHANNELS, False),
        (3, PortState.INTERDOMAIN, 2**32 - 1, False),
    ],
)
def test_ports_that_make_no_sense_are_not_restored(
    guest: Guest, port: int, state: PortState, number: int, dom0_end: bool
) -> None:
    """A saved domain may have been tampered with."""

    def restore() -> None:
        guest.events.restore(port, state, 0, number, dom0_end=dom0_end)

    assert refused(Errno.EINVAL, restore)
    assert list(guest.events.bound()) == []


def test_a_port_is_restored_once_and_to_a_vcpu_that_there_is(guest: Guest) -> None:
    def restore(vcpu: int = 0) -> None:
        guest.events.restore(3, PortState.IPI, vcpu, 0, dom0_end=False)

    assert refused(Errno.ENOENT, restore, 1)
    restore()
    assert refused(Errno.EINVAL, restore)


def test_dom0s_ports_are_those_that_have_a_mailbox(guest: Guest) -> None:
    guest.start_fifo()
    restore = guest.events.restore

    def high() -> None:
        restore(EVTCHN_2L_NR_CHANNELS, PortState.INTERDOMAIN, 0, 1, dom0_end=True)

    assert refused(Errno.EINVAL, high)
    restore(EVTCHN_2L_NR_CHANNELS - 1, PortState.INTERDOMAIN, 0, 1, dom0_end=True)


def test_a_channel_for_life_is_bound_again(guest: Guest) -> None:
    """Whatever came while the domain was in its file is looked for at once."""
    calls: list[int] = []
    guest.events.restore(4, PortState.INTERDOMAIN, 0, 1, dom0_end=True)
    guest.events.rebind_dom0(4, lambda: calls.append(4))
    guest.events.dispatch()
    assert calls == [4]
    guest.events.notify(4)
    assert pending(guest, 4)
    guest.events.reset()
    assert list(guest.events.bound()) == [4]
    assert list(guest.events.handlers) == [4]


def test_what_is_no_channel_to_dom0_is_not_bound_again(guest: Guest) -> None:
    events = guest.events
    events.restore(1, PortState.IPI, 0, 0, dom0_end=False)
    events.restore(2, PortState.INTERDOMAIN, 0, 3, dom0_end=False)
    events.restore(3, PortState.INTERDOMAIN, 0, 2, dom0_end=False)
    for port in (0, 1, 2, 3, 4, EVTCHN_2L_NR_CHANNELS, EVTCHN_FIFO_NR_CHANNELS, 2**32 - 1):
        assert refused(Errno.EINVAL, events.rebind_dom0, port, print), port
    assert events.handlers == {}


def test_guest_closes_while_dom0_binds(guest: Guest) -> None:
    """Whoever comes first: a port is never left with a handler, or Dom0's mark, that nobody bound."""
    handler = print
    for _ in range(300):
        port, start = unbound(guest), threading.Barrier(2)

        def bind(port: int = port, start: threading.Barrier = start) -> None:
            start.wait()
            with suppress(GuestError):
                guest.events.connect_dom0(port, handler)
                guest.events.disconnect_dom0(port, handler)

        thread = threading.Thread(target=bind)
        thread.start()
        start.wait()
        guest.events.close(port)
        thread.join()
        assert guest.events.state(port) == PortState.FREE
        assert not guest.events.handlers


port_numbers = st.sampled_from(PORTS)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "send", "mask", "unmask"]), port_numbers),
        st.tuples(st.just("priority"), port_numbers, st.integers(0, 15)),
        st.tuples(st.just("take")),
    ),
    max_size=60,
)


@given(steps)
def test_honest_guest_loses_no_event(shared_guest: Guest, steps: list[tuple[str, int, int]]) -> None:
    guest = shared_guest
    guest.reset()
    waiting: set[int] = set()
    for step, *rest in steps:
        if step == "take":
            taken = guest.take_all()
            assert len(taken) == len(set(taken))
            waiting -= set(taken)
        elif step == "priority":
            guest.events.set_priority(*rest)
        else:
            getattr(guest, step)(*rest)
            if step == "send":
                waiting.add(rest[0])
    for port in PORTS:
        guest.unmask(port)
    assert set(guest.take_all()) == waiting


words = st.one_of(
    st.integers(0, 0xFFFFFFFF), st.sampled_from([0, LINKED, LINKED | PENDING, LINKED | 0x1FFFF, 0xFFFFFFFF])
)
hostile_steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["send", "unmask"]), port_numbers),
        st.tuples(st.just("spoil"), port_numbers, words),
        st.tuples(st.just("spoil_control"), st.integers(0, 17), words),
    ),
    max_size=60,
)


@given(hostile_steps)
def test_spoilt_words_lead_nowhere(shared_guest: Guest, steps: list[tuple[str, int, int]]) -> None:
    guest = shared_guest
    guest.reset()
    before = guest.untouchable()
    for step, *rest in steps:
        getattr(guest, step)(*rest)
    assert guest.untouchable() == before
    assert not any(guest.words[max(PORTS) + 1 :])


def test_words_that_change_while_events_are_linked(guest: Guest) -> None:
    guest.reset()
    before = guest.untouchable()
    done = threading.Event()

    def spoil() -> None:
        value = 1
        while not done.is_set():
            value = value * 1103515245 + 12345 & 0xFFFFFFFF
            guest.spoil(value >> 8 & 3 or 1, value)

    thread = threading.Thread(target=spoil)
    thread.start()
    for n in range(20_000):
        guest.send(n % 5 + 1)
    done.set()
    thread.join()
    assert guest.untouchable() == before
    guest.reset()
    guest.send(1)
    assert guest.take_all() == [1]


def test_a_virq_whose_events_have_gone_elsewhere_is_free_once_it_is_closed() -> None:
    with built(nr_vcpus=2) as kernel:
        events = kernel.domain.events
        port = events.bind_virq(VIRQ_CONSOLE, 0)
        events.bind_vcpu(port, 1, ())
        events.close(port)
        assert events.bind_virq(VIRQ_CONSOLE, 0) == port
