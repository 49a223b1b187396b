"""Where a domain is that its source has released: here or there, never both, and never neither."""

import asyncio
import os
from typing import Any

import pytest

from tests.unit.xend.kit import asked, end, impatient, run, within
from tests.unit.xend.migration.incoming_kit import comes
from tests.unit.xend.migration.kit import SHOWN, UUID, WORD, Far, Host, Script, Targets, words
from tests.unit.xend.migration.outgoing_kit import tells, when_committed
from xenion.api.errors import ApiError
from xenion.xend import supervisor
from xenion.xend.live import Live
from xenion.xend.migration import disks, talk
from xenion.xend.migration.talk import Arrived, Message, Offer, Query, Refused, Sent, Unknown
from xenion.xend.storage import read_json, write_json

HELD = ["migrate", "release"]


async def says_nothing(far: Far) -> None:
    await far.hear(Query)


async def is_held(host: Host, targets: Targets, **more: Any) -> Live:
    """A domain of which it is not known where it is; nobody is there to be asked."""
    live = await host.has(**more)
    targets.then(when_committed)
    error = await host.refusal(host.task("migrate", targets.where, domain="web"))
    assert "is not known" in error.message
    assert words(live) == HELD
    return live


async def stays(host: Host, live: Live) -> None:
    await host.settled()
    assert host.names == ["web"]
    assert words(live)[-1] == "finish-save"
    assert asked(live)[-1]["keep"] is True
    assert live.record.leaving == {}
    assert read_json(live.folder / "record.json")["leaving"] == {}
    assert "migrated" not in host.told(UUID)


async def has_left(host: Host, live: Live) -> None:
    await within(live.gone.wait())
    assert (await host.call("outcome", uuid=UUID))["reason"] == "migrated"
    assert host.told(UUID).count("migrated") == 1
    assert host.names == []


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "AGAIN_S", 0.05)


# --- the target is asked


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize(
    "before",
    [
        [],
        [says_nothing] * 3,
        [tells(Refused("ask again"))] * 3,
        [
            tells(Sent()),
            tells(Offer("a", {}, 1, False, False, False, False, False, [], SHOWN)),
            tells(Query("a")),
        ],
    ],
)
def test_it_is_asked_until_it_tells(host: Host, before: list[Script], there: bool) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live, held = await is_held(host, targets), []

            async def decides(far: Far) -> None:
                held.append(words(live))
                await tells(Arrived(3) if there else Unknown())(far)

            targets.then(*before, decides)
            await (has_left if there else stays)(host, live)
            assert held == [HELD]
            assert targets.scripts == []

    run(work)


def test_it_is_asked_for_that_one_and_no_other(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live, seen = await is_held(host, targets), []
            word = live.record.leaving["id"]
            assert live.shown()["leaving"] == f"127.0.0.1:{targets.port}"

            async def looks(far: Far) -> None:
                seen.append(await far.hear(Query))
                await far.say(Unknown())

            targets.then(looks)
            await stays(host, live)
            assert "leaving" not in live.shown()
            assert seen == [Query(word)]
            assert len(word) == 32

    run(work)


@pytest.mark.parametrize("there", [False, True])
def test_nobody_is_there_for_a_while(host: Host, there: bool) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            live.record.leaving["port"], port = 1, targets.port
            await asyncio.sleep(0.2)
            assert words(live) == HELD
            live.record.leaving["port"] = port
            targets.then(tells(Arrived(3) if there else Unknown()))
            await (has_left if there else stays)(host, live)

    run(work)


def test_a_target_that_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk.hear, "__defaults__", (0.2,))

    async def work() -> None:
        async with host, Targets() as targets:
            live = await host.has()

            async def waits(far: Far) -> None:
                await far.hear(Query)
                assert await far.over()

            targets.then(when_committed, waits, tells(Unknown()))
            await host.refusal(host.task("migrate", targets.where, domain="web"))
            await stays(host, live)

    run(work)


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("managed", [False, True])
def test_the_next_xend_asks(host: Host, managed: bool, there: bool) -> None:
    """What it knows it knows from the record."""
    ports: list[int] = []

    async def first() -> None:
        async with host, Targets() as targets:
            if managed:
                await host.call("define", {"config": {**host.config().to_mapping(), "uuid": UUID}})
                await host.task("start", domain="web")
                targets.then(when_committed)
                await host.refusal(host.task("migrate", targets.where, domain="web"))
                live = host.live()
            else:
                live = await is_held(host, targets)
            ports.append(targets.port)
            made = read_json(live.folder / "record.json")
            assert made["leaving"] == live.record.leaving
            write_json(live.folder / "record.json", {**made, "wants": []})

    async def second() -> None:
        async with Targets() as targets:
            folder = host.where.domains / UUID
            made = read_json(folder / "record.json")
            made["leaving"]["port"] = targets.port
            write_json(folder / "record.json", made)
            targets.then(tells(Arrived(3) if there else Unknown()))
            async with host:
                live = host.live()
                await (has_left if there else stays)(host, live)
                kept = [found.name for found in host.services.registry.managed]
                assert kept == ["web"] * (managed and not there)

    run(first)
    run(second)


