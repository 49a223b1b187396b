"""One ring of a connected disk: takes requests, checks them, starts them, and answers each once.

Requests run side by side and are answered as they end. Only a barrier (BLKIF_OP_WRITE_BARRIER) waits for all that
came before it on its ring, and holds back what comes after.
"""

import errno
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from xenion.abi.io.blkif import (
    BLKIF_DISCARD_SECURE,
    BLKIF_MAX_SEGMENTS_PER_REQUEST,
    SECTOR_BYTES,
    SEGMENTS_PER_INDIRECT_PAGE,
    BlkifOp,
    BlkifRsp,
)
from xenion.dom0.block.disk import Disk, Done
from xenion.dom0.block.pages import Page, Pages
from xenion.dom0.block.slots import SEGMENT, Slots
from xenion.dom0.guest import GrantError, Guest, MappedGrant, Port
from xenion.dom0.loop import Loop
from xenion.dom0.ring import RingError
from xenion.dom0.shared_ring import BackRing

REQUESTS_A_TURN = 32
MAX_INDIRECT_SEGMENTS = 256
MOST_COPIED = 8 << 20
"""Bytes that requests of one ring hold, before the next ones wait."""
PERSISTENT_A_REQUEST = 33
"""Grants that stay mapped for each slot of the ring: what Linux's front end uses at most, unless told otherwise."""

READ, WRITE, WRITE_BARRIER, FLUSH_DISKCACHE = (
    int(BlkifOp.READ),
    int(BlkifOp.WRITE),
    int(BlkifOp.WRITE_BARRIER),
    int(BlkifOp.FLUSH_DISKCACHE),
)
DISCARD, INDIRECT = int(BlkifOp.DISCARD), int(BlkifOp.INDIRECT)
OKAY, ERROR, EOPNOTSUPP = int(BlkifRsp.OKAY), int(BlkifRsp.ERROR), int(BlkifRsp.EOPNOTSUPP)


class Drive(Protocol):
    """What a queue sees of its device."""

    disk: Disk
    """The medium at present."""
    sector_bytes: int
    """What the front end was told."""

    def broken(self, why: str) -> None:
        """A ring is not served any more."""


class Bad(Exception):
    """A request that is answered with BLKIF_RSP_ERROR."""


