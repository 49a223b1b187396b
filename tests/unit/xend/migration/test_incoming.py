"""A domain that comes runs here once its arrival is written down, and never otherwise."""

import asyncio
import errno
import json
import os
import shutil
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import asked, end, run, standins, within
from tests.unit.xend.migration.kit import UUID, WORD, Far, Host, source, words
from xenion.api.errors import ApiError
from xenion.dom0.block import locks
from xenion.xend import eventlog, supervisor
from xenion.xend.migration import arrivals, disks, incoming, wire
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    Query,
    RefusalError,
    Refused,
    Sent,
    Undecided,
    Unknown,
)
from xenion.xend.migration.wire import DATA, MESSAGE
from xenion.xend.storage import read_json, write_json

OTHER = "fedcba9876543210"


async def comes(host: Host, **more: Any) -> int:
    """Its id here."""
    async with source(host) as far:
        await far.commits(host, **more)
        return (await far.hear(Arrived)).domid


async def asks(host: Host, word: str = WORD) -> Arrived | Undecided | Unknown:
    async with source(host) as far:
        await far.say(Query(word))
        kinds: Any = (Arrived, Undecided, Unknown)
        answer: Arrived | Undecided | Unknown = await far.hear(kinds)
        assert not isinstance(answer, Unknown) or answer.ledger == host.ledger
        return Unknown() if isinstance(answer, Unknown) else answer


async def refused(far: Far) -> str:
    with pytest.raises(RefusalError) as caught:
        await far.hear(Arrived)
    return str(caught.value)


async def never_came(host: Host) -> None:
    """And can no more."""
    await host.until(lambda: not host.names)
    await host.idle()
    assert host.arrivals == {}
    assert host.sessions == {}
    assert await asks(host) == Unknown()
    assert standins(host.shared) == []
    assert host.store.known == {}  # type: ignore[attr-defined]
    assert list(host.services.registry.managed) == []


