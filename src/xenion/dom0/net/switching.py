"""A learning switch's decisions: which port a frame goes to. No I/O."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

AGE_SECONDS = 300.0
PORT_ADDRESSES = 1024
"""Addresses that one port may be known by; a flood of invented ones costs its own sender its oldest."""

P = TypeVar("P", bound=Hashable)


class AddressTable(Generic[P]):
    """Where MAC addresses were last seen. `clock` gives seconds and never steps back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._where: dict[bytes, tuple[P, float]] = {}
        self._of: dict[P, OrderedDict[bytes, None]] = {}

    def __len__(self) -> int:
        return len(self._where)

    def learn(self, address: bytes, port: P) -> None:
        """A frame from `address` came in at `port`; a group's address is nobody's."""
        if address[0] & 1:
            return
        known = self._where.get(address)
        if known is not None and known[0] != port:
            self._of[known[0]].pop(address, None)
        self._where[address] = (port, self._clock())
        of = self._of.setdefault(port, OrderedDict())
        of[address] = None
        of.move_to_end(address)
        if len(of) > PORT_ADDRESSES:
            del self._where[of.popitem(last=False)[0]]

    def find(self, address: bytes) -> P | None:
        """The port; None for a group, an unknown address and one that has been silent for AGE_SECONDS."""
        known = self._where.get(address)
        if known is None:
            return None
        port, seen = known
        if self._clock() - seen <= AGE_SECONDS:
            return port
        del self._where[address]
        self._of[port].pop(address, None)
        return None

    def forget(self, port: P) -> None:
        """The port is gone."""
        for address in self._of.pop(port, ()):
            del self._where[address]
