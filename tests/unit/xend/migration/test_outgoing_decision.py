"""A domain that is handed over goes on at one place: here until the other host has it."""

import asyncio
from typing import Any

import pytest

from tests.unit.xend.kit import asked, impatient, run, within
from tests.unit.xend.migration.kit import UUID, Far, Host, Targets, words
from tests.unit.xend.migration.moving import MEMORY
from tests.unit.xend.migration.outgoing_kit import (
    GAVE_UP,
    STAYED,
    fails,
    goes_on,
    is_not_asked,
    migrates,
    takes_it,
    tells,
    when_committed,
    when_offered,
)
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.migration import outgoing
from xenion.xend.migration.outgoing import How
from xenion.xend.migration.talk import (
    Accepted,
    Arrived,
    Commit,
    Loaded,
    Offer,
    Query,
    Refused,
    Unknown,
)
from xenion.xend.migration.wire import DATA, HEADER, MESSAGE
from xenion.xend.tasks import RunningTask

# --- the decision


def test_it_cannot_be_released(host: Host) -> None:
    host.to("no-release")

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
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
            targets.then(is_not_asked)
            await fails(host, targets)
            await within(live.gone.wait())

    run(work)


def test_where_it_goes_cannot_be_written_down(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()
            await host.settled()

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

            async def loses_the_disk(far: Far) -> None:
                await far.hear(Offer)
                await far.say(Accepted())
                await far.stream()
                (host.at / "xvda.img").unlink()
                await far.say(Loaded())
                assert await far.over()

            targets.then(loses_the_disk)
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

            async def decides(far: Far) -> None:
                assert await far.hear(Query) == Query(offers[0].id)
                held.append(words(live))
                await go.wait()
                await far.say(Arrived(3) if there else Unknown())

            targets.then(loses_it, decides)
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

            targets.then(waits, tells(Arrived(3)))
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

            async def comes_to_itself(far: Far) -> None:
                await far.hear(Query)
                host.to("mute-finish", stop=True)
                await far.say(Arrived(3))

            targets.then(takes_it, comes_to_itself)
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
