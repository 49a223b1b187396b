"""sysrq, trigger, configure; renames are in test_renaming."""

import pytest

from tests.unit.xend.kit import World, add, asked, config, run
from xenion.xend import host


def test_keys_and_events_reach_the_process(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.call("sysrq", {"key": "h"}, domain="web")
            await world.call("trigger", {"trigger": "nmi"}, domain="web")
            error = await world.refusal(world.call("trigger", {"trigger": "nmi", "vcpu": 5}, domain="web"))
            assert (error.code, error.message) == ("wrong-state", "the domain has no vCPU 5")
            told = [(r["do"], r.get("key"), r.get("vcpu")) for r in asked(live)]
            assert told == [("sysrq", "h", None), ("nmi", None, 0), ("nmi", None, 5)]
            error = await world.refusal(world.call("trigger", {"trigger": "power"}, domain="web"))
            assert "fully virtualised" in error.message

    run(work)


def test_sizes_are_asked_of_the_guest(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.call("set_vcpus", {"vcpus": 3}, domain="web")
            await world.call("set_memory", {"mib": 12}, domain="web")
            await world.call("set_maxmem", {"mib": 14}, domain="web")
            told = [(r["do"], r.get("vcpus"), r.get("mib")) for r in asked(live)]
            assert told == [("set-vcpus", 3, None), ("set-memory", None, 12), ("set-maxmem", None, 14)]
            add(live, {"kind": "resized", "vcpus": 3, "memory_mib": 12, "maxmem_mib": 14})
            await world.until(lambda: live.shown()["vcpus"] == 3)
            assert (live.shown()["memory_mib"], live.shown()["maxmem_mib"]) == (12, 14)
            assert world.services.registry.promised() == [(16, live.pid)]

    run(work)


@pytest.mark.parametrize("managed", [False, True])
def test_configured_while_it_runs(world: World, managed: bool) -> None:
    async def work() -> None:
        async with world:
            if managed:
                await world.call("define", {"config": config(world.at).to_mapping()})
                await world.task("start", domain="web")
            else:
                await world.create(config(world.at))
            live = world.live()
            changed = {**config(world.at, "other").to_mapping(), "memory_mib": 24}
            shown = await world.call("configure", {"config": changed}, domain="web")
            assert (shown["name"], shown["uuid"], shown["config"]["memory_mib"]) == ("web", live.uuid, 24)
            assert shown["memory_mib"] == 16, "until its next boot"
            (request,) = asked(live)
            assert (request["config"]["memory_mib"], request["config"]["name"]) == (24, "web")
            definitions = [m.config.memory_mib for m in world.services.registry.managed]
            assert definitions == ([24] if managed else [])

    run(work)


def test_configured_while_it_does_not_run(world: World) -> None:
    async def work() -> None:
        async with world:
            defined = await world.call("define", {"config": config(world.at).to_mapping()})
            changed = {**config(world.at, "other").to_mapping(), "memory_mib": 24}
            shown = await world.call("configure", {"config": changed}, domain="web")
            assert (shown["name"], shown["uuid"], shown["memory_mib"]) == ("web", defined["uuid"], 24)

    run(work)


def test_configurations_that_cannot_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            good = config(world.at).to_mapping()
            refused: dict[str, dict[str, object]] = {
                "bad-configuration": {"vcpus": 70},
                "refused": {"kernel": "/missing"},
                "does-not-fit": {"memory_mib": 1 << 20},
            }
            for code, change in refused.items():
                error = await world.refusal(
                    world.call("configure", {"config": {**good, **change}}, domain="web")
                )
                assert error.code == code
            monkeypatch.setattr(host, "free_mib", lambda promised: 0)
            await world.call("configure", {"config": {**good, "memory_mib": 8}}, domain="web")
            assert world.live().record.config.memory_mib == 8
            error = await world.refusal(world.call("configure", {"config": good}, domain="0"))
            assert error.code == "wrong-state"

    run(work)
