"""The domain's event channels: who is bound to what. Pending and mask bits are the core's (events.c, events_fifo.c)."""

import mmap
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

from xenion.abi.errno import Errno
from xenion.abi.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PRIORITY_DEFAULT,
    EVTCHN_FIFO_PRIORITY_MIN,
)
from xenion.core import ffi, lib
from xenion.vmm.errors import GuestError

DOM0_PORTS = EVTCHN_2L_NR_CHANNELS
"""Ports that lead to Dom0's back ends are below this: the mailboxes have no bit for others."""


class PortState(IntEnum):
    """As the core numbers them."""

    FREE = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    VIRQ = 3
    IPI = 4


def _port_table() -> Any:
    """Every port there can be, free. It never moves, so that any thread may look into it; the host lends memory for the
    pages that are in use, as they come into use."""
    size = EVTCHN_FIFO_NR_CHANNELS * ffi.sizeof("struct port")
    return ffi.from_buffer("struct port[]", mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def _require(rc: int) -> None:
    if rc:
        raise GuestError(Errno(-rc))


class EventChannels:
    """Ports of one domain. Interdomain channels lead to Dom0's back ends in this process, or to the domain itself."""

    def __init__(self, state: Any, nr_vcpus: int) -> None:
        self._state = state
        self._ports = _port_table()
        state.ports = self._ports
        self._vcpus = state.vcpus
        self._nr_vcpus = nr_vcpus
        self._highest = 0
        self.handlers: dict[int, Callable[[], None]] = {}

    @property
    def limit(self) -> int:
        """Ports are below this."""
        return int(lib.core_port_limit(self._state))

    def state(self, number: int) -> PortState:
        return PortState(self._ports[number].state) if 0 < number < self.limit else PortState.FREE

    def bound(self) -> Iterator[int]:
        """The ports in use, in order."""
        return (port for port in range(1, self._highest + 1) if self._ports[port].state != PortState.FREE)

    def allocate(
        self, state: PortState, vcpu: int = 0, number: int = 0, below: int = EVTCHN_FIFO_NR_CHANNELS
    ) -> int:
        """The lowest free port, bound; GuestError(ENOSPC)."""
        port = int(lib.core_free_port(self._state, below))
        if not port:
            raise GuestError(Errno.ENOSPC)
        entry = self._ports[port]
        entry.vcpu, entry.number, entry.dom0_end = vcpu, number, 0
        entry.priority = EVTCHN_FIFO_PRIORITY_DEFAULT
        entry.state = state
        self._highest = max(self._highest, port)
        return port

    def check_vcpu(self, vcpu: int) -> None:
        if vcpu >= self._nr_vcpus:
            raise GuestError(Errno.ENOENT)

    def bind_dom0(self, handler: Callable[[], None]) -> int:
        """A channel between the guest and a Dom0 back end; `handler` runs in Dom0's thread when the guest notifies."""
        port = self.allocate(PortState.INTERDOMAIN, below=DOM0_PORTS)
        self._ports[port].dom0_end = 1
        self.handlers[port] = handler
        return port

    def bind_virq(self, virq: int, vcpu: int) -> int:
        if self._vcpus[vcpu].virq_port[virq]:
            raise GuestError(Errno.EEXIST)
        port = self.allocate(PortState.VIRQ, vcpu, virq)
        self._vcpus[vcpu].virq_port[virq] = port
        return port

    def bind_vcpu(self, port: int, vcpu: int) -> None:
        self._ports[port].vcpu = vcpu

    def vcpu_of(self, port: int) -> int:
        return int(self._ports[port].vcpu)

    def number_of(self, port: int) -> int:
        return int(self._ports[port].number)

    def connect(self, local: int, remote: int) -> None:
        """Makes two ports of the domain each other's ends."""
        for here, there in ((local, remote), (remote, local)):
            self._ports[here].number = there
            self._ports[here].state = PortState.INTERDOMAIN

    def is_dom0(self, port: int) -> bool:
        return bool(self._ports[port].dom0_end)

    def close(self, port: int) -> None:
        entry = self._ports[port]
        if entry.state == PortState.VIRQ:
            self._vcpus[entry.vcpu].virq_port[entry.number] = 0
        if entry.state == PortState.INTERDOMAIN and not entry.dom0_end:
            self._ports[entry.number].state = PortState.UNBOUND
            self._ports[entry.number].number = self._state.domid  # whom it waits for
        entry.state = PortState.FREE
        lib.core_clear_pending(self._state, port)
        self.handlers.pop(port, None)

    # --- FIFO channels

    @property
    def fifo(self) -> bool:
        """Whether the guest has chosen them."""
        return bool(self._state.fifo)

    def init_control(self, vcpu: int, mfn: int, offset: int) -> None:
        """Gives a vCPU its control block, within frame `mfn`; the first one chooses FIFO. GuestError(EINVAL)."""
        _require(lib.core_fifo_init(self._vcpus + vcpu, mfn, offset))

    def expand_array(self, mfn: int) -> None:
        """Takes another page of event words; GuestError(EOPNOTSUPP, ENOSPC, EINVAL)."""
        _require(lib.core_fifo_expand(self._state, mfn))

    def set_priority(self, port: int, priority: int) -> None:
        """For the events to come; GuestError(EINVAL)."""
        if priority > EVTCHN_FIFO_PRIORITY_MIN:
            raise GuestError(Errno.EINVAL)
        self._ports[port].priority = priority

    def leave_fifo(self) -> None:
        """Back to two levels; every port but Dom0's is closed."""
        lib.core_fifo_leave(self._state)

    # --- Dom0

    def notify(self, port: int) -> None:
        """Any thread: the guest's end becomes pending."""
        lib.core_post_event(self._state, port)

    def dispatch(self) -> None:
        """Dom0's thread: run the handlers of the ports that the guest has notified."""
        for word in range(DOM0_PORTS // 64):
            bits = lib.core_take_outbox(self._state, word)
            while bits:
                bit = bits & -bits
                bits ^= bit
                handler = self.handlers.get(word * 64 + bit.bit_length() - 1)
                if handler:
                    handler()
