"""What the queues of one vif share."""

from dataclasses import dataclass, field

from xenion.dom0.guest import Guest
from xenion.dom0.net.capture import Capture
from xenion.dom0.net.counters import Counters
from xenion.dom0.net.credit import Credit
from xenion.dom0.net.guard import Guard
from xenion.dom0.net.wire import Buffer, Wire

MULTICAST_MOST = 64
"""Addresses in a filter (xen-netback's XEN_NETBK_MCAST_MAX)."""
_BROADCAST = b"\xff" * 6


class MulticastFilter:
    """Which multicast frames a front end wants that asked to be asked (feature-multicast-control)."""

    def __init__(self) -> None:
        self._wanted: dict[bytes, int] = {}

    def add(self, address: bytes) -> bool:
        """False: there are too many."""
        if sum(self._wanted.values()) >= MULTICAST_MOST:
            return False
        self._wanted[address] = self._wanted.get(address, 0) + 1
        return True

    def remove(self, address: bytes) -> None:
        count = self._wanted.pop(address, 0)
        if count > 1:
            self._wanted[address] = count - 1

    def wants(self, target: bytes) -> bool:
        """`target` is a group's address."""
        return target == _BROADCAST or target in self._wanted


@dataclass(slots=True)
class Vif:
    guest: Guest
    wire: Wire
    credit: Credit
    guard: Guard | None
    counters: Counters
    captures: list[Capture]
    multicast: MulticastFilter = field(default_factory=MulticastFilter)

    def capture(self, frame: Buffer) -> None:
        for capture in self.captures:
            capture.frame(frame)
