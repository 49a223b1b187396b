"""The domain's event channels: who is bound to what. Pending and mask bits are the core's (events.c, events_fifo.c)."""

import mmap
import threading
from collections.abc import Callable, Collection, Iterator
from enum import IntEnum
from functools import wraps
from typing import Any, TypeVar, cast

from xenion.abi.errno import Errno
from xenion.abi.event_channel import (
    EVTCHN_2L_NR_CHANNELS,
    EVTCHN_FIFO_NR_CHANNELS,
    EVTCHN_FIFO_PRIORITY_DEFAULT,
    EVTCHN_FIFO_PRIORITY_MIN,
)
from xenion.core import ffi, lib
from xenion.vmm.errors import GuestError

Method = TypeVar("Method", bound=Callable[..., Any])
DOM0 = 0
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


def _locked(method: Method) -> Method:
    """Whole against Dom0's thread and the guest's calls: each changes who is bound to what."""

    @wraps(method)
    def run(self: "EventChannels", *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast("Method", run)


class EventChannels:
    """Ports of one domain. Interdomain channels lead to Dom0's back ends in this process, or to the domain itself.

    Any thread.
    """

    def __init__(self, state: Any, nr_vcpus: int) -> None:
        self._state = state
        self._ports = _port_table()
        state.ports = self._ports
        self._vcpus = state.vcpus
        self._nr_vcpus = nr_vcpus
        self._highest = 0
        self._lock = threading.RLock()
        self._permanent: set[int] = set()
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

    @_locked
    def allocate(
        self,
        state: PortState,
        vcpu: int = 0,
        number: int = 0,
        below: int = EVTCHN_FIFO_NR_CHANNELS,
        dom0_end: bool = False,
    ) -> int:
        """The lowest free port, bound; GuestError(ENOSPC)."""
        port = int(lib.core_free_port(self._state, below))
        if not port:
            raise GuestError(Errno.ENOSPC)
        entry = self._ports[port]
        entry.vcpu = vcpu
        entry.priority = EVTCHN_FIFO_PRIORITY_DEFAULT
        lib.core_set_port(self._state, port, state, dom0_end, number)
        self._highest = max(self._highest, port)
        return port

    def check_vcpu(self, vcpu: int) -> None:
        if vcpu >= self._nr_vcpus:
            raise GuestError(Errno.ENOENT)

    @_locked
    def bind_virq(self, virq: int, vcpu: int) -> int:
        """GuestError(EEXIST, ENOSPC)."""
        if self._vcpus[vcpu].virq_port[virq]:
            raise GuestError(Errno.EEXIST)
        port = self.allocate(PortState.VIRQ, vcpu, virq)
        self._vcpus[vcpu].virq_port[virq] = port
        return port

    @_locked
    def bind_vcpu(self, port: int, vcpu: int, fixed_virqs: Collection[int]) -> None:
        """Where its events go; GuestError(EINVAL) for a port that is free, or an IPI's, or one of `fixed_virqs`."""
        state = self.state(port)
        fixed = state == PortState.VIRQ and self.number_of(port) in fixed_virqs
        if fixed or state in (PortState.FREE, PortState.IPI):
            raise GuestError(Errno.EINVAL)
        self._ports[port].vcpu = vcpu

    def vcpu_of(self, port: int) -> int:
        return int(self._ports[port].vcpu)

    def number_of(self, port: int) -> int:
        """A VIRQ's; the port of the other end; of an unbound one the domain that it waits for."""
        return int(self._ports[port].number)

    @_locked
    def bind_own(self, remote: int) -> int:
        """A new port, and an unbound one that waits for the domain itself, as each other's ends.

        GuestError(EINVAL, ENOSPC).
        """
        domid = self._state.domid
        if self.state(remote) != PortState.UNBOUND or self.number_of(remote) != domid:
            raise GuestError(Errno.EINVAL)
        local = self.allocate(PortState.INTERDOMAIN, number=remote)
        self._set(remote, PortState.INTERDOMAIN, local)
        return local

    def is_dom0(self, port: int) -> bool:
        """The other end is Dom0's."""
        return bool(self._ports[port].dom0_end)

    @_locked
    def close(self, port: int) -> None:
        """GuestError(EINVAL): it is free."""
        state = self.state(port)
        if state == PortState.FREE:
            raise GuestError(Errno.EINVAL)
        entry = self._ports[port]
        if state == PortState.VIRQ:
            self._unbind_virq(port, entry.number)
        if state == PortState.INTERDOMAIN and not entry.dom0_end:
            self._set(entry.number, PortState.UNBOUND, self._state.domid)
        self._set(port, PortState.FREE, 0)
        lib.core_clear_pending(self._state, port)
        self.handlers.pop(port, None)
        self._permanent.discard(port)

    def _unbind_virq(self, port: int, virq: int) -> None:
        """Of the vCPU that has bound it, wherever its events go by now."""
        for vcpu in range(self._nr_vcpus):
            if self._vcpus[vcpu].virq_port[virq] == port:
                self._vcpus[vcpu].virq_port[virq] = 0

    @_locked
    def restore(self, port: int, state: PortState, vcpu: int, number: int, *, dom0_end: bool) -> None:
        """A port of a saved domain, once the guest's way of taking events is chosen. GuestError(EINVAL, ENOENT)."""
        self.check_vcpu(vcpu)
        leads_to_dom0 = dom0_end and state == PortState.INTERDOMAIN and port < DOM0_PORTS
        numbers_something = {
            PortState.INTERDOMAIN: number < self.limit, PortState.VIRQ: number < lib.VIRQS,
        }.get(state, True)  # fmt: skip
        if (
            state == PortState.FREE
            or self.state(port) != PortState.FREE
            or not 0 < port < self.limit
            or (dom0_end and not leads_to_dom0)
            or not numbers_something
        ):
            raise GuestError(Errno.EINVAL)
        self._ports[port].vcpu = vcpu
        self._set(port, state, number, dom0_end=dom0_end)
        self._highest = max(self._highest, port)

    @_locked
    def rebind_dom0(self, port: int, handler: Callable[[], None]) -> None:
        """A channel that a saved domain has for life. GuestError(EINVAL): it is none."""
        if self.state(port) != PortState.INTERDOMAIN or not self.is_dom0(port):
            raise GuestError(Errno.EINVAL)
        self.handlers[port] = handler
        self._permanent.add(port)
        lib.core_notify_dom0(self._state, port)

    @_locked
    def reset(self) -> None:
        """Back to two levels; every port but those that Dom0 gave the domain with its life is closed."""
        for port in self.bound():
            if port not in self._permanent:
                self.close(port)
        lib.core_fifo_leave(self._state)

    def _set(self, port: int, state: PortState, number: int, *, dom0_end: bool = False) -> None:
        lib.core_set_port(self._state, port, state, dom0_end, number)

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

    # --- Dom0

    @_locked
    def bind_dom0(self, handler: Callable[[], None]) -> int:
        """A channel that the domain has for life; `handler` runs in Dom0's thread when the guest notifies."""
        port = self.allocate(PortState.INTERDOMAIN, below=DOM0_PORTS, dom0_end=True)
        self.handlers[port] = handler
        self._permanent.add(port)
        return port

    @_locked
    def connect_dom0(self, port: int, handler: Callable[[], None]) -> None:
        """Binds an unbound port that waits for Dom0; GuestError(EINVAL): it is none, or is DOM0_PORTS or higher.

        `handler`, which no other channel has, is called once soon, for what the guest notified before.
        """
        waits = port < DOM0_PORTS and self.state(port) == PortState.UNBOUND and self.number_of(port) == DOM0
        if not waits:
            raise GuestError(Errno.EINVAL)
        self.handlers[port] = handler
        self._set(port, PortState.INTERDOMAIN, port, dom0_end=True)
        lib.core_notify_dom0(self._state, port)

    @_locked
    def disconnect_dom0(self, port: int, handler: Callable[[], None]) -> None:
        """Dom0 closes its end: the port waits for Dom0 again, unless the guest has closed it."""
        if self.handlers.get(port) is handler:
            del self.handlers[port]
            self._set(port, PortState.UNBOUND, DOM0)

    def notify(self, port: int) -> None:
        """The guest's end becomes pending."""
        lib.core_post_event(self._state, port)

    def dispatch(self) -> None:
        """Dom0's thread: run the handlers of the ports that the guest has notified."""
        words = lib.core_outbox_words(self._state)
        while words:
            word = (words & -words).bit_length() - 1
            words &= words - 1
            self._dispatch_word(word * 64, lib.core_take_outbox(self._state, word))

    def _dispatch_word(self, first: int, bits: int) -> None:
        while bits:
            handler = self.handlers.get(first + (bits & -bits).bit_length() - 1)
            bits &= bits - 1
            if handler:
                handler()
