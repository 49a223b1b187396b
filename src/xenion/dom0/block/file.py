"""Raw images: a regular file or a block device, opened by whoever starts the domain process.

What the host has cached is read at once on Dom0's thread (RWF_NOWAIT), and small writes go into its cache there;
what may wait is done by threads.
"""

import ctypes
import errno
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from xenion.dom0.block import locks
from xenion.dom0.block.disk import DISCARD, FLUSH, READ, WRITE, Disk, Done
from xenion.dom0.block.views import skip, zero
from xenion.dom0.block.workers import Workers
from xenion.dom0.loop import Loop

THREADS = 8
SMALL_BYTES = 128 << 10
SLOW_SECONDS, REST_SECONDS = 0.002, 1.0
"""A small write that took longer than this is the last one on Dom0's thread for a while."""
FALLOC_KEEP_SIZE_AND_PUNCH_HOLE = 3

_libc = ctypes.CDLL(None, use_errno=True)
_fallocate = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class FileDisk(Disk):
    """Owns `fd`, unless the constructor fails. A file that ends within a sector is read as if zeros followed.

    `discard` asks for holes in the file; they are offered if the file system can make them. OSError if `fd` is not
    what an image can be in.
    """

    def __init__(
        self,
        fd: int,
        loop: Loop,
        *,
        writable: bool = True,
        cdrom: bool = False,
        sector_bytes: int = 512,
        discard: bool = True,
        threads: int = THREADS,
    ) -> None:
        status = os.fstat(fd)
        regular = stat.S_ISREG(status.st_mode)
        holes = discard and writable and not cdrom and regular and _can_punch(fd)
        super().__init__(
            loop,
            sector_bytes=sector_bytes,
            writable=writable,
            cdrom=cdrom,
            discard_bytes=max(status.st_blksize if status.st_blksize <= 1 << 20 else 4096, sector_bytes)
            if holes
            else 0,
        )
        self._fd = fd
        self._workers = Workers(loop, threads)
        self._bytes = 0
        self._try_read = self._try_write = True
        self._slow_until = 0.0
        self._flushing: list[Done] = []
        self._to_flush: list[Done] = []
        self.resize()

    def unlock(self) -> None:
        locks.give_back(self._fd)

    def lock(self) -> None:
        with suppress(locks.NoLocksError):
            locks.take_over(self._fd, writable=self.writable)

    def _find_size(self) -> int:
        self._bytes = os.lseek(self._fd, 0, os.SEEK_END)
        return self._bytes

    def _read(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None:
        if self._closed:
            return self._refuse(READ, done, errno.EIO)
        count = 0
        if self._try_read:
            try:
                count = os.preadv(self._fd, views, offset, os.RWF_NOWAIT)
            except OSError as error:
                # Any other error the thread will meet again, and report.
                self._try_read = error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS)
            if count == length:
                return done(0)
        job = partial(_read_all, self._fd, offset + count, skip(views, count), length - count, self._bytes)
        return self._hand_over(READ, job, done)

    def _write(self, offset: int, length: int, views: Sequence[memoryview], done: Done, fua: bool) -> None:
        if self._closed:
            return self._refuse(WRITE, done, errno.EIO)
        count = 0
        if self._try_write and not fua:
            try:
                count = os.pwritev(self._fd, views, offset, os.RWF_NOWAIT)
            except OSError as error:
                self._try_write = error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS)
        elif not fua and length <= SMALL_BYTES and (now := time.monotonic()) >= self._slow_until:
            count = self._write_here(offset, views, now)
        if count == length:
            return done(0)
        job = partial(_write_all, self._fd, offset + count, skip(views, count), length - count, fua)
        return self._hand_over(WRITE, job, done)

    def _write_here(self, offset: int, views: Sequence[memoryview], now: float) -> int:
        """A copy into the host's cache, as a rule, which is sooner done than handed over. Bytes written.

        A host that is short of clean memory makes who writes wait: then threads do that for a while.
        """
        try:
            return os.pwritev(self._fd, views, offset)
        except OSError:
            return 0  # the thread will meet it again, and report it
        finally:
            if time.monotonic() - now > SLOW_SECONDS:
                self._slow_until = now + REST_SECONDS

    def _flush(self, done: Done) -> None:
        """One at a time: one that begins later covers all that have come meanwhile.

        The kernel tells of a failed write once. So a failure is told to those who wait as well: what failed may be
        theirs.
        """
        if self._closed:
            return self._refuse(FLUSH, done, errno.EIO)
        self._busy += 1
        self._to_flush.append(done)
        if not self._flushing:
            self._start_flush()
        return None

    def _start_flush(self) -> None:
        self._flushing, self._to_flush = self._to_flush, []
        self._workers.submit(partial(_sync, self._fd), self._flushed)

    def _flushed(self, error: int) -> None:
        ended, self._flushing = self._flushing, []
        if error:
            ended, self._to_flush = ended + self._to_flush, []
        if self._to_flush:
            self._start_flush()
        for done in ended:
            self._ended(FLUSH, done, error)

    def _discard(self, offset: int, length: int, done: Done) -> None:
        if self._closed or not self.discard_bytes:
            return self._refuse(DISCARD, done, errno.EIO if self._closed else errno.EOPNOTSUPP)
        return self._hand_over(DISCARD, partial(_punch, self._fd, offset, length), done)

    def _hand_over(self, kind: int, job: partial[int], done: Done) -> None:
        self._busy += 1
        self._workers.submit(job, partial(self._ended, kind, done))

    def _close(self) -> None:
        self._workers.close()
        os.close(self._fd)


def _read_all(fd: int, offset: int, views: Sequence[memoryview], length: int, known: int) -> int:
    """In a thread. `known`: bytes that the file had; only what lies behind them may be missing."""
    try:
        while length:
            count = os.preadv(fd, views, offset)
            if not count:
                if offset < known:
                    return errno.EIO
                zero(views)
                return 0
            views = skip(views, count)
            offset += count
            length -= count
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _write_all(fd: int, offset: int, views: Sequence[memoryview], length: int, fua: bool) -> int:
    try:
        while length:
            count = os.pwritev(fd, views, offset)
            if not count:
                return errno.EIO
            views = skip(views, count)
            offset += count
            length -= count
        if fua:
            os.fdatasync(fd)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _sync(fd: int) -> int:
    try:
        os.fdatasync(fd)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _punch(fd: int, offset: int, length: int) -> int:
    while _fallocate(fd, FALLOC_KEEP_SIZE_AND_PUNCH_HOLE, offset, length):
        error = ctypes.get_errno()
        if error != errno.EINTR:
            return errno.EOPNOTSUPP if error == errno.ENOSYS else error
    return 0


def _can_punch(fd: int) -> bool:
    """Tried behind the file's end, where it changes nothing."""
    return _punch(fd, os.lseek(fd, 0, os.SEEK_END) + (1 << 20), 4096) == 0
