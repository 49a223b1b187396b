"""The domain's event channels: who is bound to what. Pending and mask bits are the core's (events.c)."""

from collections.abc import Callable
from enum import IntEnum

from xenion.abi.errno import Errno
from xenion.core import lib
from xenion.vmm.errors import GuestError

NR_PORTS = 4096
DOM0 = 0


class PortState(IntEnum):
    """As the core numbers them."""

    FREE = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    VIRQ = 3
    IPI = 4


class EventChannels:
    """Ports of one domain. Interdomain channels lead to Dom0's back ends here, or back to the domain itself."""

    def __init__(self, state: object, nr_vcpus: int) -> None:
        self._state = state
        self._ports = state.ports  # type: ignore[attr-defined]  # a cffi structure
        self._vcpus = state.vcpus  # type: ignore[attr-defined]
        self._nr_vcpus = nr_vcpus
        self.handlers: dict[int, Callable[[], None]] = {}
        self.remote: dict[int, int] = {}

    def port(self, number: int) -> object:
        """A port in use; GuestError(EINVAL)."""
        if not 0 < number < NR_PORTS:
            raise GuestError(Errno.EINVAL)
        return self._ports[number]

    def state(self, number: int) -> PortState:
        return PortState(self._ports[number].state) if 0 < number < NR_PORTS else PortState.FREE

    def allocate(self, state: PortState, vcpu: int = 0, number: int = 0) -> int:
        for port in range(1, NR_PORTS):
            entry = self._ports[port]
            if entry.state == PortState.FREE:
                entry.vcpu, entry.number, entry.dom0_end = vcpu, number, 0
                entry.state = state
                return port
        raise GuestError(Errno.ENOSPC)

    def check_vcpu(self, vcpu: int) -> None:
        if vcpu >= self._nr_vcpus:
            raise GuestError(Errno.ENOENT)

    def bind_dom0(self, handler: Callable[[], None]) -> int:
        """A channel between the guest and a Dom0 back end; `handler` runs in Dom0's thread when the guest notifies."""
        port = self.allocate(PortState.INTERDOMAIN)
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
        entry.state = PortState.FREE
        lib.core_clear_pending(self._state, port)
        self.handlers.pop(port, None)

    def notify(self, port: int) -> None:
        """Any thread: the guest's end becomes pending."""
        lib.core_post_event(self._state, port)

    def dispatch(self) -> None:
        """Dom0's thread: run the handlers of the ports that the guest has notified."""
        for word in range(NR_PORTS // 64):
            bits = lib.core_take_outbox(self._state, word)
            while bits:
                bit = bits & -bits
                bits ^= bit
                handler = self.handlers.get(word * 64 + bit.bit_length() - 1)
                if handler:
                    handler()
