"""A domain that comes runs here once its arrival is written down, and never otherwise; also by the next xend."""

import asyncio
import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.xend.kit import run, standins
from tests.unit.xend.migration.incoming_kit import (
    OTHER,
    STEPS,
    asks,
    comes,
    never_came,
    outcome,
    refused,
    take,
)
from tests.unit.xend.migration.kit import UUID, WORD, Host, source, words
from xenion.api.errors import ApiError
from xenion.dom0.block import locks
from xenion.xend import supervisor
from xenion.xend.migration import arrivals, disks, incoming
from xenion.xend.migration.talk import (
    Arrived,
    Commit,
    DiskMark,
    Undecided,
    Unknown,
)
from xenion.xend.storage import read_json, write_json

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


def killed_when_it_had_come(host: Host) -> None:
    """A xend that has not written down any more that it has arrived."""

    async def work() -> None:
        async with host:
            await comes(host)
            await host.settled()
            folder = host.live().folder
            write_json(folder / "record.json", {**read_json(folder / "record.json"), "arriving": WORD})

    run(work)


def test_killed_before_the_end_of_it_was_written_down(host: Host) -> None:
    """It is asked to run again, which does no harm."""

    async def work() -> None:
        async with host:
            await host.settled()
            live = host.live()
            assert (live.record.arriving, live.condition.boot) == ("", 1)
            assert words(live).count("arrive") == 2

    killed_when_it_had_come(host)
    run(work)


def test_what_runs_is_not_ended_for_want_of_an_entry(host: Host) -> None:
    """Only the newest arrivals are known, but who has run has come for good."""

    async def work() -> None:
        async with host:
            await host.settled()
            assert host.live().condition.state == "running"

    killed_when_it_had_come(host)
    (host.where.state / "arrivals.json").unlink()
    run(work)


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
