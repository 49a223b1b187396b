"""What a store is, in a file that outlives its process: a snapshot, then every change since, each before it is told.

The file is written through the page cache only: it outlives the process, not the machine.
"""

import os
from collections.abc import Generator
from pathlib import Path

from xenion.dom0.xenstore.errors import StoreError
from xenion.dom0.xenstore.frames import StateError, file_head, frame, read_file, record, records_of
from xenion.dom0.xenstore.journal import Record
from xenion.dom0.xenstore.replay import apply
from xenion.dom0.xenstore.snapshot import snapshot
from xenion.dom0.xenstore.store import Store

LEAST_GROWTH = 4 << 20
"""Bytes of changes that are kept in any case before there is another snapshot; beyond, as many as the last one has."""


class StateFile:
    """Keeps one store. Whoever holds the folder's lock may have one. StateError from everything that writes."""

    def __init__(self, path: Path, store: Store, *, least_growth: int = LEAST_GROWTH) -> None:
        """Makes the store what the file says, if there is one; StateError."""
        self._path = path
        self._store = store
        self._least_growth = least_growth
        self._pending: list[bytes] = []
        self._since: list[bytes] | None = None
        self._work: Generator[None, None, None] | None = None
        self._fd = -1
        self._size = self._snapshot_size = self._put_off = 0
        try:
            if path.exists() and path.stat().st_size:
                self._load()
            else:
                for _ in self._compact():
                    pass
        except OSError as error:
            raise StateError(f"{path} cannot be used: {error.strerror}") from error
        store.tell(self._note)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def _note(self, kind: Record, a: bytes = b"", b: bytes = b"", c: bytes = b"") -> None:
        self._pending += record(kind, a, b, c)

    def commit(self) -> None:
        """All changes so far will be there again; StateError: they are not, and nobody may be told of them."""
        if not self._pending:
            return
        made = frame(b"".join(self._pending), self._store.tree.generation)
        self._pending.clear()
        try:
            _write_all(self._fd, made)
        except OSError as error:
            raise StateError(
                f"{self._path} cannot be written: {error.strerror}; xenstored ends, its state is that of a moment ago"
            ) from error
        self._size += len(made)
        if self._since is not None:
            self._since.append(made)

    @property
    def has_work(self) -> bool:
        """There is something to do that can wait: `work` does a share of it."""
        if self._work is None and self._size - self._snapshot_size - self._put_off > max(
            self._least_growth, self._snapshot_size
        ):
            self._work = self._compact()
        return self._work is not None

    def work(self) -> None:
        """Commits, and writes some nodes of the next snapshot. Without room for it the file goes on to grow.

        A snapshot holds what is, and must not be in place before the changes that led there are.
        """
        self.commit()
        if self._work is None:
            return
        try:
            next(self._work)
        except StopIteration:
            self._work = None
        except OSError:
            self._work = self._since = None
            self._put_off = self._size - self._snapshot_size

    def close(self) -> None:
        if self._work is not None:
            self._work.close()
            self._work = None
        os.close(self._fd)

    # Inside

    @property
    def _temporary(self) -> Path:
        return self._path.with_name(self._path.name + ".new")

    def _load(self) -> None:
        data = self._path.read_bytes()
        tree = self._store.tree
        tree.remove("/tool")  # of a new store; this one need not have it
        end = 0
        for read in read_file(self._path, data):
            for kind, a, b, c in records_of(self._path, read):
                try:
                    apply(self._store, kind, a, b, c)
                except (StoreError, ValueError, LookupError) as error:
                    raise StateError(f"{self._path} says what no store says: {error}") from error
                if kind is Record.HELD:
                    self._snapshot_size += len(a) + len(b) + len(c)
            tree.generation = max(tree.generation, read.generation)
            end = read.end
        if not end:
            raise StateError(f"{self._path} holds no store: move it away to start with an empty one")
        self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.ftruncate(self._fd, end)
        self._size = end

    def _compact(self) -> Generator[None, None, None]:
        """Writes another file and puts it in this one's place. OSError: this one stays."""
        since: list[bytes] = []
        self._since = since
        fd = os.open(
            self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600
        )
        try:
            size = _write_all(fd, file_head())
            for share in snapshot(self._store):
                size += _write_all(fd, frame(share, self._store.tree.generation))
                yield
            snapshot_size = size
            for made in since:
                size += _write_all(fd, made)
            self._temporary.replace(self._path)
        except BaseException:
            os.close(fd)
            self._temporary.unlink(missing_ok=True)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size, self._snapshot_size = fd, size, snapshot_size
        self._since, self._put_off = None, 0


def _write_all(fd: int, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[os.write(fd, left) :]
    return len(data)


__all__ = ["StateError", "StateFile"]
