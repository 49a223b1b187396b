"""Wires from descriptions: what a domain process makes of the descriptors that it was handed."""

from xenion.dom0.loop import Loop
from xenion.dom0.net.options import WireOptions
from xenion.dom0.net.stream_wire import StreamWire
from xenion.dom0.net.tap_wire import TapWire


class WireKindError(Exception):
    def __init__(self, kind: str) -> None:
        super().__init__(f"a network connection of kind {kind!r} is not known: stream and tap are")


def make_wire(options: WireOptions, loop: Loop) -> StreamWire | TapWire:
    """It owns the descriptor from now on. WireKindError."""
    if options.kind == "stream":
        return StreamWire(
            options.fd,
            loop,
            big=options.big,
            acknowledge_syn_ack=options.acknowledge_syn_ack,
        )
    if options.kind == "tap":
        return TapWire(options.fd, loop)
    raise WireKindError(options.kind)