@pytest.mark.parametrize("there", [False, True])
def test_killed_while_it_is_told_so(host: Host, there: bool) -> None:
    """Its process has heard it already, or its definition is gone: the next xend does it all again."""

    async def first() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            if not there:
                await live.ask("finish-save", keep=True)

    async def second() -> None:
        async with Targets() as targets:
            folder = host.where.domains / UUID
            made = read_json(folder / "record.json")
            made["leaving"]["port"] = targets.port
            write_json(folder / "record.json", {**made, "managed": there})
            targets.then(tells(Arrived(3) if there else Unknown()))
            async with host:
                await (has_left if there else stays)(host, host.live())

    run(first)
    run(second)


def test_killed_before_it_was_released(host: Host) -> None:
    """Its process has let it go on; nobody has been told of it."""

    async def first() -> None:
        async with host:
            live = await host.has()
            await host.settled()
            made = read_json(live.folder / "record.json")
            leaving = {"id": WORD, "host": "127.0.0.1", "port": 0, "ssl": False}
            write_json(live.folder / "record.json", {**made, "leaving": leaving, "wants": ["leave"]})

    async def second() -> None:
        async with Targets() as targets:
            folder = host.where.domains / UUID
            made = read_json(folder / "record.json")
            made["leaving"]["port"] = targets.port
            write_json(folder / "record.json", made)
            targets.then(tells(Unknown()))
            async with host:
                await stays(host, host.live())

    run(first)
    run(second)