class Queue:
    """`start` begins; `stop` takes nothing more and calls `done` when all that was taken is answered and given back."""

    def __init__(
        self,
        guest: Guest,
        loop: Loop,
        drive: Drive,
        ring_pages: Sequence[MappedGrant],
        slots: Slots,
        persistent: bool,
    ) -> None:
        self._guest = guest
        self._loop = loop
        self._drive = drive
        self._ring_pages = ring_pages
        self._ring = BackRing([page.view for page in ring_pages], slots.bytes, guest.fence)
        self._ring.attach_as_shown()
        self._slots = slots
        self._port: Port | None = None
        self._pages = Pages(guest, self._ring.size * PERSISTENT_A_REQUEST if persistent else 0)
        self._todo: deque[bytes] = deque()
        """Taken and not begun."""
        self._active: dict[int, None] = {}
        """Numbers of requests that were begun and are not answered, the oldest first."""
        self._number = 0
        self._copied = 0
        """Bytes of copies that requests hold."""
        self._barrier = False
        """One of the active ones is a barrier."""
        self._filled: list[MappedGrant] = []
        self._due = self._running = self._broken = self._gone = False
        self._stopped: Callable[[], None] | None = None

    def start(self, port: int) -> None:
        """PortError: then, and if the device cannot be connected after all, `abandon` it."""
        self._port = self._guest.bind(port, self._turn)

    def abandon(self) -> None:
        """Nothing was served yet; the ring's pages are unmapped by whoever mapped them."""
        self._gone = True
        if self._port is not None:
            self._port.close()
            self._port = None
        self._ring.close()

    def stop(self, done: Callable[[], None]) -> None:
        self._stopped = done
        self._wake()

    def _wake(self) -> None:
        if not self._due:
            self._due = True
            self._loop.soon(self._due_turn)

    def _due_turn(self) -> None:
        self._due = False
        self._turn()

    def _turn(self) -> None:
        """The guest notified, requests ended, or there was more than one turn's worth."""
        if self._gone:
            return
        self._running = True
        try:
            again = self._work()
        finally:
            self._running = False
        self._submit(self._drive.disk)
        self._push()
        if again:
            self._wake()
        elif self._stopped is not None and not self._active and not self._todo:
            self._give_back()

    def _work(self) -> bool:
        """Whether there is more to do at once."""
        todo = self._todo
        count = 0
        try:
            if not todo and not self._broken and self._stopped is None:
                requests = self._ring.take(REQUESTS_A_TURN)
                count = len(requests)
                todo.extend(requests)
            while todo:
                if self._barrier or (todo[0][0] == WRITE_BARRIER and self._active):
                    return False  # what it waits for wakes us
                if self._copied > MOST_COPIED:
                    return False  # the end of a request wakes us
                self._begin(todo.popleft())
            if self._broken or self._stopped is not None:
                return False
            return count == REQUESTS_A_TURN or self._ring.more()
        except RingError as error:
            self._broken = True
            self._drive.broken(str(error))
            return False

    def _submit(self, disk: Disk) -> None:
        """A ring that is left behind waits for no limit."""
        if self._stopped is None:
            disk.submit()
        else:
            disk.hurry()

    def _push(self) -> None:
        """Shows what was answered: data first, then the mappings' end, then the answers, then the news of them."""
        if self._filled:
            self._guest.wrote(self._filled)
            self._filled = []
        if self._pages.retired:
            self._pages.unmap_retired()
        if self._ring.push() and self._port is not None:
            self._port.notify()

    def _give_back(self) -> None:
        done, self._stopped = self._stopped, None
        self._pages.unmap_all()
        self.abandon()
        for page in self._ring_pages:
            page.unmap()
        self._ring_pages = ()
        if done is not None:
            done()

    def _begin(self, slot: bytes) -> None:
        operation = slot[0]
        if operation == INDIRECT:
            code, count, ident, sector, _, *refs = self._slots.indirect.unpack_from(slot)
            if code in (READ, WRITE):
                self._transfer(code, ident, sector, count, slot, refs)
            else:
                self._answer(ident, code, ERROR)
        elif operation <= FLUSH_DISKCACHE:
            count, _, ident, sector = self._slots.request.unpack_from(slot)
            self._transfer(operation, ident, sector, count, slot, None)
        elif operation == DISCARD:
            self._discard(*self._slots.discard.unpack_from(slot))
        else:
            ident = self._slots.request.unpack_from(slot)[2]
            self._answer(ident, operation, EOPNOTSUPP)

    def _transfer(
        self, operation: int, ident: int, sector: int, count: int, slot: bytes, refs: list[int] | None
    ) -> None:
        """All that has segments. FLUSH_DISKCACHE and WRITE_BARRIER may have none."""
        self._number = number = self._number + 1
        self._active[number] = None
        once: list[Page] = []
        disk = self._drive.disk
        try:
            if not count and operation < WRITE_BARRIER:
                raise Bad
            if refs is not None:
                segments = self._indirect_segments(count, refs, once)
            elif count <= BLKIF_MAX_SEGMENTS_PER_REQUEST:
                at = self._slots.segments_at
                segments = slot[at : at + count * SEGMENT.size]
            else:
                raise Bad
            move = self._map_all if self._pages.persistent else self._copy
            length, views, done = move(operation, ident, sector, segments, once)
        except (Bad, GrantError):
            return self._finished(number, ident, operation, [], once, errno.EINVAL)
        offset = sector * SECTOR_BYTES
        if operation == READ:
            disk.readv(offset, length, views, done)
        elif operation == WRITE:
            disk.writev(offset, length, views, done)
        else:
            self._barrier = self._barrier or operation == WRITE_BARRIER
            self._flush(disk, offset, length, views, done)
        return None

    def _map_all(
        self, operation: int, ident: int, sector: int, segments: bytes, once: list[Page]
    ) -> tuple[int, list[memoryview], Done]:
        """The guest's own pages are read or written: bytes, where they are, what follows. Bad, GrantError."""
        views: list[memoryview] = []
        grants: list[MappedGrant] = []
        sectors = self._map(segments, operation == READ, once, views, grants)
        self._check(operation, self._drive.disk, sector, sectors)
        done = partial(self._finished, self._number, ident, operation, grants, once)
        return sectors * SECTOR_BYTES, views, done

    def _copy(
        self, operation: int, ident: int, sector: int, segments: bytes, once: list[Page]
    ) -> tuple[int, list[memoryview], Done]:
        """As `_map_all`, with memory of our own: a copy costs less than mapping and unmapping. Bad, GrantError."""
        unit, aligned = SECTOR_BYTES, self._drive.sector_bytes == SECTOR_BYTES
        parts: list[tuple[int, int, int]] = []
        sectors = 0
        for ref, first, last in SEGMENT.iter_unpack(segments):
            if not first <= last < 8 or not (aligned or (first == 0 and last == 7)):
                raise Bad
            parts.append((ref, first * unit, (last - first + 1) * unit))
            sectors += last - first + 1
        self._check(operation, self._drive.disk, sector, sectors)
        number, length = self._number, sectors * unit
        if operation == READ:
            space = bytearray(length)
            views = [memoryview(space)]
            done: Done = partial(self._read_into, number, ident, parts, space)
        else:
            views = [memoryview(self._guest.gather(parts))] if parts else []
            done = partial(self._copied_out, number, ident, operation, length)
        self._copied += length
        return length, views, done

    def _read_into(
        self, number: int, ident: int, parts: list[tuple[int, int, int]], data: bytearray, error: int
    ) -> None:
        """What was read goes to the guest."""
        self._copied -= len(data)
        if not error and any(self._guest.spread(parts, data)):
            error = errno.EINVAL
        self._finished(number, ident, READ, [], [], error)

    def _copied_out(self, number: int, ident: int, operation: int, length: int, error: int) -> None:
        self._copied -= length
        self._finished(number, ident, operation, [], [], error)

    def _map(
        self,
        segments: bytes,
        write: bool,
        once: list[Page],
        views: list[memoryview],
        grants: list[MappedGrant],
    ) -> int:
        """Maps what the segments name; how many sectors they have. Bad, GrantError."""
        known, number = self._pages.known, self._number
        aligned = self._drive.sector_bytes == SECTOR_BYTES
        sectors = 0
        for ref, first, last in SEGMENT.iter_unpack(segments):
            page = known.get(ref)
            if page is None:
                page = self._add_page(ref, write, once)
            page.last = number
            if first == 0 and last == 7:
                views.append(page.view)
                sectors += 8
            elif first <= last < 8 and aligned:
                views.append(page.view[first * SECTOR_BYTES : (last + 1) * SECTOR_BYTES])
                sectors += last - first + 1
            else:
                raise Bad
            if write:
                grants.append(page.grant)
        return sectors

    def _add_page(self, ref: int, write: bool, once: list[Page]) -> Page:
        return self._pages.add(ref, write, next(iter(self._active)), once)

    def _indirect_segments(self, count: int, refs: list[int], once: list[Page]) -> bytes:
        """A copy of the segments that lie in pages of their own."""
        if count > MAX_INDIRECT_SEGMENTS:
            raise Bad
        segments = b""
        while count > 0:
            here = min(count, SEGMENTS_PER_INDIRECT_PAGE)
            segments += self._indirect_page(refs.pop(0), here * SEGMENT.size, once)
            count -= here
        return segments

    def _indirect_page(self, ref: int, length: int, once: list[Page]) -> bytes:
        if not self._pages.persistent:
            return self._guest.gather([(ref, 0, length)])
        page = self._pages.known.get(ref)
        if page is None:
            page = self._add_page(ref, False, once)
        page.last = self._number
        return bytes(page.view[:length])

    def _check(self, operation: int, disk: Disk, sector: int, sectors: int) -> None:
        if sectors and (sector + sectors) * SECTOR_BYTES > disk.size:
            raise Bad
        if sector * SECTOR_BYTES % self._drive.sector_bytes and sectors:
            raise Bad
        if sectors and operation != READ and not disk.writable:
            raise Bad

    def _flush(
        self, disk: Disk, offset: int, length: int, views: list[memoryview], done: Callable[[int], None]
    ) -> None:
        """What was done before is on stable storage before the request's own data is, and that before it is done."""
        if not disk.writable:
            done(0)
        elif not views:
            disk.flush(done)
        else:
            disk.flush(partial(self._flushed, disk, offset, length, views, done))

    def _flushed(
        self,
        disk: Disk,
        offset: int,
        length: int,
        views: list[memoryview],
        done: Callable[[int], None],
        error: int,
    ) -> None:
        if error:
            done(error)
        else:
            disk.writev(offset, length, views, done, fua=True)
            self._submit(disk)

    def _discard(self, flag: int, handle: int, ident: int, sector: int, sectors: int) -> None:
        disk = self._drive.disk
        unit = self._drive.sector_bytes // SECTOR_BYTES
        self._number = number = self._number + 1
        self._active[number] = None
        done = partial(self._finished, number, ident, DISCARD, [], [])
        if not disk.discard_bytes or flag & BLKIF_DISCARD_SECURE:
            done(errno.EOPNOTSUPP if disk.writable else errno.EROFS)
        elif not sectors or (sector + sectors) * SECTOR_BYTES > disk.size or sector % unit or sectors % unit:
            done(errno.EINVAL)
        else:
            disk.discard(sector * SECTOR_BYTES, sectors * SECTOR_BYTES, done)

    def _finished(
        self, number: int, ident: int, operation: int, grants: list[MappedGrant], once: list[Page], error: int
    ) -> None:
        """A request has ended; called once for each."""
        del self._active[number]
        if operation == WRITE_BARRIER:
            self._barrier = False
        if grants:
            self._filled += grants
        if once:
            self._pages.retired += once
        if not error:
            status = OKAY
        elif error == errno.EOPNOTSUPP and operation >= WRITE_BARRIER:
            status = EOPNOTSUPP
        else:
            status = ERROR
        self._answer(ident, operation, status)

    def _answer(self, ident: int, operation: int, status: int) -> None:
        self._ring.put(self._slots.response.pack(ident, operation, status))
        if not self._running and not self._due:
            self._wake()
