"""Every change enters the event log: who, what, of which domain, how it went."""

import asyncio
from typing import Any

import pytest

from tests.unit.xend.kit import World, config, run
from xenion.api.errors import ApiError
from xenion.xend.call import Call, Peer
from xenion.xend.dispatch import logged
from xenion.xend.eventlog import EventLogError


def entries(world: World, action: str) -> list[tuple[Any, ...]]:
    return [
        (e["who"], e["domain"], e["domid"], e["result"], e["detail"])
        for e in world.services.log.entries()
        if e["action"] == action
    ]


def test_done_and_refused(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            await world.call("rename", {"name": "new"}, domain="1")
            await world.refusal(world.call("rename", {"name": "0"}, domain="new"))
            await world.refusal(world.call("pause", domain="x" * 90))
            await world.call("list")
            assert entries(world, "create") == [
                ("test", "web", None, "begun", ""),
                ("test", "web", 1, "done", ""),
            ]
            assert entries(world, "rename")[:2] == [
                ("test", "web", 1, "begun", "name=new"),
                ("test", "web", 1, "done", ""),
            ]
            assert entries(world, "rename")[3][3:] == ("refused", entries(world, "rename")[3][4])
            assert "digits alone" in entries(world, "rename")[3][4]
            assert entries(world, "pause")[1][1:4] == ("x" * 64, None, "refused")
            assert entries(world, "list") == []
            assert {e["uuid"] for e in world.services.log.entries() if e["action"] == "rename"} == {live.uuid}

    run(work)


def test_failed_and_broken_off(world: World) -> None:
    async def work() -> None:
        async with world:

            async def fail(call: Call) -> None:
                raise call.body["with"]

            handlers = logged({"pause": fail}, world.services.registry, world.services.log)
            for error in (ApiError("failed", "no"), KeyError("x"), asyncio.CancelledError()):
                with pytest.raises(type(error)):
                    await handlers["pause"](Call(Peer("me"), {}, {"with": error}))
            results = [(result, detail) for _, _, _, result, detail in entries(world, "pause")[1::2]]
            assert results == [
                ("failed", "no"),
                ("failed", "it was broken off"),
                ("failed", "it was broken off"),
            ]

    run(work)


def test_a_disk_that_fails_undoes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        async with world:

            async def fail() -> None:
                raise EventLogError("The disk is full.")

            monkeypatch.setattr(world.services.log, "sync", fail)
            await world.create(config(world.at))
            await world.call("pause", domain="web")
            assert (await world.refusal(world.call("delete", domain="web"))).code == "wrong-state"
            await world.call("destroy", domain="web")

    run(work)
