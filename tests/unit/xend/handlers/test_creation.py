"""create, define, delete, start."""

import pytest

from tests.unit.xend.kit import World, config, run

UUID = "00000000-0000-4000-8000-00000000f00{}"


def test_created(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at, uuid=UUID.format(1)), paused=True)
            assert (live.uuid, live.condition.state, live.record.managed) == (UUID.format(1), "paused", False)
            other = await world.create(config(world.at, "other"))
            assert other.uuid not in ("", live.uuid)
            assert other.domid == 2

    run(work)


def test_refused_at_once(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at, uuid=UUID.format(1)))
            await world.call("define", {"config": config(world.at, "idle", uuid=UUID.format(2)).to_mapping()})
            for made, says in (
                (config(world.at), "is running already"),
                (config(world.at, "idle"), "is defined"),
                (config(world.at, "x", uuid=UUID.format(1)), "UUID .* is running already"),
                (config(world.at, "x", uuid=UUID.format(2)), "that of a managed domain"),
            ):
                error = await world.refusal(world.call("create", {"config": made.to_mapping()}))
                assert error.code == "already-exists"
                with pytest.raises(Exception, match=says):
                    raise error
            error = await world.refusal(world.call("create", {"config": {"name": "x"}}))
            assert error.code == "bad-configuration"
            assert world.services.tasks.running == 0

    run(work)


def test_a_managed_domain(world: World) -> None:
    async def work() -> None:
        async with world:
            shown = await world.call("define", {"config": config(world.at).to_mapping()})
            assert (shown["state"], shown["domid"]) == ("defined", None)
            result = await world.task("start", {"paused": True}, domain="web")
            assert (result["domain"]["uuid"], result["domain"]["state"]) == (shown["uuid"], "paused")
            assert (await world.refusal(world.call("start", domain="web"))).code == "wrong-state"
            assert (await world.refusal(world.call("delete", domain="web"))).code == "wrong-state"
            await world.call("destroy", domain="web")
            assert (await world.call("domain", domain=shown["uuid"]))["state"] == "defined"
            await world.task("start", domain="web")
            await world.call("destroy", domain="web")
            await world.call("delete", domain="web")
            assert (await world.refusal(world.call("start", domain="web"))).code == "no-such-domain"

    run(work)


def test_defined_anew(world: World) -> None:
    async def work() -> None:
        async with world:
            first = await world.call("define", {"config": config(world.at).to_mapping()})
            await world.task("start", domain="web")
            changed = {**config(world.at).to_mapping(), "memory_mib": 24}
            shown = await world.call("define", {"config": changed})
            assert (shown["uuid"], shown["memory_mib"]) == (first["uuid"], 16), (
                "the running one goes on as it is"
            )
            await world.call("destroy", domain="web")
            assert (await world.call("domain", domain="web"))["memory_mib"] == 24

    run(work)


def test_definitions_that_cannot_be(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at, "runs", uuid=UUID.format(1)))
            await world.call("define", {"config": config(world.at, uuid=UUID.format(2)).to_mapping()})
            for made in (
                config(world.at, "runs"),
                config(world.at, "x", uuid=UUID.format(1)),
                config(world.at, "runs", uuid=UUID.format(1)),
                config(world.at, "x", uuid=UUID.format(2)),
                config(world.at, uuid=UUID.format(3)),
            ):
                error = await world.refusal(world.call("define", {"config": made.to_mapping()}))
                assert error.code == "already-exists"
            assert [m.name for m in world.services.registry.managed] == ["web"]
            error = await world.refusal(world.call("delete", domain="runs"))
            assert "not a managed domain" in error.message

    run(work)
