"""From the wire to the guest: one queue's receive ring."""

import struct

from xenion.abi.grant_table import GNTST_okay
from xenion.abi.io.netif import (
    XEN_NETIF_EXTRA_TYPE_GSO,
    NETRXF_csum_blank,
    NETRXF_data_validated,
    NETRXF_extra_info,
    NETRXF_more_data,
)
from xenion.dom0.guest import PAGE_SIZE, MappedGrant, Port
from xenion.dom0.net.vif import Vif
from xenion.dom0.net.wire import Buffer, Frame
from xenion.dom0.shared_ring import BackRing

SLOT_BYTES = 8
_REQUEST = struct.Struct("<HHI")
_RESPONSE = struct.Struct("<HHHh")
_GSO_EXTRA = struct.Struct("<BBHBBH")


class RxQueue:
    """Frames are offered one by one, and are the guest's after `flush`.

    The response to a request always lies in the request's own slot, as front ends expect. Requests are taken as soon as
    they are seen and are held until there is a frame for them.
    """

    def __init__(self, vif: Vif, ring: BackRing, page: MappedGrant, port: Port) -> None:
        self._vif = vif
        self._ring = ring
        self._page = page
        self._port = port
        self._buffers: list[tuple[int, int]] = []
        self._next = 0
        self._parts: list[tuple[int, int, Buffer]] = []
        self._places: list[int] = []
        self._answers: list[bytes] = []

    def offer(self, frame: Frame) -> bool:
        """False: there are not buffers enough; then the guest notifies more. RingError."""
        data, gso = frame.data, frame.gso
        size = len(data)
        needed = (size + PAGE_SIZE - 1) // PAGE_SIZE + (1 if gso else 0)
        while len(self._buffers) - self._next < needed:
            if not self.refill():
                return False
        flags = NETRXF_csum_blank | NETRXF_data_validated if frame.blank else int(frame.validated)
        if size <= PAGE_SIZE and not gso:
            self._place(data, flags)
        else:
            self._place_long(frame, size, flags)
        counters = self._vif.counters
        counters.rx_packets += 1
        counters.rx_bytes += size
        if self._vif.captures:
            self._vif.capture(data)
        return True

    def _place(self, data: Buffer, flags: int) -> None:
        """One slot's worth of data."""
        ident, ref = self._buffers[self._next]
        self._next += 1
        self._parts.append((ref, 0, data))
        self._places.append(len(self._answers))
        self._answers.append(_RESPONSE.pack(ident, 0, flags, len(data)))

    def _place_long(self, frame: Frame, size: int, flags: int) -> None:
        data = memoryview(frame.data)
        if frame.gso:
            flags |= NETRXF_extra_info
        for start in range(0, size, PAGE_SIZE):
            end = start + PAGE_SIZE
            self._place(data[start:end], flags | (NETRXF_more_data if end < size else 0))
            if frame.gso and not start:
                self._next += 1  # the extra information lies where this request's response would
                self._answers.append(_GSO_EXTRA.pack(XEN_NETIF_EXTRA_TYPE_GSO, 0, frame.mss, frame.gso, 0, 0))
            flags = 0

    def ready(self) -> bool:
        """Whether there is a buffer at all. If not, the guest notifies the next. RingError."""
        return self._next < len(self._buffers) or self.refill()

    def refill(self) -> bool:
        """Whether there are new buffers. If not, the guest notifies the next. RingError."""
        taken = self._ring.take(self._ring.size)
        if not taken:
            return self._ring.more()
        unpack = _REQUEST.unpack
        self._buffers = self._buffers[self._next :] + [unpack(slot)[::2] for slot in taken]
        self._next = 0
        return True

    def flush(self) -> None:
        """Copies and shows the guest what was offered."""
        if not self._answers:
            return
        statuses = self._vif.guest.scatter(self._parts)
        answers = self._answers
        if any(statuses):
            self._refused(statuses)
        put = self._ring.put
        for answer in answers:
            put(answer)
        self._parts, self._places, self._answers = [], [], []
        self._vif.guest.wrote([self._page])
        if self._ring.push():
            self._port.notify()

    def _refused(self, statuses: list[int]) -> None:
        """Grants that could not be written: their slots carry the error."""
        for place, status in zip(self._places, statuses, strict=True):
            if status != GNTST_okay:
                ident, offset, flags, _ = _RESPONSE.unpack(self._answers[place])
                self._answers[place] = _RESPONSE.pack(ident, offset, flags, status)
                self._vif.counters.rx_errors += 1
