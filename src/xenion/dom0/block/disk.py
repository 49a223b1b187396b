"""A disk as the back end uses it: sizes, operations with completions, limits, counters.

A disk belongs to the domain process and outlives the back ends that come and go with each boot of the guest.
Everything here runs on Dom0's thread.
"""

import errno
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from xenion.dom0.block.limits import Limiter
from xenion.dom0.loop import Loop, Timer

Done = Callable[[int], None]
"""Called once, on Dom0's thread, with 0 or an errno; perhaps before the operation returns."""

READ, WRITE, FLUSH, DISCARD = range(4)
SECTOR_SHIFT = 9


class Counters:
    """As xentop and xen-blkback's statistics name them; sectors of 512 bytes; `*_err` are operations that failed."""

    __slots__ = (
        "ds_err", "ds_req", "f_err", "f_req", "oo_req", "rd_err", "rd_req", "rd_sect", "wr_err", "wr_req", "wr_sect",
    )  # fmt: skip

    def __init__(self) -> None:
        self.rd_req = self.wr_req = self.f_req = self.ds_req = 0
        self.rd_sect = self.wr_sect = 0
        self.rd_err = self.wr_err = self.f_err = self.ds_err = 0
        self.oo_req = 0
        """Requests that had to wait for a limit."""

    def failed(self, kind: int) -> None:
        name = ("rd_err", "wr_err", "f_err", "ds_err")[kind]
        setattr(self, name, getattr(self, name) + 1)

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


