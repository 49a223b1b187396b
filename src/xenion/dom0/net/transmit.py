"""From the guest to the wire: one queue's transmit ring."""

import struct
import time
from collections.abc import Iterator, Sequence
from typing import Any

from xenion.abi.io.netif import (
    NETIF_RSP_ERROR,
    NETIF_RSP_NULL,
    NETIF_RSP_OKAY,
    XEN_NETIF_EXTRA_TYPE_MCAST_ADD,
)
from xenion.dom0.guest import GrantError, MappedGrant, Port
from xenion.dom0.net.packet import MSS_LEAST, address_of, blank, complete, segment
from xenion.dom0.net.slots import Packet, TxSlotError, packet_at
from xenion.dom0.net.vif import Vif
from xenion.dom0.net.wire import Frame
from xenion.dom0.shared_ring import BackRing

_RESPONSE = struct.Struct("<Hh")
_NULL = _RESPONSE.pack(0, NETIF_RSP_NULL)
BATCH_PACKETS = 64
BATCH_BYTES = 256 * 1024
ROUNDS = 4
"""Batches at most before others get their turn."""
IDLE = -1.0
"""Nothing to do until the guest notifies or the wire has room again."""


class TxQueue:
    """A packet is answered when its bytes are copied: what becomes of it then is the wire's affair."""

    def __init__(self, vif: Vif, ring: BackRing, page: MappedGrant, port: Port) -> None:
        self._vif = vif
        self._ring = ring
        self._page = page
        self._port = port
        self._slots: list[bytes] = []
        self._at = 0
        self._wait = 0.0

    def serve(self) -> float:
        """IDLE, or in how many seconds to call again. RingError: the guest broke the ring's rules."""
        for _ in range(ROUNDS):
            if not self._vif.wire.room:
                return IDLE
            if self._at == len(self._slots) and not self._fill():
                return IDLE
            packets = self._batch()
            if packets:
                self._carry(packets)
            if self._wait:
                return self._wait
        return 0.0

    def _fill(self) -> bool:
        """Takes all that the ring has; whether that was anything. If not, the guest notifies the next."""
        taken = self._ring.take(self._ring.size)
        if not taken and self._ring.more():
            taken = self._ring.take(self._ring.size)
        self._slots = self._slots[self._at :] + taken
        self._at = 0
        return bool(taken)

    def _batch(self) -> list[Packet]:
        """Packets that may go now; `_wait` is set when the next one may not."""
        packets: list[Packet] = []
        size = 0
        self._wait = 0.0
        while self._at < len(self._slots) and len(packets) < BATCH_PACKETS and size < BATCH_BYTES:
            try:
                packet = packet_at(self._slots, self._at)
            except TxSlotError:
                if not packets:
                    raise
                break  # what came before is in order; it is met again when that is done
            if packet is None:
                if packets:
                    break
                if not self._fill():
                    raise TxSlotError("put only a part of a packet")
                continue
            if not self._vif.credit.unlimited:
                self._wait = self._vif.credit.take(packet.size, time.monotonic())
                if self._wait:
                    break
            self._at += packet.slots
            size += packet.size
            packets.append(packet)
        return packets

    def _carry(self, packets: Sequence[Packet]) -> None:
        good = [packet for packet in packets if not packet.refused and packet.multicast is None]
        if good:
            data = self._gather(good)
            if len(data):
                frames = self._frames([packet for packet in good if not packet.refused], data)
                self._vif.counters.tx_drops += self._vif.wire.send(frames)
        self._answer(packets)

    def _gather(self, packets: Sequence[Packet]) -> bytearray:
        """All bytes of those packets whose grants can be used; the others are refused."""
        try:
            return bytearray(self._vif.guest.gather([part for packet in packets for part in packet.parts]))
        except GrantError:
            return bytearray().join(self._gather_each(packets))

    def _gather_each(self, packets: Sequence[Packet]) -> Iterator[bytes]:
        for packet in packets:
            try:
                yield self._vif.guest.gather(packet.parts)
            except GrantError:
                packet.refused = True

    def _frames(self, packets: Sequence[Packet], data: bytearray) -> list[Frame]:
        vif, counters, guard = self._vif, self._vif.counters, self._vif.guard
        frames: list[Frame] = []
        base, view, start = address_of(data), memoryview(data), 0
        for packet in packets:
            size = packet.size
            piece, at = view[start : start + size], base + start
            start += size
            if guard is not None and not guard.allows(piece, at):
                counters.tx_drops += 1
                continue
            if packet.blank or packet.gso:
                made = self._offloaded(packet, piece, at)
                if not made:
                    packet.refused = True
                    continue
                frames += made
            else:
                frames.append(Frame(piece, False, packet.validated))
            counters.tx_packets += 1
            counters.tx_bytes += size
            if vif.captures:
                vif.capture(piece)
        return frames

    def _offloaded(self, packet: Packet, piece: memoryview, at: Any) -> list[Frame]:
        """What the guest left to us, done as far as the wire needs it; empty: its headers do not allow it."""
        wire, size = self._vif.wire, packet.size
        if packet.gso and packet.mss < MSS_LEAST:
            return []
        if packet.gso and not (wire.offload or wire.big):
            cut = segment(at, size, packet.mss)
            return [Frame(part, False, True) for part in cut] if cut else []
        if not packet.blank and not blank(at, size):
            return []
        if wire.offload:
            return [Frame(piece, True, True, packet.gso, packet.mss)]
        return [Frame(piece, False, True)] if complete(at, size) else []

    def _answer(self, packets: Sequence[Packet]) -> None:
        put = self._ring.put
        for packet in packets:
            status = self._status(packet)
            put(_RESPONSE.pack(packet.ids[0], status))
            for _ in range(packet.extras):
                put(_NULL)
            for ident in packet.ids[1:]:
                put(_RESPONSE.pack(ident, status))
        self._vif.guest.wrote([self._page])
        if self._ring.push():
            self._port.notify()

    def _status(self, packet: Packet) -> int:
        if packet.multicast is not None:
            kind, address = packet.multicast
            if kind != XEN_NETIF_EXTRA_TYPE_MCAST_ADD:
                self._vif.multicast.remove(address)
            elif not self._vif.multicast.add(address):
                return NETIF_RSP_ERROR
        elif packet.refused:
            self._vif.counters.tx_errors += 1
            return NETIF_RSP_ERROR
        return NETIF_RSP_OKAY
