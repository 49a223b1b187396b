"""What a vif's back end is plugged into. A wire is made once and lives through reboots; back ends come and go.

Everything runs on Dom0's thread. Nothing is lost silently: what cannot be carried is counted by who drops it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from xenion.abi.io.netif import XEN_NETIF_GSO_TYPE_NONE

Buffer = bytes | memoryview


@dataclass(slots=True)
class Frame:
    """One Ethernet frame, at least 14 bytes.

    `data` is good until `Sink.deliver` or `Wire.send` returns, and may be changed in place by who gets it.
    """

    data: Buffer
    blank: bool = False
    """The checksum field of TCP or UDP holds the pseudo header's sum only."""
    validated: bool = False
    """The checksum is known to be good, or there is no need for one."""
    gso: int = XEN_NETIF_GSO_TYPE_NONE
    """XEN_NETIF_GSO_TYPE_*: to be cut into segments of `mss` payload bytes; such a frame is blank, too."""
    mss: int = 0


class Sink(Protocol):
    """Who gets a wire's frames: a vif's back end, a switch's port."""

    def deliver(self, frames: Sequence[Frame]) -> int:
        """How many were dealt with, from the first on. If not all, the wire keeps the rest until `Wire.resume`."""

    def room_again(self) -> None:
        """`Wire.room` was false and is true again."""


class Wire(Protocol):
    offload: bool
    """Takes blank and GSO frames as they are; otherwise frames must be complete."""
    big: bool
    """Carries frames up to 65549 bytes; otherwise TCP is to be cut to the network's MTU."""
    on_lost: Callable[[str], None]
    """Set by the owner: called once with a sentence when the wire has died by itself."""

    @property
    def room(self) -> bool:
        """Whether frames should be sent now; sending one batch more is harmless."""

    def attach(self, sink: Sink | None) -> None:
        """Frames go there from now on; to None they are dropped and counted in `unclaimed`."""

    def detach(self, sink: Sink) -> None:
        """As `attach(None)` if `sink` is attached."""

    def send(self, frames: Sequence[Frame]) -> int:
        """Takes all of them; how many of these it had to drop."""

    def resume(self) -> None:
        """The sink can take frames again."""

    def close(self) -> None: ...


def ignore_loss(sentence: str) -> None:
    """What `on_lost` is until the owner sets it."""


class Unclaimed:
    """The sink of a wire that nobody listens to: swallows and counts, so that the other side does not block."""

    def __init__(self) -> None:
        self.frames = 0

    def deliver(self, frames: Sequence[Frame]) -> int:
        self.frames += len(frames)
        return len(frames)

    def room_again(self) -> None:
        pass