def outcome(host: Host) -> str:
    """Of what came last, as the event log has it."""
    entries = [entry for entry in host.services.log.entries() if entry["action"] == "receive"]
    assert [entry["result"] for entry in entries[:-1:2]] == ["begun"] * (len(entries) // 2)
    return entries[-1]["result"]


# --- as it should be


def test_it_comes(host: Host) -> None:
    async def work() -> None:
        async with host:
            before = descriptors()
            assert await comes(host) == 9
            await host.idle()
            live = host.live()
            assert (live.uuid, live.domid, live.condition.state) == (UUID, 9, "running")
            assert host.arrivals == {WORD: UUID}
            assert words(live)[:2] == ["loads", "arrive"]
            assert live.record.arriving == ""
            await host.settled()
            made = read_json(live.folder / "record.json")
            assert (made["arriving"], made["wants"]) == ("", [])
            assert outcome(host) == "done"
            assert host.told(UUID)[:2] == ["loaded", "booted"]
            await host.call("destroy", domain="web")
            assert len(descriptors()) <= len(before)

    run(work)


def test_all_of_its_stream_and_nothing_else_is_passed_on(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            await far.say(far.offer(host))
            await far.hear(Accepted)
            for size in (0, 1, wire.MOST_BYTES[DATA], 5):
                await far.data(b"x" * size)
            await far.say(Sent())
            await far.hear(Loaded)
            assert {"do": "loads", "size": wire.MOST_BYTES[DATA] + 6} in asked(host.live())

    run(work)


def test_what_has_been_read_is_told(host: Host) -> None:
    """Each once, the newest of them, and nothing that its process takes back."""
    host.to("echoes")

    async def work() -> None:
        async with host, source(host) as far:
            await far.say(far.offer(host))
            await far.hear(Accepted)
            for number in (1, 2, 9):
                await far.data(b"%d" % number)
                assert await far.hear(Got) == Got(number)
            for number in (3, 1):
                await far.data(b"%d" % number)
                await host.until(lambda number=number: host.live().condition.echo == number)  # type: ignore[misc]
            await far.data(b"10")
            assert await far.hear(Got) == Got(10)
            await far.say(Sent())
            await far.hear(Loaded)
            assert "echo" not in host.told(UUID)

    run(work)


def test_who_does_not_hear_what_has_been_read(host: Host) -> None:
    """It is nobody's loss but the source's."""
    host.to("echoes")

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await after_accepted(far, host)
                await far.data(b"1")
                await host.until(lambda: host.live().condition.echo == 1)
                far.wire._writer.transport.abort()
            await never_came(host)

    run(work)


@pytest.mark.parametrize("lasting", [False, True])
def test_as_it_was_there(host: Host, lasting: bool) -> None:
    async def work() -> None:
        async with host:
            await comes(host, lasting=lasting, paused=True, having={"memory_mib": 20})
            live = host.live()
            assert live.condition.state == "paused"
            assert (live.record.lasting, live.record.managed) == (lasting, False)
            assert live.record.config.memory_mib == 20

    run(work)


def test_its_id_is_another_ones(host: Host) -> None:
    async def work() -> None:
        async with host:
            live = await host.create(host.config("other"))
            assert await comes(host, domid=live.domid) == live.domid + 1

    run(work)


def test_its_definition_comes_with_it(host: Host) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                marks = await far.brings(host, managed=True, lasting=True)
                assert list(host.services.registry.managed) == []
                await far.say(Commit(marks))
                await far.hear(Arrived)
            managed = host.services.registry.managed.get(UUID)
            assert managed is not None
            assert (managed.name, managed.config.memory_mib) == ("web", 16)
            assert host.live().record.managed
            await host.call("destroy", domain="web")
            await host.task("start", domain="web")
            assert host.live().uuid == UUID

    run(work)


def test_its_disks_are_locked_when_the_other_has_released_them(host: Host) -> None:
    async def work() -> None:
        async with host:
            disk = host.disk("xvda")
            theirs = os.open(disk.target, os.O_RDWR)
            locks.take(theirs, writable=True)
            async with source(host) as far:
                marks = await far.brings(host, having={"disks": (disk,)})
                os.close(theirs)
                await far.say(Commit(marks))
                await far.hear(Arrived)
            await host.idle()
            with pytest.raises(locks.InUseError):
                take(disk.target)

    run(work)


def take(path: str) -> None:
    """And give back."""
    fd = os.open(path, os.O_RDWR)
    try:
        locks.take(fd, writable=True)
    finally:
        os.close(fd)


# --- what is not taken


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"config": {"uuid": ""}}, "its configuration has no UUID"),
        ({"config": {"uuid": "x"}}, "its configuration cannot be used there"),
        ({"config": {"memory_mib": -1}}, "its configuration cannot be used there"),
        ({"config": {"nonsense": 1}}, "its configuration cannot be used there"),
        ({"config": {"name": "a/b"}}, "its configuration cannot be used there"),
        ({"config": {"name": "a\x1b[2Jb"}}, "its configuration cannot be used there"),
        ({"config": {"kernel": "/missing"}}, "kernel /missing does not exist"),
        ({"config": {"kernel": "/tmp"}}, "is not a file"),
        ({"config": {"name": "other"}}, '"other" is running already'),
        ({"config": {"memory_mib": 1 << 20}}, "does not fit"),
        ({"disks": [DiskMark("xvdz", 1, 1, 1)]}, "has other disks there"),
    ],
)
def test_offers_that_are_refused(host: Host, more: dict[str, Any], says: str) -> None:
    async def work() -> None:
        async with host:
            await host.create(host.config("other"))
            for check in (True, False):
                async with source(host) as far:
                    await far.say(far.offer(host, check=check, **more))
                    assert says in await refused(far)
            await host.idle()
            assert (host.names, host.sessions, host.arrivals) == (["other"], {}, {})
            assert "receive" not in host.told(who="")

    run(work)


