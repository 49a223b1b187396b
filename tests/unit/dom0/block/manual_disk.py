"""A disk in memory whose operations end when, and in which order, a test says."""

import errno
from collections.abc import Callable, Sequence

from xenion.dom0.block.disk import DISCARD, FLUSH, READ, WRITE, Disk, Done
from xenion.dom0.loop import Loop


class ManualDisk(Disk):
    """`pending` are the operations that run. `log` has what ended, in order: (kind, offset, length)."""

    def __init__(
        self,
        loop: Loop,
        size: int = 1 << 20,
        *,
        sector_bytes: int = 512,
        writable: bool = True,
        cdrom: bool = False,
    ) -> None:
        super().__init__(loop, sector_bytes=sector_bytes, writable=writable, cdrom=cdrom, discard_bytes=4096)
        self.data = bytearray(size)
        self.pending: list[tuple[int, int, int, Callable[[], None], Done]] = []
        self.log: list[tuple[int, int, int]] = []
        self.resize()

    def finish(self, index: int = 0, error: int = 0) -> None:
        """The operation takes effect now; or it fails."""
        kind, offset, length, effect, done = self.pending.pop(index)
        if not error:
            effect()
        self.log.append((kind, offset, length))
        self._ended(kind, done, error)

    def finish_all(self) -> None:
        while self.pending:
            self.finish()

    def _start(self, kind: int, offset: int, length: int, effect: Callable[[], None], done: Done) -> None:
        self._busy += 1
        self.pending.append((kind, offset, length, effect, done))

    def _read(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None:
        assert sum(map(len, views)) == length
        assert offset + length <= self.size

        def effect() -> None:
            at = offset
            for view in views:
                view[:] = self.data[at : at + len(view)]
                at += len(view)

        self._start(READ, offset, length, effect, done)

    def _write(self, offset: int, length: int, views: Sequence[memoryview], done: Done, fua: bool) -> None:
        assert sum(map(len, views)) == length
        assert offset + length <= self.size
        assert self.writable

        def effect() -> None:
            self.data[offset : offset + length] = b"".join(views)

        self._start(WRITE, offset, length, effect, done)

    def _flush(self, done: Done) -> None:
        self._start(FLUSH, 0, 0, lambda: None, done)

    def _discard(self, offset: int, length: int, done: Done) -> None:
        assert offset + length <= self.size
        if not self.discard_bytes:
            return self._refuse(DISCARD, done, errno.EOPNOTSUPP)

        def effect() -> None:
            self.data[offset : offset + length] = bytes(length)

        return self._start(DISCARD, offset, length, effect, done)

    def _find_size(self) -> int:
        return len(self.data)

    def _close(self) -> None:
        pass
