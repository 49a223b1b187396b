"""A guest at its ring, and another one that goes on where it was held."""

from collections.abc import Callable

from tests.unit.dom0.xenstore.ring_guest import (
    RingGuest,
    T,
)
from xenion.dom0.xenstore.wire import Message, encode

COMMIT = b"T\0"
FLOOD = encode(Message(T.READ, 1, 0, b"name\0"))


def held(guest: RingGuest) -> list[str]:
    """Holds it: gets a word when the store has answered all."""
    said: list[str] = []
    guest.pump.hold(lambda: said.append("rests"))
    return said


Restored = Callable[..., RingGuest]


def watched(guest: RingGuest) -> list[tuple[bytes, bytes]]:
    watches = (watch.split(b"\0") for watch in guest.pump.state().watches)
    return [(path, token) for path, token, *_ in watches]
