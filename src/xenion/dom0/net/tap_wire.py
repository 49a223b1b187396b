"""A TAP device as a wire: the host's bridge or routing. Offloads pass as virtio's header (linux/virtio_net.h)."""

import errno
import os
import struct
from collections.abc import Callable, Sequence

from xenion.abi.io.netif import (
    XEN_NETIF_GSO_TYPE_NONE,
    XEN_NETIF_GSO_TYPE_TCPV4,
    XEN_NETIF_GSO_TYPE_TCPV6,
)
from xenion.dom0.loop import READ, Loop
from xenion.dom0.net.packet import (
    ETHER_HEADER,
    FRAGMENT,
    FRAME_MOST,
    PROTO_TCP,
    Layout,
    address_of,
    complete_at,
    layout,
)
from xenion.dom0.net.wire import Frame, Sink, Unclaimed, ignore_loss

_HEADER = struct.Struct("<BBHHHHH")
_NEEDS_CSUM, _DATA_VALID = 1, 2
_GSO_NONE, _GSO_TCPV4, _GSO_TCPV6, _GSO_ECN = 0, 1, 4, 0x80
_TO_XEN = {
    _GSO_NONE: XEN_NETIF_GSO_TYPE_NONE,
    _GSO_TCPV4: XEN_NETIF_GSO_TYPE_TCPV4,
    _GSO_TCPV6: XEN_NETIF_GSO_TYPE_TCPV6,
}
_FROM_XEN = {xen: virtio for virtio, xen in _TO_XEN.items()}
_PLAIN, _VALID = _HEADER.pack(0, 0, 0, 0, 0, 0, 0), _HEADER.pack(_DATA_VALID, 0, 0, 0, 0, 0, 0)

_SLOT_BYTES = _HEADER.size + FRAME_MOST
_BATCH = 32
_ROUNDS = 4
"""Batches at most that are read before others get their turn."""


class TapWire:
    """Owns `fd`, a TAP descriptor with IFF_NO_PI, IFF_VNET_HDR and a header of 12 bytes.

    What the guest does not take stays in the device's queue, which drops what is too much.
    """

    offload = big = True
    room = True

    def __init__(self, fd: int, loop: Loop) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._loop = loop
        self.on_lost: Callable[[str], None] = ignore_loss
        self.unclaimed = Unclaimed()
        self.errors = 0
        """Frames that the host sent and that cannot be used."""
        self._sink: Sink = self.unclaimed
        self._memory = memoryview(bytearray(_SLOT_BYTES * _BATCH))
        self._slots = [self._memory[i * _SLOT_BYTES : (i + 1) * _SLOT_BYTES] for i in range(_BATCH)]
        self._frames: list[Frame] = []
        self._held = self._lost = False
        self._watch()

    def attach(self, sink: Sink | None) -> None:
        self._sink = sink or self.unclaimed
        self.resume()

    def detach(self, sink: Sink) -> None:
        if self._sink is sink:
            self.attach(None)

    # --- to the host

    def send(self, frames: Sequence[Frame]) -> int:
        dropped = 0
        for frame in frames:
            header = _header_for(frame)
            if header is None or self._lost or not self._write(header, frame):
                dropped += 1
        return dropped

    def _write(self, header: bytes, frame: Frame) -> bool:
        try:
            os.writev(self._fd, [header, frame.data])
        except OSError as error:
            # The device is down (EIO) or full (EAGAIN), or does not like this one frame (EINVAL).
            if error.errno in (errno.EBADFD, errno.ENODEV):
                self._lose()
            return False
        return True

    # --- from the host

    def _on_ready(self, mask: int) -> None:
        for _ in range(_ROUNDS):
            if self._held or self._lost:
                return
            more = self._read_batch()
            self._deliver()
            if not more:
                return

    def _read_batch(self) -> bool:
        """Whether there may be more."""
        for slot in self._slots:
            try:
                count = os.readv(self._fd, [slot])
            except BlockingIOError:
                return False
            except OSError:
                self._lose()
                return False
            frame = _frame_in(slot, count)
            if frame is None:
                self.errors += 1
            else:
                self._frames.append(frame)
        return True

    def _deliver(self) -> None:
        if self._frames:
            count = len(self._frames)
            taken = self._sink.deliver(self._frames)
            del self._frames[:taken]
            if taken < count:
                self._held = True
                self._watch()

    def resume(self) -> None:
        if self._held:
            self._held = False
            self._deliver()
            if not self._held:
                self._watch()

    # --- the device

    def _watch(self) -> None:
        if not self._lost:
            self._loop.watch(self._fd, 0 if self._held else READ, self._on_ready)

    def _lose(self) -> None:
        if not self._lost:
            self._loop.watch(self._fd, 0, self._on_ready)
            self._lost = True
            self.on_lost("the TAP device of the network connection was removed from the host")

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.watch(self._fd, 0, self._on_ready)
            os.close(self._fd)
            self._fd = -1
        self._lost = True


def _frame_in(slot: memoryview, count: int) -> Frame | None:
    if not _HEADER.size + ETHER_HEADER <= count <= _SLOT_BYTES:
        return None
    flags, gso, _, mss, start, field, _ = _HEADER.unpack_from(slot)
    kind = _TO_XEN.get(gso & ~_GSO_ECN)
    if kind is None:
        return None
    data = slot[_HEADER.size : count]
    if not flags & _NEEDS_CSUM:
        return None if kind else Frame(data, False, bool(flags & _DATA_VALID))
    found = layout(address_of(data), len(data))
    if found is not None and (start, field) == (found.transport, _field(found)):
        return Frame(data, True, True, kind, mss)
    # Some other protocol's, or one within a tunnel: no front end could know where it is.
    return (
        Frame(data, False, True)
        if not kind and complete_at(address_of(data), len(data), start, field)
        else None
    )


def _field(found: Layout) -> int:
    """Where the checksum is in its TCP or UDP header; 0: there is no such header."""
    if not found.payload or found.flags & FRAGMENT:
        return 0
    return 16 if found.protocol == PROTO_TCP else 6


def _header_for(frame: Frame) -> bytes | None:
    """None: the frame is not what it says that it is."""
    if not frame.blank:
        return _VALID if frame.validated else _PLAIN
    found = layout(address_of(frame.data), len(frame.data))
    field = 0 if found is None else _field(found)
    if found is None or not field or (frame.gso and found.protocol != PROTO_TCP):
        return None
    header_size = found.payload if frame.gso else 0
    return _HEADER.pack(_NEEDS_CSUM, _FROM_XEN[frame.gso], header_size, frame.mss, found.transport, field, 0)
