"""A disk behind an NBD server: a storage daemon of ours, or one elsewhere.

Sockets come negotiated (xenion.dom0.block.nbd_handshake). A server may be restarted under a running guest: what it
has not answered is asked again, and what it acknowledged and was never told to flush is written again first, for a
server that died may have lost it. So the guest notices nothing but a pause.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from xenion.dom0.block.disk import DISCARD, FLUSH, READ, WRITE, Disk, Done
from xenion.dom0.block.nbd_connection import (
    CMD_FLAG_FUA,
    CMD_FLUSH,
    CMD_READ,
    CMD_TRIM,
    CMD_WRITE,
    Command,
    Connection,
)
from xenion.dom0.block.nbd_handshake import (
    FLAG_SEND_FLUSH,
    FLAG_SEND_FUA,
    FLAG_SEND_TRIM,
    NbdError,
    NbdInfo,
)
from xenion.dom0.block.unflushed import Unflushed
from xenion.dom0.block.views import head, skip
from xenion.dom0.loop import Loop, Timer

GIVE_UP_S = 60.0
UNFLUSHED_BYTES = 32 << 20
TRIM_BYTES = 1 << 30

_KNOWN_ERRORS = frozenset({errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC, errno.EOVERFLOW})


class NbdDisk(Disk):
    """Owns `sockets`, unless the constructor fails. `on_lost(why)`: the server is gone, `reconnect` is wanted.

    Without a new connection for GIVE_UP_S requests fail with EIO, until one comes. A last part of the export that is
    no whole sector cannot be reached. NbdError if the server's blocks do not fit sectors of `sector_bytes`.
    """

    def __init__(
        self,
        sockets: Sequence[int],
        info: NbdInfo,
        loop: Loop,
        *,
        on_lost: Callable[[str], None],
        writable: bool = True,
        cdrom: bool = False,
        sector_bytes: int = 512,
        discard: bool = True,
    ) -> None:
        super().__init__(
            loop,
            sector_bytes=sector_bytes,
            writable=writable and not info.read_only,
            cdrom=cdrom,
            discard_bytes=max(info.min_block, sector_bytes) if discard and info.flags & FLAG_SEND_TRIM else 0,
        )
        self._on_lost = on_lost
        self._connections: list[Connection] = []
        self._todo: deque[Command] = deque()
        """What waits for a connection."""
        self._held: deque[Command] = deque()
        """Writes that wait until fewer are unflushed."""
        self._unflushed = Unflushed()
        self._flushing = False
        """A flush of our own runs."""
        self._flush_error = 0
        """What the guest's next flush has to be told."""
        self._replaying: Command | None = None
        self._gave_up = False
        self._patience: Timer | None = None
        self._check(info)
        self._use(sockets, info)
        self.resize()

    def reconnect(self, sockets: Sequence[int], info: NbdInfo) -> None:
        """Goes on with these, whether or not the old ones are lost. A new size counts after `resize`.

        An old server must have ended, or be done with what it was asked: it must not write any more. NbdError if the
        export is not what it was; the sockets stay the caller's then.
        """
        if self.writable and info.read_only:
            raise NbdError("the NBD server offers now for reading only what the guest may write")
        self._check(info)
        self._drop_connections()
        self._use(sockets, info)
        self._gave_up = False
        self._set_patience(None)
        self._replay(self._unflushed.writes())

    def _check(self, info: NbdInfo) -> None:
        if self.sector_bytes % info.min_block:
            raise NbdError(
                f"the NBD server serves blocks of {info.min_block} bytes and no smaller ones, the disk has sectors of "
                f"{self.sector_bytes}: give the disk larger sectors"
            )

    def _use(self, sockets: Sequence[int], info: NbdInfo) -> None:
        self._info = info
        self._piece = info.max_block // self.sector_bytes * self.sector_bytes
        used = len(sockets) if info.multi_conn else 1
        for fd in sockets[used:]:
            os.close(fd)
        self._connections = [Connection(fd, self.loop, self._lost, self.submit) for fd in sockets[:used]]

    def submit(self) -> None:
        for connection in self._connections:
            connection.submit()

    def _find_size(self) -> int:
        return self._info.size

    def _whole_sectors(self, size: int) -> int:
        return size // self.sector_bytes * self.sector_bytes

    def _read(self, offset: int, length: int, views: Sequence[memoryview], done: Done) -> None:
        self._busy += 1
        self._pieces(CMD_READ, 0, offset, length, views, partial(self._end, READ, done), 0)

    def _write(self, offset: int, length: int, views: Sequence[memoryview], done: Done, fua: bool) -> None:
        self._busy += 1
        end = partial(self._end, WRITE, done)
        if not fua or not self._can(FLAG_SEND_FLUSH):
            self._pieces(CMD_WRITE, 0, offset, length, views, end, 0)
        elif self._can(FLAG_SEND_FUA):
            self._pieces(CMD_WRITE, CMD_FLAG_FUA, offset, length, views, end, 0)
        else:
            self._pieces(CMD_WRITE, 0, offset, length, views, partial(self._then_flush, end), 0)

    def _flush(self, done: Done) -> None:
        self._busy += 1
        self._flush_for(partial(self._end, FLUSH, done))

    def _discard(self, offset: int, length: int, done: Done) -> None:
        if not self.discard_bytes or not self._can(FLAG_SEND_TRIM):
            return self._refuse(DISCARD, done, errno.EOPNOTSUPP)
        self._busy += 1
        return self._pieces(CMD_TRIM, 0, offset, length, (), partial(self._end, DISCARD, done), 0)

    def _can(self, flag: int) -> bool:
        return bool(self._info.flags & flag)

    def _end(self, kind: int, done: Done, error: int) -> None:
        if error and error not in _KNOWN_ERRORS:
            error = errno.EOPNOTSUPP if error == errno.EOPNOTSUPP else errno.EIO
        self._ended(kind, done, error)

    def _then_flush(self, end: Done, error: int) -> None:
        if error:
            end(error)
        else:
            self._flush_for(end)

    def _pieces(
        self,
        code: int,
        flags: int,
        offset: int,
        left: int,
        views: Sequence[memoryview],
        end: Done,
        error: int,
    ) -> None:
        """One command, or one after the other if the server takes smaller ones only."""
        most = TRIM_BYTES if code == CMD_TRIM else self._piece
        if left <= most or error:
            if error or not left:
                return end(error)
            return self._issue(Command(code, offset, left, views, end, flags))
        rest = partial(self._pieces, code, flags, offset + most, left - most, skip(views, most), end)
        return self._issue(Command(code, offset, most, head(views, most), rest, flags))

    def _issue(self, command: Command) -> None:
        if command.code == CMD_WRITE and self._can(FLAG_SEND_FLUSH):
            command.done = partial(self._written, command, command.done)
            if self._unflushed.bytes > UNFLUSHED_BYTES:
                self._held.append(command)
                self._flush_ourselves()
                return
        self._dispatch(command)

    def _dispatch(self, command: Command) -> None:
        if self._gave_up:
            command.done(errno.EIO)
        elif not self._connections or self._replaying is not None:
            self._todo.append(command)
        else:
            self._least_busy().queue(command)

    def _least_busy(self) -> Connection:
        if len(self._connections) == 1:
            return self._connections[0]
        return min(self._connections, key=lambda connection: len(connection.outstanding))

    def _written(self, command: Command, done: Done, error: int) -> None:
        if not error:
            self._unflushed.add(command.offset, b"".join(command.views))
            if self._unflushed.bytes > UNFLUSHED_BYTES // 2:
                self._flush_ourselves()
        done(error)

    def _flush_for(self, end: Done) -> None:
        if not self._can(FLAG_SEND_FLUSH):
            return end(0)
        return self._dispatch(
            Command(CMD_FLUSH, 0, 0, (), partial(self._flushed, self._unflushed.mark(), end))
        )

    def _flush_ourselves(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._flush_for(self._flushed_ourselves)

    def _flushed_ourselves(self, error: int) -> None:
        self._flushing = False
        if not self._gave_up:
            self._flush_error = self._flush_error or error
        held, self._held = self._held, deque()
        for command in held:
            self._dispatch(command)
        self.submit()

    def _flushed(self, mark: int, end: Done, error: int) -> None:
        """A flush that failed has been told, and is not to be hoped for again."""
        if not self._gave_up:
            self._unflushed.drop(mark)
        if end != self._flushed_ourselves:
            error, self._flush_error = error or self._flush_error, 0
        end(error)

    def _lost(self, connection: Connection, why: str) -> None:
        self._drop_connections()
        self._set_patience(self.loop.later(GIVE_UP_S, self._give_up))
        self._on_lost(why)

    def _drop_connections(self) -> None:
        """One that ended takes the others along: they have the same server. What they owe is asked again."""
        replay, self._replaying = self._replaying, None
        owed = [
            c for connection in self._connections for c in connection.outstanding.values() if c is not replay
        ]
        for connection in self._connections:
            connection.close()
        self._connections = []
        self._todo.extendleft(reversed(owed))

    def _set_patience(self, timer: Timer | None) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self._patience = timer

    def _give_up(self) -> None:
        self._gave_up = True
        failed = [*self._todo, *self._held]
        self._todo.clear()
        self._held.clear()
        for command in failed:
            command.done(errno.EIO)

    def _replay(self, writes: list[tuple[int, bytes]]) -> None:
        """One after the other, in their order: they may lie over each other."""
        pending = deque(
            (offset + at, memoryview(data)[at : at + self._piece])
            for offset, data in writes
            for at in range(0, len(data), self._piece)
        )
        self._replay_next(pending, 0)

    def _replay_next(self, pending: deque[tuple[int, memoryview]], error: int) -> None:
        self._flush_error = self._flush_error or error
        self._replaying = None
        if pending:
            offset, data = pending.popleft()
            command = Command(CMD_WRITE, offset, len(data), (data,), partial(self._replay_next, pending))
            self._replaying = command
            self._connections[0].queue(command)
        else:
            todo, self._todo = self._todo, deque()
            for command in todo:
                self._least_busy().queue(command)
        self.submit()

    def _close(self) -> None:
        self._gave_up = True
        self._set_patience(None)
        for connection in self._connections:
            connection.leave()
        self._connections = []
