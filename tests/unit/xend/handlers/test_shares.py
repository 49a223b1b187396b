"""share, set_share."""

import os
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.unit.xend.kit import World, asked, config, run
from xenion.api.errors import ApiError
from xenion.xend.live import Live
from xenion.xend.record import Record, Share
from xenion.xend.scheduling import affinity, cgroups, niceness
from xenion.xend.scheduling.scheduler import WITHOUT


@dataclass
class Host:
    """Without control groups; what was done to processes."""

    pinned: list[set[int]] = field(default_factory=list)
    weights: list[int] = field(default_factory=list)

    def runs_on(self, pid: int) -> set[int]:
        """xend itself, of pid 0, anywhere; the domain as it was pinned."""
        return self.pinned[-1] if pid and self.pinned else {0, 1, 2, 3}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host()
    monkeypatch.setattr(cgroups, "find", lambda run_folder, proc: None)
    monkeypatch.setattr(niceness, "set_share", lambda pid, weight: made.weights.append(weight))
    monkeypatch.setattr(affinity, "pin", lambda pid, cpus: made.pinned.append(set(cpus)))
    monkeypatch.setattr(os, "sched_getaffinity", made.runs_on)
    return made


def refuse_caps(monkeypatch: pytest.MonkeyPatch, refused: int) -> None:
    """The process takes any cap but that one."""
    ask = Live.ask

    async def refusing(live: Live, what: str, **fields: Any) -> dict[str, Any]:
        if (what, fields.get("percent")) == ("cap", refused):
            raise ApiError("refused", "no such cap")
        return await ask(live, what, **fields)

    monkeypatch.setattr(Live, "ask", refusing)


async def started(world: World, **share: Any) -> Live:
    live = await world.create(config(world.at, **share))
    await world.settled()
    return live


def caps(live: Live) -> list[int]:
    return [request["percent"] for request in asked(live) if request["do"] == "cap"]


def written(live: Live) -> Share:
    return Record.read(live.folder).share


def test_at_first_it_is_what_the_configuration_says(world: World, host: Host) -> None:
    async def work() -> None:
        async with world:
            live = await started(world, cpu_weight=512, cap=30, cpus="0-1")
            assert await world.call("share", domain="web") == {
                "name": "web",
                "domid": live.domid,
                "weight": 512,
                "cap": 30,
                "cpus": "0-1",
                "mechanism": WITHOUT,
            }
            assert (host.pinned, host.weights, caps(live)) == ([{0, 1}], [512], [30])

    run(work)


def test_a_domain_of_no_special_share_runs_anywhere(world: World, host: Host) -> None:
    async def work() -> None:
        async with world:
            await started(world)
            shown = await world.call("share", domain="web")
            assert (shown["weight"], shown["cap"], shown["cpus"]) == (256, 0, "all")
            assert host.pinned == []

    run(work)


def test_what_is_changed_is_written_and_the_rest_stays(world: World, host: Host) -> None:
    async def work() -> None:
        async with world:
            live = await started(world, cpu_weight=512, cap=30)
            shown = await world.call("set_share", {"cap": 40}, domain="web")
            assert (shown["weight"], shown["cap"], shown["cpus"]) == (512, 40, "all")
            assert written(live) == Share(512, 40, "")
            shown = await world.call("set_share", {"weight": 100, "cpus": " 2,0, 1,^2"}, domain="web")
            assert (shown["weight"], shown["cap"], shown["cpus"]) == (100, 40, "0-1")
            assert written(live) == Share(100, 40, "0-1")
            assert await world.call("share", domain="web") == shown
            assert (host.weights, caps(live), host.pinned) == ([512, 512, 100], [30, 40, 40], [{0, 1}])
            assert live.record.config.cap == 30, "of the next one"

    run(work)


@pytest.mark.parametrize("word", ["all", ""])
def test_one_that_was_pinned_may_run_anywhere_again(world: World, host: Host, word: str) -> None:
    async def work() -> None:
        async with world:
            await started(world, cpus="1")
            await world.call("set_share", {"cpus": word}, domain="web")
            assert host.pinned == [{1}, {0, 1, 2, 3}]

    run(work)


@pytest.mark.parametrize("cpus", ["7", "0-x", "0,^0"])
def test_cpus_that_cannot_be_change_nothing(world: World, host: Host, cpus: str) -> None:
    async def work() -> None:
        async with world:
            live = await started(world, cap=30, cpus="0-1")
            error = await world.refusal(
                world.call("set_share", {"weight": 100, "cap": 40, "cpus": cpus}, domain="web")
            )
            assert error.code == "bad-request"
            assert live.record.share == written(live) == Share(256, 30, "0-1")
            assert (host.weights, caps(live), host.pinned) == ([256], [30], [{0, 1}])

    run(work)


def test_a_cap_that_its_process_refuses_leaves_all_as_before(
    world: World, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            live = await started(world, cap=30, cpus="0-1")
            refuse_caps(monkeypatch, 40)
            change = {"weight": 100, "cap": 40, "cpus": "3"}
            error = await world.refusal(world.call("set_share", change, domain="web"))
            assert (error.code, error.message) == ("refused", "no such cap")
            assert live.record.share == written(live) == Share(256, 30, "0-1")
            assert (host.weights[-1], caps(live)[-1], host.pinned[-1]) == (256, 30, {0, 1})

    run(work)


def test_one_that_ran_anywhere_does_so_after_a_refusal(
    world: World, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        async with world:
            await started(world)
            refuse_caps(monkeypatch, 40)
            await world.refusal(world.call("set_share", {"cap": 40, "cpus": "3"}, domain="web"))
            assert host.pinned == []

    run(work)


def test_a_record_that_cannot_be_written_leaves_all_as_before(
    world: World, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(record: Record, folder: Any) -> None:
        raise OSError(28, "No space left on device")

    async def work() -> None:
        async with world:
            live = await started(world, cap=30)
            with monkeypatch.context() as patch:
                patch.setattr(Record, "write", full)
                error = await world.refusal(world.call("set_share", {"cap": 40}, domain="web"))
            assert error.code == "failed"
            assert live.record.share == written(live) == Share(256, 30, "")
            assert caps(live) == [30, 40, 30]

    run(work)


def test_the_next_xend_keeps_what_was_changed(world: World, host: Host) -> None:
    async def work() -> None:
        async with world:
            await started(world)
            await world.call("set_share", {"weight": 512, "cap": 40}, domain="web")
        async with world:
            await world.settled()
            shown = await world.call("share", domain="web")
            assert (shown["weight"], shown["cap"]) == (512, 40)
            assert host.weights == [256, 512, 512]
            assert caps(world.live()) == [0, 40, 40]

    run(work)


def test_of_no_domain(world: World, host: Host) -> None:
    async def work() -> None:
        async with world:
            for action in ("share", "set_share"):
                error = await world.refusal(world.call(action, {}, domain="nobody"))
                assert error.code == "no-such-domain"

    run(work)
