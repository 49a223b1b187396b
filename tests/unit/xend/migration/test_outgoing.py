"""A domain leaves: until it is handed over it goes on here, whatever the other host says or does not say."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.descriptors import descriptors
from tests.unit.xend.kit import asked, end, impatient, run, within
from tests.unit.xend.migration.kit import UUID, Far, Host, Targets, words
from tests.unit.xend.migration.moving import MEMORY
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.migration import outgoing, talk
from xenion.xend.migration.connecting import Target
from xenion.xend.migration.outgoing import How
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    DiskMark,
    Got,
    Loaded,
    Offer,
    Query,
    Refused,
    Unknown,
)
from xenion.xend.migration.wire import DATA, HEADER, MESSAGE
from xenion.xend.storage import read_json
from xenion.xend.tasks import RunningTask

GAVE_UP = ["migrate", "cancel-migrate"]
STAYED = ["migrate", "release", "finish-save"]


async def takes_it(far: Far) -> None:
    await far.takes()
    await far.hear(Commit)
    await far.say(Arrived(77))


async def migrates(host: Host, targets: Targets, **more: Any) -> Any:
    return await host.task("migrate", {**targets.where, **more}, domain="web")


async def fails(host: Host, targets: Targets, **more: Any) -> ApiError:
    return await host.refusal(migrates(host, targets, **more))


def goes_on(host: Host, live: Live, said: list[str]) -> None:
    """As if nothing had been, after its process was asked this."""
    assert host.names == ["web"]
    assert words(live) == said
    assert (live.record.leaving, live.record.wants) == ({}, [])
    saved = read_json(live.folder / "record.json")
    assert saved["leaving"] == {}
    assert "migrated" not in host.told(UUID)


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
            address = {"host": "127.0.0.1", "port": targets.port, "ssl": False}
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
            assert (result["host"], result["checked"]) == (f"127.0.0.1:{targets.port}", True)
            assert offers[0].check
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


# --- what goes wrong on the way


async def at_once(far: Far) -> None:
    """Before it is asked anything."""


async def when_offered(far: Far) -> None:
    await far.hear(Offer)


async def in_the_stream(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    frame = await within(far.wire.receive())
    assert frame.kind == DATA


async def after_the_stream(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    await far.stream()


async def when_loaded(far: Far) -> None:
    await far.takes()


async def when_committed(far: Far) -> None:
    await far.takes()
    await far.hear(Commit)


Step = Callable[[Far], Awaitable[None]]
UNDECIDED = [when_offered, in_the_stream, after_the_stream]
EARLY = [at_once, *UNDECIDED]


def said_then(until: Step) -> list[str]:
    """What the process was asked when it had come to nothing there."""
    return [] if until in (at_once, when_offered) else GAVE_UP


@pytest.mark.parametrize("until", UNDECIDED)
def test_refused(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def refuses(far: Far) -> None:
                await until(far)
                await far.say(Refused("no room"))

            targets.then(refuses)
            error = await fails(host, targets)
            assert error.code == "refused"
            assert error.message == f"127.0.0.1:{targets.port} does not take web: no room"
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("until", EARLY)
def test_cut(host: Host, until: Step, reset: bool, caplog: pytest.LogCaptureFixture) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def cuts(far: Far) -> None:
                await until(far)
                if reset:
                    far.wire._writer.transport.abort()

            targets.then(cuts)
            error = await fails(host, targets)
            assert error.code == "failed"
            assert error.message.startswith(f"web is not moved, 127.0.0.1:{targets.port}: the connection ")
            assert error.message.endswith("; it goes on here")
            goes_on(host, live, said_then(until))
        descriptors()  # what was garbage is none any more

    run(work)
    assert [record.message for record in caplog.records if record.exc_info] == []


@pytest.mark.parametrize("until", [when_offered, after_the_stream])
def test_silent(host: Host, until: Step, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk.hear, "__defaults__", (0.2,))
    monkeypatch.setattr(outgoing, "LOADED_S", 0.2)

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def waits(far: Far) -> None:
                await until(far)
                assert await far.over()

            targets.then(waits)
            error = await fails(host, targets)
            assert "it does not answer; it goes on here" in error.message
            goes_on(host, live, said_then(until))

    run(work)


NONSENSE = [
    (MESSAGE, b"nonsense"),
    (MESSAGE, b'{"type":"arrived","domid":3}'),
    (MESSAGE, b'{"type":"sent"}'),
    (MESSAGE, b'{"type":"unknown"}'),
    (MESSAGE, b'{"type":"commit","disks":[]}'),
    (DATA, b'{"type":"accepted"}'),
    (DATA, b'{"type":"loaded"}'),
    (MESSAGE, b"[" * 100000),
]


@pytest.mark.parametrize(("kind", "data"), NONSENSE)
@pytest.mark.parametrize("until", UNDECIDED)
def test_nonsense(host: Host, until: Step, kind: bytes, data: bytes) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def says(far: Far) -> None:
                await until(far)
                await far.wire.send(kind, data)
                await far.over()

            targets.then(says)
            error = await fails(host, targets)
            assert "what it says makes no sense; it goes on here" in error.message
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("until", [when_offered, after_the_stream])
def test_read_before_or_after_it_was_sent(host: Host, until: Step) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def says(far: Far) -> None:
                await until(far)
                await far.say(Got(1))
                await far.over()

            targets.then(says)
            assert "makes no sense; it goes on here" in (await fails(host, targets)).message
            goes_on(host, live, said_then(until))

    run(work)


@pytest.mark.parametrize("until", [when_offered, in_the_stream, after_the_stream])
def test_cancelled(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def waits(far: Far) -> None:
                await until(far)
                there.set()
                assert await far.over()

            targets.then(waits)
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            shown = await host.call("cancel", task=begun["id"])
            assert shown["state"] == "cancelled"
            goes_on(host, live, said_then(until))
            await host.until(lambda: targets.done)

    run(work)


def test_its_process_keeps_the_stream_open(host: Host) -> None:
    """It can be cancelled still, and the other host gives it up at some time."""
    host.to("keeps")

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def gives_up(far: Far) -> None:
                await in_the_stream(far)

            async def waits(far: Far) -> None:
                await in_the_stream(far)
                there.set()
                assert await far.over()

            targets.then(gives_up, waits)
            assert "it goes on here" in (await fails(host, targets)).message
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            assert (await host.call("cancel", task=begun["id"]))["state"] == "cancelled"
            goes_on(host, live, GAVE_UP * 2)
            await host.until(lambda: targets.done)

    run(work)


def test_its_process_refuses(host: Host) -> None:
    """Nothing of it is given up: what it does instead may be somebody else's."""
    host.to("no-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            targets.then(waits_for_the_end)
            error = await fails(host, targets)
            assert (error.code, error.message) == ("wrong-state", "it is being saved or moved already")
            goes_on(host, live, ["migrate"])

    run(work)


async def waits_for_the_end(far: Far) -> None:
    await far.hear(Offer)
    await far.say(Accepted())
    assert await far.over()


def test_twice_at_once(host: Host) -> None:
    """The second one does no harm to the first."""

    async def work() -> None:
        async with host, Targets() as targets:
            live, there = await host.has(), asyncio.Event()

            async def takes_its_time(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                await there.wait()
                await far.say(Loaded())
                await far.hear(Commit)
                await far.say(Arrived(3))

            targets.then(takes_its_time)
            begun = await host.call("migrate", targets.where, domain="web")
            await host.until(lambda: words(live) == ["migrate"])
            host.to("no-migrate")
            targets.then(waits_for_the_end)
            assert (await fails(host, targets)).code == "wrong-state"
            there.set()
            await within(host.services.tasks.get(begun["id"]).over())
            assert host.names == []

    run(work)


@pytest.mark.parametrize("until", [in_the_stream, after_the_stream])
def test_its_process_ends(host: Host, until: Step) -> None:
    if until is in_the_stream:
        host.to("slow-migrate")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def kills(far: Far) -> None:
                await until(far)
                end(live, signal=9)
                if until is after_the_stream:
                    await within(live.gone.wait())
                    await far.say(Loaded())
                assert await far.over(), "there is nothing to commit"

            targets.then(kills)
            await fails(host, targets)
            await within(live.gone.wait())
            assert host.names == []

    run(work)


# --- the decision


def test_it_cannot_be_released(host: Host) -> None:
    host.to("no-release")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def is_not_asked(far: Far) -> None:
                await far.takes()
                assert await far.over()

            targets.then(is_not_asked)
            assert (await fails(host, targets)).message == "the domain has gone on"
            goes_on(host, live, STAYED)
            assert asked(live)[-1]["keep"] is True

    run(work)


def test_its_process_ends_when_it_is_released(host: Host) -> None:
    host.to("die-release")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def is_not_asked(far: Far) -> None:
                await far.takes()
                assert await far.over()

            targets.then(is_not_asked)
            await fails(host, targets)
            await within(live.gone.wait())

    run(work)


def test_where_it_goes_cannot_be_written_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            await host.settled()

            async def is_not_asked(far: Far) -> None:
                await far.takes()
                assert await far.over()

            def full(self: Live) -> None:
                if self.record.leaving:
                    raise ApiError("failed", "No space left on device")

            monkeypatch.setattr(Live, "save", full)
            targets.then(is_not_asked)
            assert (await fails(host, targets)).message == "No space left on device"
            assert words(live) == ["migrate", "finish-save"]
            assert (live.record.leaving, live.record.wants) == ({}, [])

    run(work)


def test_its_disks_are_gone(host: Host) -> None:
    """It is held then: it could not lock them."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has(disks=(host.disk("xvda"),))

            async def is_not_asked(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                (host.at / "xvda.img").unlink()
                await far.say(Loaded())
                assert await far.over()

            targets.then(is_not_asked)
            assert "No such file" in (await fails(host, targets)).message
            assert words(live) == STAYED

    run(work)


def test_refused_at_the_last_moment(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def refuses(far: Far) -> None:
                await when_committed(far)
                await far.say(Refused("its disk is in use"))

            targets.then(refuses)
            error = await fails(host, targets)
            assert (error.code, error.message.endswith("its disk is in use")) == ("refused", True)
            goes_on(host, live, STAYED)
            assert asked(live)[-1]["keep"] is True
            assert targets.connections == 1

    run(work)


def test_it_is_not_cancelled_any_more(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()
            there, go = asyncio.Event(), asyncio.Event()

            async def takes(far: Far) -> None:
                await when_committed(far)
                there.set()
                await go.wait()
                await far.say(Arrived(3))

            targets.then(takes)
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            cancel = asyncio.ensure_future(host.call("cancel", task=begun["id"]))
            await asyncio.sleep(0.05)
            go.set()
            assert (await within(cancel))["state"] == "done"
            assert host.names == []

    run(work)


LOST = [(None, b""), (MESSAGE, b"nonsense"), (MESSAGE, b'{"type":"loaded"}'), (DATA, b'{"type":"arrived"}')]


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(("kind", "data"), LOST)
def test_the_answer_is_lost(host: Host, kind: bytes | None, data: bytes, there: bool) -> None:
    """It is held until the other one has been asked, and that decides."""

    async def work() -> None:
        async with host, Targets() as targets:
            live, offers, held, go = await host.has(), [], [], asyncio.Event()

            async def loses_it(far: Far) -> None:
                offers.append(await far.takes())
                await far.hear(Commit)
                if kind is not None:
                    await far.wire.send(kind, data)

            async def tells(far: Far) -> None:
                assert await far.hear(Query) == Query(offers[0].id)
                held.append(words(live))
                await go.wait()
                await far.say(Arrived(3) if there else Unknown())

            targets.then(loses_it, tells)
            error = await fails(host, targets)
            assert error.code == "failed"
            assert "is not known" in error.message
            assert "`xm migrate --resolve` decides" in error.message
            assert "it goes on here" not in error.message
            await host.until(lambda: bool(held))
            again = await host.refusal(host.call("migrate", targets.where, domain="web"))
            assert "is not decided: see `xm migrate --resolve`" in again.message
            assert held == [["migrate", "release"]]
            go.set()
            if there:
                await within(live.gone.wait())
                assert (await host.call("outcome", uuid=UUID))["reason"] == "migrated"
                assert host.told(UUID).count("migrated") == 1
            else:
                await host.settled()
                goes_on(host, live, STAYED)
            assert targets.connections == 2

    run(work)


def test_no_answer_in_time(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "DECISION_S", 0.2)

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def waits(far: Far) -> None:
                await when_committed(far)
                assert await far.over()

            async def tells(far: Far) -> None:
                await far.hear(Query)
                await far.say(Arrived(3))

            targets.then(waits, tells)
            assert "it does not answer; it is held here" in (await fails(host, targets)).message
            await within(live.gone.wait())

    run(work)


def test_its_process_does_not_end_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs there: here it is told so until it has ended."""
    impatient(monkeypatch, 0.2)
    monkeypatch.setattr("xenion.xend.supervisor.AGAIN_S", 0.1)

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def tells(far: Far) -> None:
                await far.hear(Query)
                host.to("mute-finish", stop=True)
                await far.say(Arrived(3))

            targets.then(takes_it, tells)
            host.to("mute-finish")
            assert "does not answer" in (await fails(host, targets)).message
            await within(live.gone.wait())

    run(work)


def test_frames_that_are_too_large(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def says(far: Far) -> None:
                await when_offered(far)
                far.wire._writer.write(HEADER.pack(MESSAGE, 1 << 31, 0))
                await far.over()

            targets.then(says)
            assert "makes no sense" in (await fails(host, targets)).message
            goes_on(host, live, [])

    run(work)


def test_only_so_many_rounds_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "MOST_ROUNDS", 3)

    async def work() -> None:
        task = RunningTask("migrate", "web")
        passage: Any = outgoing._Passage(None, None, How(), task, None, "1")  # type: ignore[arg-type]
        for number in range(9):
            passage.note({"round": number})
        assert passage.held_at == 0
        passage.note({"held": 1})
        assert [one["round"] for one in passage.rounds] == [0, 1, 2]
        assert passage.held_at > 0

    run(work)


def test_two_hosts(host: Host, there: Host) -> None:
    """There, with its definition, and back; and once only."""

    async def work() -> None:
        async with host, there:
            made = {**host.config(disks=(host.disk("xvda"),)).to_mapping(), "uuid": UUID}
            await host.call("define", {"config": made})
            await host.task("start", domain="web")
            for one, other in ((host, there), (there, host)):
                where = {"host": "127.0.0.1", "port": other.target.port}
                assert (await one.task("migrate", {**where, "check": True}, domain="web"))["checked"]
                result = await one.task("migrate", {**where, "live": True}, domain="web")
                assert (one.names, other.names) == ([], ["web"])
                assert result["domid"] == other.live().domid
                assert list(one.services.registry.managed) == []
                assert [found.name for found in other.services.registry.managed] == ["web"]
                await other.settled()
            error = await host.refusal(
                host.task("migrate", {"host": "127.0.0.1", "port": host.target.port}, domain="web")
            )
            assert "running already" in error.message
            assert host.names == ["web"]

    run(work)


def test_sent_is_not_said_before_all_is(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.has()

            async def slow(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await asyncio.sleep(0.05)
                assert await far.stream() == MEMORY
                await far.say(Loaded())
                await far.hear(Commit)
                await far.say(Arrived(1))

            targets.then(slow)
            await migrates(host, targets)

    run(work)


@pytest.mark.parametrize(
    ("how", "says"), [("die-load", "the process of web has ended there"), ("refuse-late", "it is no domain")]
)
def test_why_is_heard_in_the_middle_of_the_stream(host: Host, there: Host, how: str, says: str) -> None:
    """The other one has closed its end before it has read what was on its way."""
    host.to("endless")
    there.to(how)

    async def work() -> None:
        async with host, there:
            live = await host.has()
            where = {"host": "127.0.0.1", "port": there.target.port}
            error = await host.refusal(host.task("migrate", where, domain="web"))
            assert error.message == f"127.0.0.1:{there.target.port} does not take web: {says}"
            goes_on(host, live, GAVE_UP)

    run(work)
