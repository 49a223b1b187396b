"""A vif's frames as a pcap stream: both directions, Ethernet, microseconds."""

import errno
import os
import struct
import time
from typing import Any

from xenion.dom0.net.wire import Buffer

_MAGIC, _VERSION, _LINKTYPE_ETHERNET = 0xA1B2C3D4, (2, 4), 1
_FILE_HEADER = struct.Struct("<IHHiIII")
_PACKET_HEADER = struct.Struct("<IIII")
SNAP_BYTES = 262144


class Capture:
    """Writes to `fd`, a file, FIFO or pipe, which it owns and makes non-blocking.

    A frame that cannot be written whole at once is dropped and counted, unless a part of it is out: the rest goes
    before the next one. `over` is set when nobody reads any more or the disk is full; then it drops all.
    """

    def __init__(self, fd: int, snap: int = SNAP_BYTES) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._snap = snap
        self._rest = _FILE_HEADER.pack(_MAGIC, *_VERSION, 0, 0, snap, _LINKTYPE_ETHERNET)
        self.frames = 0
        self.drops = 0
        self.over = ""
        """The reason in a sentence, or empty."""
        self._out([])

    def frame(self, frame: Buffer) -> None:
        """One frame, now."""
        if self.over or (self._rest and not self._out([])):
            self.drops += 1
            return
        now = time.time_ns() // 1000
        kept = min(len(frame), self._snap)
        header = _PACKET_HEADER.pack(now // 1_000_000, now % 1_000_000, kept, len(frame))
        if self._out([header, memoryview(frame)[:kept]]):
            self.frames += 1
        else:
            self.drops += 1

    def _out(self, parts: list[Any]) -> bool:
        """Whether all that was left and all of `parts` is out, or the beginning is and the end is kept."""
        parts = [self._rest, *parts] if self._rest else parts
        try:
            done = os.writev(self._fd, parts)
        except BlockingIOError:
            return False
        except OSError as error:
            self._end(error)
            return False
        total = sum(len(part) for part in parts)
        if done < total:
            self._rest = b"".join(parts)[done:]
            return len(parts) > 1
        self._rest = b""
        return True

    def _end(self, error: OSError) -> None:
        gone = "nobody reads it any more" if error.errno == errno.EPIPE else error.strerror
        self.over = f"the capture has ended: {gone}"
        self._rest = b""

    def close(self) -> None:
        os.close(self._fd)
