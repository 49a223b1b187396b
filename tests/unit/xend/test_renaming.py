"""A rename holds at once, and everything that belongs to the domain follows."""

import pytest

from tests.unit.xend.kit import World, asked, config, run
from xenion.api.errors import ApiError
from xenion.xend import logs


def test_a_domain_that_runs(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            shown = await world.call("rename", {"name": "new"}, domain="web")
            assert (shown["name"], shown["config"]["name"]) == ("new", "new")
            assert live.logs.name == "new"
            assert (live.logs / "console.log").exists()
            await world.settled()
            assert [request["name"] for request in asked(live)] == ["new"]
            assert (await world.refusal(world.call("domain", domain="web"))).code == "no-such-domain"
            await world.create(config(world.at))

    run(work)


def test_while_it_is_built(world: World) -> None:
    """The process is told when it listens."""

    async def work() -> None:
        async with world:
            await world.call("create", {"config": config(world.at, behaviour="slow").to_mapping()})
            await world.until(lambda: "web" in world.names)
            await world.call("rename", {"name": "new"}, domain="web")
            live = world.live("new")
            await world.settled()
            assert [request["name"] for request in asked(live)] == ["new"]

    run(work)


def test_to_its_own_name(world: World) -> None:
    async def work() -> None:
        async with world:
            await world.call("define", {"config": config(world.at).to_mapping()})
            await world.task("start", domain="web")
            await world.call("rename", {"name": "web"}, domain="web")
            await world.call("destroy", domain="web")
            (world.where.logs("web") / "console.log").write_text("words")
            await world.call("rename", {"name": "web"}, domain="web")
            assert (world.where.logs("web") / "console.log").read_text() == "words"

    run(work)


@pytest.mark.parametrize("name", ["other", "7", "Domain-0", "a/b", "", "x" * 65])
def test_names_that_cannot_be(world: World, name: str) -> None:
    async def work() -> None:
        async with world:
            await world.create(config(world.at))
            await world.call("define", {"config": config(world.at, "other").to_mapping()})
            error = await world.refusal(world.call("rename", {"name": name}, domain="web"))
            assert error.code == ("already-exists" if name == "other" else "bad-request")
            assert world.names == ["web"]

    run(work)


def test_logs_that_cannot_follow_stay(
    world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(13, "Permission denied")

    async def first() -> None:
        async with world:
            live = await world.create(config(world.at))
            with monkeypatch.context() as patch:
                patch.setattr(logs, "move", refuse)
                await world.call("rename", {"name": "new"}, domain="web")
            assert "stay in" in caplog.text
            assert (live.name, live.record.logs) == ("new", "web")

    async def second() -> None:
        async with world:
            live = world.live("new")
            assert live.record.logs == "new"
            assert (live.logs / "console.log").exists()

    run(first)
    run(second)


def test_a_record_that_cannot_be_written_changes_nothing(world: World) -> None:
    async def work() -> None:
        async with world:
            live = await world.create(config(world.at))
            aside = live.folder.rename(world.at / "aside")
            with pytest.raises(ApiError) as caught:
                world.services.renaming.rename(live, "new")
            assert caught.value.code == "failed"
            aside.rename(live.folder)
            assert (live.name, live.record.config.name, live.record.wants) == ("web", "web", [])

    run(work)