class Disk(ABC):
    """What all disks share. `size` is in bytes, a multiple of `sector_bytes` (512 or 4096).

    `discard_bytes` is the granularity of `discard`, 0 if it is not offered. An operation starts at once, or when
    `submit` is called, or when a limit allows it, in the order in which they were asked for; they run side by side.
    Offsets, lengths and views are the caller's to check; views stay untouched by others until `done`.
    """

    cdrom: bool
    writable: bool

    def __init__(
        self, loop: Loop, *, sector_bytes: int, writable: bool, cdrom: bool, discard_bytes: int = 0
    ) -> None:
        self.loop = loop
        self.size = 0
        self.sector_bytes = sector_bytes
        self.writable = writable and not cdrom
        self.cdrom = cdrom
        self.discard_bytes = discard_bytes if self.writable else 0
        self.counters = Counters()
        self._limiter: Limiter | None = None
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._timer: Timer | None = None
        self._busy = 0
        self._drained: list[Callable[[], None]] = []
        self._closed = False

    def readv(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None:
        """`length` bytes from byte `offset` on into `views`, which have `length` bytes together."""
        counters = self.counters
        counters.rd_req += 1
        counters.rd_sect += length >> SECTOR_SHIFT
        if self._limiter is None:
            self._read(offset, length, views, done)
        else:
            self._limited(length, partial(self._read, offset, length, views, done))

    def writev(
        self, offset: int, length: int, views: Sequence[memoryview], done: Done, *, fua: bool = False
    ) -> None:
        """`fua`: on stable storage before it is done."""
        counters = self.counters
        counters.wr_req += 1
        counters.wr_sect += length >> SECTOR_SHIFT
        if self._limiter is None:
            self._write(offset, length, views, done, fua)
        else:
            self._limited(length, partial(self._write, offset, length, views, done, fua))

    def flush(self, done: Done) -> None:
        """What was written by operations that are done now is on stable storage when this is done."""
        self.counters.f_req += 1
        if self._limiter is None:
            self._flush(done)
        else:
            self._limited(0, partial(self._flush, done))

    def discard(self, offset: int, length: int, done: Done) -> None:
        """The bytes are not needed any more. EOPNOTSUPP if it cannot be done."""
        self.counters.ds_req += 1
        if self._limiter is None:
            self._discard(offset, length, done)
        else:
            self._limited(0, partial(self._discard, offset, length, done))

    def submit(self) -> None:  # noqa: B027  a disk that starts at once has nothing left to start
        """Starts what was asked for; the caller has nothing to add at the moment."""

    def set_limits(self, bytes_per_s: float, requests_per_s: float) -> None:
        """0 for none. Requests that wait already obey the new limits."""
        self._limiter = Limiter(bytes_per_s, requests_per_s) if bytes_per_s or requests_per_s else None
        self._start_waiting()
        self.submit()

    def hurry(self) -> None:
        """Starts what waits for a limit: what is left of it will be paid by later requests."""
        while self._waiting:
            self._start_next()
        self.submit()

    def drain(self, done: Callable[[], None]) -> None:
        """Calls `done` when nothing waits and nothing runs."""
        self._drained.append(done)
        self._check_drained()

    def resize(self) -> int:
        """Looks again how large it is; the size in bytes."""
        self.size = self._whole_sectors(self._find_size())
        return self.size

    def close(self) -> None:
        """Gives its descriptors back once nothing runs any more; requests that come later fail with EIO."""
        if not self._closed:
            self._limiter = None
            self.hurry()
            self._closed = True
            self.drain(self._close)

    def unlock(self) -> None:  # noqa: B027  what has no locks has none to give back
        """Others may use the image; it is not used until `lock`."""

    def lock(self) -> None:  # noqa: B027
        """As it was. InUseError, OSError: it is not."""

    @property
    def physical_sector_bytes(self) -> int:
        """What to align to: the host's pages, if the size allows it."""
        return self.sector_bytes if self.size % 4096 else 4096

    @property
    def idle(self) -> bool:
        return not self._busy and not self._waiting

    def _whole_sectors(self, size: int) -> int:
        return -(-size // self.sector_bytes) * self.sector_bytes

    def _limited(self, length: int, start: Callable[[], None]) -> None:
        self._waiting.append((length, start))
        if len(self._waiting) > 1 or not self._start_waiting():
            self.counters.oo_req += 1

    def _start_waiting(self) -> bool:
        """Starts what the limits allow; false if something still waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            delay = self._limiter.wait() if self._limiter is not None else 0.0
            if delay:
                self._timer = self.loop.later(delay, self._on_timer)
                return False
            self._start_next()
        return True

    def _on_timer(self) -> None:
        self._start_waiting()
        self.submit()

    def _start_next(self) -> None:
        length, start = self._waiting.popleft()
        if self._limiter is not None:
            self._limiter.spend(length)
        start()
        self._check_drained()

    def _ended(self, kind: int, done: Done, error: int) -> None:
        """An operation that was counted in `_busy` is over."""
        self._busy -= 1
        if error:
            self.counters.failed(kind)
        done(error)
        self._check_drained()

    def _refuse(self, kind: int, done: Done, error: int) -> None:
        """An operation that did not begin."""
        self.counters.failed(kind)
        done(error)

    def _check_drained(self) -> None:
        while self._drained and self.idle:
            self._drained.pop(0)()

    @abstractmethod
    def _read(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None: ...

    @abstractmethod
    def _write(
        self, offset: int, length: int, views: Sequence[memoryview], done: Done, fua: bool
    ) -> None: ...

    @abstractmethod
    def _flush(self, done: Done) -> None: ...

    @abstractmethod
    def _discard(self, offset: int, length: int, done: Done) -> None: ...

    @abstractmethod
    def _find_size(self) -> int: ...

    @abstractmethod
    def _close(self) -> None: ...


class EmptyDrive(Disk):
    """A CD-ROM drive without a disc."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(loop, sector_bytes=512, writable=False, cdrom=True)

    def _read(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None:
        self._refuse(READ, done, errno.ENOMEDIUM)

    def _write(self, offset: int, length: int, views: Sequence[memoryview], done: Done, fua: bool) -> None:
        self._refuse(WRITE, done, errno.ENOMEDIUM)

    def _flush(self, done: Done) -> None:
        done(0)

    def _discard(self, offset: int, length: int, done: Done) -> None:
        self._refuse(DISCARD, done, errno.EOPNOTSUPP)

    def _find_size(self) -> int:
        return 0

    def _close(self) -> None:
        pass
