"""A domain leaves, as it should be, and what is not begun."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import asked, run, within
from tests.unit.xend.migration.kit import SHOWN, UUID, Far, Host, Targets, words
from tests.unit.xend.migration.moving import MEMORY
from tests.unit.xend.migration.outgoing_kit import (
    fails,
    goes_on,
    in_the_stream,
    migrates,
    takes_it,
)
from xenion.xend.migration import outgoing
from xenion.xend.migration.outgoing import How
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    Offer,
    Refused,
)
from xenion.xend.migration.target import Target
from xenion.xend.storage import read_json
from xenion.xend.tasks import RunningTask
from xenion.xend.writing import written

# --- as it should be


def test_it_leaves(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has(cmdline="x y")
            before, offers, streams, commits, records = descriptors(), [], [], [], []

            async def takes(far: Far) -> None:
                offers.append(await far.hear(Offer))
                await far.say(Accepted())
                streams.append(await far.stream())
                assert words(live) == ["migrate"]
                await far.say(Loaded())
                commits.append(await far.hear(Commit))
                records.append(read_json(live.folder / "record.json"))
                assert words(live) == ["migrate", "release"]
                await far.say(Arrived(77))

            targets.then(takes)
            result = await migrates(host, targets, live=True)
            assert live.gone.is_set()
            assert (host.names, streams, commits) == ([], [MEMORY], [Commit([])])
            (offer,) = offers
            assert offer.config == {**live.record.config.to_mapping(), "uuid": UUID, "name": "web"}
            flags = (offer.managed, offer.lasting, offer.paused, offer.check, offer.same_disks)
            assert (offer.domid, flags) == (1, (False, True, False, False, False))
            address = {"host": "127.0.0.1", "port": targets.port, "ssl": False, "ssh": False}
            assert records[0]["leaving"] == {"id": offer.id, "ledger": "", **address}
            assert "leave" in records[0]["wants"]
            assert (result["host"], result["domid"]) == (f"127.0.0.1:{targets.port}", 77)
            assert result["rounds"] == [{"round": 1, "pages": 7}]
            assert (result["sent_bytes"], result["remarks"]) == (len(MEMORY), ["it is a stand-in"])
            assert 0 < result["downtime_s"] < result["seconds"] < 10
            outcome = await host.call("outcome", uuid=UUID)
            assert (outcome["reason"], outcome["over"]) == ("migrated", True)
            assert host.told(UUID).count("migrated") == 1
            assert targets.connections == 1
            assert len(descriptors()) <= len(before)

    run(work)


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"ask": True, "live": False, "worst_ms": None}),
        ({"live": True}, {"ask": False, "live": True, "worst_ms": None}),
        ({"as_it_stands": True}, {"ask": False, "live": False, "worst_ms": None}),
        (
            {"live": True, "abort_after_downtime_ms": 300, "most_mbit_per_s": 1000},
            {"ask": False, "live": True, "worst_ms": 300},
        ),
    ],
)
def test_how(host: Host, body: dict[str, Any], fields: dict[str, Any]) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live, seen = await host.has(), []

            async def takes(far: Far) -> None:
                await far.takes()
                seen.extend(asked(live))

            targets.then(takes)
            await fails(host, targets, **body)
            (request,) = [request for request in seen if request["do"] == "migrate"]
            assert {name: request[name] for name in fields} == fields
            assert (request["disks"], request["vifs"]) == ([], [])

    run(work)


def test_a_managed_one_takes_its_definition_along(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            made = {**host.config().to_mapping(), "uuid": UUID}
            await host.call("define", {"config": made})
            await host.task("start", domain="web")
            offers = []

            async def takes(far: Far) -> None:
                offers.append(await far.takes())
                await far.hear(Commit)
                assert host.services.registry.managed.get(UUID) is not None
                await far.say(Arrived(3))

            targets.then(takes)
            await migrates(host, targets)
            assert (offers[0].managed, offers[0].lasting) == (True, True)
            assert list(host.services.registry.managed) == []
            assert host.files(host.where.managed) == []

    run(work)


def test_a_paused_one_stays_so(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()
            await host.call("pause", domain="web")
            offers: list[Offer] = []

            async def looks(far: Far) -> None:
                offers.append(await far.hear(Offer))

            targets.then(looks)
            await fails(host, targets)
            assert offers[0].paused

    run(work)


def test_only_asked(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live, offers = await host.has(), []

            async def accepts(far: Far) -> None:
                offers.append(await far.hear(Offer))
                await far.say(Accepted())
                assert await far.over()

            targets.then(accepts)
            result = await migrates(host, targets, check=True)
            assert offers[0].shown == SHOWN
            assert (result["host"], result["checked"]) == (f"127.0.0.1:{targets.port}", True)
            assert offers[0].check
            goes_on(host, live, [])

    run(work)


def test_what_crosses_slowly_is_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process has nothing to tell as long as it waits for the line; what was sent says that it gets on."""
    sizes: list[Callable[[], int]] = []

    async def watched(*args: Any) -> dict[str, Any]:
        sizes.append(args[-1])
        assert args[-1]() == 0
        return await written(*args)

    monkeypatch.setattr(outgoing, "written", watched)

    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()
            targets.then(takes_it)
            result = await migrates(host, targets, live=True)
            assert [size() for size in sizes] == [result["sent_bytes"]] == [len(MEMORY)]

    run(work)