def test_one_that_runs_here(host: Host) -> None:
    async def work() -> None:
        async with host:
            await host.has()
            async with source(host) as far:
                await far.say(far.offer(host))
                assert "running already" in await refused(far)

    run(work)


def test_one_that_is_defined_here(host: Host) -> None:
    """A managed one may come back to its definition; another of its UUID may not."""

    async def work() -> None:
        async with host:
            made = replace(host.config(), uuid=UUID)
            await host.call("define", {"config": made.to_mapping()})
            async with source(host) as far:
                await far.say(far.offer(host))
                assert "managed domain" in await refused(far)
            assert await comes(host, managed=True) == 9

    run(work)


def test_other_disks_than_there(host: Host) -> None:
    async def work() -> None:
        async with host:
            disk = host.disk("xvda")
            async with source(host) as far:
                offer = far.offer(host, having={"disks": (disk,)})
                (mark,) = offer.disks
                other = DiskMark("xvda", mark.size, (mark.inode or 0) + 1, mark.mtime_ns)
                await far.say(far.offer(host, having={"disks": (disk,)}, disks=[other]))
                assert "another file here than there" in await refused(far)

    run(work)


def test_a_check_is_only_a_question(host: Host) -> None:
    async def work() -> None:
        async with host:
            before = descriptors()
            async with source(host) as far:
                await far.say(far.offer(host, check=True))
                assert await far.hear(Accepted) == Accepted(host.ledger)
                assert await far.over()
            await host.idle()
            assert (host.names, host.sessions, host.arrivals, host.told(who="")) == ([], {}, {}, [])
            assert len(descriptors()) <= len(before)
            assert await comes(host) == 9

    run(work)


def test_the_same_twice(host: Host) -> None:
    """While it comes, and ever after."""

    async def work() -> None:
        async with host:
            async with source(host) as far, source(host) as again:
                marks = await far.brings(host)
                for check in (False, True):
                    async with source(host) as once_more:
                        await once_more.say(far.offer(host, check=check))
                        assert "has been here before" in await refused(once_more)
                await again.say(far.offer(host, config={"name": "b", "uuid": UUID[:-1] + "b"}))
                assert "has been here before" in await refused(again)
                await far.say(Commit(marks))
                await far.hear(Arrived)
            await host.call("destroy", domain="web")
            async with source(host) as far:
                await far.say(far.offer(host))
                assert "has been here before" in await refused(far)

    run(work)


def test_the_same_twice_at_once(host: Host) -> None:
    """Both are looked at before either is known."""

    async def work() -> None:
        async with host, source(host) as one, source(host) as other:
            second = other.offer(host, config={"name": "b", "uuid": UUID[:-1] + "b"})
            await asyncio.gather(one.say(one.offer(host)), other.say(second))
            answers = await asyncio.gather(one.hear(Accepted), other.hear(Accepted), return_exceptions=True)
            assert {type(answer) for answer in answers} == {Accepted, RefusalError}
            assert len(host.sessions) == len(host.names) == 1

    run(work)


def test_so_many_at_a_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incoming, "MOST_SESSIONS", 1)

    async def work() -> None:
        async with host:
            async with source(host) as far, source(host) as other:
                marks = await far.brings(host)
                await other.say(far.offer(host, id=OTHER))
                assert "wait for one of them" in await refused(other)
                await far.say(Commit(marks))
                await far.hear(Arrived)
            await host.idle()
            await host.call("destroy", domain="web")
            async with source(host) as far:
                await far.brings(host, id=OTHER)

    run(work)


# --- what goes wrong on the way


async def says_nothing(far: Far, host: Host) -> None:
    """Its connection is cut at the end of the test's block."""


async def after_accepted(far: Far, host: Host) -> None:
    await far.say(far.offer(host))
    await far.hear(Accepted)


