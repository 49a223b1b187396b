"""A capture as it streams by: packets are counted and cut off after enough of them (draft-ietf-opsawg-pcap)."""

import struct

from xenion.xm.errors import XmError

FILE_HEADER, PACKET_HEADER = 24, 16
_ORDERS = {
    b"\xd4\xc3\xb2\xa1": "<",
    b"\x4d\x3c\xb2\xa1": "<",
    b"\xa1\xb2\xc3\xd4": ">",
    b"\xa1\xb2\x3c\x4d": ">",
}
"""By a file's first four bytes: in what order its numbers are, with micro- or nanoseconds."""


class Packets:
    """Takes a pcap stream in pieces of any size. `most` None: no end."""

    def __init__(self, most: int | None = None) -> None:
        self.count = 0
        """Whole packets so far."""
        self._most = most
        self._head = bytearray()
        self._wanted = FILE_HEADER
        self._left = 0
        """Bytes of the present packet that are to come."""
        self._order = ""

    @property
    def full(self) -> bool:
        """There are enough; never before the file's own header has come."""
        return bool(self._order) and self._most is not None and self.count >= self._most

    def take(self, data: bytes) -> bytes:
        """What of `data` belongs to the packets that are wanted. XmError: this is no pcap."""
        at = 0
        while at < len(data) and not self.full:
            at += self._skip(len(data) - at) if self._left else self._read(data, at)
        return data[:at]

    def _skip(self, available: int) -> int:
        step = min(self._left, available)
        self._left -= step
        self.count += not self._left
        return step

    def _read(self, data: bytes, at: int) -> int:
        """A part of a header."""
        part = data[at : at + self._wanted - len(self._head)]
        self._head += part
        if len(self._head) == self._wanted:
            self._understand(bytes(self._head))
            self._head.clear()
        return len(part)

    def _understand(self, head: bytes) -> None:
        if not self._order:
            if head[:4] not in _ORDERS:
                raise XmError("what the domain sends is no capture")
            self._order, self._wanted = _ORDERS[head[:4]], PACKET_HEADER
            return
        (self._left,) = struct.unpack_from(f"{self._order}I", head, 8)
        self.count += not self._left