def test_its_process_ends_while_it_is_held(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            end(live, signal=9)
            await within(live.gone.wait())
            assert (await host.call("outcome", uuid=UUID))["reason"] == "died"

    run(work)


# --- its disks


@pytest.mark.parametrize("how", ["told", "resolved"])
def test_disks_that_have_changed_meanwhile(host: Host, how: str) -> None:
    """Somebody has written to them: two have it, or had it."""

    async def work() -> None:
        async with host, Targets() as targets:
            disk = host.disk("xvda")
            live = await is_held(host, targets, disks=(disk,))
            before = os.stat(disk.target)  # noqa: PTH116
            os.utime(disk.target, ns=(1, 77))
            if how == "told":
                targets.then(tells(Unknown()), tells(Unknown()))
                await host.until(lambda: not targets.scripts)
            else:
                error = await host.refusal(host.call("resolve", {"goes_on": "source"}, domain="web"))
                assert (error.code, "not as it was left" in error.message) == ("refused", True)
            assert words(live) == HELD
            assert live.record.leaving
            os.utime(disk.target, ns=(1, before.st_mtime_ns))
            if how == "told":
                targets.then(tells(Unknown()))
            else:
                await host.call("resolve", {"goes_on": "source"}, domain="web")
            await stays(host, live)

    run(work)


def test_disks_that_another_one_uses(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            host.to("no-finish")
            error = await host.refusal(host.call("resolve", {"goes_on": "source"}, domain="web"))
            assert error.message == "xvda: another domain uses it"
            assert live.record.leaving
            host.to("no-finish", stop=True)
            await host.call("resolve", {"goes_on": "source"}, domain="web")
            await stays(host, live)

    run(work)


def test_the_daemon_goes_on_while_disks_are_looked_at(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their server may not answer."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets, disks=(host.disk("xvda"),))
            loop, threads = asyncio.get_running_loop(), list[bool]()

            def looked(*of: Any, **more: Any) -> None:
                try:
                    threads.append(asyncio.get_running_loop() is not loop)
                except RuntimeError:
                    threads.append(True)

            monkeypatch.setattr(disks, "check_same", looked)
            await host.call("resolve", {"goes_on": "source"}, domain="web")
            await stays(host, live)
            assert threads == [True]

    run(work)


# --- somebody knows better


@pytest.mark.parametrize("there", [False, True])
def test_resolved(host: Host, there: bool) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            goes_on = "target" if there else "source"
            assert await host.call("resolve", {"goes_on": goes_on}, domain="web") in (None, {})
            await (has_left if there else stays)(host, live)

    run(work)


def test_resolved_for_a_managed_one(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await host.call("define", {"config": {**host.config().to_mapping(), "uuid": UUID}})
            await host.task("start", domain="web")
            targets.then(when_committed)
            await host.refusal(host.task("migrate", targets.where, domain="web"))
            await host.call("resolve", {"goes_on": "target"}, domain="web")
            await host.until(lambda: not host.names)
            assert list(host.services.registry.managed) == []

    run(work)


@pytest.mark.parametrize("goes_on", ["source", "target"])
def test_nothing_to_resolve(host: Host, goes_on: str) -> None:
    async def work() -> None:
        async with host:
            live = await host.has()
            error = await host.refusal(host.call("resolve", {"goes_on": goes_on}, domain="web"))
            assert (error.code, "there is nothing to decide" in error.message) == ("wrong-state", True)
            assert words(live) == []
            assert (await host.refusal(host.call("resolve", {"goes_on": goes_on}, domain="x"))).code == (
                "no-such-domain"
            )

    run(work)


@pytest.mark.parametrize("goes_on", ["source", "target"])
def test_resolved_while_it_is_handed_over(host: Host, goes_on: str) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live, there, go = await host.has(), asyncio.Event(), asyncio.Event()

            async def takes(far: Far) -> None:
                await when_committed(far)
                there.set()
                await go.wait()
                await far.say(Arrived(3))

            targets.then(takes)
            begun = await host.call("migrate", targets.where, domain="web")
            await within(there.wait())
            error = await host.refusal(host.call("resolve", {"goes_on": goes_on}, domain="web"))
            assert (error.code, "just being handed over" in error.message) == ("wrong-state", True)
            go.set()
            await within(host.services.tasks.get(begun["id"]).over())
            await has_left(host, live)

    run(work)


@pytest.mark.parametrize(("resolved", "told"), [("source", Arrived(3)), ("target", Unknown())])
def test_resolved_while_the_target_is_asked(host: Host, resolved: str, told: Message) -> None:
    """What somebody has decided is not decided again."""

    async def work() -> None:
        async with host, Targets() as targets:
            live, there, go = await is_held(host, targets), asyncio.Event(), asyncio.Event()

            async def takes_its_time(far: Far) -> None:
                await far.hear(Query)
                there.set()
                await go.wait()
                await far.say(told)

            targets.then(takes_its_time)
            await within(there.wait())
            await host.call("resolve", {"goes_on": resolved}, domain="web")
            go.set()
            await (stays if resolved == "source" else has_left)(host, live)

    run(work)


def test_destroyed_while_it_is_held(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            await host.call("destroy", domain="web")
            assert live.gone.is_set()

    run(work)


def test_moved_again_while_it_is_held(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            before = dict(live.record.leaving)
            error = await host.refusal(host.call("migrate", targets.where, domain="web"))
            assert (error.code, "not decided" in error.message) == ("wrong-state", True)
            assert words(live) == HELD
            assert live.record.leaving == before

    run(work)


def test_its_definition_cannot_be_removed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not started here all the same, and is gone when it can be."""

    async def work() -> None:
        async with host, Targets() as targets:
            live, managed = await is_managed(host), host.services.registry.managed
            forget, failures = type(managed).forget, [1]

            def full(self: Any, made: Any) -> None:
                if failures:
                    failures.pop()
                    raise ApiError("failed", "Read-only file system")
                forget(self, made)

            monkeypatch.setattr(type(managed), "forget", full)

            async def takes(far: Far) -> None:
                await when_committed(far)
                await far.say(Arrived(3))

            targets.then(takes, tells(Arrived(3)))
            await host.task("migrate", targets.where, domain="web")
            await within(live.gone.wait())
            assert managed.get(UUID) is not None
            error = await host.refusal(host.task("start", domain="web"))
            assert error.message == f"web runs on 127.0.0.1:{targets.port} now"
            assert managed.get(UUID) is None

    run(work)


# --- a host that was started anew, or lost the process


async def is_managed(host: Host) -> Live:
    await host.call("define", {"config": {**host.config().to_mapping(), "uuid": UUID}})
    await host.task("start", domain="web")
    return host.live()


async def is_lost(host: Host, targets: Targets) -> None:
    """A managed domain that was held, and whose process is gone."""
    live = await is_managed(host)
    targets.then(when_committed)
    await host.refusal(host.task("migrate", targets.where, domain="web"))
    assert live.record.leaving
    live.kill()
    await within(live.gone.wait())
    assert read_json(host.where.state / "departures.json").keys() == {UUID}


def test_it_is_started_if_it_never_arrived(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await is_lost(host, targets)
            targets.then(tells(Unknown()))
            await host.task("start", domain="web")
            assert host.names == ["web"]
            assert read_json(host.where.state / "departures.json") == {}

    run(work)


def test_it_is_not_started_while_nobody_knows(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await is_lost(host, targets)
            for _ in range(2):
                error = await host.refusal(host.task("start", domain="web"))
                assert "whether it runs there is not known" in error.message
                assert "`xm migrate --resolve source web`" in error.message
            await host.call("resolve", {"goes_on": "source"}, domain="web")
            await host.task("start", domain="web")
            assert host.names == ["web"]

    run(work)


def test_somebody_knows_that_it_has_left(host: Host) -> None:
    async def work() -> None:
        async with host, Targets() as targets:
            await is_lost(host, targets)
            await host.call("resolve", {"goes_on": "target"}, domain="web")
            assert host.services.registry.managed.get(UUID) is None

    run(work)


def test_one_that_went_on_is_started_without_asking(host: Host) -> None:
    """It has come to nothing before it was released, and an xend that ended in the middle of it has left a note."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_managed(host)
            write_json(host.where.state / "departures.json", {UUID: {"id": WORD, **host.target.to_mapping()}})
            host.services.decided._departures.__init__(host.where.state)  # type: ignore[misc]
            host.services.decided.sweep()
            assert read_json(host.where.state / "departures.json") == {}
            await host.call("destroy", domain="web")
            await within(live.gone.wait())
            await host.task("start", domain="web")
            assert targets.connections == 0

    run(work)


def test_one_that_has_come_back(host: Host) -> None:
    """Where it was meanwhile is asked no more: it would say that it was there."""

    async def work() -> None:
        async with host, Targets() as targets:
            await is_lost(host, targets)
            asked_before = targets.connections
            await comes(host, managed=True)
            assert read_json(host.where.state / "departures.json") == {}
            live = host.live()
            await host.call("destroy", domain="web")
            await within(live.gone.wait())
            await host.task("start", domain="web")
            assert targets.connections == asked_before

    run(work)


def test_another_xend_does_not_know(host: Host) -> None:
    """At the same address, or the same one that has lost its file: its "unknown" means nothing."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            targets.then(tells(Unknown("another")), tells(Unknown("another")))
            await host.until(lambda: targets.done)
            assert (words(live), bool(live.record.leaving)) == (HELD, True)
            targets.then(tells(Unknown()))
            await stays(host, live)

    run(work)


def test_a_target_that_lies(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says that it has what it was not given: the domain goes on, and stays defined."""

    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_managed(host)
            ask = live.ask

            async def has_gone_on(what: str, **fields: Any) -> dict[str, Any]:
                return {"saved": False} if what == "finish-save" else await ask(what, **fields)

            monkeypatch.setattr(live, "ask", has_gone_on)

            async def lies(far: Far) -> None:
                await when_committed(far)
                await far.say(Arrived(3))

            targets.then(lies)
            error = await host.refusal(host.task("migrate", targets.where, domain="web"))
            assert "it goes on here" in error.message
            assert live.record.leaving == {}
            assert host.services.registry.managed.get(UUID) is not None

    run(work)


def test_its_process_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    impatient(monkeypatch, 0.2)

    async def work() -> None:
        async with host, Targets() as targets:
            live = await is_held(host, targets)
            host.to("mute-finish")
            error = await host.refusal(host.call("resolve", {"goes_on": "source"}, domain="web"))
            assert "does not answer" in error.message
            assert live.record.leaving
            host.to("mute-finish", stop=True)
            await host.call("resolve", {"goes_on": "source"}, domain="web")
            await stays(host, live)

    run(work)


def test_the_errand_for_nothing(host: Host) -> None:
    async def work() -> None:
        async with host:
            live = await host.has()
            await host.services.decided.ask(live)
            assert words(live) == []

    run(work)
