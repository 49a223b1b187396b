"""Descriptions become wires."""

import os
import socket

import pytest

from tests.unit.dom0.net import frames as make
from tests.unit.dom0.net.front import settle
from tests.unit.dom0.net.test_stream_wire import Sink, framed
from xenion.dom0.loop import Loop
from xenion.dom0.net.options import WireOptions
from xenion.dom0.net.tap_wire import TapWire
from xenion.dom0.net.wires import WireKindError, make_wire


def test_a_stream(loop: Loop) -> None:
    ours, theirs = socket.socketpair()
    wire = make_wire(WireOptions(kind="stream", fd=ours.detach(), big=False), loop)
    sink = Sink()
    wire.attach(sink)
    theirs.sendall(framed(make.tcp(b"x")))
    settle(loop)
    assert sink.frames == [make.tcp(b"x")]
    assert (wire.big, wire.offload) == (False, False)
    wire.close()
    theirs.close()


def test_a_tap(loop: Loop) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire = make_wire(WireOptions(kind="tap", fd=ours.detach()), loop)
    assert isinstance(wire, TapWire)
    wire.close()
    theirs.close()


def test_something_else(loop: Loop) -> None:
    fd = os.eventfd(0)
    with pytest.raises(WireKindError, match="'carrier pigeon'"):
        make_wire(WireOptions(kind="carrier pigeon", fd=fd), loop)
    os.close(fd)
