"""xend's event log: who did what to which domain, with what result, and how long it took.

Entries are lines of JSON in STATE/events.jsonl; when it is full it becomes events.jsonl.1, and so on. All
methods but `entries` belong to the thread of the event loop; none of them waits for the disk but `open`,
`close` and, once a file, the rotation.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from itertools import islice, takewhile
from pathlib import Path
from types import TracebackType
from typing import Self

from xenion.xend.logfiles import LogFiles, sync_and_close
from xenion.xend.logstate import (
    DETAIL_LIMIT,
    Ending,
    LogEntry,
    LogState,
    Noted,
    Result,
    clean,
    encode,
    parse,
    restore,
)

__all__ = [
    "Ending",
    "EventLog",
    "EventLogError",
    "LogEntry",
    "Noted",
    "Result",
    "SlowSubscriber",
    "Subscription",
]

NAME = "events.jsonl"
SIZE_LIMIT = 4 * 1024 * 1024
FILES = 6
BACKLOG_BYTES = 4 * 1024 * 1024
QUEUE = 1000

_logger = logging.getLogger(__name__)


class EventLogError(Exception):
    """The log cannot be read or written; one sentence says which file, why, and what to do."""


class SlowSubscriber(Exception):
    """Entries came faster than they were taken; the reader goes on with `entries` since the last it has."""


class Subscription(AsyncIterator[LogEntry]):
    """New entries, in order, from the moment it was made; ends when it or the log is closed."""

    def __init__(self, log: "EventLog", limit: int) -> None:
        self._log = log
        self._limit = limit
        self._queue: deque[LogEntry] = deque()
        self._wake = asyncio.Event()
        self._ended = self._slow = False

    def put(self, entry: LogEntry) -> None:
        """For the log."""
        if len(self._queue) < self._limit:
            self._queue.append(entry)
            self._wake.set()
        else:
            self._slow = True
            self.close()

    async def __anext__(self) -> LogEntry:
        """What is queued still comes after the end; then SlowSubscriber if that was why it ended."""
        while not self._queue:
            if self._slow:
                raise SlowSubscriber(
                    "The event log's entries were not taken fast enough: ask for them again."
                )
            if self._ended:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._queue.popleft()

    def close(self) -> None:
        """Closing twice is harmless."""
        self._ended = True
        self._log.unsubscribe(self)
        self._wake.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventLog:
    """The log of one state folder, for the one process that holds that folder's lock. Use `EventLog.open`."""

    def __init__(
        self, path: Path, files: LogFiles, state: LogState, skipped: int, backlog_limit: int
    ) -> None:
        self._path = path
        self._files = files
        self._state = state
        self.skipped = skipped
        """Lines that made no sense, among those that had to be read to open the log."""
        self._started: dict[int, float] = {}
        self._subscriptions: list[Subscription] = []
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._backlog_limit = backlog_limit
        self._dropped = 0
        self._failure = ""
        self._committing = asyncio.Lock()
        self._commit: asyncio.Task[str] | None = None
        self._syncing = self._closed = False

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        size_limit: int = SIZE_LIMIT,
        files: int = FILES,
        backlog_limit: int = BACKLOG_BYTES,
    ) -> Self:
        """Reads what is there, and enters what became of it: a torn last line, actions that never ended.

        `files` counts all, the newest one too. At most `backlog_limit` bytes wait in memory for a disk that
        fails; what goes beyond is lost, the oldest first, and an entry tells how much.
        """
        path = folder / NAME
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened = LogFiles(path, size_limit, files)
        except OSError as error:
            raise EventLogError(_unreadable(path, error)) from error
        try:
            state, skipped = restore(opened.newest_first())
        except OSError as error:
            opened.close()
            raise EventLogError(_unreadable(path, error)) from error
        log = cls(path, opened, state, skipped, backlog_limit)
        log._resume()
        return log

    def _resume(self) -> None:
        if self.skipped:
            _logger.warning("The event log %s has %d lines that make no sense.", self._path, self.skipped)
        if not self._files.size and self._state.number:
            self._backlog_add(self._state.line())
            self._flush()
        if self._files.cut:
            told = f"the last entry was not whole: {self._files.cut} bytes were cut off"
            self.note("xend", "event log", result="interrupted", detail=told)
        for entry in list(self._state.begun.values()):
            self._end(entry, "interrupted", None, "xend ended before this did")

    # Entering.

    def begin(
        self,
        who: str,
        action: str,
        *,
        domain: str = "",
        domid: int | None = None,
        uuid: str = "",
        detail: str = "",
    ) -> int:
        """Enters that an action begins; the number is for `end`, which must follow whatever happens."""
        number = self._enter(_entry(who, action, "begun", domain, domid, uuid, detail))
        self._started[number] = time.monotonic()
        return number

    def end(
        self,
        number: int,
        result: Ending,
        *,
        detail: str = "",
        domain: str | None = None,
        domid: int | None = None,
        uuid: str | None = None,
    ) -> int:
        """Enters the end of what `begin` began; what is not given of the domain is as it was then."""
        begun = self._state.begun.get(number)
        if begun is None:
            raise ValueError(f"entry {number} of the event log is not an action that goes on")
        begun = begun.copy()
        if domain is not None:
            begun["domain"] = domain
        if domid is not None:
            begun["domid"] = domid
        if uuid is not None:
            begun["uuid"] = uuid
        return self._end(begun, result, time.monotonic() - self._started.pop(number), detail)

    def _end(self, begun: LogEntry, result: Result, seconds: float | None, detail: str) -> int:
        entry = _entry(
            begun["who"], begun["action"], result, begun["domain"], begun["domid"], begun["uuid"], detail
        )
        entry["seconds"], entry["begun"] = seconds, begun["n"]
        return self._enter(entry)

    def note(
        self,
        who: str,
        action: str,
        *,
        result: Noted = "",
        domain: str = "",
        domid: int | None = None,
        uuid: str = "",
        seconds: float | None = None,
        detail: str = "",
        journal: int | None = None,
        when: float | None = None,
    ) -> int:
        """Enters one thing that happened, now or at the epoch time `when`, and returns the entry's number.

        `journal` is the line of the domain's journal that says so: if this line or a later one was entered
        before, nothing is entered and 0 returned. The line 0 tells that domain and journal are gone.
        ValueError if a number or a time is none that an entry can have.
        """
        if journal and journal <= self.journal_position(uuid):
            return 0
        entry = _entry(who, action, result, domain, domid, uuid, detail)
        entry["seconds"], entry["journal"] = seconds, journal
        if when is not None:
            entry["time"] = when
        return self._enter(entry)

    def journal_position(self, uuid: str) -> int:
        """The last line of this domain's journal that was entered; 0 if none was."""
        return self._state.journals.get(clean(uuid), 0)

    def _enter(self, entry: LogEntry) -> int:
        if self._closed:
            raise EventLogError(f"The event log {self._path} is closed.")
        entry["n"] = self._state.number + 1
        if entry["seconds"] is not None:
            entry["seconds"] = round(max(entry["seconds"], 0.0), 6)
        line = encode(entry)
        if parse(line) is None:
            raise ValueError(f"not an entry of the event log: {entry}")
        # A new file begins with what is known without this entry, which a kill may keep from following.
        self._rotate(len(line))
        self._state.add(entry)
        for subscription in self._subscriptions.copy():
            subscription.put(entry)
        self._backlog_add(line)
        self._flush()
        return entry["n"]

    # Writing.

    def _rotate(self, more: int) -> None:
        """Not while lines wait: a new file must not begin with knowledge that is in memory only."""
        if self._syncing or self._backlog or not self._files.full(more):
            return
        try:
            self._files.rotate(self._state.line())
        except OSError as error:
            self._disk_failed(error)

    def _backlog_add(self, line: bytes) -> None:
        self._backlog.append(line)
        self._backlog_bytes += len(line)

    def _flush(self) -> None:
        """Writes what waits, as far as the disk takes it, and bounds the rest."""
        while self._backlog:
            try:
                self._files.append(self._backlog[0])
            except OSError as error:
                self._tell(error)
                break
            self._backlog_bytes -= len(self._backlog.popleft())
        while self._backlog_bytes > self._backlog_limit:
            self._backlog_bytes -= len(self._backlog.popleft())
            self._dropped += 1
        if self._dropped and not self._backlog:
            lost, self._dropped = self._dropped, 0
            told = f"{lost} entries before this one are lost: the disk took too long to come back"
            self.note("xend", "event log", result="failed", detail=told)

    def _disk_failed(self, error: OSError) -> None:
        self._tell(error)
        lines = self._files.take_back()
        self._backlog.extendleft(reversed(lines))
        self._backlog_bytes += sum(map(len, lines))

    def _tell(self, error: OSError) -> None:
        """Said once, until the disk is back."""
        told = bool(self._failure)
        self._failure = (
            f"The event log {self._path} cannot be written ({error.strerror or error}): look at its disk; "
            "until it is back entries are kept in memory."
        )
        if not told:
            _logger.error("%s", self._failure)

    async def sync(self) -> None:
        """Returns when all entries so far are on disk; EventLogError if they cannot be, and they are kept.

        Those who call while another sync is under way share the next one.
        """
        if self._closed:
            raise EventLogError(f"The event log {self._path} is closed.")
        if self._commit is None:
            self._commit = asyncio.create_task(self._commit_next())
        if failure := await asyncio.shield(self._commit):
            raise EventLogError(failure)

    async def _commit_next(self) -> str:
        async with self._committing:
            self._commit = None
            if self._closed:
                return f"The event log {self._path} was closed before all of it was on disk."
            self._flush()
            # Under load one sync follows another, and entering finds no moment between two.
            self._rotate(0)
            if self._backlog:
                return self._failure
            return await self._to_disk() if self._files.dirty or self._failure else ""

    async def _to_disk(self) -> str:
        mark = self._files.mark()
        self._syncing = True
        try:
            descriptor = self._files.duplicate()
            await asyncio.get_running_loop().run_in_executor(None, sync_and_close, descriptor)
        except OSError as error:
            self._disk_failed(error)
            return self._failure
        finally:
            self._syncing = False
        self._files.synced(mark)
        if self._failure and not self._backlog:
            self._failure = ""
            _logger.warning("The event log %s is written again.", self._path)
        return ""

    def close(self) -> None:
        """Writes what can be written and ends all subscriptions; what is lost is told to the logger."""
        if self._closed:
            return
        self._flush()
        self._closed = True
        for subscription in self._subscriptions.copy():
            subscription.close()
        try:
            self._files.close()
        except OSError as error:
            self._tell(error)
        if lost := len(self._backlog) + self._dropped:
            _logger.error("The event log %s ends without its last %d entries.", self._path, lost)

    # Reading.

    def entries(self, since: int = 0, last: int | None = None, uuid: str = "") -> list[LogEntry]:
        """Entries with numbers above `since`, oldest first: all, or the `last` ones; of one domain if `uuid`.

        Reads no more of the files than that needs; it may run in another thread while the log is written.
        """
        above = takewhile(lambda entry: entry["n"] > since, self._newest_first())
        wanted = (entry for entry in above if not uuid or entry["uuid"] == uuid)
        try:
            found = list(islice(wanted, None if last is None else max(last, 0)))
        except OSError as error:
            raise EventLogError(_unreadable(self._path, error)) from error
        return found[::-1]

    def _newest_first(self) -> Iterator[LogEntry]:
        """Each once: a rotation, or lines that had to be written again, can show them twice."""
        before = float("inf")
        for line in self._lines():
            entry = parse(line)
            if isinstance(entry, dict) and entry["n"] < before:
                before = entry["n"]
                yield entry

    def _lines(self) -> Iterator[bytes]:
        yield from reversed(list(self._backlog))
        yield from self._files.newest_first()

    def subscribe(self, limit: int = QUEUE) -> Subscription:
        """For a reader with at most `limit` entries waiting; its `close` must be called, or use `with`."""
        subscription = Subscription(self, limit)
        if self._closed:
            subscription.close()
        else:
            self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """For the subscription, when it ends."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


def _unreadable(path: Path, error: OSError) -> str:
    return f"The event log {path} cannot be opened ({error.strerror or error}): look at file and disk."


def _entry(
    who: str, action: str, result: Result, domain: str, domid: int | None, uuid: str, detail: str
) -> LogEntry:
    return {
        "n": 0,
        "time": time.time(),
        "who": clean(who),
        "action": clean(action),
        "domain": clean(domain),
        "domid": domid,
        "uuid": clean(uuid),
        "result": result,
        "seconds": None,
        "detail": clean(detail, DETAIL_LIMIT),
        "journal": None,
    }
