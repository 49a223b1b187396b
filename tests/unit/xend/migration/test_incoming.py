"""A domain that comes from another host, as it should be, and what is not taken."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import asked, run
from tests.unit.xend.migration.incoming_kit import (
    OTHER,
    after_accepted,
    comes,
    never_came,
    outcome,
    refused,
    take,
)
from tests.unit.xend.migration.kit import UUID, WORD, Host, source, words
from xenion.dom0.block import locks
from xenion.processor import hardware
from xenion.processor.software import SoftwareProcessor
from xenion.vmm.cpuid import domain_leaves
from xenion.xend.migration import incoming, wire
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    RefusalError,
    Sent,
    Shown,
)
from xenion.xend.migration.wire import DATA
from xenion.xend.storage import read_json

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


def test_a_processor_that_cannot_be_had(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "KVM", tmp_path / "none")
    monkeypatch.setattr(hardware, "_device", hardware._device.__wrapped__)

    async def work() -> None:
        async with host, source(host) as far:
            await far.say(far.offer(host, check=True, config={"processor": "hardware"}))
            assert "hardware processor cannot be used" in await refused(far)

    run(work)


@pytest.mark.parametrize(
    ("shown", "why"),
    [
        (Shown("hardware", []), "it ran on the hardware processor, and this is the software one"),
        (Shown("software", [(1, None, 2, 3, 4, 5)]), "does not have all that its CPUID leaves promise"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "software"])
def test_a_processor_that_lacks_something(host: Host, name: str, shown: Shown, why: str) -> None:
    """Said before anything of its memory comes."""

    async def work() -> None:
        async with host, source(host) as far:
            await far.say(far.offer(host, check=True, config={"processor": name}, shown=shown))
            assert why in await refused(far)

    run(work)


def test_a_processor_that_has_all(host: Host) -> None:
    leaves = [
        (r.leaf, r.subleaf, r.eax, r.ebx, r.ecx, r.edx)
        for r in domain_leaves(SoftwareProcessor.features.cpuid)
    ]

    async def work() -> None:
        async with host, source(host) as far:
            await far.say(far.offer(host, check=True, shown=Shown("software", leaves)))
            await far.hear(Accepted)

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