async def in_the_stream(far: Far, host: Host) -> None:
    await after_accepted(far, host)
    await far.data(b"x" * 1000)


async def in_a_frame(far: Far, host: Host) -> None:
    await after_accepted(far, host)
    far.wire._writer.write(wire.HEADER.pack(DATA, 1000, 0) + b"x" * 10)


async def after_the_stream(far: Far, host: Host) -> None:
    await in_the_stream(far, host)
    await far.say(Sent())


async def after_loaded(far: Far, host: Host) -> None:
    await far.brings(host)


Step = Callable[[Far, Host], Awaitable[None]]
STEPS = [says_nothing, after_accepted, in_the_stream, in_a_frame, after_the_stream, after_loaded]
IN_BETWEEN = [after_accepted, in_the_stream, after_the_stream, after_loaded]


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("until", STEPS)
def test_cut(host: Host, until: Step, reset: bool) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                await until(far, host)
                if reset:
                    far.wire._writer.transport.abort()
            await never_came(host)
            assert until is says_nothing or outcome(host) == "failed"
            assert await comes(host, id=OTHER) == 9

    run(work)


@pytest.mark.parametrize("until", STEPS)
def test_silent(host: Host, until: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FIRST_WORD_S", "SILENCE_S", "DECISION_S"):
        monkeypatch.setattr(incoming, name, 0.3)

    async def work() -> None:
        async with host, source(host) as far:
            await until(far, host)
            if until is after_the_stream:
                await far.hear(Loaded)
            assert await far.over()
            await never_came(host)

    run(work)


@pytest.mark.parametrize(
    "said",
    [
        (MESSAGE, b"nonsense"),
        (MESSAGE, b""),
        (MESSAGE, b'{"type":"commit"}'),
        (MESSAGE, b'{"type":"loaded"}'),
        (MESSAGE, b'{"type":"refused","why":"I have changed my mind"}'),
        (MESSAGE, b'{"type":"refused","why":""}'),
        (MESSAGE, b'{"type":"query","id":"0123456789abcdef"}'),
        (MESSAGE, b"[" * 100000),
        (b"X", b""),
        (DATA, None),
    ],
)
@pytest.mark.parametrize("until", IN_BETWEEN)
def test_nonsense(host: Host, until: Step, said: tuple[bytes, bytes | None]) -> None:
    kind, data = said

    async def work() -> None:
        async with host, source(host) as far:
            await until(far, host)
            size = wire.MOST_BYTES[DATA] + 1 if data is None else len(data)
            header = wire.HEADER.pack(kind, size, zlib.crc32(data or b""))
            far.wire._writer.write(header + (data or b""))
            while not await far.over():
                pass
            await never_came(host)
            assert outcome(host) == "failed"

    run(work)


@pytest.mark.parametrize("kind", [MESSAGE, DATA])
def test_a_commit_that_comes_too_early(host: Host, kind: bytes) -> None:
    """Before all of it is here, or as part of the stream."""

    async def work() -> None:
        async with host, source(host) as far:
            await after_accepted(far, host)
            await far.wire.send(kind, b'{"type":"commit","disks":[]}')
            await far.say(Sent(), Commit([]))
            answers: list[str] = []
            while not answers or answers[-1]:
                answers.append(await next_word(far))
            if kind == DATA:
                assert answers[0] == "loaded"
            else:
                assert "arrived" not in answers
                await never_came(host)

    run(work)


async def next_word(far: Far) -> str:
    """ "" at the end."""
    try:
        frame = await within(far.wire.receive())
    except wire.WireError:
        return ""
    return str(json.loads(frame.data)["type"])


def test_first_words_that_are_none(host: Host) -> None:
    async def work() -> None:
        async with host:
            for word in (Sent(), Loaded(), Commit([]), Accepted(), Unknown(), Arrived(3), Refused("x")):
                async with source(host) as far:
                    await far.say(word)
                    assert await far.over()
            await never_came(host)

    run(work)


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("refuse-load", "it is no domain"),
        ("die-load", "the process of web has ended there"),
        ("no-load", "cannot be loaded there in 0.3 seconds"),
        ("deaf", "cannot be loaded there in 0.3 seconds"),
    ],
)
def test_a_stream_that_cannot_be_read(
    host: Host, how: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incoming, "LOADING_S", 0.3)
    host.to(how)

    async def work() -> None:
        async with host, source(host) as far:
            await after_the_stream(far, host)
            assert says in await refused(far)
            await never_came(host)
            assert outcome(host) == "failed"

    run(work)


