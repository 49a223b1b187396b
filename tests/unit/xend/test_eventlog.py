"""The event log: nothing twice, nothing left out, whatever happens to xend or the disk."""

import asyncio
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.xend.disk import disk_ends_at
from xenion.xend.eventlog import EventLog, EventLogError, LogEntry, SlowSubscriber

KILLED_WRITERS = 4


@contextmanager
def opened(folder: Path, **how: Any) -> Iterator[EventLog]:
    log = EventLog.open(folder, **how)
    try:
        yield log
    finally:
        log.close()


def file(folder: Path) -> Path:
    return folder / "events.jsonl"


def details(entries: list[LogEntry]) -> list[str]:
    return [entry["detail"] for entry in entries]


def check_heads(folder: Path) -> None:
    """Each file begins with the state of what is in older files, and with nothing that is not."""
    for path in folder.iterdir():
        first, second, *_ = [json.loads(line) for line in path.read_text().splitlines()]
        assert second["n"] == first["n"] + 1
        assert "carried" in first or first["n"] == 1


def refuse(*arguments: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_an_action_is_entered_when_it_begins_and_when_it_ends(tmp_path: Path) -> None:
    with opened(tmp_path / "state") as log:
        begun = log.begin("root", "create", domain="web", detail="32 MiB")
        ended = log.end(begun, "done", domid=3, uuid="u1", detail="running")
        first, last = log.entries()
        assert (first["n"], first["result"], first["who"], first["seconds"]) == (begun, "begun", "root", None)
        assert (last["n"], last["result"], last["begun"]) == (ended, "done", begun)
        assert (last["who"], last["action"], last["domain"]) == ("root", "create", "web")
        assert (last["domid"], last["uuid"], last["detail"]) == (3, "u1", "running")
        assert last["seconds"] is not None
        assert 0 <= last["seconds"] < 60
        assert last["time"] >= first["time"] > 1e9
        with pytest.raises(ValueError, match=f"entry {begun}"):
            log.end(begun, "done")
    assert file(tmp_path / "state").stat().st_mode & 0o777 == 0o600
    assert [json.loads(line) for line in file(tmp_path / "state").read_text().splitlines()] == [first, last]


def test_numbers_go_on_after_a_restart_and_what_went_on_was_interrupted(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.end(log.begin("a", "create"), "failed")
        begun = log.begin("b", "destroy", domain="web", domid=1, uuid="u1")
    for _ in range(2):
        with opened(tmp_path) as log:
            last = log.entries()[-1]
            assert (last["n"], last["result"], last["begun"]) == (begun + 1, "interrupted", begun)
            assert (last["who"], last["action"], last["domain"], last["uuid"]) == (
                "b",
                "destroy",
                "web",
                "u1",
            )


def test_a_journal_is_entered_once(tmp_path: Path) -> None:
    for _ in range(2):
        with opened(tmp_path) as log:
            for line in range(1, 4):
                log.note("domain", "boot", uuid="u1", journal=line, when=1e9 + line)
            assert log.note("domain", "boot", uuid="u1", journal=2) == 0
            assert log.journal_position("u1") == 3
            assert log.journal_position("u2") == 0
            assert [entry["time"] for entry in log.entries()] == [1e9 + 1, 1e9 + 2, 1e9 + 3]
    with opened(tmp_path) as log:
        log.note("xend", "removed", uuid="u1", journal=0)
        assert log.journal_position("u1") == 0
    with opened(tmp_path) as log:
        assert log.note("domain", "boot", uuid="u1", journal=1)


def test_what_is_in_files_long_gone_is_still_known(tmp_path: Path) -> None:
    with opened(tmp_path, size_limit=2000, files=3) as log:
        log.note("domain", "boot", uuid="old", journal=7)
        begun = log.begin("root", "migrate", domain="old", detail="x" * 2000)
        for i in range(100):
            log.note("xend", "busy", detail=str(i))
        assert log.entries()[0]["n"] > begun
        sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 3
    assert max(sizes) <= 2000
    check_heads(tmp_path)
    with opened(tmp_path, size_limit=2000, files=3) as log:
        assert log.journal_position("old") == 7
        last = log.entries(last=1)[0]
        assert (last["result"], last["begun"], last["domain"]) == ("interrupted", begun, "old")
        assert last["n"] == begun + 101


def test_a_rotation_that_came_only_halfway_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.note("domain", "boot", uuid="u1", journal=7)
    file(tmp_path).rename(tmp_path / "events.jsonl.1")
    for _ in range(2):
        with opened(tmp_path) as log:
            assert log.journal_position("u1") == 7
            assert log.note("xend", "start") == len(log.entries()) > 1
    assert "carried" in file(tmp_path).read_text().splitlines()[0]


def test_entries_are_chosen_over_rotated_files(tmp_path: Path) -> None:
    with opened(tmp_path, size_limit=2000, files=50) as log:
        for i in range(1, 101):
            assert log.note("xend", "busy", uuid=f"u{i % 2}") == i
        assert len(list(tmp_path.iterdir())) > 5

        def numbers(**chosen: Any) -> list[int]:
            return [entry["n"] for entry in log.entries(**chosen)]

        assert numbers() == list(range(1, 101))
        assert numbers(since=97) == [98, 99, 100]
        assert numbers(since=50, last=2) == [99, 100]
        assert numbers(last=3, uuid="u1") == [95, 97, 99]
        assert numbers(last=0) == numbers(last=-1) == numbers(since=100) == []


def test_no_more_is_read_than_asked_for(tmp_path: Path) -> None:
    """The rotated file cannot even be opened."""
    with opened(tmp_path) as log:
        log.note("xend", "start")
        (tmp_path / "events.jsonl.1").mkdir()
        assert len(log.entries(last=1)) == 1
        with pytest.raises(EventLogError, match=r"events.jsonl cannot be opened \(Is a directory\)"):
            log.entries()


def test_what_clients_send_is_bounded_and_stays_in_its_line(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        hostile = '\n{"n": 9}\u2028\ud800"\\\0' + "\U0001f600" * 5000
        log.note(hostile, hostile, domain=hostile, uuid=hostile, detail=hostile)
        (entry,) = log.entries()
        assert len(entry["detail"]) == 2000
        assert entry["domain"].startswith('\n{"n": 9}\u2028?"\\\0')
        assert entry["domain"].endswith("...")
        assert len(file(tmp_path).read_bytes()) < 40_000
        for wrong in ({"when": float("nan")}, {"domid": -1}, {"journal": 2**70, "uuid": "u"}):
            with pytest.raises(ValueError, match="not an entry"):
                log.note("xend", "start", **wrong)
        assert log.note("xend", "start") == 2


def test_garbage_is_skipped_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as log:
        log.note("xend", "start", detail="one")
    with file(tmp_path).open("ab") as damaged:
        damaged.write(b"\0\xff garbage\n\n{}\n[" + b"[" * 100_000 + b"\n")
    with opened(tmp_path) as log:
        assert log.skipped == 4
        assert "4 lines that make no sense" in caplog.text
        assert log.note("xend", "start", detail="two") == 2
        assert details(log.entries()) == ["one", "two"]


def _written() -> bytes:
    with TemporaryDirectory() as folder, opened(Path(folder)) as log:
        for i in range(1, 5):
            log.end(log.begin("root", "create", domain=f"dömain {i}"), "done")
            log.note("domain", "boot", uuid="u1", journal=i)
            log.begin("root", "destroy")
        return file(Path(folder)).read_bytes()


WRITTEN = _written()


@given(st.integers(0, len(WRITTEN)), st.binary(max_size=30).filter(lambda tail: b"\n" not in tail))
def test_a_log_cut_anywhere_keeps_its_whole_entries(cut: int, tail: bytes) -> None:
    whole = [json.loads(line) for line in WRITTEN[:cut].split(b"\n")[:-1]]
    torn = len(WRITTEN[:cut].rpartition(b"\n")[2] + tail)
    with TemporaryDirectory() as name:
        folder = Path(name)
        file(folder).write_bytes(WRITTEN[:cut] + tail)
        with opened(folder) as log:
            entries = log.entries()
            assert entries[: len(whole)] == whole
            assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
            assert log.journal_position("u1") == max([e["journal"] or 0 for e in whole], default=0)
            told = [e["detail"] for e in entries[len(whole) :] if e["action"] == "event log"]
            assert told == [f"the last entry was not whole: {torn} bytes were cut off"] * bool(torn)
            begun = {e["n"] for e in whole if e["result"] == "begun"} - {e.get("begun") for e in whole}
            assert {e["begun"] for e in entries if e["result"] == "interrupted" and "begun" in e} == begun
            number = log.note("xend", "start")
        with opened(folder) as log:
            assert log.entries()[-1]["n"] == number


WRITER = """
import asyncio, sys
from pathlib import Path
from xenion.xend.eventlog import EventLog

async def main():
    log = EventLog.open(Path(sys.argv[1]), size_limit=4000, files=1000)
    async def work(name):
        journal = log.journal_position(name)
        while True:
            journal += 1
            begun = log.begin(name, "create")
            log.note(name, "boot", uuid=name, journal=journal)
            ended = log.end(begun, "done")
            await log.sync()
            print(begun, ended, name, journal, flush=True)
    await asyncio.gather(*(work(name) for name in "abc"))

asyncio.run(main())
"""


def test_a_killed_writer_loses_nothing_it_had_synced(tmp_path: Path) -> None:
    synced: set[int] = set()
    journals: dict[str, int] = {}
    for round_ in range(KILLED_WRITERS):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(20 + 13 * round_)]
            writer.send_signal(signal.SIGKILL)
            # The kill may have cut the last line.
            said += writer.stdout.read().splitlines(keepends=True)
        for line in said:
            if line.endswith("\n"):
                begun, ended, name, journal = line.split()
                synced |= {int(begun), int(ended)}
                journals[name] = int(journal)
    with opened(tmp_path, size_limit=4000, files=1000) as log:
        entries = log.entries()
        assert len(list(tmp_path.iterdir())) > 3
        assert [entry["n"] for entry in entries] == list(range(1, len(entries) + 1))
        assert synced <= {entry["n"] for entry in entries}
        for name, last in journals.items():
            lines = [entry["journal"] for entry in entries if entry["uuid"] == name]
            assert lines == list(range(1, len(lines) + 1))
            assert log.journal_position(name) == len(lines) >= last
        begun_ones = {entry["n"] for entry in entries if entry["result"] == "begun"}
        assert begun_ones == {entry["begun"] for entry in entries if "begun" in entry}


def test_callers_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first is under way the other 50 wait, and one more serves them all."""
    real, calls, entered, go = os.fdatasync, list[int](), threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        calls.append(fd)
        entered.set()
        assert go.wait(30)
        real(fd)

    async def main() -> None:
        log.note("xend", "start")
        first = asyncio.create_task(log.sync())
        await asyncio.to_thread(entered.wait, 30)
        log.note("xend", "start")
        others = [asyncio.create_task(log.sync()) for _ in range(50)]
        cancelled = others.pop()
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.sleep(0)
        assert not first.done()
        assert not any(other.done() for other in others)
        go.set()
        await asyncio.gather(first, *others)
        assert len(calls) == 2
        await log.sync()
        assert len(calls) == 2

    with opened(tmp_path) as log:
        monkeypatch.setattr(os, "fdatasync", slow)
        asyncio.run(main())


def test_a_file_that_got_full_during_a_sync_is_rotated_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one sync follows another, no entry comes between them."""
    real, entered, go = os.fdatasync, threading.Event(), threading.Event()

    def slow(fd: int) -> None:
        entered.set()
        assert go.wait(30)
        real(fd)

    async def main() -> None:
        log.note("xend", "start")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", slow)
            first = asyncio.create_task(log.sync())
            await asyncio.to_thread(entered.wait, 30)
            for _ in range(20):
                log.note("xend", "busy")
            second = asyncio.create_task(log.sync())
            await asyncio.sleep(0)
            assert len(list(tmp_path.iterdir())) == 1
            go.set()
            await asyncio.gather(first, second)
        assert len(list(tmp_path.iterdir())) == 2
        log.note("xend", "busy")
        check_heads(tmp_path)

    with opened(tmp_path, size_limit=1000) as log:
        asyncio.run(main())


def test_rotation_under_load_loses_nothing(tmp_path: Path) -> None:
    async def work(name: str) -> None:
        for i in range(100):
            log.note(name, "busy", uuid=name, journal=i + 1)
            await log.sync()

    async def main() -> None:
        await asyncio.gather(*(work(str(i)) for i in range(10)))

    with opened(tmp_path, size_limit=10_000, files=100) as log:
        asyncio.run(main())
        assert [entry["n"] for entry in log.entries()] == list(range(1, 1001))
        assert max(path.stat().st_size for path in tmp_path.iterdir()) < 15_000


def test_a_reader_in_a_thread_misses_nothing_while_files_rotate(tmp_path: Path) -> None:
    with opened(tmp_path, size_limit=2000, files=200) as log:
        log.note("xend", "start")
        done = threading.Event()
        wrong: list[list[int]] = []
        reads = 0

        def read() -> None:
            nonlocal reads
            while not done.is_set() or not reads:
                numbers = [entry["n"] for entry in log.entries(last=40)]
                reads += 1
                if numbers != list(range(numbers[0], numbers[-1] + 1)):
                    wrong.append(numbers)

        reader = threading.Thread(target=read)
        reader.start()
        for _ in range(400):
            log.note("xend", "busy")
        done.set()
        reader.join()
        assert reads
        assert not wrong


def test_a_full_disk_is_told_once_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        log.note("xend", "start", detail="1")
        with disk_ends_at(file(tmp_path).stat().st_size + 20):
            for i in range(2, 6):
                log.note("xend", "start", detail=str(i))
            for _ in range(2):
                with pytest.raises(EventLogError, match=r"events.jsonl cannot be written \(.*\): look at"):
                    await log.sync()
            assert details(log.entries()) == list("12345")
            assert len(file(tmp_path).read_bytes().splitlines()) == 1
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        await log.sync()
        assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
        assert len(file(tmp_path).read_bytes().splitlines()) == 5

    with opened(tmp_path) as log:
        asyncio.run(main())
        assert details(log.entries()) == list("12345")


def test_what_has_no_room_in_memory_is_counted(tmp_path: Path) -> None:
    with opened(tmp_path, backlog_limit=2000) as log:
        log.note("xend", "start", detail="0")
        with disk_ends_at(file(tmp_path).stat().st_size):
            for i in range(1, 101):
                log.note("xend", "start", detail=str(i))
            assert len(log.entries()) < 20
        log.note("xend", "start", detail="after")
        first, *kept, after, told = details(log.entries())
        assert (first, after) == ("0", "after")
        assert kept == [str(i) for i in range(101 - len(kept), 101)]
        assert told.startswith(f"{100 - len(kept)} entries before this one are lost")


def test_a_sync_that_failed_is_not_believed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel drops what it could not write: the lines are written once more, each is in the file once."""

    async def main() -> None:
        log.note("xend", "start", detail="1")
        await log.sync()
        log.note("xend", "start", detail="2")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            with pytest.raises(EventLogError, match="Input/output error"):
                await log.sync()
        assert file(tmp_path).read_bytes().count(b"\n") == 1
        assert details(log.entries()) == ["1", "2"]
        log.note("xend", "start", detail="3")
        await log.sync()

    with opened(tmp_path) as log:
        asyncio.run(main())
        assert file(tmp_path).read_bytes().count(b"\n") == 3
        assert details(log.entries()) == ["1", "2", "3"]


def test_no_file_begins_with_what_is_in_memory_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        log.note("xend", "start", detail="x" * 300)
        await log.sync()
        log.note("xend", "start", detail="x" * 200)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            with pytest.raises(EventLogError):
                await log.sync()
        log.note("xend", "start", detail="x" * 500)
        log.note("xend", "start")
        log.note("xend", "start")

    with opened(tmp_path, size_limit=1000) as log:
        asyncio.run(main())
        assert len(list(tmp_path.iterdir())) == 2
        check_heads(tmp_path)


def test_a_line_that_could_not_be_taken_back_is_shown_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        log.note("xend", "start", detail="1")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            patch.setattr(os, "ftruncate", refuse)
            with pytest.raises(EventLogError):
                await log.sync()
        log.note("xend", "start", detail="2")

    with opened(tmp_path) as log:
        asyncio.run(main())
        assert details(log.entries()) == ["1", "2"]


def test_a_rotation_that_fails_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(tmp_path, size_limit=1000) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", refuse)
            for i in range(20):
                log.note("xend", "start", detail=str(i))
        assert details(log.entries()) == [str(i) for i in range(20)]


def test_a_log_that_cannot_be_opened_says_which(tmp_path: Path) -> None:
    file(tmp_path).mkdir()
    with pytest.raises(
        EventLogError, match=r"The event log /.*/events.jsonl cannot be opened \(Is a directory"
    ):
        EventLog.open(tmp_path)


def test_subscribers_get_new_entries_until_the_log_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        log.note("xend", "start", detail="before")
        with log.subscribe() as all_of_them, log.subscribe() as one:
            first = asyncio.ensure_future(anext(one))
            await asyncio.sleep(0)
            log.note("xend", "start", detail="1")
            assert (await first)["detail"] == "1"
            one.close()
            log.note("xend", "start", detail="2")
            assert [entry async for entry in one] == []
            log.close()
            assert details([entry async for entry in all_of_them]) == ["1", "2"]
        assert [entry async for entry in log.subscribe()] == []

    with opened(tmp_path) as log:
        asyncio.run(main())


def test_a_slow_subscriber_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        slow, other = log.subscribe(limit=3), log.subscribe()
        for i in range(5):
            log.note("xend", "start", detail=str(i))
        got = [await anext(slow) for _ in range(3)]
        assert details(got) == ["0", "1", "2"]
        with pytest.raises(SlowSubscriber):
            await anext(slow)
        assert details(log.entries(since=got[-1]["n"])) == ["3", "4"]
        log.close()
        assert len([entry async for entry in other]) == 5

    with opened(tmp_path) as log:
        asyncio.run(main())


def test_a_closed_log_takes_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as log:
        log.close()
        with pytest.raises(EventLogError, match="is closed"):
            log.note("xend", "stop")
        with pytest.raises(EventLogError, match="is closed"):
            asyncio.run(log.sync())


def test_entries_that_closing_loses_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(tmp_path) as log, disk_ends_at(0):
        log.note("xend", "stop")
        log.close()
    assert "without its last 1 entries" in caplog.text