def test_a_process_that_talks_nonsense(host: Host) -> None:
    """It may be its guest's."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has(behaviour="nonsense")

            async def waits(far: Far) -> None:
                assert await far.over()

            targets.then(waits)
            error = await host.refusal(migrates(host, targets))
            assert "the process of web does not tell its processor" in error.message
            goes_on(host, live, [])

    run(work)


def test_disks_as_they_are_when_it_has_stopped(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            disk = host.disk("xvda")
            await host.has(disks=(disk, host.disk("xvdb", writable=False)))
            seen = []

            async def notes(far: Far) -> None:
                seen.append((await far.hear(Offer)).disks)
                await far.say(Accepted())
                await far.stream()
                os.utime(disk.target, ns=(1, 77))  # the guest's last write
                await far.say(Loaded())
                seen.append((await far.hear(Commit)).disks)
                await far.say(Arrived(3))

            targets.then(notes)
            now = Path(disk.target).stat()
            await migrates(host, targets)
            assert seen == [
                [DiskMark("xvda", 1 << 20, now.st_ino, now.st_mtime_ns)],
                [DiskMark("xvda", 1 << 20, now.st_ino, 77)],
            ]

    run(work)


def test_so_fast_and_no_faster(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            targets.then(takes_it)
            target, task = Target("127.0.0.1", targets.port), RunningTask("migrate", "web")
            began = asyncio.get_running_loop().time()
            how = How(most_bytes_per_s=len(MEMORY) * 2)
            await within(host.services.outgoing.migrate(live, target, how, task))
            assert asyncio.get_running_loop().time() - began >= 0.5

    run(work)


def test_how_long_it_stood_still(host: Host) -> None:
    """From when it was held; what its last word and the answer were on their way does not count twice."""

    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()

            async def takes(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                await asyncio.sleep(0.1)
                await far.say(Loaded())
                await far.hear(Commit)
                await far.say(Arrived(3, 5.0))

            targets.then(takes)
            result = await migrates(host, targets)
            assert 5.1 <= result["downtime_s"] < 6

    run(work)


def test_its_process_hears_what_has_been_read_there(host: Host) -> None:
    host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live, heard = await host.has(), list[int]()

            async def tells(far: Far) -> None:
                await in_the_stream(far)
                for number in (1, 2, 1, 1 << 40):
                    await far.say(Got(number))
                await host.until(lambda: words(live).count("echo") == 4)
                heard.extend(request["number"] for request in asked(live) if request["do"] == "echo")
                await far.say(Refused("enough"))

            targets.then(tells)
            assert (await fails(host, targets)).message.endswith("does not take web: enough")
            assert heard == [1, 2, 1, 1 << 40]
            goes_on(host, live, ["migrate", *["echo"] * 4, "cancel-migrate"])

    run(work)


def test_its_process_does_not_take_what_it_hears(host: Host) -> None:
    host.to("slow-migrate")
    host.to("no-echo")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def tells(far: Far) -> None:
                await in_the_stream(far)
                await far.say(Got(1 << 70))
                assert await far.over()

            targets.then(tells)
            assert (await fails(host, targets)).message == "number makes no sense"
            goes_on(host, live, ["migrate", "echo", "cancel-migrate"])

    run(work)


def test_what_it_tells_on_its_way(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()
            steps, figures = [], []

            async def takes(far: Far) -> None:
                (task,) = (task for task in host.services.tasks.all() if task.action == "migrate")
                steps.append(task.shown()["step"])
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                await host.until(lambda: "waiting" in task.shown()["step"])
                figures.append(task.shown()["figures"])
                await far.say(Loaded())
                await far.hear(Commit)
                steps.append(task.shown()["step"])
                await far.say(Arrived(1))

            targets.then(takes)
            await migrates(host, targets)
            assert steps == [f"asking 127.0.0.1:{targets.port}", "handing it over"]
            assert figures == [{"round": 1, "pages": 7}]

    run(work)


# --- what is not begun


def test_one_that_does_not_run(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.call("define", {"config": host.config().to_mapping()})
            assert (await fails(host, targets)).code == "wrong-state"
            assert targets.connections == 0

    run(work)


def test_disks_that_cannot_move(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has(disks=(host.disk("xvda"),))
            (host.at / "xvda.img").unlink()
            targets.then(hears_nothing)
            error = await fails(host, targets)
            assert (error.code, "No such file" in error.message) == ("refused", True)
            goes_on(host, live, [])

    run(work)


async def hears_nothing(far: Far) -> None:
    assert await far.over()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("127.0.0.1", "it cannot be reached (Connect"),
        ("no.such.host.invalid", "it cannot be reached ("),
        ("a..b", "it cannot be reached ("),
        ("x" * 64, "it cannot be reached ("),
        ("a\0b", "it cannot be reached ("),
        ("\udc80", "it cannot be reached ("),
    ],
)
@pytest.mark.parametrize("ssl", [False, True])
def test_nobody_there(host: Host, name: str, says: str, ssl: bool) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            port = targets.port
            targets._server.close()
            await targets._server.wait_closed()
            error = await host.refusal(
                host.task("migrate", {"host": name, "port": port, "ssl": ssl}, domain="web")
            )
            assert error.code == "failed"
            assert ssl or says in error.message
            assert "it goes on here" in error.message
            goes_on(host, live, [])

    run(work)