def test_a_process_that_does_not_read_holds_nothing_up(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The source has long given up."""
    monkeypatch.setattr(incoming, "SILENCE_S", 0.3)
    host.to("deaf")

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await after_accepted(far, host)
                await far.data(*[b"x" * wire.MOST_BYTES[DATA]] * 3)
            await never_came(host)

    run(work)


@pytest.mark.parametrize("until", IN_BETWEEN)
def test_its_process_ends(host: Host, until: Step) -> None:
    if until is after_the_stream:
        host.to("no-load")

    async def work() -> None:
        async with host, source(host) as far:
            if until in (after_accepted, in_the_stream):
                host.to("no-load")
            await until(far, host)
            await host.until(lambda: host.live().linked)
            end(host.live(), signal=9)
            assert "the process of web has ended there" in await refused(far)
            await never_came(host)

    run(work)


def test_its_end_counts_whatever_comes_with_it(host: Host) -> None:
    """What was waited for ends at the same moment, as being loaded does."""

    async def work() -> None:
        async with host:
            live = await host.has()
            work = host.services.listening._incoming._while_it_lives(live, live.gone.wait())
            waiting = asyncio.ensure_future(work)
            await host.call("destroy", domain="web")
            with pytest.raises(ApiError, match="has ended there"):
                await within(waiting)

    run(work)


def test_destroyed_here_while_it_comes(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            await far.brings(host)
            await host.call("destroy", domain="web")
            assert "has ended there" in await refused(far)
            await never_came(host)

    run(work)


def test_xend_ends_while_it_comes(host: Host) -> None:
    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.brings(host)
                await within(host.services.listening.close())
                assert await far.over()
            assert (host.names, host.arrivals, standins(host.shared)) == ([], {}, [])
            assert outcome(host) == "failed"

    run(work)


def test_a_log_that_cannot_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered of what was not begun."""

    def full(*_: object, **__: object) -> int:
        raise eventlog.EventLogError("the disk is full")

    async def work() -> None:
        async with host:
            with monkeypatch.context() as patch:
                patch.setattr(eventlog.EventLog, "begin", full)
                async with source(host) as far:
                    await far.say(far.offer(host))
                    assert await far.over()
            await host.idle()
            assert (host.sessions, host.names) == ({}, [])
            assert await comes(host) == 9

    run(work)


# --- the decision


def test_a_disk_that_somebody_else_writes(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            disk = host.disk("xvda")
            marks = await far.brings(host, having={"disks": (disk,)})
            theirs = os.open(disk.target, os.O_RDWR)
            locks.take(theirs, writable=True)
            await far.say(Commit(marks))
            assert "in use" in await refused(far)
            await never_came(host)
            os.close(theirs)
            take(disk.target)

    run(work)


def test_a_disk_that_has_changed_since(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            disk = host.disk("xvda")
            marks = await far.brings(host, having={"disks": (disk,)})
            os.utime(disk.target, ns=(1, 1))
            await far.say(Commit(marks))
            assert "not as it was left" in await refused(far)
            await never_came(host)
            take(disk.target)

    run(work)


def test_a_disk_that_was_written_until_the_end(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            disk = host.disk("xvda")
            (mark,) = await far.brings(host, having={"disks": (disk,)})
            os.utime(disk.target, ns=(1, 77))
            await far.say(Commit([DiskMark(mark.vdev, mark.size, mark.inode, 77)]))
            assert (await far.hear(Arrived)).domid == 9

    run(work)


@pytest.mark.parametrize("marks", [[], [DiskMark("xvda", None, None, None)], [DiskMark("xvdb", 1, 1, 1)]])
def test_other_marks_at_the_end(host: Host, marks: list[DiskMark]) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            await far.brings(host, having={"disks": (host.disk("xvda"),)})
            await far.say(Commit(marks))
            await refused(far)
            await never_came(host)

    run(work)


def test_asked_for_while_it_comes_it_never_arrives(host: Host) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            marks = await far.brings(host)
            assert await asks(host) == Unknown()
            await far.say(Commit(marks))
            assert "was told that it does not come" in await refused(far)
            await never_came(host)

    run(work)


def test_asked_for_while_its_disks_are_locked(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last moment."""

    async def work() -> None:
        async with host, source(host) as far:
            marks = await far.brings(host)
            answers = []
            devices = host.services.listening._incoming._devices
            lock = type(devices).lock
            loop = asyncio.get_running_loop()

            def locked(self: Any, opened: Any) -> None:
                answers.append(asyncio.run_coroutine_threadsafe(asks(host), loop).result())
                lock(self, opened)

            monkeypatch.setattr(type(devices), "lock", locked)
            await far.say(Commit(marks))
            assert "was told that it does not come" in await refused(far)
            assert answers == [Unknown()]
            await never_came(host)

    run(work)


def test_asked_for_once_it_has_come(host: Host) -> None:
    async def work() -> None:
        async with host:
            await comes(host)
            assert await asks(host) == Arrived(9)
            assert await asks(host, OTHER) == Unknown()
            await host.call("destroy", domain="web")
            assert await asks(host) == Arrived(0)
        async with host:
            assert await asks(host) == Arrived(0)

    run(work)


def test_the_answer_is_lost(host: Host) -> None:
    """It runs here all the same."""

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.commits(host)
                far.wire._writer.transport.abort()
            await host.until(lambda: bool(host.arrivals) and host.live().condition.boot == 1)
            await host.idle()
            assert await asks(host) == Arrived(9)
            assert outcome(host) == "done"
            await host.settled()

    run(work)


def test_its_arrival_cannot_be_written_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def work() -> None:
        async with host, source(host) as far:
            marks = await far.brings(host, managed=True)
            monkeypatch.setattr(arrivals, "write_json", full)
            await far.say(Commit(marks))
            assert "its arrival cannot be written down there: No space left on device" in await refused(far)
            await never_came(host)

    run(work)


def test_its_record_cannot_be_written(host: Host) -> None:
    """It could not be found again."""

    async def work() -> None:
        async with host, source(host) as far:
            marks = await far.brings(host)
            shutil.rmtree(host.live().folder)
            await far.say(Commit(marks))
            assert "No such file" in await refused(far)
            assert host.arrivals == {}
            await host.until(lambda: not host.names)
            assert await asks(host) == Unknown()

    run(work)


def test_its_process_ends_before_it_runs(host: Host) -> None:
    """It goes on where it was, then."""
    host.to("die-arrive")

    async def work() -> None:
        async with host, source(host) as far:
            await far.commits(host)
            assert "web has just ended" in await refused(far)
            await host.until(lambda: not host.names)
            await host.idle()
            assert (host.arrivals, host.sessions) == ({}, {})
            assert await asks(host) == Unknown()
            assert outcome(host) == "failed"

    run(work)


def test_its_process_ends_when_it_has_run(host: Host) -> None:
    """That is its end: it may have written to its disks."""
    host.to("die-late")

    async def work() -> None:
        async with host, source(host) as far:
            await far.commits(host)
            assert await far.over()
            await host.until(lambda: not host.names)
            assert host.arrivals == {WORD: UUID}
            assert await asks(host) == Arrived(0)

    run(work)


@pytest.mark.parametrize("how", ["no-arrive", "mute-arrive"])
def test_its_process_does_not_let_it_run(host: Host, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is here, whatever it says, and is asked to again."""
    monkeypatch.setattr(incoming, "DECISION_S", 1.0)
    monkeypatch.setattr(incoming, "ENDING_S", 0.1)
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.1)
    host.to(how)

    async def work() -> None:
        async with host:
            async with source(host) as far:
                await far.commits(host)
                assert await far.over()
            assert await asks(host) == Undecided()
            host.to(how, stop=True)
            await host.until(lambda: host.live().condition.boot == 1)
            await host.settled()
            assert host.live().record.arriving == ""
            assert await asks(host) == Arrived(9)

    run(work)


def test_its_definition_cannot_be_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once: as soon as there is room it runs."""
    monkeypatch.setattr(incoming, "ENDING_S", 0.1)
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.1)

    async def work() -> None:
        async with host:
            managed = host.services.registry.managed
            put, failures = type(managed).put, [1, 2]

            def full_at_first(self: Any, made: Any) -> None:
                if failures:
                    failures.pop()
                    raise ApiError("failed", "No space left on device")
                put(self, made)

            monkeypatch.setattr(type(managed), "put", full_at_first)
            async with source(host) as far:
                await far.commits(host, managed=True)
                assert await far.over()
            await host.until(lambda: host.live().condition.boot == 1)
            assert managed.get(UUID) is not None
            assert await asks(host) == Arrived(9)

    run(work)


# --- the next xend


def killed_when_loaded(host: Host) -> dict[str, Any]:
    """A xend is killed that has not heard the source's word yet; the record of the domain."""

    async def work() -> dict[str, Any]:
        async with host, source(host) as far:
            await far.brings(host)
            live = host.live()
            live.save()
            made = dict(read_json(live.folder / "record.json"))
            incoming_now = host.services.listening._incoming

            async def forget(session: Any) -> None:
                """A xend that is killed gives nothing up."""

            incoming_now._give_up = forget  # type: ignore[method-assign]
        return made

    return dict(run(work))


def test_the_next_xend_ends_what_has_not_arrived(host: Host) -> None:
    made = killed_when_loaded(host)
    assert made["arriving"] == WORD
    assert len(standins(host.shared)) == 1

    async def work() -> None:
        async with host:
            began = asyncio.get_running_loop().time()
            await never_came(host)
            assert asyncio.get_running_loop().time() - began < 2
            assert (await host.call("outcome", uuid=UUID))["reason"] == "destroyed"

    run(work)


@pytest.mark.parametrize("managed", [False, True])
def test_the_next_xend_lets_run_what_has_arrived(host: Host, managed: bool) -> None:
    made = killed_when_loaded(host)
    write_json(host.where.state / "arrivals.json", {"ledger": "a", "known": {WORD: UUID}})
    write_json(host.where.domains / UUID / "record.json", {**made, "managed": managed})

    async def work() -> None:
        async with host:
            await host.until(lambda: host.live().condition.boot == 1)
            await host.settled()
            live = host.live()
            assert (live.record.arriving, words(live).count("arrive")) == ("", 1)
            assert (host.services.registry.managed.get(UUID) is not None) is managed
            assert await asks(host) == Arrived(9)

    run(work)


def test_killed_before_the_end_of_it_was_written_down(host: Host) -> None:
    """It is asked to run again, which does no harm."""

    async def first() -> None:
        async with host:
            await comes(host)
            await host.settled()
            folder = host.live().folder
            write_json(folder / "record.json", {**read_json(folder / "record.json"), "arriving": WORD})

    async def second() -> None:
        async with host:
            await host.settled()
            live = host.live()
            assert (live.record.arriving, live.condition.boot) == ("", 1)
            assert words(live).count("arrive") == 2

    run(first)
    run(second)


def test_what_runs_is_not_ended_for_want_of_an_entry(host: Host) -> None:
    """Only the newest arrivals are known, but who has run has come for good."""

    async def first() -> None:
        async with host:
            await comes(host)
            await host.settled()
            folder = host.live().folder
            write_json(folder / "record.json", {**read_json(folder / "record.json"), "arriving": WORD})
            (host.where.state / "arrivals.json").unlink()

    async def second() -> None:
        async with host:
            await host.settled()
            assert host.live().condition.state == "running"

    run(first)
    run(second)


def test_another_ones_process_is_left_alone(host: Host) -> None:
    """The errand of a domain that is coming: nothing is to be done for it yet."""

    async def work() -> None:
        async with host, source(host) as far:
            marks = await far.brings(host)
            await host.services.errands.do(host.live(), "arrive")
            assert host.names == ["web"]
            await far.say(Commit(marks))
            await far.hear(Arrived)

    run(work)


def test_hosts_that_hang_up_are_no_bugs(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with host:
            for until in STEPS:
                async with source(host) as far:
                    await until(far, host)
                    far.wire._writer.transport.abort()
                await host.idle()
                await host.until(lambda: not host.names)

    run(work)
    assert [record for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("known", [False, True])
def test_its_definition_does_not_stay_without_it(host: Host, known: bool) -> None:
    """It is defined where it was; what was defined here before stays."""
    host.to("die-arrive")

    async def work() -> None:
        async with host:
            made = replace(host.config(memory_mib=20), uuid=UUID)
            if known:
                await host.call("define", {"config": made.to_mapping()})
            async with source(host) as far:
                await far.commits(host, managed=True)
                await refused(far)
            await host.until(lambda: not host.names)
            assert [managed.config for managed in host.services.registry.managed] == [made] * known
            assert host.arrivals == {}

    run(work)


def test_that_it_never_ran_cannot_be_written_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is known all the same, and everything of it is cleared away."""
    host.to("die-arrive")

    async def work() -> None:
        async with host:

            def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            monkeypatch.setattr(arrivals.Arrivals, "_write", full_the_third_time(full))
            async with source(host) as far:
                await far.commits(host)
                assert "web has just ended" in await refused(far)
            await host.until(lambda: not host.names)
            assert await asks(host) == Unknown()
            assert host.store.known == {}  # type: ignore[attr-defined]

    run(work)


def full_the_third_time(full: Callable[..., None]) -> Callable[..., None]:
    write, calls = arrivals.Arrivals._write, list[int]()

    def written(self: arrivals.Arrivals) -> None:
        calls.append(1)
        full() if len(calls) > 2 else write(self)

    return written


def test_nobody_else_writes_to_a_disk_once_it_was_looked_at(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with host, source(host) as far:
            disk, seen = host.disk("xvda"), []
            marks = await far.brings(host, having={"disks": (disk,)})
            check = disks.check_same

            def checked(*of: Any, **more: Any) -> None:
                check(*of, **more)
                with pytest.raises(locks.InUseError):
                    take(disk.target)
                seen.append(more)

            monkeypatch.setattr(disks, "check_same", checked)
            await far.say(Commit(marks))
            assert (await far.hear(Arrived)).domid == 9
            assert seen == [{"still_written": False}]

    run(work)


def test_it_is_let_run_once(host: Host) -> None:
    async def work() -> None:
        async with host:
            await comes(host)
            await host.settled()
            assert words(host.live()).count("arrive") == 1

    run(work)


def test_how_long_it_took_is_told(host: Host) -> None:
    """From the word that it may run until it did."""

    async def work() -> None:
        async with host, source(host) as far:
            loop, marks = asyncio.get_running_loop(), await far.brings(host)
            await asyncio.sleep(0.2)
            began = loop.time()
            await far.say(Commit(marks))
            assert 0 < (await far.hear(Arrived)).seconds <= loop.time() - began

    run(work)
